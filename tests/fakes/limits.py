"""Limits for tests and benchmarks that ask as fast as they can under one name: ``PLENTY`` for servers, ``ENVIRON`` for processes."""

from dataclasses import fields
from typing import Any

from picontroller.core.rpc.limits import LimitSettings
from picontroller.gateway.settings import Settings

_LIMITS: dict[str, Any] = {
    field.name: 1_000_000 for field in fields(LimitSettings) if field.name.endswith("_burst") or field.name.endswith("_per_second")
}
_EDGE = {
    "requests_per_second": 100_000,
    "requests_per_second_per_address": 100_000,
    "requests_per_second_per_subject": 100_000,
    "joins_per_second": 100_000,
    "joins_burst_per_address": 100_000,
}
PLENTY = LimitSettings(**_LIMITS)
PLENTY_AT_THE_EDGE = Settings(**_EDGE)  # type: ignore[arg-type]  # fields of the settings, all of them numbers
ENVIRON = {f"PICONTROLLER_LIMITS__{name.upper()}": str(value) for name, value in _LIMITS.items()} | {
    f"PICONTROLLER_GATEWAY__{name.upper()}": str(value) for name, value in _EDGE.items()
}
