"""The control plane as the agent reaches it: everything goes through the gateway, the only address a Pi needs.

Whatever address was dialled, the gateway must prove the one name it has under the root that we hold, and we prove which node we are.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc.aio

from picontroller.agent.admission.enrolment import GATEWAY
from picontroller.agent.capabilities import Presentation
from picontroller.agent.messages import capabilities_to
from picontroller.core.clock import Clock
from picontroller.core.errors import Error, Unauthenticated, Unavailable
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc import renewal
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.renewal import Renewal
from picontroller.core.rpc.trust import Believer, TrustWatch
from picontroller.core.tls import handshakes
from picontroller.core.tls.identity import IdentityFolder
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc

REPORT_SECONDS = 4.0


class Gateway:
    """Calls under our identity. The channel is shared and made anew when the identity changes."""

    def __init__(self, identity: IdentityFolder, address: str, node_id: str) -> None:
        self._mesh = Mesh(identity, {})
        self._identity = identity
        self._address = address
        self._node_id = node_id
        self._remedy = f"there: pictl token create --node {node_id}; on this machine: pictl join {address} --token-file -"

    def channel(self) -> grpc.aio.Channel:
        """Return the channel of this moment."""
        return self._mesh.channel(self._address, GATEWAY)

    def renewal(self, clock: Clock) -> Renewal:
        """Return what keeps our certificate fresh."""
        return renewal.through(self.channel, self._identity, clock, remedy=self._remedy)

    def trust(self, renewing: Renewal, clock: Clock) -> TrustWatch:
        """Return what keeps fresh whom we believe and whom we refuse."""
        return TrustWatch(self.channel, [Believer(self._identity, renewing)], clock)

    async def register(self, presentation: Presentation) -> None:
        """Present this node."""
        request = discovery_pb2.RegisterNodeRequest(
            id=self._node_id,
            hostname=presentation.hostname,
            ip_address=presentation.ip_address,
            mac_address=presentation.mac_address,
            architecture=presentation.architecture,
            capabilities=capabilities_to(presentation.capabilities),
            agent_version=presentation.agent_version,
            agent_address=presentation.agent_address,
        )
        await self._call(discovery_pb2_grpc.DiscoveryServiceStub(self.channel()).RegisterNode, request)

    async def report_health(self, problems: Sequence[str]) -> bool:
        """Give a sign of life; return whether the control plane wants this node to present itself again."""
        request = discovery_pb2.ReportHealthRequest(id=self._node_id, problems=problems)
        stub = discovery_pb2_grpc.DiscoveryServiceStub(self.channel())
        answer: discovery_pb2.ReportHealthResponse = await self._call(stub.ReportHealth, request)
        return answer.register

    async def unregister(self) -> None:
        """Say that this node is gone for good."""
        request = discovery_pb2.UnregisterNodeRequest(id=self._node_id)
        await rpc.unary(discovery_pb2_grpc.DiscoveryServiceStub(self.channel()).UnregisterNode, request, seconds=REPORT_SECONDS)

    async def _call(self, method: Any, request: Any) -> Any:
        """Call a unary method. Raises our errors; Unauthenticated with the next step when the gateway only seems to be away."""
        try:
            return await rpc.unary(method, request, seconds=REPORT_SECONDS)
        except Unavailable as error:
            raise await self._explained(error) from error

    async def _explained(self, error: Unavailable) -> Error:
        folder = self._identity.path
        failure = await asyncio.to_thread(handshakes.failure_of, self._address, GATEWAY, folder / "roots.pem", folder / "identity.pem")
        if failure is None:
            return error
        text = (
            "the gateway does not belong to the root that this node knows" if failure.reason == "ROOT_MISMATCH" else "it refuses this node"
        )
        return Unauthenticated(f"{text}: {failure.text}", reason=failure.reason, metadata={"try": self._remedy})

    async def close(self) -> None:
        """Close the channel."""
        await self._mesh.close()
