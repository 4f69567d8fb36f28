"""Device files that are there and that this process may not open, each with the command that mends it."""

import grp
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

from picontroller.agent.board import buses

RULES = "60-pi-controller-gpio.rules"

Allowed = Callable[[Path], bool]


def may_use(path: Path) -> bool:
    """Return whether this process may read and write ``path``."""
    return os.access(path, os.R_OK | os.W_OK)


def problems(root: Path, allowed: Allowed = may_use) -> tuple[str, ...]:
    """Return one line for each device that can't be opened."""
    devices = (*buses.gpio_chips(root), *buses.i2c_buses(root), *buses.spi_devices(root))
    paths = [root / "dev" / name for name in devices]
    found = [_explain(path, root) for path in paths if not allowed(path)]
    exports = [root / "sys/class/pwm" / chip / "export" for chip in buses.pwm_chips(root)]
    found += [_explain(path, root) for path in exports if path.exists() and not os.access(path, os.W_OK)]
    return tuple(found)


def _explain(path: Path, root: Path) -> str:
    shown = "/" + str(path.relative_to(root))
    try:
        status = path.stat()
    except OSError as error:
        return f"DEVICE_DENIED: {shown}: {error.strerror}"
    group = _name(status.st_gid, lambda number: grp.getgrgid(number).gr_name)
    user = _name(os.geteuid(), lambda number: pwd.getpwuid(number).pw_name)
    if status.st_gid != 0 and status.st_mode & stat.S_IWGRP:
        return f"DEVICE_DENIED: {shown} is for group {group}; run: sudo usermod -aG {group} {user}, then restart the agent"
    return f"DEVICE_DENIED: {shown} is for root only; install {RULES} in /etc/udev/rules.d and run: sudo udevadm trigger"


def _name(number: int, look_up: Callable[[int], str]) -> str:
    try:
        return look_up(number)
    except KeyError:
        return str(number)
