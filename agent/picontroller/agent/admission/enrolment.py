"""Asking the gateway for the first certificate, by those who have none yet."""

from picontroller.core.callers import SpiffeId
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc import renewal
from picontroller.core.rpc.renewal import Issued
from picontroller.core.tls.channels import anonymous_channel
from picontroller.core.tls.identity import server_name
from picontroller.v1 import identity_pb2, identity_pb2_grpc

GATEWAY = server_name(SpiffeId("", "gateway", ""))
"""The one name that every gateway proves, whatever address was dialled."""

SECONDS = 10.0


async def issue(root_pem: bytes, address: str, token: str, csr_pem: bytes) -> Issued:
    """Return a certificate for a join token from the gateway at ``address``, which must prove its name under ``root_pem``.

    Raises our errors: Unauthenticated for a token that is refused, Unavailable when nobody answers or nobody can prove the name.
    """
    async with anonymous_channel(root_pem, address, GATEWAY) as channel:
        stub = identity_pb2_grpc.IdentityServiceStub(channel)
        request = identity_pb2.IssueCertificateRequest(token=token, csr_pem=csr_pem.decode())
        return renewal.issued_from(await rpc.unary(stub.IssueCertificate, request, seconds=SECONDS))
