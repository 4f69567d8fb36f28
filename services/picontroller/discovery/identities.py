"""The identity service, as discovery needs it: to shut out nodes that have gone."""

from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.mesh import Mesh
from picontroller.discovery.departures import Departure
from picontroller.v1 import identity_pb2_grpc, trust_pb2

REVOKE_SECONDS = 5.0


class MeshIdentities:
    """Implements ``departures.Identities``."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    async def revoke(self, departure: Departure) -> None:
        """Have everybody refuse the node. Raises NotFound for one that never had anything."""
        stub = identity_pb2_grpc.IdentityServiceStub(self._mesh.service("identity"))
        request = trust_pb2.RevokeCertificateRequest(
            identity=f"/node/{departure.node_id}",
            reason="the node was deleted" if departure.lasting else "the node left",
            may_return=not departure.lasting,
        )
        if departure.time is not None and not departure.lasting:
            request.issued_before.FromDatetime(departure.time)
        await rpc.unary(stub.RevokeCertificate, request, seconds=REVOKE_SECONDS)
