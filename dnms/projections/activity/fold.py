"""One number for each hour, subnet and kind in which something happened."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence

from dnms.events.commit import Stored
from dnms.events.node import NodeArrived
from dnms.projections.projection import place

HOUR = 3_600_000_000  # microseconds

SCHEMA = """
CREATE TABLE activity_series (    -- what is counted; a row of hours names it by its number, which is a third as long
    id INTEGER PRIMARY KEY,       -- in the order of their first appearance in the log
    subnet TEXT NOT NULL,         -- of a ledger, of what was seen, where a node came to; empty: of the whole site
    name TEXT NOT NULL,           -- of the events
    UNIQUE (subnet, name)
);
CREATE TABLE activity (
    hour INTEGER NOT NULL,        -- of commits' times, since 1970-01-01 UTC
    series INTEGER NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (hour, series)
) WITHOUT ROWID;
"""

_Series = tuple[str, str]
"""Subnet and name."""


def fold(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
    """Count what happened."""
    counts: Counter[tuple[int, _Series]] = Counter()
    for stored in batch:
        subnet, hour = place(stored.subject).subnet, stored.commit.time // HOUR
        for event in stored.commit.events:
            where = event.subnet if isinstance(event, NodeArrived) else subnet
            counts[hour, (where, event.NAME)] += 1
    numbers = _numbers(cursor, list(dict.fromkeys(series for _, series in counts)))
    cursor.executemany(
        "INSERT INTO activity VALUES (?, ?, ?)"
        " ON CONFLICT (hour, series) DO UPDATE SET events = events + excluded.events",
        [(hour, numbers[series], count) for (hour, series), count in counts.items()],
    )


def _numbers(cursor: sqlite3.Cursor, wanted: Sequence[_Series]) -> dict[_Series, int]:
    """The number of each series; new ones get the next ones."""
    numbers: dict[_Series, int] = {}
    for series in wanted:
        row = cursor.execute("SELECT id FROM activity_series WHERE subnet = ? AND name = ?", series).fetchone()
        if row is None:
            row = cursor.execute(
                "INSERT INTO activity_series SELECT coalesce(max(id), 0) + 1, ?, ? FROM activity_series RETURNING id",
                series,
            ).fetchone()
        numbers[series] = row[0]
    return numbers
