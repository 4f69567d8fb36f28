"""Publish and PublishStream: what is acknowledged is on disk, once, in order."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.v1 import events_pb2
from tests.rpc.events.conftest import Bus, Stub
from tests.rpc.events.speaking import event, listed, publish, request, subscribed


async def test_publish_when_it_answers_is_listed_in_order(stub: Stub) -> None:
    answer = await publish(stub, "a.one", "a.two", "a.three")
    assert answer.last_sequence == 3
    events = await listed(stub)
    assert [e.type for e in events] == ["a.one", "a.two", "a.three"]
    assert events[-1].cursor == answer.cursor
