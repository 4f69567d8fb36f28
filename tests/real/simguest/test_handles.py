"""What the kernel does with duplicates of line handles: the facts that the guardian's design stands on, asked of a real kernel.

Linux 6.1's GPIO character device over gpio-sim. What belongs to the chip and not to the character device is said to be so: a Raspberry
Pi's chip does otherwise when the last handle closes.
"""

import errno
import json
from typing import Any

import pytest

from tests.real.simguest import chips
from tests.real.simguest.guest import SimGuest

# A cold build compiles a kernel.
pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

ENDS = ("kill", "stop", "freeze v1", "freeze v2")
ROUNDS = 8
"""Ends of each kind in the midst of work."""
LEFT = {"kill": {"gone"}, "stop": {"T"}, "freeze v1": {"D"}, "freeze v2": {"S"}}
"""The kernel's letter for what is left; a process that is frozen by cgroup v2 looks like one that sleeps: it can't be told by it."""


BY_ENDS = ("mode_changed", "last_close", "woken", "release", "in_flight", "guardian_dies")
BY_HANDLES = ("edges", "each", "active_low", "handed_on", "unprivileged")
SCENES = (
    *(("death", kind, "20", str(count)) for kind in ENDS for count in (1, 3)),
    *(("busy_deaths", kind, str(ROUNDS)) for kind in ENDS),
    *(("configure", kind) for kind in ("kill", "stop", "freeze v2")),
    *(("frozen_and_killed", kind) for kind in ("freeze v1", "freeze v2")),
    *((name,) for name in (*BY_ENDS, *BY_HANDLES)),
)

Seen = dict[str, Any]


class Scenes:
    """What was seen in each scene."""

    def __init__(self, seen: dict[tuple[str, ...], Seen]) -> None:
        self._seen = seen

    def __getitem__(self, scene: tuple[str, ...]) -> Seen:
        seen = self._seen[scene]
        assert "failed" not in seen, seen["failed"]
        return seen


@pytest.fixture(scope="module")
def scenes(sim_guest: SimGuest) -> Scenes:
    """All scenes, played in one process of the guest: starting an interpreter is what takes the time there."""
    chip = chips.make(sim_guest, "handles", "handles", 32)
    command = ["python3", "/simguest/scenes.py", chip.name, *(",".join(scene) for scene in SCENES)]
    done = sim_guest.run(command, timeout=300)
    assert done.status == 0, done.output
    seen = dict(zip(SCENES, map(json.loads, done.output.strip().splitlines()), strict=True))
    for scene, what in seen.items():
        print(*scene, what)
    return Scenes(seen)


@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize("count", [1, 3])
def test_guardian_when_the_holder_has_ended_sets_safe_values(scenes: Scenes, kind: str, count: int) -> None:
    seen = scenes["death", kind, "20", str(count)]
    # The guardian is an interpreter with the standard library alone.
    assert seen["modules"] == []
    # One request of several lines is one handle.
    assert seen["taken"] == 1
    assert seen["left of it"] in LEFT[kind]
    after = seen["after the end"]
    # The levels stay, the kernel reports nothing, nobody else gets the line, and it still bears the dead holder's name.
    assert after["values"] == [1] * count
    assert after["reports"] == []
    assert after["request"] == errno.EBUSY
    assert (after["used"], after["consumer"], after["direction"]) == (True, "holder", "output")
    # The duplicate reads levels too; bits count lines in the order of the request, not offsets of the chip.
    assert after["bits"] == (1 << count) - 1
    # Values are set by the duplicate as by the original, one line of several as well, without anything being reported of the line.
    assert seen["first low"]["errno"] == 0
    assert seen["first low"]["values"] == [0] + [1] * (count - 1)
    assert seen["all low"]["errno"] == 0
    assert seen["all low"]["values"] == [0] * count
    assert seen["all low"]["reports"] == []
    # With the guardian's handle closed the lines are free when the holder is gone, and still the holder's when it is only stopped.
    if kind == "kill":
        assert seen["after the close"] == {"reports": ["released"] * count, "request": 0}
    else:
        assert seen["after the close"] == {"reports": [], "request": errno.EBUSY}


@pytest.mark.parametrize("kind", ENDS)
def test_guardian_when_the_holder_ends_in_the_midst_of_ioctls_never_fails(scenes: Scenes, kind: str) -> None:
    seen = scenes["busy_deaths", kind, str(ROUNDS)]
    # No end leaves a lock of the kernel's behind: a process is stopped or frozen on its way back from the kernel.
    assert seen["rounds"] == [{"errno": 0, "values": [0, 0, 0, 0], "reports": []}] * ROUNDS
    # It did not wait for the holder, which never goes on. An ioctl takes a tenth of a millisecond here; the rest is a busy machine's.
    assert seen["slowest microseconds"] < 5_000_000


@pytest.mark.parametrize("kind", ["kill", "stop", "freeze v2"])
def test_guardian_when_it_reconfigures_makes_inputs_and_outputs(scenes: Scenes, kind: str) -> None:
    seen = scenes["configure", kind]
    became = seen["input"]
    assert (became["errno"], became["used"], became["direction"]) == (0, True, "input")
    # It floats: the level is what is connected to it. gpio-sim shows the level that was driven until its pull is written again.
    assert (became["untouched"], became["pulled down"], became["pulled up"]) == (1, 0, 1)
    # This one the kernel does report.
    assert became["reports"] == ["config_changed"]
    # An input is not set, by whomever.
    assert seen["set an input"]["errno"] == errno.EPERM
    # And back in one ioctl, with the level given in it.
    output = seen["output"]
    assert (output["errno"], output["direction"], output["value"], output["request"]) == (0, "output", 0, errno.EBUSY)


def test_guardian_when_the_holder_changed_its_mode_after_sending_sets_an_output_in_one_ioctl(scenes: Scenes) -> None:
    seen = scenes["mode_changed",]
    assert seen["direction"] == "input"
    # Setting values only is not enough for a guardian that does not know the mode at the end; a configuration with a value always is.
    assert seen["set"]["errno"] == errno.EPERM
    assert (seen["output"]["errno"], seen["output"]["value"]) == (0, 1)


def test_line_when_the_last_handle_closes_takes_what_the_chip_gives_it(scenes: Scenes) -> None:
    seen = scenes["last_close",]
    assert seen["before"] == [0, 1]
    assert seen["after"]["reports"] == ["released", "released"]
    assert seen["after"]["used"] is False
    # The chip's own doing: gpio-sim lets go, so that the pulls decide, and mainline's pinctrl makes an input of it; Raspberry Pi's kernel
    # keeps driving. A safe value is certain only for as long as somebody has the handle: the guardian must not close after it acted.
    assert seen["after"]["values"] == [1, 0]


def test_holder_when_woken_writes_over_the_guardians_value_but_not_to_an_input(scenes: Scenes) -> None:
    seen = scenes["woken",]
    assert seen["stopped"] == 0
    # Nothing in the kernel fences a woken holder: what it had in hand when it was stopped is done.
    assert seen["after set"] == {"errno": 0, "value": 1}
    # Where the guardian made it an input, a woken holder's write is refused, until it configures the line again.
    assert seen["after input"] == {"errno": errno.EPERM, "value": 0}
    assert seen["reconfigured"] == {"errno": 0, "value": 1}


def test_line_when_released_by_its_holder_stays_taken_for_as_long_as_the_guardian_has_it(scenes: Scenes) -> None:
    seen = scenes["release",]
    # A trap: letting go means nothing any more, and the holder itself is refused when it wants the line back.
    assert seen["released"] == {"reports": [], "used": True, "consumer": "holder", "direction": "output", "value": 1}
    assert seen["again"]["errno"] == errno.EBUSY
    assert seen["closed"] == {"reports": ["released"], "errno": 0}


def test_handles_when_their_sender_dies_before_they_are_taken_arrive(scenes: Scenes) -> None:
    seen = scenes["in_flight",]
    # The socket holds them meanwhile, so the line is not let go.
    assert (seen["value"], seen["used"], seen["taken"]) == (1, True, 1)
    assert (seen["set"]["errno"], seen["set"]["value"]) == (0, 0)


def test_holder_when_the_guardian_dies_goes_on(scenes: Scenes) -> None:
    seen = scenes["guardian_dies",]
    assert seen["after"] == {"value": 1, "reports": []}
    assert seen["set"] == {"errno": 0, "value": 0}
    assert seen["released"] == ["released"]


def test_edge_when_two_have_the_handle_is_read_by_one(scenes: Scenes) -> None:
    seen = scenes["edges",]
    # They share one queue: a guardian that reads takes the edge from the holder, which sees a gap in the numbers.
    assert (seen["guardian"]["errno"], seen["guardian"]["line_sequence"]) == (0, 1)
    assert seen["holder"]["errno"] == errno.EAGAIN
    assert seen["holder, next"]["errno"] == 0


def test_handles_when_a_request_a_line_go_in_one_message(scenes: Scenes) -> None:
    seen = scenes["each",]
    assert (seen["taken"]["count"], seen["taken"]["truncated"]) == (28, False)
    assert seen["before"] == seen["kept"] == [1] * 28
    assert (seen["set"]["errno"], seen["set"]["values"]) == (0, [0] * 28)


@pytest.mark.parametrize(("kind", "ended"), [("freeze v1", False), ("freeze v2", True)])
def test_holder_when_frozen_and_killed_ends_at_once_only_under_cgroup_v2(scenes: Scenes, kind: str, ended: bool) -> None:
    seen = scenes["frozen_and_killed", kind]
    assert seen["ended"] is ended
    # Until it ends it drives: under v1, whoever kills a frozen agent waits for nothing.
    assert seen["value"] == (0 if ended else 1)
    assert seen["value at the end"] == 0


def test_bit_when_the_line_is_active_low_is_logical_to_the_guardian_too(scenes: Scenes) -> None:
    seen = scenes["active_low",]
    assert (seen["holder active"], seen["bit"]) == (0, 1)
    # By values alone the guardian speaks of logical levels, as the holder does; a configuration says anew what is logical, for both.
    assert seen["guardian inactive"] == 1
    assert seen["configured plainly, inactive"] == 0
    assert seen["holder active again"] == {"errno": 0, "value": 1}


def test_handles_when_handed_on_by_the_guardian_serve_the_next(scenes: Scenes) -> None:
    seen = scenes["handed_on",]
    # So an agent that starts again can have its lines back without their being let go in between; gpiod makes no request of a handle.
    assert seen["taken"] == 1
    assert seen["kept"] == {"value": 1, "reports": [], "request": errno.EBUSY}
    assert (seen["set"]["errno"], seen["set"]["value"]) == (0, 0)


def test_guardian_when_it_may_not_open_the_chip_still_serves_its_handles(scenes: Scenes) -> None:
    seen = scenes["unprivileged",]
    # What was passed is the permission: the guardian needs neither root nor the group gpio.
    assert seen["open"]["errno"] == errno.EACCES
    assert (seen["set"]["errno"], seen["set"]["value"]) == (0, 0)
    assert (seen["input"]["errno"], seen["input"]["direction"]) == (0, "input")
