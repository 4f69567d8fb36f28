"""What is found on boards of every kind, and on machines that are none."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from picontroller.agent.board import buses, hardware, permissions
from picontroller.agent.board.devicetree import DeviceTree
from tests.unit.agent.trees import LAPTOP, PI_3B_QEMU, PI_3B_RASPBIAN, PI_4B, PI_5, PI_5_NO_ZERO, ZERO_2_W, Tree, write


@pytest.mark.parametrize(
    ("tree", "model", "soc", "revision"),
    [
        (ZERO_2_W, "Raspberry Pi Zero 2 W Rev 1.0", "bcm2837", "902120"),
        (PI_3B_RASPBIAN, "Raspberry Pi 3 Model B Rev 1.2", "bcm2837", "a02082"),
        (PI_3B_QEMU, "Raspberry Pi 3 Model B", "bcm2837", ""),
        (PI_4B, "Raspberry Pi 4 Model B Rev 1.5", "bcm2711", "c03115"),
        (PI_5, "Raspberry Pi 5 Model B Rev 1.0", "bcm2712", "d04170"),
        (PI_5_NO_ZERO, "Raspberry Pi 5 Model B Rev 1.0", "bcm2712", "d04170"),
    ],
)
def test_board_when_a_pi_is_known_by_its_device_tree(tree: Tree, model: str, soc: str, revision: str, tmp_path: Path) -> None:
    board = hardware.detect(tree.build(tmp_path))
    assert (board.model, board.soc, board.revision) == (model, soc, revision)
    assert board.raspberry_pi
    assert not board.simulated
    assert board.memory_bytes == tree.memory_kb * 1024


def test_board_when_no_pi_is_said_to_be_none_and_has_its_buses(tmp_path: Path) -> None:
    board = hardware.detect(LAPTOP.build(tmp_path))
    assert board.model == f"unrecognised board ({os.uname().machine})"
    assert (board.soc, board.revision, board.reserved, board.i2c_buses) == ("", "", {}, ("i2c-0", "i2c-10"))
    assert not board.raspberry_pi


def test_board_when_nothing_at_all_is_there_is_empty(tmp_path: Path) -> None:
    board = hardware.detect(tmp_path / "missing")
    assert (board.memory_bytes, board.i2c_buses, board.spi_devices, board.pwm_channels, board.permission_problems) == (0, (), (), (), ())


def test_revision_when_the_tree_has_none_comes_from_cpuinfo(tmp_path: Path) -> None:
    tree = replace(PI_4B, revision=None, cpuinfo="processor\t: 0\nRevision\t: c03111\nSerial\t\t: 10000000abcdef01\n")
    assert hardware.detect(tree.build(tmp_path)).revision == "c03111"


def test_soc_when_compatible_names_none_comes_from_the_revision(tmp_path: Path) -> None:
    tree = replace(PI_5, compatible=("raspberrypi,5-model-b",))
    assert hardware.detect(tree.build(tmp_path)).soc == "bcm2712"


def test_soc_when_named_by_its_family_is_the_chip(tmp_path: Path) -> None:
    tree = replace(PI_3B_RASPBIAN, compatible=("raspberrypi,3-model-b", "brcm,bcm2710"))
    assert hardware.detect(tree.build(tmp_path)).soc == "bcm2837"


def test_reserved_when_buses_are_on_names_their_lines(tmp_path: Path) -> None:
    assert dict(hardware.detect(PI_4B.build(tmp_path)).reserved) == {
        2: "I2C1 in use", 3: "I2C1 in use",
        7: "SPI0 in use", 8: "SPI0 in use", 9: "SPI0 in use", 10: "SPI0 in use", 11: "SPI0 in use",
    }  # fmt: skip


def test_reserved_when_a_part_has_no_status_counts_as_on_and_the_console_as_used(tmp_path: Path) -> None:
    reserved = hardware.detect(PI_3B_QEMU.build(tmp_path)).reserved
    assert reserved == {2: "I2C1 in use", 3: "I2C1 in use", 14: "serial console in use", 15: "serial console in use"}


def test_reserved_when_a_pi_5_has_its_console_on_its_own_connector_is_nothing(tmp_path: Path) -> None:
    assert hardware.detect(PI_5.build(tmp_path)).reserved == {}


def test_reserved_when_spi1_has_one_chip_select_spares_the_others(tmp_path: Path) -> None:
    tree = replace(ZERO_2_W, parts={"spi1": "okay"}, devices=("spidev1.0",))
    assert set(hardware.detect(tree.build(tmp_path)).reserved) == {18, 19, 20, 21}


def test_reserved_when_spi1_has_three_chip_selects_takes_all(tmp_path: Path) -> None:
    tree = replace(ZERO_2_W, devices=("spidev1.0", "spidev1.1", "spidev1.2"))
    assert set(hardware.detect(tree.build(tmp_path)).reserved) == {16, 17, 18, 19, 20, 21}


def test_reserved_when_an_alias_leads_nowhere_is_nothing(tmp_path: Path) -> None:
    write(tmp_path / "proc/device-tree/aliases/i2c1", b"/soc/gone\0")
    assert buses.reserved_lines(tmp_path, DeviceTree(tmp_path)) == {}


def test_chips_when_some_are_links_leaves_those_out_and_orders_by_number(tmp_path: Path) -> None:
    assert buses.gpio_chips(PI_5.build(tmp_path)) == ("gpiochip0", "gpiochip10", "gpiochip11", "gpiochip12", "gpiochip13")


def test_chips_when_the_kernel_has_no_chip_0_are_those_there_are(tmp_path: Path) -> None:
    assert buses.gpio_chips(PI_5_NO_ZERO.build(tmp_path)) == ("gpiochip11", "gpiochip12", "gpiochip13", "gpiochip14", "gpiochip15")


def test_buses_when_many_are_in_order_of_their_numbers(tmp_path: Path) -> None:
    board = hardware.detect(PI_4B.build(tmp_path))
    assert board.i2c_buses == ("i2c-1", "i2c-20", "i2c-21")
    assert board.spi_devices == ("spidev0.0", "spidev0.1", "spidev10.0")
    assert board.pwm_channels == ("pwmchip0/0", "pwmchip0/1")


def test_pwm_when_a_chip_drives_the_fan_is_left_out(tmp_path: Path) -> None:
    assert hardware.detect(PI_5.build(tmp_path)).pwm_channels == tuple(f"pwmchip0/{channel}" for channel in range(4))


def test_permissions_when_a_device_is_for_a_group_names_group_and_command(tmp_path: Path) -> None:
    root = PI_4B.build(tmp_path)
    (root / "dev/gpiochip0").chmod(0o660)
    os.chown(root / "dev/gpiochip0", -1, 65534) if os.geteuid() == 0 else None
    found = permissions.problems(root, lambda path: path.name != "gpiochip0")
    assert len(found) == 1
    assert found[0].startswith("DEVICE_DENIED: /dev/gpiochip0 is for ")
    assert "usermod -aG" in found[0] if os.geteuid() == 0 else "DEVICE_DENIED" in found[0]


def test_permissions_when_a_device_is_for_root_alone_names_the_rules(tmp_path: Path) -> None:
    root = PI_3B_QEMU.build(tmp_path)
    (root / "dev/gpiochip0").chmod(0o600)
    assert permissions.problems(root, lambda _: False) == (
        "DEVICE_DENIED: /dev/gpiochip0 is for root only; install 60-pi-controller-gpio.rules in /etc/udev/rules.d"
        " and run: sudo udevadm trigger",
    )


def test_permissions_when_all_may_be_used_has_nothing_to_say(tmp_path: Path) -> None:
    assert permissions.problems(PI_4B.build(tmp_path), lambda _: True) == ()


def test_device_tree_when_a_property_is_odd_answers_nothing(tmp_path: Path) -> None:
    write(tmp_path / "proc/device-tree/system/linux,revision", b"\x01\x02")
    write(tmp_path / "proc/device-tree/model", b"\xff\xfe\0")
    tree = DeviceTree(tmp_path)
    assert tree.word("system/linux,revision") is None
    assert tree.text("model")
    assert tree.text("nothing") == ""
