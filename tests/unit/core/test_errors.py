"""The table of errors, in both directions."""

import grpc
import pytest

from picontroller.core import errors
from picontroller.core.rpc import errors as rpc_errors

ALL = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Error) and kind is not errors.Error]


def test_every_error_has_one_code_and_every_code_one_error() -> None:
    assert set(rpc_errors.CODES) == set(ALL)
    assert len(rpc_errors.CLASSES) == len(ALL)


@pytest.mark.parametrize("kind", ALL)
def test_error_when_sent_and_received_is_the_same(kind: type[errors.Error]) -> None:
    sent = kind(
        "a pin is taken", reason="PIN_TAKEN", metadata={"pin": "17"}, violations=[errors.Violation("pin", "taken")], retry_after=1.5
    )
    received = rpc_errors.from_status(rpc_errors.status_of(sent, "r1"))
    assert type(received) is kind
    fields = ("message", "reason", "metadata", "violations", "retry_after")
    assert [getattr(received, name) for name in fields] == [getattr(sent, name) for name in fields]


def test_subclass_when_sent_has_the_code_of_its_ancestor() -> None:
    class PinTaken(errors.AlreadyExists):
        default_reason = "PIN_TAKEN"

    assert rpc_errors.code_of(PinTaken("taken")) is grpc.StatusCode.ALREADY_EXISTS
    assert rpc_errors.status_of(PinTaken("taken")).code == 6


def test_unexpected_exception_when_translated_tells_only_an_incident() -> None:
    found = rpc_errors.internal(RuntimeError("password=hunter2"), "r1")
    assert "hunter2" not in found.message
    assert "RuntimeError" not in found.message
    assert found.metadata["incident"] in found.message
