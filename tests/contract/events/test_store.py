"""What any store of a journal does; the list in memory and the file on disk say the same."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from picontroller.core.errors import FailedPrecondition, InvalidArgument
from picontroller.core.store.sqlite import Database
from picontroller.events.entries import OLDEST, Appended, Bounds, Loss, Record, Submission
from picontroller.events.filters import EVERYTHING, Filter
from picontroller.events.store import EPOCHS, SCHEMA, SqliteStore
from tests.fakes.journal_store import FakeJournalStore

AnyStore = FakeJournalStore | SqliteStore
MEGABYTE = 1024 * 1024


@pytest.fixture(params=["fake", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyStore]:
    if request.param == "fake":
        yield FakeJournalStore()
        return
    async with await Database.open(tmp_path / "events.db", SCHEMA) as database:
        yield await SqliteStore.load(database)


def record(kind: str = "a.b", *, resource: str = "", node: str = "", namespace: str = "", body: bytes = b"x") -> Record:
    return Record(kind, resource, node, namespace, "", body)


def lost(loss: Loss) -> Record:
    return record("events.lost", resource=loss.source, body=f"{loss.source_epoch}:{loss.first}-{loss.last}".encode())


async def append(
    store: AnyStore, *records: Record, first: int = 1, epoch: str = "e", source: str = "s", gapless: bool = False, time: int = 0
) -> Appended:
    return await store.append(Submission(source, epoch, first, records), time=time, gapless=gapless, describe_loss=lost)


async def types(store: AnyStore, position: int = 0, chosen: Filter = EVERYTHING) -> list[str]:
    return [entry.record.type for entry in (await store.after(position, chosen, 1000, MEGABYTE)).entries]


async def test_store_when_new_is_empty(store: AnyStore) -> None:
    assert await store.bounds() == Bounds(0, 0)
    found = await store.after(0, EVERYTHING, 10, MEGABYTE)
    assert (list(found.entries), found.position) == ([], 0)


async def test_append_when_new_numbers_from_one_and_reads_back_equal(store: AnyStore) -> None:
    records = [record("a.b", resource="r", node="n", namespace="ns", body=bytes(range(256))), record("c.d")]
    appended = await append(store, *records)
    assert (appended.last_sequence, appended.position) == (2, 2)
    assert [(entry.sequence, entry.record) for entry in appended.entries] == list(enumerate(records, start=1))
    assert list((await store.after(0, EVERYTHING, 10, MEGABYTE)).entries) == list(appended.entries)


async def test_append_when_repeated_adds_nothing_and_answers_the_same(store: AnyStore) -> None:
    once = await append(store, record("a.b"), record("c.d"), first=7)
    await append(store, record("z.z"), source="other")
    again = await append(store, record("a.b"), record("c.d"), first=7)
    assert (again.last_sequence, again.position, again.entries) == (once.last_sequence, once.position, ())
    assert (await append(store, record("a.b"), first=7)).last_sequence == 8
    assert await types(store) == ["a.b", "c.d", "z.z"]


async def test_append_when_partly_repeated_adds_the_rest(store: AnyStore) -> None:
    await append(store, record("a.one"), record("a.two"))
    appended = await append(store, record("a.two"), record("a.three"), first=2)
    assert (appended.last_sequence, appended.position) == (3, 3)
    assert await types(store) == ["a.one", "a.two", "a.three"]


async def test_append_when_the_epoch_is_new_begins_anywhere(store: AnyStore) -> None:
    await append(store, record("a.b"), first=100)
    await append(store, record("c.d"), first=5, epoch="other")
    await append(store, record("e.f"), first=5, source="other")
    assert await types(store) == ["a.b", "c.d", "e.f"]


async def test_append_when_two_epochs_take_turns_knows_both(store: AnyStore) -> None:
    for sequence in (1, 2, 3):
        for epoch in ("e", "f"):
            for _ in range(2):
                await append(store, record(f"{epoch}.x"), first=sequence, epoch=epoch)
    assert await types(store) == ["e.x", "f.x"] * 3


async def test_append_when_events_are_missing_says_so_in_the_journal(store: AnyStore) -> None:
    await append(store, record("a.b"))
    appended = await append(store, record("c.d"), first=5)
    assert (appended.last_sequence, appended.position) == (5, 3)
    assert await types(store) == ["a.b", "events.lost", "c.d"]
    assert appended.entries[0].record.body == b"e:2-4"
    assert (await append(store, record("c.d"), first=5)).entries == ()


@pytest.mark.parametrize("known", [True, False])
async def test_append_when_gapless_refuses_what_does_not_follow(store: AnyStore, known: bool) -> None:
    if known:
        await append(store, record("a.b"))
    before = await store.bounds()
    with pytest.raises(FailedPrecondition) as caught:
        await append(store, record("c.d"), first=3, gapless=True)
    assert (caught.value.reason, caught.value.metadata) == ("SEQUENCE_GAP", {"last_sequence": "1" if known else "0"})
    assert await store.bounds() == before
    if known:
        assert (await append(store, record("b.b"), first=2, gapless=True)).position == 2


async def test_after_when_limited_goes_on_where_it_stopped(store: AnyStore) -> None:
    await append(store, *[record(body=bytes(1000)) for _ in range(10)])
    by_count = await store.after(2, EVERYTHING, 3, MEGABYTE)
    assert ([entry.sequence for entry in by_count.entries], by_count.position) == ([3, 4, 5], 5)
    by_bytes = await store.after(2, EVERYTHING, 10, 4000)
    assert ([entry.sequence for entry in by_bytes.entries], by_bytes.position) == ([3, 4], 4)
    one_at_least = await store.after(2, EVERYTHING, 10, 1)
    assert ([entry.sequence for entry in one_at_least.entries], one_at_least.position) == ([3], 3)


async def test_compact_when_asked_forgets_the_oldest_only(store: AnyStore) -> None:
    for index, time in enumerate([10, 20, 30, 40, 50], start=1):
        await append(store, record(f"a.n{index}"), first=index, time=time)
    assert await store.compact(older_than=30, rows=100, megabytes=100, limit=1) == 1
    assert await store.compact(older_than=30, rows=100, megabytes=100, limit=10) == 1
    assert await store.compact(older_than=30, rows=100, megabytes=100, limit=10) == 0
    assert await store.bounds() == Bounds(2, 5)
    assert await store.compact(older_than=0, rows=1, megabytes=100, limit=10) == 2
    assert await types(store, 4) == ["a.n5"]


async def test_compact_when_all_is_forgotten_never_reuses_a_sequence(store: AnyStore) -> None:
    await append(store, record(), record())
    await store.compact(older_than=1, rows=100, megabytes=100, limit=10)
    assert await store.bounds() == Bounds(2, 2)
    assert (await append(store, record(), first=3)).position == 3


async def test_after_when_compacted_says_from_where(store: AnyStore) -> None:
    await append(store, *[record() for _ in range(10)])
    await store.compact(older_than=0, rows=4, megabytes=100, limit=100)
    found = await store.after(3, EVERYTHING, 10, MEGABYTE)
    assert (list(found.entries), found.bounds) == ([], Bounds(6, 10))
    oldest = await store.after(OLDEST, EVERYTHING, 10, MEGABYTE)
    assert ([entry.sequence for entry in oldest.entries], oldest.position) == ([7, 8, 9, 10], 10)


async def test_page_token_when_opened_is_its_key_and_for_its_listing_only(store: AnyStore) -> None:
    token = await store.seal_page(["events", "a"], "key")
    assert await store.open_page(["events", "a"], token) == "key"
    assert await store.open_page(["events", "a"], "") == ""
    with pytest.raises(InvalidArgument):
        await store.open_page(["events", "b"], token)


WORDS = st.sampled_from(["", "a", "b", "a.b"])
FILTERS = st.builds(
    Filter,
    st.lists(st.text("ab.*", min_size=1, max_size=6), max_size=3).map(tuple),
    st.frozensets(WORDS, max_size=2),
    st.frozensets(WORDS, max_size=2),
    st.frozensets(WORDS, max_size=2),
)
RECORDS = st.builds(Record, st.text("ab.", min_size=1, max_size=5), WORDS, WORDS, WORDS, st.just(""), st.just(b""))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(RECORDS, min_size=1, max_size=30), st.lists(FILTERS, min_size=1, max_size=5))
async def test_filter_when_asked_of_the_store_chooses_what_it_matches(
    store: AnyStore, records: list[Record], filters: list[Filter]
) -> None:
    position = (await store.bounds()).last
    entries = (await append(store, *records, epoch=str(position))).entries
    for chosen in filters:
        found = await store.after(position, chosen, 1000, MEGABYTE)
        assert list(found.entries) == [entry for entry in entries if chosen.matches(entry.record)]
        assert found.position == position + len(records)


async def test_filter_when_made_to_blow_up_is_answered(store: AnyStore) -> None:
    await append(store, *[record("a" * 96)] * 100)
    assert await types(store, 0, Filter(types=("*a" * 47 + "*b",) * 32)) == []


async def test_sqlite_when_a_source_has_many_epochs_forgets_the_oldest(tmp_path: Path) -> None:
    async with await Database.open(tmp_path / "events.db", SCHEMA) as database:
        store = await SqliteStore.load(database)
        for epoch in range(EPOCHS + 5):
            await append(store, record(), epoch=str(epoch))
        kept = await database.read(lambda c: c.execute("SELECT count(*) FROM sources").get)
        assert kept == EPOCHS
        assert (await append(store, record(), epoch="10")).entries == ()


async def test_sqlite_when_opened_again_is_the_same_journal(tmp_path: Path) -> None:
    async with await Database.open(tmp_path / "events.db", SCHEMA) as database:
        first = await SqliteStore.load(database)
        await append(first, record("a.b"))
    async with await Database.open(tmp_path / "events.db", SCHEMA) as database:
        second = await SqliteStore.load(database)
        assert (second.epoch, second.key) == (first.epoch, first.key)
        assert await types(second) == ["a.b"]
        assert (await append(second, record("a.b"))).entries == ()


async def test_sqlite_when_too_large_forgets_until_it_is_not(tmp_path: Path) -> None:
    async with await Database.open(tmp_path / "events.db", SCHEMA) as database:
        store = await SqliteStore.load(database)
        for first in range(1, 41):
            await append(store, record(body=bytes(100_000)), first=first)
        forgotten = 0
        for _ in range(40):
            forgotten += await store.compact(older_than=0, rows=10**6, megabytes=2, limit=5)
        assert 15 <= forgotten <= 30
        assert await store.compact(older_than=0, rows=10**6, megabytes=2, limit=5) == 0


async def test_sqlite_when_little_is_chosen_of_much_moves_on_in_windows(tmp_path: Path) -> None:
    async with await Database.open(tmp_path / "events.db", SCHEMA) as database:
        store = await SqliteStore.load(database)
        for first in range(1, 12_001, 1000):
            await append(store, *[record()] * 1000, first=first)
        chosen, position, steps = Filter(types=("z.*",)), 0, []
        while (found := await store.after(position, chosen, 100, MEGABYTE)).position > position:
            position = found.position
            steps.append(position)
        assert steps == [5000, 10_000, 12_000]
