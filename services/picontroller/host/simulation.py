"""Simulated Pis for ``pictl up --simulate N``: real agents with simulated hardware in this process, joined with tokens like any other.

Each keeps its state below ``<data-dir>/simulated``, so that a second run brings the same nodes back.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc

from picontroller.agent import joining
from picontroller.agent.admission import membership
from picontroller.agent.board import simulated
from picontroller.agent.settings import Settings
from picontroller.agent.wiring import running_agent
from picontroller.core.clock import Clock
from picontroller.core.files import read_secret
from picontroller.core.rpc import mesh as rpc
from picontroller.core.tls.channels import CHANNEL_OPTIONS
from picontroller.host.layout import Layout
from picontroller.v1 import identity_pb2, identity_pb2_grpc

log = logging.getLogger(__name__)

LIFE_SECONDS = 7.0
GATEWAY_NAME = "gateway.pi-controller.local"


@asynccontextmanager
async def simulated_fleet(layout: Layout, settings: Settings, gateway: str, count: int, clock: Clock) -> AsyncIterator[None]:
    """Run ``count`` simulated Pis until the block is left; those that have not joined yet join ``gateway`` first."""
    async with AsyncExitStack() as stack:
        for number in range(count):
            folder = layout.root / "simulated" / f"pi-{number + 1}"
            if not (folder / "tls" / "identity.pem").exists():
                token = await _join_token(layout, gateway, f"simulated pi-{number + 1}")
                await joining.join(gateway, token, folder, clock)
            _follow(folder, gateway)
            model = simulated.board(number).model.partition(" Rev")[0]
            life = settings.simulated_life_seconds or LIFE_SECONDS
            own = replace(
                settings,
                listen="127.0.0.1:0",
                advertise=None,
                backend="sim",
                hostname=f"pi-{number + 1}",
                simulated_model=model,
                simulated_life_seconds=life,
            )
            await stack.enter_async_context(running_agent(own, folder, clock))
        log.info("simulated Pis are up", extra={"count": count})
        yield


def _follow(folder: Path, gateway: str) -> None:
    """Tell a Pi of an earlier run where the gateway is now: ours may have another port each time, and no real Pi's may."""
    known = membership.load(folder)
    if known.gateway != gateway:
        membership.save(folder, replace(known, gateway=gateway))


async def _join_token(layout: Layout, gateway: str, description: str) -> str:
    """Return a fresh token, asked for as the admin through the gateway, as a person would."""
    admin = layout.admin
    credentials = grpc.ssl_channel_credentials(_public(admin / "ca.pem"), read_secret(admin / "client.key"), _public(admin / "client.pem"))
    options = (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", GATEWAY_NAME), ("grpc.default_authority", GATEWAY_NAME))
    async with grpc.aio.secure_channel(gateway, credentials, options=options) as channel:
        request = identity_pb2.CreateJoinTokenRequest(description=description)
        answer: identity_pb2.JoinToken = await rpc.unary(identity_pb2_grpc.IdentityServiceStub(channel).CreateJoinToken, request)
    return answer.token


def _public(path: Path) -> bytes:
    return path.read_bytes()
