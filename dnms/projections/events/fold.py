"""One row a commit and one row an event, in the log's order, and by what an event is found."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from dnms.events.address import AddressBlocked
from dnms.events.codec import encode_event
from dnms.events.commit import Commit, Stored
from dnms.events.ip import Prefix
from dnms.events.plan import PlanAdopted
from dnms.events.recorded import Event
from dnms.projections.events import parts, words
from dnms.projections.projection import storable
from dnms.projections.versions import AS_OF
from dnms.projections.writing import insert

INDEX_BITS = 13  # a commit holds at most 5 000 events
"""An event's row id is its commit's sequence with its index in the lowest bits: one number, in the log's order."""

CAUSED = frozenset({AddressBlocked, PlanAdopted})
"""Types of the events that may name a commit as their cause."""

HOUR = 3_600_000_000  # microseconds

SCHEMA = (
    """
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
    address BLOB,                 -- of one about a prefix: its first
    request INTEGER,              -- the word that is the name of what was asked for; NULL: it was merely seen
    cause INTEGER,                -- sequence of the commit that it names as its cause
    item BLOB NOT NULL            -- the event as it is in a commit, with what is personal in clear
);
CREATE TABLE event_hour (         -- a time is found by it: writers' clocks differ, so times are not in the log's order
    hour INTEGER PRIMARY KEY,     -- since 1970-01-01 UTC
    first INTEGER NOT NULL,       -- sequences of the first and the last commit with a time in it
    last INTEGER NOT NULL
);
"""
    + words.SCHEMA
    + parts.SCHEMA
)

PAST = (
    f"CREATE TEMP VIEW event_commit AS SELECT * FROM main.event_commit WHERE sequence <= {AS_OF}",
    *(
        f"CREATE TEMP VIEW {table} AS SELECT * FROM main.{table} WHERE position < {AS_OF} + 1 << {INDEX_BITS}"
        for table in ("event", "event_text", "event_part")
    ),
)

INDEXES = (
    "CREATE INDEX event_commit_subject ON event_commit (subject)",
    "CREATE INDEX event_commit_actor ON event_commit (actor)",
    "CREATE INDEX event_name ON event (name)",
    "CREATE INDEX event_client ON event (client) WHERE client IS NOT NULL",
    "CREATE INDEX event_address ON event (address) WHERE address IS NOT NULL",
    "CREATE INDEX event_cause ON event (cause) WHERE cause IS NOT NULL",
)


def fold(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
    """Write down every commit and every event."""
    insert(
        cursor,
        "INSERT INTO event_commit",
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
    hours: dict[int, tuple[int, int]] = {}
    found, about = words.Words(cursor), parts.Parts(cursor)
    rows: list[tuple[int, Event, str | None]] = []
    for stored in batch:
        hour = stored.commit.time // HOUR
        hours[hour] = (hours.get(hour, (stored.sequence, 0))[0], stored.sequence)
        for index, (event, request) in enumerate(zip(stored.commit.events, requests(stored.commit), strict=True)):
            position = stored.sequence << INDEX_BITS | index
            found.take(event, request, position)
            if type(event) in parts.ABOUT:
                about.take(event, position)
            rows.append((position, event, request))
    numbers = found.write()
    about.write()
    cursor.executemany(
        "INSERT INTO event_hour VALUES (?, ?, ?) ON CONFLICT (hour) DO UPDATE SET last = excluded.last",
        [(hour, *ends) for hour, ends in hours.items()],
    )
    insert(
        cursor,
        "INSERT INTO event",
        [
            (
                position,
                event.NAME,
                getattr(event, "client", None),
                address_of(event),
                None if request is None else numbers[request],
                cause_of(event) if type(event) in CAUSED else None,
                encode_event(event),
            )
            for position, event, request in rows
        ],
    )


def address_of(event: Event) -> bytes | None:
    """The address that an event is about; of one about a prefix the first that is in it."""
    address: bytes | None = getattr(event, "address", None)
    prefix = getattr(event, "prefix", None)
    return prefix.network if isinstance(prefix, Prefix) else address


def requests(commit: Commit) -> list[str | None]:
    """Of each event of a commit the name of the request that it came of."""
    found: list[str | None] = [None] * len(commit.events)
    for decision in commit.decisions:
        for index in range(decision.first, min(decision.first + decision.count, len(found))):
            found[index] = decision.request.NAME
    return found


def cause_of(event: Event) -> int | None:
    """The sequence of the commit that an event names as its cause."""
    match event:
        case AddressBlocked() if event.cause:
            return storable(event.cause)
        case PlanAdopted():
            return storable(event.plan.position)
        case _:
            return None
