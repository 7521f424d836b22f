"""Configurations from the family `seen`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from dnms.domain.configured import changed
from dnms.events.codec import decoder, encoder
from dnms.events.commit import Stored
from dnms.events.configuration import Snapshot
from dnms.events.node import NodeForgotten
from dnms.events.recorded import Event
from dnms.events.seen import ConfigurationChanged, ConfigurationRegistered

SCHEMA = """
CREATE TABLE configuration (
    client BLOB PRIMARY KEY,
    snapshot BLOB NOT NULL        -- as the log has it, encoded
) WITHOUT ROWID;
"""

TELL = frozenset({ConfigurationRegistered, ConfigurationChanged, NodeForgotten})
"""Types of the events that say something of configurations: few of those in a log do."""

_snapshot = decoder(Snapshot)


class Configurations:
    """Those of the clients that a batch touches, as they become."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self._now: dict[bytes, Snapshot | None] = {}

    def take(self, event: Event) -> Snapshot | None:
        """The whole configuration of a node after an event that says something of it; None: it says nothing."""
        match event:
            case ConfigurationRegistered():
                self._now[event.client] = event.snapshot
                return event.snapshot
            case ConfigurationChanged():
                snapshot = changed(self._of(event.client), event.change)
                self._now[event.client] = snapshot
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
        self._cursor.executemany(
            "INSERT OR REPLACE INTO configuration VALUES (?, ?)",
            [(client, encoder.encode(snapshot)) for client, snapshot in self._now.items() if snapshot is not None],
        )

    def _of(self, client: bytes) -> Snapshot:
        """What is known of it; nothing is, where an agent has recorded a change and never the whole."""
        if client not in self._now:
            self._cursor.execute("SELECT snapshot FROM configuration WHERE client = ?", (client,))
            row = self._cursor.fetchone()
            self._now[client] = None if row is None else _snapshot.decode(row[0])
        return self._now[client] or Snapshot()


def fold(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
    """Keep what nodes have now."""
    configurations = Configurations(cursor)
    for stored in batch:
        for event in stored.commit.events:
            if type(event) in TELL:
                configurations.take(event)
    configurations.write()
