"""Times as people read them."""

import re
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from picontroller.core.errors import InvalidArgument

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def ago(time: Timestamp) -> str:
    """Return how long ago something was, ``-`` for never."""
    if not time.ByteSize():
        return "-"
    seconds = int((datetime.now(UTC) - time.ToDatetime(UTC)).total_seconds())
    return f"in {span(-seconds)}" if seconds < 0 else f"{span(seconds)} ago"


def span(seconds: int) -> str:
    """Return a span in its largest unit."""
    for unit in ("d", "h", "m"):
        if seconds >= 2 * _UNITS[unit]:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"


def clock_time(time: Timestamp) -> str:
    """Return a time of day in UTC to the millisecond, with the date when it is not today."""
    moment = time.ToDatetime(UTC)
    form = "%H:%M:%S.%f" if moment.date() == datetime.now(UTC).date() else "%Y-%m-%d %H:%M:%S.%f"
    return moment.strftime(form)[:-3] + "Z"


def duration(text: str) -> timedelta:
    """Return ``90s``, ``10m``, ``2h`` or ``1d`` as a span. Raises InvalidArgument for anything else."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if not match:
        raise InvalidArgument(f"a span is a number with s, m, h or d, for example 10m; not {text!r}", reason="DURATION_INVALID")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])
