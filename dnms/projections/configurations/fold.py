"""Configurations from the family `seen`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from operator import itemgetter

from dnms.domain.configured import changed
from dnms.events.codec import decode_event, decoder, encoder
from dnms.events.commit import Stored
from dnms.events.configuration import Snapshot
from dnms.events.node import NodeForgotten
from dnms.events.recorded import Event
from dnms.events.seen import ConfigurationChanged, ConfigurationRegistered
from dnms.projections.events.fold import INDEX_BITS
from dnms.projections.writing import insert

SCHEMA = """
CREATE TABLE configuration (
    client BLOB PRIMARY KEY,
    position INTEGER,             -- in `event`, of the event that has the whole; NULL: a change came after it
    snapshot BLOB                 -- the whole then, encoded as in the log
) WITHOUT ROWID;
"""

TELL = frozenset({ConfigurationRegistered, ConfigurationChanged, NodeForgotten})
"""Types of the events that say something of configurations: few of those in a log do."""

TOLD = "SELECT c.snapshot, e.item FROM configuration c LEFT JOIN event e ON e.position = c.position WHERE c.client = ?"
"""What `told` takes, of a client."""

_snapshot = decoder(Snapshot)


def told(snapshot: bytes | None, item: bytes | None) -> Snapshot:
    """The whole configuration of a client, of what is kept of it."""
    if snapshot is not None:
        return _snapshot.decode(snapshot)
    event = None if item is None else decode_event(item)
    return event.snapshot if isinstance(event, ConfigurationRegistered) else Snapshot()


class Configurations:
    """Those of the clients that a batch touches, as they become."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self._now: dict[bytes, Snapshot | None] = {}
        self._position: dict[bytes, int | None] = {}  # of the event that has it

    def take(self, event: Event, position: int | None = None) -> Snapshot | None:
        """The whole configuration of a node after an event that says something of it; None: it says nothing."""
        match event:
            case ConfigurationRegistered():
                self._now[event.client] = event.snapshot
                self._position[event.client] = position
                return event.snapshot
            case ConfigurationChanged():
                snapshot = changed(self._of(event.client), event.change)
                self._now[event.client] = snapshot
                self._position[event.client] = None
                return snapshot
            case NodeForgotten():
                self._now[event.client] = None
        return None

    def write(self) -> None:
        """Write down what they are now."""
        self._cursor.executemany(
            "DELETE FROM configuration WHERE client = ?",
            [(client,) for client, snapshot in self._now.items() if snapshot is None],
        )
        insert(
            self._cursor,
            "INSERT OR REPLACE INTO configuration",
            [
                (client, position, encoder.encode(snapshot) if position is None else None)
                for client, snapshot in sorted(self._now.items(), key=itemgetter(0))
                if snapshot is not None
                for position in (self._position[client],)
            ],
        )

    def _of(self, client: bytes) -> Snapshot:
        """What is known of it; nothing is, where an agent has recorded a change and never the whole."""
        if client not in self._now:
            row = self._cursor.execute(TOLD, (client,)).fetchone()
            self._now[client] = None if row is None else told(*row)
        return self._now[client] or Snapshot()


def fold(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
    """Keep what nodes have now."""
    configurations = Configurations(cursor)
    for stored in batch:
        for index, event in enumerate(stored.commit.events):
            if type(event) in TELL:
                configurations.take(event, stored.sequence << INDEX_BITS | index)
    configurations.write()
