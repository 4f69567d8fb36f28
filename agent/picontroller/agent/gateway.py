"""The control plane as the agent reaches it: everything goes through the gateway, the only address a Pi needs.

Whatever address was dialled, the gateway must prove the one name it has under the root that we hold, and we prove which node we are.
"""

from collections.abc import Sequence

import grpc.aio

from picontroller.agent.admission.enrolment import GATEWAY
from picontroller.agent.capabilities import Presentation
from picontroller.agent.messages import capabilities_to
from picontroller.core.clock import Clock
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc import renewal
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.renewal import Renewal
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

    def channel(self) -> grpc.aio.Channel:
        """Return the channel of this moment."""
        return self._mesh.channel(self._address, GATEWAY)

    def renewal(self, clock: Clock) -> Renewal:
        """Return what keeps our certificate fresh."""
        return renewal.through(self.channel, self._identity, clock)

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
        await rpc.unary(discovery_pb2_grpc.DiscoveryServiceStub(self.channel()).RegisterNode, request, seconds=REPORT_SECONDS)

    async def report_health(self, problems: Sequence[str]) -> bool:
        """Give a sign of life; return whether the control plane wants this node to present itself again."""
        request = discovery_pb2.ReportHealthRequest(id=self._node_id, problems=problems)
        stub = discovery_pb2_grpc.DiscoveryServiceStub(self.channel())
        answer: discovery_pb2.ReportHealthResponse = await rpc.unary(stub.ReportHealth, request, seconds=REPORT_SECONDS)
        return answer.register

    async def unregister(self) -> None:
        """Say that this node is gone for good."""
        request = discovery_pb2.UnregisterNodeRequest(id=self._node_id)
        await rpc.unary(discovery_pb2_grpc.DiscoveryServiceStub(self.channel()).UnregisterNode, request, seconds=REPORT_SECONDS)

    async def close(self) -> None:
        """Close the channel."""
        await self._mesh.close()
