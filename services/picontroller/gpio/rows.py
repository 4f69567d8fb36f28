"""Resources and answers as plain values: the columns of a table, and the JSON that is kept as the answer to a repeated request.

Enumerations are kept as their numbers and times as microseconds since 1970 in UTC; both sides of a conversion stand next to each other.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, cast

from picontroller.core import errors
from picontroller.core.errors import Error
from picontroller.gpio.resources import (
    Bias,
    Drive,
    Edge,
    Epoch,
    Level,
    Mode,
    Observation,
    Pin,
    Resolved,
    Resource,
    ResourceId,
    Restore,
    Safe,
    Stage,
)

Value = str | int | None
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one resource in a batch: the level read back, or why nothing happened."""

    id: str
    observed: Observation | None
    error: Error | None = None


def micros(time: datetime) -> int:
    """Return a time as microseconds since 1970."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def moment(value: int) -> datetime:
    """Return the time that ``micros`` was given."""
    return _EPOCH + timedelta(microseconds=value)


def row_of(resource: Resource) -> dict[str, Value]:
    """Return a resource as values by column."""
    seen = resource.observed
    return {
        "id": resource.id,
        "name": resource.name,
        "namespace": resource.namespace,
        "node_id": resource.node_id,
        "line": resource.resolved.bcm,
        "stage": resource.stage.value,
        "pin_kind": resource.pin.kind,
        "pin_text": resource.pin.text,
        "header": resource.resolved.header,
        "chip": resource.resolved.chip,
        "chip_line": resource.resolved.line,
        "kernel_name": resource.resolved.kernel_name,
        "mode": resource.mode.value,
        "value": resource.value.value if resource.value else None,
        "safe": resource.safe.value if resource.safe else None,
        "restore": resource.restore.value,
        "bias": resource.bias.value if resource.bias else None,
        "drive": resource.drive.value if resource.drive else None,
        "active_low": int(resource.active_low),
        "edge": resource.edge.value if resource.edge else None,
        "debounce": resource.debounce,
        "epoch_term": resource.epoch.term,
        "epoch_counter": resource.epoch.counter,
        "etag": resource.etag,
        "create_time": micros(resource.create_time),
        "observed_level": seen.level.value if seen and seen.level else None,
        "observed_time": micros(seen.time) if seen else None,
        "run_id": resource.run_id,
        "applied": int(resource.applied),
    }


def resource_of(row: Mapping[str, Value]) -> Resource:
    """Return the resource that ``row_of`` was given."""
    text, number = cast("Mapping[str, str]", row), cast("Mapping[str, int]", row)
    return Resource(
        id=ResourceId(text["id"]),
        name=text["name"],
        namespace=text["namespace"],
        node_id=text["node_id"],
        pin=Pin(cast("Literal['bcm', 'header', 'name']", text["pin_kind"]), text["pin_text"]),
        resolved=Resolved(number["line"], number["header"], text["chip"], number["chip_line"], text["kernel_name"]),
        mode=Mode(row["mode"]),
        create_time=moment(number["create_time"]),
        etag=text["etag"],
        epoch=Epoch(number["epoch_term"], number["epoch_counter"]),
        value=Level(row["value"]) if row["value"] else None,
        safe=Safe(row["safe"]) if row["safe"] else None,
        restore=Restore(row["restore"]),
        bias=Bias(row["bias"]) if row["bias"] else None,
        drive=Drive(row["drive"]) if row["drive"] else None,
        active_low=bool(row["active_low"]),
        edge=Edge(row["edge"]) if row["edge"] else None,
        debounce=number["debounce"],
        observed=_observation_of(row["observed_level"], number["observed_time"]),
        stage=Stage(row["stage"]),
        run_id=text["run_id"],
        applied=bool(row["applied"]),
    )


def resource_to_json(resource: Resource) -> str:
    """Return a resource as text."""
    return json.dumps(row_of(resource))


def resource_from_json(text: str) -> Resource:
    """Return the resource that ``resource_to_json`` was given."""
    return resource_of(json.loads(text))


def answers_to_json(answers: Sequence[Answer]) -> str:
    """Return a batch's answers as text."""
    return json.dumps([_answer_row(answer) for answer in answers])


def answers_from_json(text: str) -> list[Answer]:
    """Return the answers that ``answers_to_json`` was given; errors come back as their class in the tree of ``core.errors``."""
    return [_answer_of(row) for row in json.loads(text)]


def _answer_row(answer: Answer) -> dict[str, object]:
    seen = answer.observed
    return {
        "id": answer.id,
        "level": seen.level.value if seen and seen.level else None,
        "time": micros(seen.time) if seen else None,
        "error": _error_row(answer.error) if answer.error else None,
    }


def _error_row(error: Error) -> dict[str, object]:
    return {
        "kind": _kind(error),
        "message": error.message,
        "reason": error.reason,
        "metadata": error.metadata,
        "retry_after": error.retry_after,
    }


def _kind(error: Error) -> str:
    """Return the name of the class in ``core.errors`` that stands for ``error``, which may be a subclass from elsewhere."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)


def _answer_of(row: Mapping[str, object]) -> Answer:
    raw = cast("Mapping[str, object] | None", row["error"])
    error = _error_of(raw) if raw else None
    return Answer(str(row["id"]), _observation_of(row["level"], cast("int | None", row["time"])), error)


def _error_of(row: Mapping[str, object]) -> Error:
    kind = cast("type[Error]", getattr(errors, str(row["kind"]), errors.Internal))
    metadata, retry_after = cast("Mapping[str, str]", row["metadata"]), cast("float | None", row["retry_after"])
    return kind(str(row["message"]), reason=str(row["reason"]), metadata=metadata, retry_after=retry_after)


def _observation_of(level: object, time: int | None) -> Observation | None:
    if time is None:
        return None
    return Observation(Level(level) if level else None, moment(time))
