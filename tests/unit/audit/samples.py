"""Entries and chains to try things on."""

from collections.abc import Sequence
from dataclasses import replace

from picontroller.core.audit.chain import GENESIS, Entry, Mark, Record, Verification, sealed

ENTRY = Entry(1_700_000_000_000_000, "spiffe://d/user/anna", "token:1", "192.0.2.7", "picontroller.v1.S/M", "r1", "OK", "", "q1", "00")


def entry(resource: str, **changed: object) -> Entry:
    """Return an entry on ``resource``."""
    return replace(ENTRY, resource=resource, **changed)  # type: ignore[arg-type]  # fields of an entry


def chain(*entries: Entry, service: str = "gpio") -> list[Record]:
    """Return entries as a chain from its first record."""
    records: list[Record] = []
    for each in entries:
        records.append(sealed(service, len(records) + 1, each, records[-1].hash if records else GENESIS))
    return records


def verified(records: Sequence[Record], *noted: Mark, whole: bool = True) -> Verification:
    """Return what a verification of ``records`` finds."""
    verification = Verification("gpio", noted, whole=whole)
    for record in records:
        verification.read(record)
    verification.finish()
    return verification
