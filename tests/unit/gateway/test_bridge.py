"""The bridge's rules: where a proof is found, what a query means, how an event looks."""

import json
from typing import Any

import pytest
from starlette.datastructures import QueryParams

from picontroller.core.errors import InvalidArgument, Unauthenticated
from picontroller.gateway.bridge import subscription
from picontroller.gateway.bridge.proof import proof_of
from picontroller.v1 import events_pb2


async def silence() -> str:
    raise AssertionError("the first message was waited for")


@pytest.mark.parametrize(
    ("headers", "protocols", "wanted"),
    [
        ({}, ["pi-controller.v1", "bearer.a.b.c"], {"authorization": "Bearer a.b.c"}),
        ({"authorization": "Bearer x"}, [], {"authorization": "Bearer x"}),
        ({"x-forwarded-client-cert": "Chain=y"}, ["pi-controller.v1"], {"x-forwarded-client-cert": "Chain=y"}),
        ({"authorization": "Bearer x", "x-forwarded-client-cert": "y"}, ["bearer.z"], {"authorization": "Bearer z"}),
        ({"authorization": "Bearer x", "x-forwarded-client-cert": "y"}, [], {"authorization": "Bearer x"}),
    ],
)
async def test_proof_when_it_comes_with_the_handshake(headers: dict[str, str], protocols: list[str], wanted: dict[str, str]) -> None:
    assert await proof_of(headers, protocols, silence, 1) == wanted


async def test_proof_when_it_comes_in_the_first_message() -> None:
    async def first() -> str:
        return '{"token": "a.b.c"}'

    assert await proof_of({}, ["pi-controller.v1"], first, 1) == {"authorization": "Bearer a.b.c"}


@pytest.mark.parametrize(
    "text", ["", "[]", "1", '"x"', "{}", '{"token": null}', '{"token": ""}', '{"token": "a\\nb"}', '{"token": "ü"}', "[" * 100_000]
)
async def test_proof_when_the_first_message_is_something_else_is_refused(text: str) -> None:
    async def first() -> str:
        return text

    with pytest.raises(Unauthenticated) as caught:
        await proof_of({}, [], first, 1)
    assert caught.value.reason == "TOKEN_MISSING"


def test_query_when_read_becomes_a_filter() -> None:
    request = subscription.request_from(QueryParams("type=gpio.*&type=node.*&resource=led&node_id=n1&namespace=a&after=c7"))
    assert (list(request.filter.type), list(request.filter.resource), request.after) == (["gpio.*", "node.*"], ["led"], "c7")
    assert (list(request.filter.node_id), list(request.filter.namespace)) == (["n1"], ["a"])


@pytest.mark.parametrize("query", ["token=x", "typ=gpio", "after=1&after=2"])
def test_query_when_it_is_not_understood_is_refused(query: str) -> None:
    with pytest.raises(InvalidArgument):
        subscription.request_from(QueryParams(query))


def test_event_when_shown_has_the_keys_that_say_something() -> None:
    event = events_pb2.Event(type="cluster.ready", cursor="7", cluster_id="home")
    event.timestamp.FromJsonString("2026-03-01T12:00:00.5Z")
    event.data.update({"nodes": 3, "note": "grüß"})
    shown: dict[str, Any] = json.loads(subscription.event_to_json(event))
    assert shown == {
        "type": "cluster.ready",
        "timestamp": "2026-03-01T12:00:00.500Z",
        "cluster_id": "home",
        "data": {"nodes": 3.0, "note": "grüß"},
        "cursor": "7",
    }
