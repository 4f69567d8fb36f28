"""The device tree as the kernel shows it: what the firmware says the board is, and which of its parts are switched on."""

from pathlib import Path

PLACES = ("proc/device-tree", "sys/firmware/devicetree/base")
"""Where the kernel shows it; the second is there in containers that hide parts of ``/proc``."""


class DeviceTree:
    """Read-only, and empty on a machine that has none: every question then has the answer "nothing"."""

    def __init__(self, root: Path) -> None:
        self._base = next((root / place for place in PLACES if (root / place).is_dir()), None)

    def text(self, path: str) -> str:
        """Return a property as text, empty when it is not there."""
        return self.texts(path)[0] if self.texts(path) else ""

    def texts(self, path: str) -> list[str]:
        """Return a property as the list of NUL-terminated strings that it is."""
        raw = self._read(path)
        return [part.decode(errors="replace") for part in raw.split(b"\0") if part]

    def word(self, path: str) -> int | None:
        """Return a property as a 32-bit number, which the tree keeps big-endian; None when it is not there."""
        raw = self._read(path)
        return int.from_bytes(raw, "big") if len(raw) == 4 else None

    def enabled(self, alias: str) -> bool:
        """Return whether the part called ``alias`` (``i2c1``) exists and is switched on."""
        node = self.text(f"aliases/{alias}").lstrip("/")
        if not node or self._base is None or not (self._base / node).is_dir():
            return False
        return (self.text(f"{node}/status") or "okay") in ("okay", "ok")

    def _read(self, path: str) -> bytes:
        if self._base is None:
            return b""
        try:
            return (self._base / path).read_bytes()
        except OSError:
            return b""
