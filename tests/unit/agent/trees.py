"""Builds the few files below ``/proc``, ``/sys`` and ``/dev`` by which a board is known, as its firmware and kernel show them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Tree:
    """A machine in files. ``chips`` are GPIO chips by device name with their ``compatible``; ``parts`` are aliases with their status."""

    model: str = ""
    compatible: Sequence[str] = ()
    revision: int | None = None
    cpuinfo: str = ""
    memory_kb: int = 1_000_000
    chips: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    devices: Sequence[str] = ()
    pwm: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    cmdline: str = "root=/dev/mmcblk0p2 rootwait"
    base: str = "proc/device-tree"

    def build(self, root: Path) -> Path:
        """Write the files below ``root`` and return it."""
        base = root / self.base
        if self.model:
            write(base / "model", self.model.encode() + b"\0")
            write(base / "compatible", b"".join(entry.encode() + b"\0" for entry in self.compatible))
        if self.revision is not None:
            write(base / "system/linux,revision", self.revision.to_bytes(4, "big"))
        for alias, status in self.parts.items():
            node = f"soc/{alias}@7e000000"
            write(base / "aliases" / alias, f"/{node}".encode() + b"\0")
            (base / node).mkdir(parents=True, exist_ok=True)
            if status:
                write(base / node / "status", status.encode() + b"\0")
        write(root / "proc/cpuinfo", self.cpuinfo.encode())
        write(root / "proc/meminfo", f"MemTotal:       {self.memory_kb} kB\nMemFree:  1 kB\n".encode())
        write(root / "proc/cmdline", self.cmdline.encode() + b"\n")
        for chip, compatible in self.chips.items():
            write(root / "dev" / chip, b"")
            write(root / "sys/bus/gpio/devices" / chip / "of_node/compatible", compatible.encode() + b"\0")
        for name, target in self.links.items():
            (root / "dev" / name).symlink_to(target)
        for device in self.devices:
            write(root / "dev" / device, b"")
        for chip, (channels, device) in self.pwm.items():
            write(root / "sys/devices" / device / "uevent", b"")
            write(root / "sys/class/pwm" / chip / "npwm", f"{channels}\n".encode())
            write(root / "sys/class/pwm" / chip / "export", b"")
            (root / "sys/class/pwm" / chip / "device").symlink_to(root / "sys/devices" / device)
        return root


def write(path: Path, content: bytes) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


ZERO_2_W = Tree(
    "Raspberry Pi Zero 2 W Rev 1.0", ("raspberrypi,model-zero-2-w", "brcm,bcm2837"), 0x902120, memory_kb=425_000,
    chips={"gpiochip0": "brcm,bcm2835-gpio"}, parts={"i2c1": "disabled", "spi0": "disabled"},
)  # fmt: skip
PI_3B_RASPBIAN = Tree(
    "Raspberry Pi 3 Model B Rev 1.2", ("raspberrypi,3-model-b", "brcm,bcm2837"), 0xA02082,
    chips={"gpiochip0": "brcm,bcm2835-gpio", "gpiochip1": "raspberrypi,firmware-gpio"}, parts={"i2c1": "okay", "spi0": "disabled"},
    devices=("i2c-1", "i2c-2"), cmdline="console=tty1 root=PARTUUID=1 rootwait",
)  # fmt: skip
PI_3B_QEMU = Tree(  # Debian's kernel in QEMU: no revision, mainline's device tree, everything shown below /sys only
    "Raspberry Pi 3 Model B", ("raspberrypi,3-model-b", "brcm,bcm2837"),
    chips={"gpiochip0": "brcm,bcm2835-gpio"}, parts={"i2c1": ""}, cmdline="console=ttyAMA0 init=/init",
    base="sys/firmware/devicetree/base",
)  # fmt: skip
PI_4B = Tree(
    "Raspberry Pi 4 Model B Rev 1.5", ("raspberrypi,4-model-b", "brcm,bcm2711"), 0xC03115, memory_kb=3_884_360,
    chips={"gpiochip0": "brcm,bcm2711-gpio", "gpiochip1": "raspberrypi,firmware-gpio"}, parts={"i2c1": "okay", "spi0": "okay"},
    devices=("i2c-1", "i2c-20", "i2c-21", "spidev0.0", "spidev0.1", "spidev10.0"), pwm={"pwmchip0": (2, "platform/soc/fe20c000.pwm")},
)  # fmt: skip
_PI_5 = Tree(
    "Raspberry Pi 5 Model B Rev 1.0", ("raspberrypi,5-model-b", "brcm,bcm2712"), 0xD04170, memory_kb=8_245_000,
    parts={"i2c1": "disabled", "spi0": "disabled"}, devices=("i2c-13", "i2c-14"), cmdline="console=ttyAMA10,115200 console=tty1",
    pwm={"pwmchip0": (4, "platform/axi/1f00098000.pwm"), "pwmchip1": (4, "platform/axi/1f0009c000.pwm")},
)  # fmt: skip
PI_5 = Tree(**{**vars(_PI_5), "chips": {
    "gpiochip0": "raspberrypi,rp1-gpio", "gpiochip10": "brcm,brcmstb-gpio", "gpiochip11": "brcm,brcmstb-gpio",
    "gpiochip12": "brcm,brcmstb-gpio", "gpiochip13": "brcm,brcmstb-gpio",
}, "links": {"gpiochip4": "gpiochip0"}})  # fmt: skip
PI_5_NO_ZERO = Tree(**{**vars(_PI_5), "chips": {  # kernel 6.12.96: chips 11 to 15
    "gpiochip11": "brcm,brcmstb-gpio", "gpiochip12": "brcm,brcmstb-gpio", "gpiochip13": "brcm,brcmstb-gpio",
    "gpiochip14": "brcm,brcmstb-gpio", "gpiochip15": "raspberrypi,rp1-gpio",
}})  # fmt: skip
LAPTOP = Tree(cpuinfo="processor\t: 0\nvendor_id\t: GenuineIntel\n", devices=("i2c-0", "i2c-10", "null"), memory_kb=16_000_000)
