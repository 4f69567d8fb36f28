"""One agent, put together and taken apart: the only place that knows all its parts.

Outputs come first: they are safe before anything else is read or the network is touched, and again before the server stops answering. A
clock that is not set, a gateway that is away or an expired certificate keep an agent from reporting, never from looking after its lines;
a membership or an identity that can't be read ends it, but only after known outputs are safe.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from picontroller.agent import addresses
from picontroller.agent.admission import membership
from picontroller.agent.board import backends
from picontroller.agent.board.backends import OpenDriver
from picontroller.agent.gateway import Gateway
from picontroller.agent.gpio import panel as gpio
from picontroller.agent.gpio.drivers import PinDriver
from picontroller.agent.gpio.panel import Panel
from picontroller.agent.health import Health, certificate_problems
from picontroller.agent.presenting import Presenter, Surveyor
from picontroller.agent.reporting import Reporting
from picontroller.agent.service import NodeAgentServicer
from picontroller.agent.settings import Settings
from picontroller.agent.timekeeping import Timekeeper
from picontroller.agent.validation.validator import AgentValidator
from picontroller.core.clock import Clock
from picontroller.core.rpc.hosting import Manners, serving
from picontroller.core.rpc.limits import LimitSettings
from picontroller.core.rpc.wiring import Service
from picontroller.v1 import agent_pb2_grpc

log = logging.getLogger(__name__)

TURNS_TO_TELL = 20
"""Of the event loop: waking a stream, reading its batch and handing it to gRPC takes some five."""


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent that serves. ``address`` is what it listens on, port resolved; ``driver`` lets simulations move a simulated board."""

    node_id: str
    address: str
    panel: Panel
    driver: PinDriver


@asynccontextmanager
async def running_agent(
    settings: Settings, data_dir: Path, clock: Clock, open_driver: OpenDriver = backends.open_driver
) -> AsyncIterator[Agent]:
    """Run the agent of the node that joined in ``data_dir`` until the block is left. Any number may run in one process.

    Raises FailedPrecondition (NOT_JOINED, FOLDER_IN_USE, IDENTITY_DAMAGED, hardware that can't be reached) and OSError for a taken address.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(membership.held(data_dir))
        machine = backends.machine_of(settings)
        driver, life = await open_driver(settings, clock)
        panel = await stack.enter_async_context(gpio.opened(driver, data_dir, clock, machine.reserved))
        member = membership.load(data_dir)  # not earlier: outputs of an agent that was killed are safe by now, whoever we are
        identity = membership.identity_of(data_dir)
        identity.load()
        timekeeper = Timekeeper(clock, data_dir, lambda: identity.credentials.not_before, settings.root)
        health = Health([timekeeper.problems, lambda: certificate_problems(identity.credentials, clock.now()), machine.problems])
        surveyor = Surveyor(machine, driver, panel)
        gateway = Gateway(identity, member.gateway, member.node_id)
        renewing = gateway.renewal(clock)
        trusting = gateway.trust(renewing, clock)
        everything = Health([health.problems, panel.problems, trusting.problems])
        stack.push_async_callback(gateway.close)
        presenter = Presenter(settings, member.gateway, member.node_id, surveyor, os.uname().machine)
        reporting = Reporting(gateway, presenter.presentation, everything.problems, timekeeper.until_right, clock, settings.report_seconds)
        servicer = NodeAgentServicer(panel, backends.metrics_of(machine, settings, clock, member.node_id), surveyor, health, clock)
        background: dict[str, Callable[[], Awaitable[None]]] = {
            "silence of the GPIO manager": panel.run,
            "reporting": reporting.run,
            "certificate renewal": _after(timekeeper.until_right, renewing.run),
            "trust": _after(timekeeper.until_right, trusting.run),
            "remembering the time": timekeeper.remember,
            "life of the simulated board": life,
        }
        service = Service("agent", (lambda server: agent_pb2_grpc.add_NodeAgentServiceServicer_to_server(servicer, server),), background)
        limits = LimitSettings(
            connection_age_seconds=settings.connection_age_seconds,
            connection_grace_seconds=min(30.0, settings.connection_age_seconds / 2),
        )
        manners = Manners(AgentValidator(), clock, None, settings.grace_seconds, limits)
        listen = await addresses.listen_address(settings.listen, member.gateway, settings.root)
        running = await stack.enter_async_context(serving(service, identity, [listen], manners))
        stack.push_async_callback(_stop, panel)  # before the server drains
        presenter.bound = running.addresses[0]
        log.info("agent is up", extra={"node_id": member.node_id, "address": presenter.bound, "board": machine.board.model})
        yield Agent(member.node_id, presenter.bound, panel, driver)


async def _stop(panel: Panel) -> None:
    """Bring outputs to their safe states for good, and let those who watch them hear of it before their streams end."""
    await panel.lines.stop()
    for _ in range(TURNS_TO_TELL):
        await asyncio.sleep(0)


def _after(ready: Callable[[], Awaitable[None]], work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        await ready()
        await work()

    return run
