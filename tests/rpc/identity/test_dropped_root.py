"""A connection that was made before its root was dropped: it lives as long as the root is believed, and no longer."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from picontroller.core import errors
from picontroller.core.callers import Role, SpiffeId
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc import renewal
from picontroller.core.tls.channels import channel
from picontroller.core.tls.identity import IdentityFolder, server_name
from picontroller.v1 import identity_pb2 as pb
from picontroller.v1 import identity_pb2_grpc, trust_pb2
from tests.rpc.identity.test_rotation import STEPS, bundle, renewed, take
from tests.rpc.identity.world import World


class Held:
    """A connection that is kept open with the certificate that it was made with, and a stream over it."""

    def __init__(self, world: World, identity: IdentityFolder) -> None:
        made = channel(identity, world.address, server_name(SpiffeId("", "svc", "identity")))
        world.channels.append(made)
        self.stub = identity_pb2_grpc.IdentityServiceStub(made)
        self._stream: Any = self.stub.WatchTrust(trust_pb2.WatchTrustRequest())
        self.roots = 0
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> grpc.aio.AioRpcError:
        try:
            async for response in self._stream:
                if response.HasField("trust_bundle"):
                    self.roots = response.trust_bundle.roots_pem.count("BEGIN")
        except grpc.aio.AioRpcError as error:
            return error
        raise AssertionError("the stream ended without an error")

    async def knows(self, roots: int) -> None:
        async with asyncio.timeout(5):
            while self.roots != roots:
                assert not self._reading.done()
                await asyncio.sleep(0.01)

    async def ended(self) -> grpc.aio.AioRpcError:
        async with asyncio.timeout(5):
            return await asyncio.shield(self._reading)

    def alive(self) -> bool:
        return not self._reading.done()

    def end(self) -> None:
        self._reading.cancel()


async def follow(world: World, step: str) -> None:
    """Take a step, and have the service believe what it tells others to, as its host sees to."""
    await take(world, step, force=True)
    world.served.store_trust(renewal.trust_from(await bundle(world)))


async def test_connection_when_its_root_is_dropped_is_refused_and_its_stream_ended(world: World) -> None:
    old, moved = world.folder("gpio"), world.folder("gateway")
    held, unary = Held(world, old), pb.WhoAmIRequest()
    await held.knows(1)
    admin = world.stub(world.admin())
    await rpc.unary(admin.WhoAmI, unary)
    for step in STEPS[:3]:
        await follow(world, step)
        await held.knows(2)
        assert (await rpc.unary(held.stub.WhoAmI, unary)).spiffe_id == str(old.credentials.spiffe_id)
    await renewed(world, "gateway")
    moved.load()
    new = Held(world, moved)
    await new.knows(2)

    await follow(world, "FINISH")
    error = await held.ended()
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    for stub in (held.stub, admin):
        with pytest.raises(errors.Unauthenticated) as caught:
            await rpc.unary(stub.WhoAmI, unary)
        assert caught.value.reason == "ROOT_DROPPED"
    request = pb.CreateApiTokenRequest(subject="mallory", roles=[Role.CLUSTER_ADMIN.value])
    with pytest.raises(errors.Unauthenticated) as caught:
        await rpc.unary(admin.CreateApiToken, request)
    assert caught.value.reason == "ROOT_DROPPED"

    await new.knows(1)
    assert (await rpc.unary(new.stub.WhoAmI, unary)).spiffe_id == str(moved.credentials.spiffe_id)
    assert new.alive()
    new.end()
