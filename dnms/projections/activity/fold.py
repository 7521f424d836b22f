"""One number for each hour, subnet and kind in which something happened."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence

from dnms.events.commit import Stored
from dnms.events.node import NodeArrived
from dnms.projections.projection import place
from dnms.projections.versions import rows_of
from dnms.projections.writing import insert

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
    counts: defaultdict[tuple[int, str], dict[str, int]] = defaultdict(dict)
    series: dict[_Series, None] = {}  # in the order of their first appearance
    for stored in batch:
        subnet, hour = place(stored.subject).subnet, stored.commit.time // HOUR
        for event in stored.commit.events:
            where = event.subnet if isinstance(event, NodeArrived) else subnet
            name, of = event.NAME, counts[hour, where]
            if name in of:
                of[name] += 1
            else:
                of[name] = 1
                series[where, name] = None
    numbers = _numbers(cursor, list(series))
    insert(
        cursor,
        "INSERT INTO activity",
        [(hour, numbers[where, name], count) for (hour, where), of in counts.items() for name, count in of.items()],
        "ON CONFLICT (hour, series) DO UPDATE SET events = events + excluded.events",
    )


def _numbers(cursor: sqlite3.Cursor, wanted: Sequence[_Series]) -> dict[_Series, int]:
    """The number of each series; new ones get the next ones."""
    select = "SELECT subnet, name, id FROM activity_series WHERE subnet"
    known = rows_of(cursor, select, {subnet for subnet, _ in wanted})
    numbers: dict[_Series, int] = {(subnet, name): number for subnet, name, number in known}
    [(last,)] = cursor.execute("SELECT coalesce(max(id), 0) FROM activity_series").fetchall()
    fresh = [series for series in wanted if series not in numbers]
    numbers |= {series: number for number, series in enumerate(fresh, start=last + 1)}
    cursor.executemany("INSERT INTO activity_series VALUES (?, ?, ?)", [(numbers[one], *one) for one in fresh])
    return numbers
