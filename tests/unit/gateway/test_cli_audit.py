"""What ``pictl audit`` makes of records, moments and exports."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from picontroller.core.audit.chain import Record
from picontroller.core.errors import InvalidArgument
from picontroller.core.rpc.auditing import record_to
from picontroller.gateway.cli import output
from picontroller.gateway.cli.audit import commands, exports
from picontroller.gateway.cli.output import Format
from picontroller.v1 import audit_pb2
from tests.unit.audit.samples import chain, entry

EVIL = "n\x1b[2J\u202e\n\x00<script>\u0085"


def test_line_when_a_record_holds_control_characters_has_none() -> None:
    record = record_to(chain(entry(EVIL, principal=f"spiffe://d/user/{EVIL}", reason=EVIL))[0])
    assert commands.line(record).isprintable()
    assert "<script>" in commands.line(record)


def test_table_when_a_record_holds_control_characters_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_list(commands.VIEW, [record_to(chain(entry(EVIL, address=EVIL, code=EVIL))[0])], Format.WIDE)
    said = capsys.readouterr().out
    assert all(line.isprintable() for line in said.splitlines())
    assert len(said.splitlines()) == 2


@pytest.mark.parametrize("resource", ["r1", EVIL, "ä\U0001f600"])
def test_export_when_read_again_is_the_same_record(resource: str) -> None:
    made = chain(entry("first"), entry(resource))[1]
    text = json.dumps(output.as_data(record_to(made)))
    assert text.isascii()
    assert exports.record_from(text, "here") == made


@pytest.mark.parametrize("text", ["", "{", "[]", '{"number": "x"}', '{"surprise": 1}'])
def test_export_when_damaged_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InvalidArgument, match="line 7"):
        exports.record_from(text, "audit.jsonl, line 7")


def written(folder: Path, *chains: list[Record]) -> Path:
    file = folder / "audit.jsonl"
    records = [record for records in chains for record in records]
    file.write_text("".join(json.dumps(output.as_data(record_to(record))) + "\n" for record in records))
    return file


def found(file: Path) -> dict[str, audit_pb2.AuditChain]:
    return {each.service: each for each in exports.verified(file)}


def test_export_when_verified_tells_of_each_service_and_may_begin_anywhere(tmp_path: Path) -> None:
    gpio = chain(*(entry(f"r{number}") for number in range(6)))
    events = chain(*(entry(f"e{number}") for number in range(6)), service="events")
    chains = found(written(tmp_path, gpio[2:], events[:3] + events[4:]))
    assert (chains["gpio"].broken_number, chains["gpio"].first_number, chains["gpio"].records) == (0, 3, 4)
    assert (chains["events"].broken_number, chains["events"].records) == (4, 3)


def test_moment_when_given_as_a_span_or_a_date_is_that_moment() -> None:
    assert abs(commands.moment("2h").ToDatetime(UTC) - (datetime.now(UTC) - timedelta(hours=2))) < timedelta(seconds=10)
    assert commands.moment("2026-05-04T12:00:00Z").ToDatetime(UTC) == datetime(2026, 5, 4, 12, tzinfo=UTC)
    assert commands.moment("2026-05-04").ToDatetime(UTC) == datetime(2026, 5, 4, tzinfo=UTC)
    assert commands.moment("2026-05-04T14:00:00+02:00").ToDatetime(UTC) == datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.mark.parametrize("text", ["yesterday", "2x", "h", "2026-13-01", "\x00", "99999999999d"])
def test_moment_when_it_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        commands.moment(text)


def test_principal_when_shown_in_a_table_has_no_trust_domain() -> None:
    assert commands.short("spiffe://pi-controller.local/user/anna") == "user/anna"
    assert commands.short("anonymous") == "anonymous"
