"""Building the GPIO manager: the only place that knows all of its parts."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from picontroller.core.rpc.auditing import audited
from picontroller.core.rpc.publishing import EventBus
from picontroller.core.rpc.wiring import Service, Surroundings
from picontroller.core.store.outbox import Outbox
from picontroller.gpio.agents import MeshAgents
from picontroller.gpio.batches import Batches
from picontroller.gpio.boards import Agents, Nodes
from picontroller.gpio.controlling import Controlling
from picontroller.gpio.following import Following, Watchers
from picontroller.gpio.nodes import DiscoveredNodes
from picontroller.gpio.reconciling import Attending, Reconciling
from picontroller.gpio.service import GpioServicer
from picontroller.gpio.settings import Settings
from picontroller.gpio.store import ResourceStore
from picontroller.gpio.turns import Turns
from picontroller.v1 import gpio_pb2_grpc


@asynccontextmanager
async def build(surroundings: Surroundings) -> AsyncIterator[Service]:
    """Yield the GPIO manager on its peers in the mesh."""
    nodes = DiscoveredNodes(surroundings.mesh)
    async with build_upon(surroundings, nodes, MeshAgents(surroundings.mesh)) as service:
        yield replace(service, background={"nodes": nodes.run, **service.background})


@asynccontextmanager
async def build_upon(surroundings: Surroundings, nodes: Nodes, agents: Agents) -> AsyncIterator[Service]:
    """Yield the GPIO manager on the nodes and agents that are given."""
    settings: Settings = surroundings.settings
    clock, turns = surroundings.clock, Turns()
    async with AsyncExitStack() as stack:
        store = await ResourceStore.open(surroundings.data_dir)
        stack.push_async_callback(store.database.close)
        audit = await stack.enter_async_context(audited(store.database, surroundings))
        stack.push_async_callback(turns.close)
        await store.begin()
        watchers = Watchers(settings.watch_events, settings.watch_sign_seconds)
        reconciling = Reconciling(store, nodes, agents, turns, clock, settings)
        following = Following(store, nodes, agents, turns, watchers, clock, reconciling.look_soon)
        attending = Attending(store, nodes, {"events": following.follow, "health": reconciling.attend}, clock)
        controlling = Controlling(store, nodes, agents, turns, clock, settings, attending.look, reconciling.look_at)
        batches = Batches(store, nodes, agents, turns, settings)
        servicer = GpioServicer(controlling, batches, watchers)
        outbox = Outbox(store.database, EventBus(surroundings.mesh, surroundings.name), clock)
        yield Service(
            surroundings.name,
            (lambda server: gpio_pb2_grpc.add_GpioServiceServicer_to_server(servicer, server), audit.register),
            {"events": outbox.run, "nodes attended": attending.run, **audit.background},
            lambda: store.database.failed,
            audit.trail,
        )
