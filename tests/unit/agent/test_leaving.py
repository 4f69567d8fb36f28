"""Leaving: outputs before the control plane, the control plane before the identity, and what ``--force`` goes on without."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from picontroller.agent import leaving
from picontroller.agent.admission import membership
from picontroller.agent.admission.membership import Membership
from picontroller.agent.gpio.drivers import PinDriver
from picontroller.agent.gpio.drivers.sim import SimDriver
from picontroller.agent.gpio.drivers.simulation import Simulation
from picontroller.agent.gpio.pins import Level
from picontroller.agent.settings import Settings
from picontroller.core import errors
from picontroller.core.clock import Clock, SystemClock
from picontroller.core.errors import Error, FailedPrecondition, NotFound, Unavailable
from tests.fakes.authority import FakeAuthority

NODE = "0b8de4a2-6e25-4b8e-8f2e-3c0f9d5a7a01"
JOINED = Membership("127.0.0.1:8443", NODE)
KNOWN_OUTPUT = (
    '{"version": 1, "outputs": {"17": {"safe": "LOW", "bias": "AS_IS", "drive": "PUSH_PULL", "active_low": false}}, "epochs": {}}'
)
TROUBLES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Error) and kind not in (Error, NotFound)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an agent that has joined."""
    membership.save(tmp_path, JOINED)
    FakeAuthority().identity(tmp_path / "tls", f"node/{NODE}")
    return tmp_path


class Steps:
    """What leaving does, in its order, and the trouble that each step is in."""

    def __init__(self, unregister: Error | None = None, make_safe: Error | None = None) -> None:
        self.taken: list[str] = []
        self._troubles = {"unregister": unregister, "make safe": make_safe}

    def _take(self, step: str) -> None:
        self.taken.append(step)
        if (trouble := self._troubles[step]) is not None:
            raise trouble

    async def unregister(self, known: Membership) -> None:
        assert known == JOINED
        self._take("unregister")

    async def make_safe(self) -> None:
        self._take("make safe")

    async def leave(self, folder: Path, *, force: bool = False) -> Membership | None:
        return await leaving.leave(folder, self.unregister, self.make_safe, force=force)


class Pins:
    """A board whose GPIO17 an agent left high when it was killed."""

    def __init__(self, trouble: Error | None = None, claimed: str = "") -> None:
        self.opened = 0
        self.trouble = trouble
        self.driver = SimDriver(Simulation(levels={17: Level.HIGH}, claimed={17: claimed} if claimed else {}), SystemClock())

    async def open(self, settings: Settings, clock: Clock) -> tuple[PinDriver, Callable[[], Awaitable[None]]]:
        self.opened += 1
        if self.trouble is not None:
            raise self.trouble
        return self.driver, _no_life

    async def make_safe(self, folder: Path) -> None:
        await leaving.make_outputs_safe(folder, Settings(), SystemClock(), self.open)


async def _no_life() -> None:
    """Boards of these tests stay as they are."""


async def test_leave_when_told_forgets_identity_and_keeps_what_is_known_of_outputs(folder: Path) -> None:
    (folder / "lines.json").write_text(KNOWN_OUTPUT)
    steps = Steps()
    assert await steps.leave(folder) == JOINED
    assert steps.taken == ["make safe", "unregister"]
    assert sorted(path.name for path in folder.iterdir()) == ["agent.lock", "lines.json"]


async def test_leave_when_the_node_is_forgotten_already_is_done(folder: Path) -> None:
    await Steps(NotFound("no such node")).leave(folder)
    assert not membership.identity_of(folder).exists()


@pytest.mark.parametrize("kind", TROUBLES)
async def test_leave_when_nobody_can_be_told_keeps_the_identity_unless_forced(kind: type[Error], folder: Path) -> None:
    with pytest.raises(FailedPrecondition, match="--force") as caught:
        await Steps(kind("in trouble")).leave(folder)
    assert caught.value.reason == "NOT_UNREGISTERED"
    assert membership.identity_of(folder).exists()
    assert await Steps(kind("in trouble")).leave(folder, force=True) == JOINED
    assert not membership.identity_of(folder).exists()


async def test_leave_when_outputs_are_not_safe_tells_nobody_unless_forced(folder: Path) -> None:
    steps = Steps(make_safe=FailedPrecondition("no chip", reason="OUTPUTS_NOT_SAFE"))
    with pytest.raises(FailedPrecondition, match="no chip"):
        await steps.leave(folder)
    assert steps.taken == ["make safe"]
    assert membership.identity_of(folder).exists()
    await steps.leave(folder, force=True)
    assert steps.taken == ["make safe", "make safe", "unregister"]
    assert not membership.identity_of(folder).exists()


async def test_leave_when_the_membership_is_damaged_needs_force(folder: Path) -> None:
    (folder / "join.json").write_text("{")
    steps = Steps()
    with pytest.raises(FailedPrecondition, match="pictl leave --force"):
        await steps.leave(folder)
    assert await steps.leave(folder, force=True) is None
    assert steps.taken == ["make safe"]
    assert sorted(path.name for path in folder.iterdir()) == ["agent.lock"]


async def test_leave_when_never_joined_is_refused_and_makes_no_folder(tmp_path: Path) -> None:
    for force in (False, True):
        with pytest.raises(FailedPrecondition) as caught:
            await Steps().leave(tmp_path / "nothing", force=force)
        assert caught.value.reason == "NOT_JOINED"
    assert not (tmp_path / "nothing").exists()


async def test_leave_when_an_agent_runs_on_the_folder_is_refused_even_with_force(folder: Path) -> None:
    steps = Steps()
    with membership.held(folder), pytest.raises(FailedPrecondition, match="systemctl stop pi-agent") as caught:
        await steps.leave(folder, force=True)
    assert caught.value.reason == "FOLDER_IN_USE"
    assert steps.taken == []


async def test_outputs_when_known_are_made_safe_and_let_go(tmp_path: Path) -> None:
    (tmp_path / "lines.json").write_text(KNOWN_OUTPUT)
    pins = Pins()
    assert pins.driver.board.level(17) is Level.HIGH
    await pins.make_safe(tmp_path)
    assert pins.driver.board.level(17) is Level.LOW
    assert pins.driver.board.held == frozenset()


async def test_outputs_when_none_are_known_leave_the_hardware_alone(tmp_path: Path) -> None:
    pins = Pins(Unavailable("no hardware"))
    await pins.make_safe(tmp_path)
    (tmp_path / "lines.json").write_text('{"version": 1, "outputs": {}, "epochs": {"17": [1, 2]}}')
    await pins.make_safe(tmp_path)
    assert pins.opened == 0


async def test_outputs_when_the_hardware_cannot_be_opened_are_refused_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "lines.json").write_text(KNOWN_OUTPUT)
    with pytest.raises(FailedPrecondition, match=r"no chip; leave as the user .* --simulate .* --force") as caught:
        await Pins(FailedPrecondition("no chip", reason="GPIO_CHIP_MISSING")).make_safe(tmp_path)
    assert caught.value.reason == "OUTPUTS_NOT_SAFE"


async def test_outputs_when_somebody_else_has_the_line_are_not_called_safe(tmp_path: Path) -> None:
    (tmp_path / "lines.json").write_text(KNOWN_OUTPUT)
    with pytest.raises(FailedPrecondition, match="LINE_NOT_HELD: GPIO17"):
        await Pins(claimed="gpioset").make_safe(tmp_path)


async def test_outputs_when_what_is_remembered_is_damaged_are_not_called_safe(tmp_path: Path) -> None:
    (tmp_path / "lines.json").write_text("{")
    with pytest.raises(FailedPrecondition, match="LINES_DAMAGED"):
        await Pins().make_safe(tmp_path)
