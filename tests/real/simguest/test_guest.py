"""The guest is what the harness says it is: a real kernel's gpiochips with edges, pulls, debounce, an I2C bus; the agent's driver on it."""

import errno
import json
import socket
from pathlib import Path

import pytest

from tests.real.pi3b.machine import HOST_ADDRESS
from tests.real.simguest import chips
from tests.real.simguest.chips import HEADER_NAMES, SimChip
from tests.real.simguest.guest import SimGuest

# A cold build compiles a kernel.
pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[3]
LABEL = "pinctrl-bcm2711"

BEGIN = """
import errno, json, sys, time
from datetime import timedelta
import gpiod, simchip
from gpiod.line import Bias, Clock, Direction, Edge, Value
chip = simchip.find(sys.argv[1])
def listen(line, buffer=None, **settings):
    config = {line: gpiod.LineSettings(direction=Direction.INPUT, edge_detection=Edge.BOTH, **settings)}
    return gpiod.request_lines(chip.device, consumer="test", config=config, event_buffer_size=buffer)
"""

EDGE = """
chip.pull(5, False)
with listen(5) as request:
    before = time.monotonic_ns()
    chip.pull(5, True)
    after = time.monotonic_ns()
    assert request.wait_edge_events(5)
    [event] = request.read_edge_events()
    read = time.monotonic_ns()
print(json.dumps({"type": event.event_type.name, "line": event.line_offset, "sequence": event.line_seqno,
                  "within": before <= event.timestamp_ns <= after, "late_us": (read - event.timestamp_ns) // 1000}))
"""

OVERFLOW = """
chip.pull(6, False)
with listen(6, 64) as request:
    for turn in range(300):
        chip.pull(6, turn % 2 == 0)
    events = []
    while request.wait_edge_events(0):
        events += request.read_edge_events()
print(json.dumps([event.line_seqno for event in events]))
"""

BUSY = """
with listen(7):
    try:
        listen(7)
    except OSError as error:
        number = error.errno
    info = gpiod.Chip(chip.device).get_line_info(7)
listen(7).release()
print(json.dumps([number, info.consumer]))
"""

DEBOUNCE = """
chip.pull(8, False)
with listen(8, debounce_period=timedelta(milliseconds=50)) as request:
    for attempt in range(10):
        began = time.monotonic_ns()
        for turn in range(7):
            chip.pull(8, turn % 2 == 0)
        settled = time.monotonic_ns()
        assert request.wait_edge_events(5)
        if settled - began < 25_000_000:
            break
        # The emulation was held up, so that it was no bounce: once more from the beginning.
        chip.pull(8, False)
        while request.wait_edge_events(0.5):
            request.read_edge_events()
    events = request.read_edge_events()
    more = request.wait_edge_events(0.2)
print(json.dumps({"types": [event.event_type.name for event in events], "more": more,
                  "after_ms": (events[0].timestamp_ns - settled) / 1e6}))
"""

BIAS = """
seen = []
for bias in (Bias.PULL_UP, Bias.PULL_DOWN, Bias.PULL_UP):
    settings = gpiod.LineSettings(direction=Direction.INPUT, bias=bias)
    with gpiod.request_lines(chip.device, consumer="test", config={9: settings}) as request:
        seen.append([request.get_value(9).value, chip.value(9)])
print(json.dumps(seen))
"""

DRIVE = """
from gpiod.line import Drive
seen = {}
for drive in (Drive.PUSH_PULL, Drive.OPEN_DRAIN, Drive.OPEN_SOURCE):
    for level in (Value.ACTIVE, Value.INACTIVE):
        for pulled in (True, False):
            chip.pull(10, pulled)
            settings = gpiod.LineSettings(direction=Direction.OUTPUT, drive=drive, output_value=level)
            with gpiod.request_lines(chip.device, consumer="test", config={10: settings}):
                seen[f"{drive.name} {level.value} pulled {int(pulled)}"] = chip.value(10)
chip.pull(10, False)
print(json.dumps(seen))
"""

I2C = """
import json, smbus, sys
bus = smbus.Bus(sys.argv[1])
bus.write(0x48, 0x01, 0xA5)
bus.write(0x50, 0x10, 0xBEEF, smbus.WORD_DATA)
seen = {"byte": bus.read(0x48, 0x01), "word": bus.read(0x50, 0x10, smbus.WORD_DATA), "plain": bool(bus.functions() & smbus.PLAIN_I2C)}
try:
    bus.read(0x49, 0)
except OSError as error:
    seen["absent"] = error.errno
print(json.dumps(seen))
"""

LOSSES = """
import asyncio, json, sys, time
import simchip
from picontroller.agent.gpio.drivers import Direction, LineSettings
from picontroller.agent.gpio.drivers.gpiod import open_driver
from picontroller.agent.gpio.pins import Edge
chip = simchip.find(sys.argv[1])
edges = []
async def main():
    driver = await open_driver()
    driver.listen(edges.extend)
    def burst(bank):  # in the driver's thread, so that nobody reads meanwhile
        bank.request(11, LineSettings(Direction.INPUT, edge=Edge.BOTH))
        for turn in range(1500):
            chip.pull(11, turn % 2 == 0)
    chip.pull(11, False)
    await driver.perform(burst)
    deadline = time.monotonic() + 30
    while len(edges) < 1024 and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    await driver.close()
asyncio.run(main())
print(json.dumps({"read": len(edges), "lost": [edge.lost for edge in edges if edge.lost]}))
"""


TALK = """
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
    for _ in range(600):
        connection.sendall(b".")
        time.sleep(0.1)
"""

IMPORTS = """
import json, sys
import cryptography.hazmat.primitives.asymmetric.ec, gpiod, grpc, picontroller.agent.wiring
print(json.dumps("picontroller.agent.service" in sys.modules))
"""


@pytest.fixture(scope="module")
def header(sim_guest: SimGuest) -> SimChip:
    """A chip that looks like a Pi 4's header, one of its lines taken by the kernel."""
    return chips.make(sim_guest, "header", LABEL, 54, HEADER_NAMES, {40: ("a hog", "output-high")})


def test_chip_when_made_appears_under_its_label_with_names_and_hog(header: SimChip) -> None:
    script = """
import gpiod, json, simchip, sys
with gpiod.Chip(simchip.find(sys.argv[1]).device) as chip:
    info, lines = chip.get_info(), [chip.get_line_info(line) for line in (17, 40)]
    print(json.dumps([info.label, info.num_lines, lines[0].name, lines[0].used, lines[1].used, lines[1].consumer]))
"""
    assert header.guest.python(script, header.name) == [LABEL, 54, "GPIO17", False, True, "a hog"]
    assert header.value(40) == 1


def test_edge_when_injected_arrives_with_the_kernels_time(header: SimChip) -> None:
    seen = header.guest.python(BEGIN + EDGE, header.name)
    print(seen)
    assert (seen["type"], seen["line"], seen["sequence"]) == ("RISING_EDGE", 5, 1)
    assert seen["within"], "the time is not that of the pull"


def test_edges_when_more_than_the_buffer_lose_the_oldest_as_their_numbers_tell(header: SimChip) -> None:
    numbers = header.guest.python(BEGIN + OVERFLOW, header.name)
    assert numbers == list(range(237, 301))


def test_line_when_held_is_busy(header: SimChip) -> None:
    assert header.guest.python(BEGIN + BUSY, header.name) == [errno.EBUSY, "test"]


def test_edges_when_debounced_become_one_after_the_period(header: SimChip) -> None:
    seen = header.guest.python(BEGIN + DEBOUNCE, header.name)
    print(seen)
    assert (seen["types"], seen["more"]) == (["RISING_EDGE"], False)
    # The time is that of the debounced edge, a period after the last bounce.
    assert 45 <= seen["after_ms"] < 1000


def test_bias_when_requested_decides_an_open_pin(header: SimChip) -> None:
    assert header.guest.python(BEGIN + BIAS, header.name) == [[1, 1], [0, 0], [1, 1]]


def test_drive_when_open_leaves_one_level_to_the_pull(header: SimChip) -> None:
    seen = header.guest.python(BEGIN + DRIVE, header.name)
    assert seen == {
        **{f"PUSH_PULL {level} pulled {pulled}": level for level in (1, 0) for pulled in (1, 0)},
        **{f"OPEN_DRAIN {level} pulled {pulled}": level and pulled for level in (1, 0) for pulled in (1, 0)},
        **{f"OPEN_SOURCE {level} pulled {pulled}": level or pulled for level in (1, 0) for pulled in (1, 0)},
    }


def test_level_when_pulled_from_outside_the_guest_is_seen_there(header: SimChip) -> None:
    for high in (True, False):
        header.pull(12, high)
        assert header.value(12) == int(high)


def test_i2c_stub_when_asked_answers_at_its_addresses_only(sim_guest: SimGuest) -> None:
    device = chips.i2c_stub(sim_guest, 0x48, 0x50)
    seen = sim_guest.python(I2C, device)
    # It speaks SMBus only: plain I2C, and with it combined transfers of any length, can't be tried on it. Real buses say EREMOTEIO.
    assert seen == {"byte": 0xA5, "word": 0xBEEF, "plain": False, "absent": errno.ENODEV}


def test_gpiod_driver_when_a_thousand_edges_wait_counts_the_lost(header: SimChip) -> None:
    assert header.guest.python(LOSSES, header.name) == {"read": 1024, "lost": [476]}


def test_gpiod_driver_when_run_on_gpio_sim_passes_the_contract_of_all_drivers(header: SimChip) -> None:
    guest = header.guest
    for package in ("tests", "tests/contract"):
        guest.put(f"/tmp/suite/{package}/__init__.py", b"")
    for path in sorted((ROOT / "tests/contract/pin_driver").glob("*.py")):
        guest.put(f"/tmp/suite/tests/contract/pin_driver/{path.name}", path.read_bytes())
    done = guest.run(["python3", "/simguest/rig.py", header.name], timeout=300, environment={"PYTHONPATH": "/tmp/suite"})
    assert done.status == 0, done.output
    counts = json.loads(done.output.strip().splitlines()[-1])
    print(counts)
    assert counts["failures"] == {}
    # All but what needs the kernel to drop an exact number of edges; see the test above.
    assert counts["left out for want of"] == {"dropped_edges_are_counted_exactly": ["losses"]}
    assert counts["passed"] == counts["all"] - 1


def hear_out(connection: socket.socket) -> None:
    """Take what is under way; raises TimeoutError when nothing more comes."""
    while connection.recv(1):
        pass


def test_network_when_the_cable_is_pulled_is_silent_and_comes_back(sim_guest: SimGuest) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        talker = sim_guest.start(["python3", "-c", TALK, HOST_ADDRESS, str(server.getsockname()[1])], "/var/log/talk")
        connection, _ = server.accept()
    with connection:
        connection.settimeout(30)
        assert connection.recv(1) == b"."
        sim_guest.cable(plugged=False)
        try:
            connection.settimeout(1)
            with pytest.raises(TimeoutError):
                hear_out(connection)
        finally:
            sim_guest.cable(plugged=True)
        connection.settimeout(30)
        assert connection.recv(1) == b"."
    talker.stop()


def test_agent_when_imported_in_the_guest_has_all_it_needs(sim_guest: SimGuest) -> None:
    assert sim_guest.python(IMPORTS, timeout=120) is True
