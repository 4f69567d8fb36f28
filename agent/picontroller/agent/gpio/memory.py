"""``lines.json``: known outputs with their safe states, and the highest epoch seen for each line.

It is written before a line is first driven, so that whatever happens afterwards, the next start of the agent knows what to make safe.
"""

import errno
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from picontroller.agent.gpio.header import Header
from picontroller.agent.gpio.operations import Epoch
from picontroller.agent.gpio.pins import Bias, Drive, Mode, SafeState
from picontroller.agent.gpio.table import Line, Remembered
from picontroller.core.errors import DataLoss, QuotaExceeded, Unavailable
from picontroller.core.files import write_atomically

log = logging.getLogger(__name__)

VERSION = 1
_FULL = (errno.ENOSPC, errno.EDQUOT)


def may_know_outputs(path: Path) -> bool:
    """Return whether outputs are remembered in ``path``, without a board to check them against; True for a file that is damaged."""
    try:
        return bool(json.loads(path.read_bytes())["outputs"])
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError):
        return True


class LinesFile:
    """The file. ``load`` once, then ``save`` from wherever the driver works."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._header = header

    def load(self) -> Remembered:
        """Return what was saved; nothing when there is no file.

        Raises DataLoss when the file can't be understood. It is kept beside, as ``lines.json.damaged``, and the next load finds nothing.
        """
        try:
            return self._parse(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return Remembered({}, {})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            kept = self._path.with_name(f"{self._path.name}.damaged")
            self._path.replace(kept)
            raise DataLoss(f"{self._path} can't be read ({error}); it was kept as {kept}", reason="LINES_DAMAGED") from error

    def save(self, remembered: Remembered) -> None:
        """Replace what was saved. Raises QuotaExceeded when the disk is full, Unavailable when it can't be written for another reason."""
        content = {
            "version": VERSION,
            "outputs": {str(bcm): _output(line) for bcm, line in sorted(remembered.outputs.items())},
            "epochs": {str(bcm): [epoch.term, epoch.counter] for bcm, epoch in sorted(remembered.epochs.items())},
        }
        try:
            write_atomically(self._path, json.dumps(content, indent=1).encode())
        except OSError as error:
            kind = QuotaExceeded if error.errno in _FULL else Unavailable
            raise kind(
                f"{self._path} can't be written ({error.strerror}); no line is driven that is not remembered", reason="STATE_NOT_WRITABLE"
            ) from error

    def _parse(self, raw: Mapping[str, Any]) -> Remembered:
        if raw["version"] != VERSION:
            raise ValueError(f"its version is {raw['version']!r} instead of {VERSION}")
        outputs = {int(bcm): self._line(int(bcm), entry) for bcm, entry in raw["outputs"].items()}
        epochs = {int(bcm): Epoch(int(term), int(counter)) for bcm, (term, counter) in raw["epochs"].items()}
        return Remembered(outputs, epochs)

    def _line(self, bcm: int, entry: Mapping[str, Any]) -> Line:
        return Line(
            self._header.pin(bcm),
            Mode.OUTPUT,
            safe=SafeState[entry["safe"]],
            bias=Bias[entry["bias"]],
            drive=Drive[entry["drive"]],
            active_low=bool(entry["active_low"]),
            held=False,
        )


def _output(line: Line) -> dict[str, object]:
    return {"safe": line.safe.name, "bias": line.bias.name, "drive": line.drive.name, "active_low": line.active_low}
