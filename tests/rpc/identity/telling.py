"""An identity service that only tells, and members that follow it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from picontroller.core import callers
from picontroller.core.clock import SystemClock
from picontroller.core.rpc import hosting
from picontroller.core.rpc.hosting import Manners
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.trust import Believer, TrustWatch
from picontroller.core.rpc.validation import default_validator
from picontroller.core.rpc.wiring import Service
from picontroller.core.tls.denials import Denial
from picontroller.core.tls.identity import IdentityFolder, Trust
from picontroller.identity.revocation.news import News
from picontroller.v1 import identity_pb2_grpc, trust_pb2
from tests.fakes.authority import FakeAuthority

END = 4e9
PATIENCE_SECONDS = 5.0


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


class Plane:
    """An identity service of which only WatchTrust and AcknowledgeTrust are there. ``silent`` makes it say nothing any more."""

    def __init__(self, folder: Any) -> None:
        self.folder = folder
        self.authority = FakeAuthority()
        self.trust: Trust = self.authority.trust
        self.denials: list[tuple[int, Denial]] = []
        self.asked: list[tuple[int, int]] = []
        self.acknowledged: list[tuple[str, int]] = []
        self.proofs: list[str] = []
        self.refusal: Exception | None = None
        self.silent = False
        self.news = News(lambda: self.trust, self, SystemClock(), sign_seconds=0.2)
        self.identity = self.authority.identity(folder / "server", "svc/identity")

    async def denials_after(self, version: int) -> list[tuple[int, Denial]]:
        return [entry for entry in self.denials if entry[0] > version]

    async def WatchTrust(self, request: trust_pb2.WatchTrustRequest, context: Any) -> AsyncIterator[trust_pb2.WatchTrustResponse]:
        from picontroller.identity import messages

        self.asked.append((request.version, request.denials_version))
        if self.refusal is not None:
            raise self.refusal
        async for tidings in self.news.listen(request.version, request.denials_version):
            while self.silent:
                await asyncio.sleep(0.01)
            yield messages.tidings_to(tidings)

    async def AcknowledgeTrust(self, request: trust_pb2.AcknowledgeTrustRequest, context: Any) -> Any:
        from google.protobuf import empty_pb2

        self.acknowledged.append((request.identity, request.version))
        self.proofs.append(callers.current().proof)
        return empty_pb2.Empty()

    def publish(self, **changes: Any) -> None:
        """Have members believe something else."""
        self.trust = replace(self.trust, version=self.trust.version + 1, **changes)
        self.news.wake()

    def deny(self, *proofs: str) -> None:
        """Add denials."""
        start = len(self.denials) + 1
        self.denials += [(number, Denial(proof, END)) for number, proof in enumerate(proofs, start)]
        self.news.wake()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        servicer = type("Servicer", (identity_pb2_grpc.IdentityServiceServicer,), {})()
        servicer.WatchTrust, servicer.AcknowledgeTrust = self.WatchTrust, self.AcknowledgeTrust
        service = Service(
            "identity",
            (lambda server: identity_pb2_grpc.add_IdentityServiceServicer_to_server(servicer, server),),
            {"news": self.news.run},
        )
        manners = Manners(default_validator(), SystemClock(), grace_seconds=0.2)
        async with hosting.serving(service, self.identity, [self.address], manners):
            yield

    @property
    def address(self) -> str:
        return f"unix:{self.folder}/i.sock"

    @asynccontextmanager
    async def following(self, identity: IdentityFolder, *more: Believer, **options: Any) -> AsyncIterator[TrustWatch]:
        mesh = Mesh(identity, {"identity": self.address})
        believers = [Believer(identity, options.pop("renewal", None)), *more]
        watch = TrustWatch(lambda: mesh.service("identity"), believers, SystemClock(), **options)
        task = asyncio.create_task(watch.run())
        try:
            yield watch
        finally:
            assert not task.done(), task.exception()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await mesh.close()

    def member(self, name: str = "gpio", path: str = "svc/gpio") -> IdentityFolder:
        return self.authority.identity(self.folder / name, path)
