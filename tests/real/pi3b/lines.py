"""What the kernel says of the Pi's lines, read past whoever holds them: a second request would only get EBUSY."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LineState:
    """A line of a gpiochip as /sys/kernel/debug/gpio has it. Of a line that nobody requested the kernel tells the name only."""

    name: str
    consumer: str
    direction: str | None
    """in, out, or None when nobody holds the line."""
    level: int | None
    active_low: bool = False


@dataclass(frozen=True, slots=True)
class PinState:
    """A pin as the pin controller's registers have it, held or not: /sys/kernel/debug/pinctrl/…/pins."""

    function: str
    """gpio_in, gpio_out, alt0 … alt5."""
    level: int


def chip_lines(text: str, label: str) -> dict[int, LineState]:
    """Lines by offset of the chip with that label; empty when there is none."""
    found: dict[int, LineState] = {}
    base: int | None = None
    for line in text.splitlines():
        if chip := re.match(r"gpiochip\d+: GPIOs (\d+)-\d+,(.*)", line):
            base = int(chip[1]) if re.search(rf"\b{re.escape(label)}\b", chip[2]) else None
        elif base is not None and (entry := re.match(r"\s*gpio-(\d+)\s+\(([^|)]*)(?:\|([^)]*))?\)\s*(?:(in|out)\s+(hi|lo|\?))?(.*)", line)):
            number, name, consumer, direction, level, rest = entry.groups()
            value = {"hi": 1, "lo": 0}.get(level or "")
            found[int(number) - base] = LineState(name.strip(), (consumer or "").strip(), direction, value, "ACTIVE LOW" in rest)
    return found


def pin_states(text: str) -> dict[int, PinState]:
    """Pins by number; empty when the text is not of a bcm2835 pin controller."""
    pattern = r"^pin (\d+) \(.*?\).*? function (\w+) in (hi|lo);"
    return {int(number): PinState(function, int(level == "hi")) for number, function, level in re.findall(pattern, text, re.MULTILINE)}
