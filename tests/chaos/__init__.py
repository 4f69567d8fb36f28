"""Faults on purpose, seeded: processes killed, readers stopped. Each run ends with the invariants being checked against what was recorded.

``TRACK_RECORD.md`` lists the bugs that were put in to see whether the tests find them.
"""
