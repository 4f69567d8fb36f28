"""Streams of the command line that go on after their connection broke."""

from collections.abc import Iterator

import pytest

from picontroller.core.errors import Unavailable
from picontroller.gateway.cli.resuming import resumed


class Attempts:
    """A stream that breaks where it is told to: each attempt is a list of responses and whether it ends by an error."""

    def __init__(self, *attempts: tuple[list[int], bool]) -> None:
        self._attempts = list(attempts)

    def __call__(self) -> Iterator[int]:
        responses, broken = self._attempts.pop(0)
        yield from responses
        if broken:
            raise Unavailable("max connection age")


def taken(attempts: Attempts, count: int) -> list[int]:
    pauses: list[float] = []
    stream = resumed(attempts, pauses.append)
    found = [next(stream) for _ in range(count)]
    assert all(0 < pause <= 5 for pause in pauses)
    return found


def test_stream_when_its_connection_ends_goes_on_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert taken(Attempts(([1, 2], True), ([3], False), ([4], True)), 4) == [1, 2, 3, 4]
    assert capsys.readouterr() == ("", "")


def test_stream_when_the_second_attempt_fails_as_well_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert taken(Attempts(([1], True), ([], True), ([], True), ([2], True)), 2) == [1, 2]
    assert capsys.readouterr().err.count("max connection age") == 1


def test_stream_when_nothing_ever_came_raises() -> None:
    with pytest.raises(Unavailable):
        taken(Attempts(([], True)), 1)
