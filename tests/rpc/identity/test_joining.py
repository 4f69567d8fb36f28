"""Joining: token in, identity out."""

import pytest

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc import renewal
from picontroller.core.tls.identity import IdentityFolder
from picontroller.v1 import identity_pb2 as pb
from tests.rpc.identity.world import World, request_for_new_key


async def test_join_when_token_is_good_gives_an_identity_that_works(world: World) -> None:
    token = await world.join_token(description="kitchen")
    key, csr = request_for_new_key()
    stub = world.stub(world.folder("gateway/edge"))
    answer: pb.IssuedCertificate = await rpc.unary(stub.IssueCertificate, pb.IssueCertificateRequest(token=token, csr_pem=csr))
    assert answer.spiffe_id == f"spiffe://pi-controller.local/node/{answer.node_id}"

    from picontroller.core.callers import parse_spiffe_id

    issued = renewal.issued_from(answer)
    credentials = renewal.accepted(key, issued, parse_spiffe_id(answer.spiffe_id))
    folder = IdentityFolder(world.root / "node")
    folder.store(credentials, issued.trust)
    who: pb.Principal = await rpc.unary(world.stub(folder).WhoAmI, pb.WhoAmIRequest())
    assert who.spiffe_id == answer.spiffe_id
    assert who.method == "certificate"


async def test_join_when_token_was_used_is_refused(world: World) -> None:
    token = await world.join_token()
    stub = world.stub(world.folder("gateway/edge"))
    await rpc.unary(stub.IssueCertificate, pb.IssueCertificateRequest(token=token, csr_pem=request_for_new_key()[1]))
    with pytest.raises(errors.Unauthenticated) as caught:
        await rpc.unary(stub.IssueCertificate, pb.IssueCertificateRequest(token=token, csr_pem=request_for_new_key()[1]))
    assert caught.value.reason == "TOKEN_USED"
