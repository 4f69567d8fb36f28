"""The two things that a suite for agents runs on: a board in memory, and a real agent with simulated hardware behind the real adapter."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

from picontroller.agent.gpio import pins
from picontroller.core.rpc.mesh import Mesh
from picontroller.gpio.agents import MeshAgents
from picontroller.gpio.boards import Agents, Node
from picontroller.gpio.resources import Level
from tests.fakes.agents import FakeAgents
from tests.fakes.clock import FakeClock
from tests.rpc.agent import world as real


class Bench(Protocol):
    """An agent under test, and the world around its board."""

    agents: Agents
    node: Node
    clock: FakeClock

    def level(self, bcm: int) -> Level:
        """Return what is on a line."""
        ...

    async def drive(self, bcm: int, level: Level) -> None:
        """Put a level on an input from outside."""
        ...

    async def restart(self) -> None:
        """Begin a new run of the agent on the same board."""
        ...

    async def fall_silent(self) -> None:
        """Stay away until outputs are safe."""
        ...

    async def go_away(self) -> None:
        """End the agent."""
        ...


class FakeBench:
    """A board in memory."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        fake = FakeAgents(self.clock)
        self.agents: Agents = fake
        self.node = Node(real.NODE_ID, "unused:1", online=True)
        self._board = fake.add(self.node.id)

    def level(self, bcm: int) -> Level:
        return self._board.level(bcm)

    async def drive(self, bcm: int, level: Level) -> None:
        await self._board.drive(bcm, level)

    async def restart(self) -> None:
        await self._board.restart()

    async def fall_silent(self) -> None:
        await self._board.fall_silent()

    async def go_away(self) -> None:
        self._board.reachable = False


class RealBench:
    """A real agent over a Unix socket."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.node = Node(real.NODE_ID, f"unix:{folder}/a.sock", online=True)
        self._folder = folder
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Begin a run."""
        self._agent = await self._stack.enter_async_context(real.world(self._folder, clock=self.clock))
        mesh = Mesh(self._agent.authority.identity(self._folder / "manager", "svc/gpio"), {})
        self._stack.push_async_callback(mesh.close)
        self.agents: Agents = MeshAgents(mesh)

    def level(self, bcm: int) -> Level:
        return Level(self._agent.driver.board.level(bcm).value)

    async def drive(self, bcm: int, level: Level) -> None:
        self._agent.driver.board.drive(bcm, pins.Level(level.value))

    async def restart(self) -> None:
        await self._stack.aclose()
        await self.start()

    async def fall_silent(self) -> None:
        await self.clock.until_sleeping()
        await self.clock.advance(20)

    async def go_away(self) -> None:
        await self._stack.aclose()

    def fail_next(self) -> None:
        """Let the next operation on the hardware fail."""
        self._agent.driver.board.fail()


@asynccontextmanager
async def real_bench(folder: Path) -> AsyncIterator[RealBench]:
    """Yield a bench with a real agent."""
    bench = RealBench(folder)
    await bench.start()
    try:
        yield bench
    finally:
        await bench.go_away()
