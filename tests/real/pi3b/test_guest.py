"""The emulated Pi is what the harness says it is: everything here is asked of a booted guest."""

import os
import socket
import threading
import time
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from signal import Signals

import pytest

from tests.real.pi3b import debian, image, wheels
from tests.real.pi3b.faults import HarnessError
from tests.real.pi3b.guest import PiGuest
from tests.real.pi3b.image import Image, ImageSpec
from tests.real.pi3b.lines import LineState, PinState
from tests.real.pi3b.machine import HOST_ADDRESS

# A cold build downloads 100 MB.
pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
REQUIREMENTS = wheels.applying([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["agent"]])
ECHO_PORT = 7007

HOLD = """
import signal, sys, gpiod
from gpiod.line import Direction, Value
levels = {int(line): Value(int(level)) for line, level in (word.split("=") for word in sys.argv[1:])}
config = {line: gpiod.LineSettings(direction=Direction.OUTPUT, output_value=level) for line, level in levels.items()}
with gpiod.request_lines("/dev/gpiochip0", consumer="holder", config=config):
    print("held", flush=True)
    signal.pause()
"""

ECHO = f"""
import socket
with socket.create_server(("", {ECHO_PORT})) as server:
    print("listening", flush=True)
    while True:
        connection, _ = server.accept()
        with connection:
            connection.sendall(connection.recv(100).upper())
"""


IMPORTS = """
import resource, time
began = time.monotonic()
import cryptography, google.protobuf, grpc
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
took = time.monotonic() - began
from concurrent import futures
assert grpc.server(futures.ThreadPoolExecutor(1)).add_insecure_port("127.0.0.1:0")
algorithm, key = ec.ECDSA(hashes.SHA256()), ec.generate_private_key(ec.SECP256R1())
key.public_key().verify(key.sign(b"x", algorithm), b"x", algorithm)
print(f"imports took {took:.1f} s, RSS {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")
"""

CALL = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
    connection.sendall(b"from the Pi")
    print(connection.recv(100).decode())
"""


def tiny_wheel(folder: Path, answer: int) -> Path:
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/__init__.py", f"def main():\n    print('answer {answer}')\n")
        archive.writestr(
            "tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\nRequires-Dist: gpiod>=2; extra == 'io'\n"
        )
        archive.writestr("tiny-1.0.dist-info/entry_points.txt", "[console_scripts]\ntiny = tiny:main\n")
    return path


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ImageSpec:
    return ImageSpec(requirements=REQUIREMENTS, local_wheels=(tiny_wheel(tmp_path_factory.mktemp("wheels"), 42),))


@pytest.fixture(scope="module")
def built(spec: ImageSpec) -> Image:
    return image.build(spec)


@pytest.fixture(scope="module")
def pi(built: Image) -> Iterator[PiGuest]:
    with PiGuest(built, ports=[ECHO_PORT]) as guest:
        print(f"booted in {guest.boot_seconds:.1f} s")
        yield guest


def test_machine_when_booted_is_a_raspberry_pi_3(pi: PiGuest) -> None:
    assert pi.get("/proc/device-tree/model").rstrip(b"\0") == b"Raspberry Pi 3 Model B"
    script = "import gpiod; info = gpiod.Chip('/dev/gpiochip0').get_info(); print(info.label, info.num_lines)"
    assert pi.run(["python3", "-c", script]) == (0, "pinctrl-bcm2835 54\n")
    assert int(pi.get("/sys/class/thermal/thermal_zone0/temp")) > 0
    assert pi.run("ls /sys/class/pwm") == (0, "pwmchip0\n")


def test_clock_when_set_is_the_machines(pi: PiGuest) -> None:
    before = time.time()
    guest = float(pi.run(["python3", "-c", "import time; print(time.time())"]).output)
    # Certificates that were issued a second ago must be valid in the guest.
    assert before - 0.5 < guest < time.time() + 0.5


def test_clock_when_not_set_is_1970(built: Image) -> None:
    with PiGuest(built, set_clock=False) as guest:
        assert guest.run("date -u +%Y") == (0, "1970\n")
        pid = guest.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_line_when_set_high_shows_in_the_kernel_and_no_other_changes(pi: PiGuest) -> None:
    pi.put("/root/hold.py", HOLD.encode())
    lines, pins = pi.gpio_debug(), pi.pin_debug()
    assert lines[17] == LineState("GPIO17", "", None, None)
    assert pins[17] == PinState("gpio_in", 0)
    holder = pi.start(["python3", "/root/hold.py", "17=1", "22=0"], "/var/log/hold")
    holder.wait_for("held")
    held = pi.gpio_debug()
    assert held[17] == LineState("GPIO17", "holder", "out", 1)
    assert held[22] == LineState("GPIO22", "holder", "out", 0)
    assert {line: state for line, state in held.items() if line not in {17, 22}} == {k: v for k, v in lines.items() if k not in {17, 22}}
    assert pi.pin_debug() == {**pins, 17: PinState("gpio_out", 1), 22: PinState("gpio_out", 0)}
    assert "busy" in pi.run(["python3", "/root/hold.py", "17=0"]).output
    pi.signal(holder.pid, Signals.SIGKILL)
    assert holder.status(10) == -Signals.SIGKILL
    assert pi.gpio_debug() == lines
    # The emulation keeps the level that was last written to a line which nobody drives any more.
    assert pi.pin_debug() == {**pins, 17: PinState("gpio_in", 1)}


def test_libraries_when_imported_work(pi: PiGuest) -> None:
    status, output = pi.run(["python3", "-c", IMPORTS])
    assert status == 0, output
    memory = dict(line.split(":") for line in pi.get("/proc/meminfo").decode().splitlines())
    available = int(memory["MemAvailable"].split()[0]) // 1024
    print(output.strip(), f"available in the guest {available} MB")
    assert available > 500


def test_connection_when_from_the_guest_reaches_the_machine(pi: PiGuest) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        received: list[bytes] = []

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                received.append(connection.recv(100))
                connection.sendall(b"from the machine")

        thread = threading.Thread(target=serve)
        thread.start()
        answer = pi.run(["python3", "-c", CALL, HOST_ADDRESS, str(server.getsockname()[1])])
        thread.join(60)
    assert received == [b"from the Pi"]
    assert answer == (0, "from the machine\n")


def test_connection_when_from_the_machine_reaches_the_guest_until_the_cable_is_pulled(pi: PiGuest) -> None:
    echo = pi.start(["python3", "-c", ECHO], "/var/log/echo")
    echo.wait_for("listening")

    def say(text: bytes, timeout: float) -> bytes:
        with socket.create_connection(("127.0.0.1", pi.ports[ECHO_PORT]), timeout=timeout) as connection:
            connection.sendall(text)
            return connection.recv(100)

    assert say(b"hello", 30) == b"HELLO"
    pi.cable(plugged=False)
    try:
        with pytest.raises(TimeoutError):
            say(b"hello", 2)
    finally:
        pi.cable(plugged=True)
    assert say(b"again", 60) == b"AGAIN"
    assert echo.stop() == -Signals.SIGTERM


def test_command_when_over_its_time_is_killed_with_its_children(pi: PiGuest) -> None:
    with pytest.raises(TimeoutError, match="before"):
        pi.run("echo before; sleep 1234 & sleep 1234", timeout=2)
    assert "sleep 1234" not in pi.run("ps").output
    assert pi.run("cat; exit 3", stdin=b"given") == (3, "given")
    with pytest.raises(HarnessError, match="FileNotFoundError"):
        pi.get("/no/such/file")


def test_guest_when_paused_goes_on_afterwards(pi: PiGuest) -> None:
    pi.pause()
    time.sleep(1)
    pi.resume()
    assert pi.run("echo alive") == (0, "alive\n")


def test_wheel_when_local_is_installed_and_its_change_keeps_the_base(pi: PiGuest, built: Image, spec: ImageSpec, tmp_path: Path) -> None:
    assert pi.run("tiny") == (0, "answer 42\n")
    assert wheels.requirements_of(spec.local_wheels[0], ["io"]) == ("gpiod>=2",)
    assert wheels.requirements_of(spec.local_wheels[0]) == ()
    began = time.monotonic()
    changed = image.build(ImageSpec(requirements=REQUIREMENTS, local_wheels=(tiny_wheel(tmp_path, 43),)))
    print(f"repacked in {time.monotonic() - began:.1f} s")
    assert changed.kernel == built.kernel
    assert changed.initramfs != built.initramfs
    assert image.build(spec) == built


def test_boot_when_it_fails_shows_the_console(built: Image) -> None:
    guest = PiGuest(built, arguments=["rdinit=/no/such/program"])
    with pytest.raises(HarnessError, match="Kernel panic"):
        guest.__enter__()
    with pytest.raises(HarnessError, match="not running"):
        _ = guest.pid


def test_packages_when_lacking_are_named(tmp_path: Path) -> None:
    with pytest.raises(debian.MissingPackageError, match=r"has no no-such-package$"):
        debian.Apt(tmp_path / "apt").fetch(["libc6", "no-such-package"], tmp_path / "debs")
