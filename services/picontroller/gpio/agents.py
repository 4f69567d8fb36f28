"""Agents, each asked over its own channel.

An agent's refusal reaches our caller in the agent's words and with its reason, but without the names of the agent's own fields. What the
agent says about us (that we may not) is our fault and never the caller's.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from picontroller.core.errors import DeadlineExceeded, Error, Internal, InvalidArgument, PermissionDenied, Unauthenticated, Unavailable
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.mesh import Mesh
from picontroller.gpio import boards, messages
from picontroller.gpio.boards import Batch, Health, Node, Operation, Outcome, Position
from picontroller.v1 import agent_pb2, agent_pb2_grpc

HEALTH_SECONDS = 3.0
# Reasons that say nothing of the hardware: no reason at all is a connection that failed.
_AWAY = frozenset({Unavailable.default_reason, "DRAINING", "STOPPING"})


class MeshAgents:
    """Implements ``boards.Agents``."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    async def control(self, node: Node, operations: Sequence[Operation], seconds: float) -> list[Outcome]:
        """Do all operations, or none when one is refused; answer each in order."""
        request = agent_pb2.ControlGPIORequest(operations=[messages.operation_to(operation) for operation in operations])
        try:
            response = await rpc.unary(self._stub(node).ControlGPIO, request, seconds=seconds)
        except Error as error:
            raise _translated(error, node) from error
        if len(response.results) != len(operations):
            raise Internal(f"the agent of node {node.id} answered {len(response.results)} of {len(operations)} operations")
        return [messages.outcome_from(result) for result in response.results]

    async def health(self, node: Node, manager_ttl_seconds: float) -> Health:
        """Give a sign of life and ask how the agent is."""
        request = agent_pb2.HealthCheckRequest()
        request.manager_ttl.FromMicroseconds(int(manager_ttl_seconds * 1e6))
        try:
            response = await rpc.unary(self._stub(node).HealthCheck, request, seconds=HEALTH_SECONDS)
        except Error as error:
            raise _translated(error, node) from error
        return Health(response.run_id, response.safe_by_silence)

    async def events(self, node: Node, after: Position | None) -> AsyncGenerator[Batch, None]:
        """Yield what happens after a position, from now on when None. The first batch comes at once and tells the position."""
        request = agent_pb2.WatchEdgesRequest()
        if after is not None:  # with a run, sequence 0 is before its first event; without one it is "from now on"
            request.run_id, request.after_sequence = after.run_id, after.sequence
        try:
            async with aclosing(rpc.stream(self._stub(node).WatchEdges, request)) as responses:
                async for response in responses:
                    yield messages.batch_from(response)
        except Error as error:
            raise _translated(error, node) from error

    def _stub(self, node: Node) -> agent_pb2_grpc.NodeAgentServiceStub:
        return agent_pb2_grpc.NodeAgentServiceStub(self._mesh.node(node.id, node.address))


def _translated(error: Error, node: Node) -> Error:
    """Return an agent's error as our caller may see it."""
    if isinstance(error, Unavailable) and error.reason in _AWAY:
        return boards.offline(node.id, error.message)
    if isinstance(error, DeadlineExceeded):
        message = f"node {node.id} did not answer in time; whether it did what it was asked to is not known"
        return DeadlineExceeded(message, reason="NODE_SILENT", metadata={"node_id": node.id})
    if isinstance(error, PermissionDenied | Unauthenticated):
        return Internal(f"the agent of node {node.id} does not accept the GPIO manager: {error.message}", reason="AGENT_REFUSES_MANAGER")
    if isinstance(error, InvalidArgument):
        return InvalidArgument(error.message, reason=error.reason, metadata=error.metadata)
    return error
