"""Turns exclude each other by name, in an order that can't lock up; work that was begun is finished."""

import asyncio

import pytest

from picontroller.gpio.turns import Turns
from tests.fakes.clock import settle


async def test_turns_when_they_overlap_are_taken_one_after_the_other() -> None:
    turns, inside, most = Turns(), 0, 0

    async def visit(*names: str) -> None:
        nonlocal inside, most
        async with turns.of(names):
            inside += 1
            most = max(most, inside)
            await settle()
            inside -= 1

    async with asyncio.timeout(5):
        await asyncio.gather(*(visit("a", "b") if number % 2 else visit("b", "a", "a") for number in range(10)))
    assert most == 1


async def test_turns_when_they_differ_do_not_wait() -> None:
    turns = Turns()
    async with asyncio.timeout(5), turns.of(["a"]), turns.of(["b", ""]):
        pass


async def test_turns_when_nobody_wants_them_are_forgotten() -> None:
    turns = Turns()
    async with turns.of(["a", "b"]):
        waiting = asyncio.ensure_future(asyncio.wait_for(_visit(turns, "a"), 5))
        await settle()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert len(turns) == 2
    assert len(turns) == 0


async def _visit(turns: Turns, name: str) -> None:
    async with turns.of([name]):
        pass


async def test_work_when_its_caller_goes_is_finished() -> None:
    turns, gate, done = Turns(), asyncio.Event(), []

    async def work() -> None:
        await gate.wait()
        done.append(1)

    caller = asyncio.ensure_future(turns.finish(work()))
    await settle()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not done
    gate.set()
    async with asyncio.timeout(5):
        await turns.close()
    assert done


async def test_work_when_it_fails_raises_in_its_caller() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await Turns().finish(work())
