"""Many requests in flight: in order, bounded, and none overtakes one that failed."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from picontroller.core.errors import FailedPrecondition, InvalidArgument, QuotaExceeded
from picontroller.events.entries import Submission
from picontroller.events.pipelining import WINDOW, pipelined
from tests.fakes.clock import settle
from tests.unit.events.conftest import World, record, submission


async def runs(count: int) -> AsyncIterator[Submission]:
    for first in range(1, 2 * count, 2):
        yield submission(record(), record(), first=first)


async def test_answers_when_all_is_well_come_in_order_and_end(world: World) -> None:
    answers = [appended.last_sequence async for appended in pipelined(runs(40), world.journal)]
    assert answers == list(range(2, 81, 2))
    assert world.store.last == 80


async def test_requests_when_the_disk_is_slow_wait_outside(world: World) -> None:
    world.store.gate.clear()
    taken = 0

    async def counted() -> AsyncIterator[Submission]:
        nonlocal taken
        async for run in runs(1000):
            taken += 1
            yield run

    publishing = pipelined(counted(), world.journal)
    first = asyncio.create_task(anext(publishing))
    await settle()
    assert taken <= WINDOW + 2
    world.store.gate.set()
    assert (await first).last_sequence == 2
    await publishing.aclose()


@pytest.mark.parametrize("failing", [1, 2])
async def test_requests_behind_a_failed_one_are_not_taken(world: World, failing: int) -> None:
    world.store.failures[failing] = QuotaExceeded("full", reason="DISK_FULL")

    async def requests() -> AsyncIterator[Submission]:
        for first in (1, 2, 3, 4):
            yield submission(record(), first=first)

    publishing = pipelined(requests(), world.journal)
    answers = [(await anext(publishing)).last_sequence for _ in range(failing - 1)]
    with pytest.raises(QuotaExceeded):
        await anext(publishing)
    await settle()
    assert answers == list(range(1, failing))
    assert world.store.last == failing - 1  # though 3 and 4 were under way already


async def test_requests_when_one_is_left_out_are_refused_as_a_gap(world: World) -> None:
    async def requests() -> AsyncIterator[Submission]:
        yield submission(record(), first=1)
        yield submission(record(), first=3)

    publishing = pipelined(requests(), world.journal)
    assert (await anext(publishing)).last_sequence == 1
    with pytest.raises(FailedPrecondition) as caught:
        await anext(publishing)
    assert (caught.value.reason, caught.value.metadata) == ("SEQUENCE_GAP", {"last_sequence": "1"})
    assert world.store.last == 1


async def test_request_when_refused_takes_its_turn_behind_those_before(world: World) -> None:
    async def requests() -> AsyncIterator[Submission]:
        yield submission(record(), first=1)
        raise InvalidArgument("rubbish")

    publishing = pipelined(requests(), world.journal)
    assert (await anext(publishing)).last_sequence == 1
    with pytest.raises(InvalidArgument):
        await anext(publishing)


async def test_stream_when_abandoned_leaves_no_task_behind(world: World) -> None:
    hanging = asyncio.Event()

    async def requests() -> AsyncIterator[Submission]:
        yield submission(record(), first=1)
        await hanging.wait()

    before = asyncio.all_tasks()
    publishing = pipelined(requests(), world.journal)
    await anext(publishing)
    await publishing.aclose()
    await settle()
    assert asyncio.all_tasks() == before
