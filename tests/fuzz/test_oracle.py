"""The judges of a campaign find what they are to find, and mutations are those of their seed."""

import random
from pathlib import Path

import grpc
import pytest

from tests.fuzz import oracle, rest, wire
from tests.fuzz.plane import log_problems
from tests.fuzz.rest import Answered

CODES = grpc.StatusCode


@pytest.mark.parametrize(
    "text",
    [
        "DecodeError: wrong", "Traceback (most recent call last)", 'File "x", line 3', "/root/data/x", "picontroller/core/x.py",
        "<class 'int'>", "<Foo object at 0x7f>",
        "SELECT id FROM nodes", "UPDATE nodes SET", "apsw.ConstraintError", "-----BEGIN PRIVATE KEY-----",
        "'NoneType' has no",
    ],
)  # fmt: skip
def test_leak_when_details_tell_of_our_insides_is_found(text: str) -> None:
    assert oracle.leak(b"well: " + text.encode(), (), details=True)


def test_leak_when_an_answer_holds_a_secret_is_found_and_plain_sentences_are_none() -> None:
    assert oracle.leak(b"xxCANARYxx", (b"CANARY",), details=False) == "a secret"
    assert oracle.leak(b"name: value length must be at least 1 characters; an internal error; select one", (b"CANARY",), details=True) == ""


@pytest.mark.parametrize(
    ("code", "reason", "known", "seconds", "fine"),
    [
        (CODES.OK, "", True, 0.1, True),
        (CODES.INTERNAL, "", True, 0.1, False),
        (CODES.UNKNOWN, "", True, 0.1, False),
        (CODES.DATA_LOSS, "", True, 0.1, False),
        (CODES.UNIMPLEMENTED, "", False, 0.1, True),
        (CODES.UNIMPLEMENTED, "", True, 0.1, False),
        (CODES.UNIMPLEMENTED, "FEATURE_MISSING", True, 0.1, True),
        (CODES.UNAVAILABLE, "NODE_OFFLINE", True, 0.1, True),
        (CODES.UNAVAILABLE, "", True, 0.1, False),
        (CODES.DEADLINE_EXCEEDED, "", True, 0.1, False),
        (CODES.OK, "", True, 60.0, False),
    ],
)
def test_code_when_judged(code: grpc.StatusCode, reason: str, known: bool, seconds: float, fine: bool) -> None:
    why = oracle.judge(code, reason, known=known, seconds=seconds, allowed=5.0, gave_up=False)
    assert (why == "") is fine


@pytest.mark.parametrize(
    ("status", "body", "fine"),
    [
        (200, b"{}", True), (404, b'{"code":5}', True), (500, b"{}", False), (502, b"{}", False), (503, b"no healthy upstream", False),
        (503, b'{"details":[{"reason":"NODE_OFFLINE"}]}', True), (501, b'{"details":[{"reason":"FEATURE_MISSING"}]}', True),
        (400, b'{"message":"KeyError"}', False),
    ],
)  # fmt: skip
def test_answer_over_rest_when_judged(status: int, body: bytes, fine: bool) -> None:
    assert (rest.judge(Answered("GET", "/", status, body, 0.1), ()) == "") is fine


def test_log_when_it_tells_of_the_unforeseen_is_a_problem(tmp_path: Path) -> None:
    log = tmp_path / "up.log"
    lines = [
        '{"level": "info", "event": "call served", "code": "NOT_FOUND"}',
        '{"level": "error", "event": "a call failed unexpectedly"}',
        '{"level": "info", "event": "call served", "code": "INTERNAL"}',
        "Task exception was never retrieved",
    ]
    log.write_text("\n".join(lines))
    assert log_problems(log) == lines[1:]


def test_mutation_when_repeated_with_its_seed_is_the_same_and_seldom_the_original() -> None:
    raw = wire.block(1, b"led") + wire.tag(2, 0) + wire.varint(300)
    first = [wire.mutate(raw, random.Random(seed)) for seed in range(300)]
    assert first == [wire.mutate(raw, random.Random(seed)) for seed in range(300)]
    assert sum(mutated == raw for mutated in first) < 30
    assert wire.fields(raw) == [b"\x0a\x03led", b"\x10\xac\x02"]
