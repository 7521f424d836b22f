"""To whom prefixes were delegated, and when: asked by an address in them, by a range, and by clients."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from dnms.events.ip import prefix_of

INDEXES = ("CREATE INDEX history_prefix_by_client ON history_prefix (client) WHERE client IS NOT NULL",)

Found = Sequence[Any]
"""Network, client, subnet, time, sequence, index and name of the event that gave it, the same of the one that ended it
(NULL: none has), pool and length."""

_FOUND = """
    SELECT network, client, subnet, since, sequence, event_index, event, ends, end_sequence, end_index, end_event, pool,
        length
    FROM (
        SELECT *, lead(since) OVER after AS ends, lead(sequence) OVER after AS end_sequence,
            lead(event_index) OVER after AS end_index, lead(event) OVER after AS end_event
        FROM history_prefix WHERE {where}
        WINDOW after AS (PARTITION BY network, length, subnet ORDER BY since, sequence, event_index)
    )
    WHERE client IS NOT NULL AND since <= ? AND (ends IS NULL OR ends > ?)
    ORDER BY since DESC LIMIT ?
"""


def around(db: sqlite3.Connection, address: bytes, times: tuple[int, int], limit: int) -> list[Found]:
    """Those of the prefixes that an address lies in, in a time (microseconds, both included)."""
    where, values = _covering(db, address)
    return _found(db, where, values, times, limit) if values else []


def overlapping(db: sqlite3.Connection, first: bytes, last: bytes, times: tuple[int, int], limit: int) -> list[Found]:
    """Those of the prefixes that have some address of a range, which is a prefix itself."""
    where, values = _covering(db, first)
    if not values:
        return []
    return _found(db, f"network BETWEEN ? AND ? OR {where}", [first, last, *values], times, limit)


def of_clients(db: sqlite3.Connection, clients: Sequence[bytes], times: tuple[int, int], limit: int) -> Iterator[Found]:
    """Those that these clients had."""
    marks = ", ".join("?" * len(clients))
    own = f"FROM history_prefix WHERE client IN ({marks})"
    # By the network alone it is sought: SQLite seeks by no pair of values.
    where = f"network IN (SELECT network {own}) AND (network, length) IN (SELECT network, length {own})"
    return (row for row in _found(db, where, [*clients, *clients], times, limit) if row[1] in clients)


def _covering(db: sqlite3.Connection, address: bytes) -> tuple[str, list[Any]]:
    """The term that is so of the prefixes that an address lies in; without values: there are none."""
    around = [prefix_of(address, length) for [length] in db.execute("SELECT length FROM history_length")]
    networks = [prefix.network for prefix in around]
    pairs = [value for prefix in around for value in (prefix.network, prefix.length)]
    where = (
        f"(network IN ({', '.join('?' * len(around))})"
        f" AND (network, length) IN (VALUES {', '.join(['(?, ?)'] * len(around))}))"
    )
    return where, [*networks, *pairs]


def _found(
    db: sqlite3.Connection, where: str, values: Sequence[Any], times: tuple[int, int], limit: int
) -> list[Found]:
    return list(db.execute(_FOUND.format(where=where), [*values, times[1], times[0], limit]))
