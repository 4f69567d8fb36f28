"""Page tokens that can't be forged, and requests that have one effect."""

import base64

import apsw
import pytest

from picontroller.core.errors import Conflict, InvalidArgument
from picontroller.core.store import pages, requests


@pytest.fixture
def connection() -> apsw.Connection:
    made = apsw.Connection(":memory:")
    made.execute(pages.SCHEMA + requests.SCHEMA)
    return made


def test_page_token_when_given_back_names_the_place(connection: apsw.Connection) -> None:
    token = pages.seal(connection, ["nodes", "cluster-1"], ["pi-7", 3])
    assert pages.unseal(connection, ["nodes", "cluster-1"], token) == ["pi-7", 3]
    assert pages.unseal(connection, ["nodes", "cluster-1"], "") is None


@pytest.mark.parametrize("token", ["x", "%%%", "AAAA", base64.urlsafe_b64encode(b"0" * 16 + b'["pi-1"]').decode(), "é", "A" * 500])
def test_page_token_when_forged_is_refused(connection: apsw.Connection, token: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        pages.unseal(connection, ["nodes"], token)
    assert caught.value.violations[0].field == "page_token"


def test_page_token_when_of_another_listing_or_database_is_refused(connection: apsw.Connection) -> None:
    token = pages.seal(connection, ["nodes", "cluster-1"], ["pi-7"])
    with pytest.raises(InvalidArgument):
        pages.unseal(connection, ["nodes", "cluster-2"], token)
    other = apsw.Connection(":memory:")
    other.execute(pages.SCHEMA)
    with pytest.raises(InvalidArgument):
        pages.unseal(other, ["nodes", "cluster-1"], token)


@pytest.mark.parametrize(("asked", "given"), [(0, 100), (1, 1), (1000, 1000), (10**9, 1000)])
def test_page_size_when_absent_or_huge_is_defaulted_or_capped(asked: int, given: int) -> None:
    assert pages.page_size(asked) == given


def test_request_when_repeated_gets_the_first_reply(connection: apsw.Connection) -> None:
    key = requests.request_key("anna", "r1", "Create", b"body")
    assert requests.recall(connection, key) is None
    requests.remember(connection, key, "reply")
    assert requests.recall(connection, key) == "reply"
    assert requests.recall(connection, requests.request_key("ben", "r1", "Create", b"other")) is None


@pytest.mark.parametrize(("method", "body"), [("Create", b"other"), ("Delete", b"body")])
def test_request_id_when_used_for_something_else_is_a_conflict(connection: apsw.Connection, method: str, body: bytes) -> None:
    requests.remember(connection, requests.request_key("anna", "r1", "Create", b"body"), "reply")
    with pytest.raises(Conflict):
        requests.recall(connection, requests.request_key("anna", "r1", method, body))


def test_request_when_older_than_a_day_is_forgotten(connection: apsw.Connection) -> None:
    old = requests.request_key("anna", "old", "Create", b"body")
    requests.remember(connection, old, "reply")
    connection.execute("UPDATE requests SET time = time - 86400")
    assert requests.recall(connection, old) is None
    requests.remember(connection, requests.request_key("anna", "new", "Create", b"body"), "reply")
    assert connection.execute("SELECT count(*) FROM requests").get == 1


def test_request_without_an_id_is_not_remembered(connection: apsw.Connection) -> None:
    key = requests.request_key("anna", "", "Create", b"body")
    requests.remember(connection, key, "reply")
    assert requests.recall(connection, key) is None
    assert connection.execute("SELECT count(*) FROM requests").get == 0
