"""The questions to the kernel, one function each: `python3 scenes.py CHIP SCENE[,ARGUMENT…] …` prints what was seen, a line a scene."""

import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from typing import Any

import simchip
from handles import V1, V2, Guardian, Holder, Scene, until

EACH = list(range(28))


def death(chip: simchip.Chip, kind: str, first: str, count: str) -> dict[str, Any]:
    """A holder of outputs, all high, meets an end; then the guardian brings all but the last low, and closes."""
    lines = list(range(int(first), int(first) + int(count)))
    mask = (1 << len(lines)) - 1
    with Scene(chip, lines) as scene:
        seen: dict[str, Any] = {"modules": scene.guardian.modules}
        scene.holder.ask("output", lines, 1)
        seen["taken"] = scene.share()["count"]
        seen["left of it"] = scene.holder.suffer(kind)
        seen["after the end"] = {
            "values": scene.values(lines),
            "reports": scene.reports(),
            "request": scene.request(lines[0]),
            **scene.info(lines[0]),
            "bits": scene.guardian.ask("get", 0, mask)["bits"],
        }
        seen["first low"] = {**scene.guardian.ask("set", 0, 0, 1), "values": scene.values(lines)}
        seen["all low"] = {**scene.guardian.ask("set", 0, 0, mask), "values": scene.values(lines), "reports": scene.reports()}
        scene.guardian.ask("close")
        seen["after the close"] = {"reports": scene.reports(), "request": scene.request(lines[0])}
        scene.reports()  # of the request just made
        scene.holder.relieve()
        return seen


def busy_deaths(chip: simchip.Chip, kind: str, count: str) -> dict[str, Any]:
    """A holder that never stops toggling meets its end again and again, at any point of it."""
    lines, rounds, slowest = [0, 1, 2, 3], [], 0
    with Scene(chip, lines) as scene:
        for _ in range(int(count)):
            scene.holder.ask("output", lines, 1)
            scene.share()
            scene.reports()  # of what was before
            scene.holder.tell("toggle", lines)
            time.sleep(random.uniform(0.01, 0.05))
            scene.holder.suffer(kind)
            done = scene.guardian.ask("set", 0, 0, 0b1111)
            slowest = max(slowest, done["microseconds"])
            rounds.append({"errno": done["errno"], "values": scene.values(lines), "reports": scene.reports()})
            scene.renew_holder()
    return {"rounds": rounds, "slowest microseconds": slowest}


def configure(chip: simchip.Chip, kind: str) -> dict[str, Any]:
    """The guardian makes a dead or stopped holder's output an input, and an output again."""
    chip.pull(6, False)
    with Scene(chip, [6]) as scene:
        scene.holder.ask("output", [6], 1)
        scene.share()
        scene.holder.suffer(kind)
        seen = {"input": {**scene.guardian.ask("input", 0), **scene.info(6), "untouched": chip.value(6), "reports": scene.reports()}}
        chip.pull(6, False)
        seen["input"]["pulled down"] = chip.value(6)
        chip.pull(6, True)
        seen["input"]["pulled up"] = chip.value(6)
        seen["set an input"] = scene.guardian.ask("set", 0, 0, 1)
        seen["output"] = {**scene.guardian.ask("output", 0, 0, 1), **scene.info(6), "value": chip.value(6), "request": scene.request(6)}
        chip.pull(6, False)
        return seen


def last_close(chip: simchip.Chip) -> dict[str, Any]:
    """The guardian closes last: levels of an output that was low on a pulled-up pin, and high on a pulled-down one."""
    chip.pull(7, True)
    chip.pull(8, False)
    with Scene(chip, [7, 8]) as scene:
        scene.holder.ask("output", [7, 8], 0)
        scene.share()
        scene.holder.suffer("kill")
        scene.guardian.ask("set", 0, 0b10, 0b11)
        seen: dict[str, Any] = {"before": scene.values([7, 8])}
        scene.guardian.kill()  # by the end of the process as well as by closing
        until("released", lambda: not scene.info(7)["used"])
        seen["after"] = {"values": scene.values([7, 8]), "reports": scene.reports(), **scene.info(7)}
        chip.pull(7, False)
        return seen


def woken(chip: simchip.Chip) -> dict[str, Any]:
    """A holder that was stopped while the guardian acted goes on and writes again."""
    with Scene(chip) as scene:
        scene.holder.ask("output", [9], 1)
        scene.share()
        scene.holder.suffer("stop")
        scene.guardian.ask("set", 0, 0, 1)
        scene.holder.tell("set", [9], 1)  # it waits in the socket until the holder runs again
        seen: dict[str, Any] = {"stopped": chip.value(9)}
        scene.holder.relieve()
        seen["after set"] = {**scene.holder.answer(), "value": chip.value(9)}
        scene.holder.suffer("stop")
        scene.guardian.ask("input", 0)
        chip.pull(9, False)
        scene.holder.tell("set", [9], 1)
        scene.holder.relieve()
        seen["after input"] = {**scene.holder.answer(), "value": chip.value(9)}
        seen["reconfigured"] = {**scene.holder.ask("reconfigure", "output", [9], 1), "value": chip.value(9)}
        return seen


def release(chip: simchip.Chip) -> dict[str, Any]:
    """The holder lets its line go while the guardian has the duplicate, and wants it back."""
    with Scene(chip, [10]) as scene:
        scene.holder.ask("output", [10], 1)
        scene.share()
        scene.holder.ask("release")
        seen: dict[str, Any] = {"released": {"reports": scene.reports(), **scene.info(10), "value": chip.value(10)}}
        seen["again"] = scene.holder.ask("output", [10], 1)
        scene.guardian.ask("close")
        seen["closed"] = {"reports": scene.reports(), **scene.holder.ask("output", [10], 1)}
        return seen


def in_flight(chip: simchip.Chip) -> dict[str, Any]:
    """The holder is killed when it has sent its handles and nobody has taken them yet."""
    with Scene(chip, [11]) as scene:
        scene.holder.ask("output", [11], 1)
        scene.holder.ask("send", scene.guardian.path)
        scene.holder.suffer("kill")
        seen: dict[str, Any] = {"value": chip.value(11), **scene.info(11)}
        seen["taken"] = scene.guardian.ask("receive")["count"]
        seen["set"] = {**scene.guardian.ask("set", 0, 0, 1), "value": chip.value(11)}
        return seen


def guardian_dies(chip: simchip.Chip) -> dict[str, Any]:
    """The guardian is killed; the holder goes on as if it had never been."""
    with Scene(chip, [12]) as scene:
        scene.holder.ask("output", [12], 1)
        scene.share()
        scene.guardian.kill()
        seen: dict[str, Any] = {"after": {"value": chip.value(12), "reports": scene.reports()}}
        seen["set"] = {**scene.holder.ask("set", [12], 0), "value": chip.value(12)}
        scene.holder.ask("release")
        seen["released"] = scene.reports()
        return seen


def edges(chip: simchip.Chip) -> dict[str, Any]:
    """Whose event is an edge, when two have the handle?"""
    chip.pull(13, False)
    with Scene(chip) as scene:
        scene.holder.ask("input", [13])
        scene.share()
        chip.pull(13, True)
        seen = {"guardian": scene.guardian.ask("event", 0), "holder": scene.holder.ask("event")}
        chip.pull(13, False)
        seen["holder, next"] = scene.holder.ask("event")
        return seen


def mode_changed(chip: simchip.Chip) -> dict[str, Any]:
    """The holder reconfigured after it had sent its handle, and is killed."""
    with Scene(chip, [14]) as scene:
        scene.holder.ask("output", [14], 1)
        scene.share()
        scene.holder.ask("reconfigure", "input", [14])
        scene.holder.suffer("kill")
        return {
            **scene.info(14),
            "set": scene.guardian.ask("set", 0, 0, 1),
            "output": {**scene.guardian.ask("output", 0, 1, 1), "value": chip.value(14)},
            "reports": scene.reports(),
        }


def each(chip: simchip.Chip) -> dict[str, Any]:
    """A request a line, as the agent makes them: all handles of a header in one message."""
    with Scene(chip) as scene:
        scene.holder.ask("each", EACH, 1)
        seen: dict[str, Any] = {"taken": scene.share(), "before": scene.values(EACH)}
        scene.holder.suffer("kill")
        seen["kept"] = scene.values(EACH)
        seen["set"] = {**scene.guardian.ask("set_all", 0, 1), "values": scene.values(EACH)}
        return seen


def active_low(chip: simchip.Chip) -> dict[str, Any]:
    """What a bit means on a line that is active low, to the guardian."""
    with Scene(chip) as scene:
        scene.holder.ask("active low", [16], 1)
        scene.share()
        seen: dict[str, Any] = {"holder active": chip.value(16), "bit": scene.guardian.ask("get", 0, 1)["bits"]}
        scene.guardian.ask("set", 0, 0, 1)
        seen["guardian inactive"] = chip.value(16)
        scene.guardian.ask("output", 0, 0, 1)  # whose flags do not say active low
        seen["configured plainly, inactive"] = chip.value(16)
        seen["holder active again"] = {**scene.holder.ask("set", [16], 1), "value": chip.value(16)}
        return seen


def handed_on(chip: simchip.Chip) -> dict[str, Any]:
    """The holder is killed, the guardian hands on to another process and is killed too."""
    with Scene(chip, [17]) as scene, tempfile.TemporaryDirectory() as folder:
        scene.holder.ask("output", [17], 1)
        scene.share()
        scene.holder.suffer("kill")
        heir = Guardian(folder)
        heir.tell("receive")
        scene.guardian.ask("send", heir.path)
        seen: dict[str, Any] = {"taken": heir.answer()["count"]}
        scene.guardian.kill()
        seen["kept"] = {"value": chip.value(17), "reports": scene.reports(), "request": scene.request(17)}
        seen["set"] = {**heir.ask("set", 0, 0, 1), "value": chip.value(17)}
        heir.kill()
        return seen


def unprivileged(chip: simchip.Chip) -> dict[str, Any]:
    """A guardian of a user who may not open the chip."""
    os.chmod(chip.device, 0o600)
    with Scene(chip, user=65534) as scene:
        scene.holder.ask("output", [18], 1)
        scene.share()
        scene.holder.suffer("kill")
        seen: dict[str, Any] = {"open": scene.guardian.ask("open", chip.device)}
        seen["set"] = {**scene.guardian.ask("set", 0, 0, 1), "value": chip.value(18)}
        seen["input"] = {**scene.guardian.ask("input", 0), **scene.info(18)}
        return seen


def frozen_and_killed(chip: simchip.Chip, kind: str) -> dict[str, Any]:
    """SIGKILL to a holder that is frozen: does it end before it is thawed?"""
    holder = Holder(chip)
    holder.ask("output", [15], 1)
    holder.suffer(kind)
    os.kill(holder.pid, signal.SIGKILL)
    deadline = time.monotonic() + (1 if kind == "freeze v1" else 10)
    while (state := holder.state()) != "gone" and time.monotonic() < deadline:
        time.sleep(0.01)
    seen = {"ended": state == "gone", "value": chip.value(15)}
    if state != "gone":
        (V1 if kind == "freeze v1" else V2).joinpath("freezer.state" if kind == "freeze v1" else "cgroup.freeze").write_text(
            "THAWED" if kind == "freeze v1" else "0"
        )
        until("ended when thawed", lambda: holder.state() == "gone")
    seen["value at the end"] = chip.value(15)
    return seen


def seen_in(chip: simchip.Chip, name: str, *arguments: str) -> dict[str, Any]:
    """One scene, whatever comes of it."""
    try:
        seen: dict[str, Any] = globals()[name](chip, *arguments)
    except Exception:
        return {"failed": traceback.format_exc()}
    return seen


if __name__ == "__main__":
    chip_name, *wanted = sys.argv[1:]
    for scene_text in wanted:
        print(json.dumps(seen_in(simchip.find(chip_name), *scene_text.split(","))), flush=True)
