"""One row for each hour, subnet and kind in which something happened."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence

from dnms.events.commit import Stored
from dnms.events.node import NodeArrived
from dnms.projections.projection import place

HOUR = 3_600_000_000  # microseconds

SCHEMA = """
CREATE TABLE activity (
    hour INTEGER NOT NULL,        -- of commits' times, since 1970-01-01 UTC
    subnet TEXT NOT NULL,         -- of a ledger, of what was seen, where a node came to; empty: of the whole site
    name TEXT NOT NULL,           -- of the events
    events INTEGER NOT NULL,
    PRIMARY KEY (hour, subnet, name)
) WITHOUT ROWID;
"""


def fold(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
    """Count what happened."""
    counts: Counter[tuple[int, str, str]] = Counter()
    for stored in batch:
        subnet, hour = place(stored.subject).subnet, stored.commit.time // HOUR
        for event in stored.commit.events:
            where = event.subnet if isinstance(event, NodeArrived) else subnet
            counts[hour, where, event.NAME] += 1
    cursor.executemany(
        "INSERT INTO activity VALUES (?, ?, ?, ?)"
        " ON CONFLICT (hour, subnet, name) DO UPDATE SET events = events + excluded.events",
        [(*key, count) for key, count in counts.items()],
    )
