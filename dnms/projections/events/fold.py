"""One row a commit and one row an event, in the log's order."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from dnms.events.commit import Stored
from dnms.projections.text import to_json
from dnms.projections.versions import AS_OF

INDEX_BITS = 13  # a commit holds at most 5 000 events
"""An event's row id is its commit's sequence with its index in the lowest bits: one number, in the log's order."""

SCHEMA = """
CREATE TABLE event_commit (
    sequence INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    time INTEGER NOT NULL,
    stored_at INTEGER NOT NULL,
    subject TEXT NOT NULL,
    actor TEXT NOT NULL,
    plan INTEGER NOT NULL,
    decisions INTEGER NOT NULL,
    refusals INTEGER NOT NULL,
    events INTEGER NOT NULL,
    size INTEGER NOT NULL
);
CREATE TABLE event (
    position INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    client BLOB,
    address BLOB,
    fields TEXT NOT NULL
);
CREATE INDEX event_name ON event (name);
CREATE INDEX event_client ON event (client) WHERE client IS NOT NULL;
CREATE INDEX event_address ON event (address) WHERE address IS NOT NULL;
"""

PAST = (
    f"CREATE TEMP VIEW event_commit AS SELECT * FROM main.event_commit WHERE sequence <= {AS_OF}",
    f"CREATE TEMP VIEW event AS SELECT * FROM main.event WHERE position < {AS_OF} + 1 << {INDEX_BITS}",
)


def fold(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
    """Write down every commit and every event."""
    cursor.executemany(
        "INSERT INTO event_commit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                stored.sequence,
                stored.commit.id,
                stored.commit.time,
                stored.stored_at,
                stored.subject,
                stored.commit.actor,
                stored.commit.plan,
                len(stored.commit.decisions),
                sum(decision.times for decision in stored.commit.decisions if decision.refused is not None),
                len(stored.commit.events),
                stored.size,
            )
            for stored in batch
        ],
    )
    cursor.executemany(
        "INSERT INTO event VALUES (?, ?, ?, ?, ?)",
        [
            (
                stored.sequence << INDEX_BITS | index,
                event.NAME,
                getattr(event, "client", None),
                getattr(event, "address", None),
                to_json(event),
            )
            for stored in batch
            for index, event in enumerate(stored.commit.events)
        ],
    )
