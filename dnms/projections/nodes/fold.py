"""Nodes from the families `node` and `seen`. Of what a batch says of one thing several times, the last is written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from dnms.events.commit import Stored
from dnms.events.node import NodeArrived, NodeEntered, NodeForgotten, NodeIdentified, NodeJoined, NodeParted, NodeReady
from dnms.events.recorded import Personal
from dnms.events.seen import ConfigurationApplied, ConfigurationRegistered, SessionClosed, SessionOpened
from dnms.projections.projection import Place, place, storable
from dnms.projections.text import to_json


class _Changes:
    """What a batch changes, by what it is about."""

    def __init__(self) -> None:
        self.seen: dict[bytes, tuple[int, int]] = {}
        self.forgotten: set[bytes] = set()
        self.entered: dict[bytes, tuple[NodeEntered, int]] = {}
        self.ready: set[bytes] = set()
        self.parted: set[bytes] = set()
        self.identities: dict[bytes, tuple[NodeIdentified, int]] = {}
        self.joins: dict[bytes, bytes | None] = {}
        self.arrivals: dict[bytes, tuple[str, int]] = {}
        self.sessions: dict[tuple[bytes, str, str], tuple[int, bytes, int, str, int, int]] = {}
        self.registrations: dict[bytes, tuple[ConfigurationRegistered, Place, int, int, int]] = {}
        self.applications: dict[tuple[bytes, str], tuple[ConfigurationApplied, int, int, int]] = {}

    def see(self, client: bytes, at: int) -> None:
        first, last = self.seen.get(client, (at, at))
        self.seen[client] = (min(first, at), max(last, at))

    def forget(self, client: bytes) -> None:
        """What the batch had of it is over; what comes now is of a new one."""
        self.forgotten.add(client)
        self.parted.discard(client)
        self.ready.discard(client)
        self.joins[client] = None
        of_client: tuple[dict[bytes, Any], ...] = (
            self.seen,
            self.entered,
            self.identities,
            self.arrivals,
            self.registrations,
        )
        for known in of_client:
            known.pop(client, None)
        self.sessions = {key: row for key, row in self.sessions.items() if key[0] != client}
        self.applications = {key: row for key, row in self.applications.items() if key[0] != client}

    def part(self, client: bytes) -> None:
        """It is a node of its own again, and nobody has entered it."""
        self.joins[client] = None
        self.ready.discard(client)
        self.parted.add(client)

    def write(self, cursor: sqlite3.Cursor) -> None:
        for table in ("node", "node_session", "node_registration", "node_application"):
            cursor.executemany(f"DELETE FROM {table} WHERE client = ?", [(client,) for client in self.forgotten])
        cursor.executemany(
            "INSERT INTO node (client, first_seen, last_seen) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET "
            "first_seen = min(first_seen, excluded.first_seen), last_seen = max(last_seen, excluded.last_seen)",
            [(client, first, last) for client, (first, last) in self.seen.items()],
        )
        cursor.executemany(
            # What the node says of itself wins, whichever came first.
            "UPDATE node SET name = CASE WHEN identified_sequence IS NULL THEN ? ELSE name END, "
            "duid = coalesce(duid, ?), hardware = CASE WHEN identified_sequence IS NULL THEN ? ELSE hardware END, "
            "entered = ?, entered_group = ?, ready = 0 WHERE client = ?",
            [
                (entered.name.text, entered.duid.text, _texts(entered.hardware), at, entered.group, client)
                for client, (entered, at) in self.entered.items()
            ],
        )
        cursor.executemany("UPDATE node SET ready = 1 WHERE client = ?", [(client,) for client in self.ready])
        cursor.executemany(
            "UPDATE node SET name = ?, duid = ?, hardware = ?, kernel = ?, identified_sequence = ? WHERE client = ?",
            [
                (
                    identity.name.text,
                    identity.duid.text,
                    _texts(identity.hardware),
                    identity.kernel,
                    sequence,
                    client,
                )
                for client, (identity, sequence) in self.identities.items()
            ],
        )
        cursor.executemany(
            "UPDATE node SET entered = NULL, entered_group = '', ready = 0 WHERE client = ?",
            [(client,) for client in self.parted],
        )
        cursor.executemany(
            "DELETE FROM node_join WHERE client = ?", [(client,) for client, into in self.joins.items() if into is None]
        )
        cursor.executemany(
            "INSERT OR REPLACE INTO node_join VALUES (?, ?)",
            [(client, into) for client, into in self.joins.items() if into is not None],
        )
        cursor.executemany(
            "UPDATE node SET subnet = ?, arrived = ? WHERE client = ?",
            [(*arrival, client) for client, arrival in self.arrivals.items()],
        )
        cursor.executemany(
            "INSERT INTO node_session VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " open = excluded.open, peer = CASE excluded.peer WHEN x'' THEN peer ELSE excluded.peer END,"
            " since = excluded.since, why = excluded.why,"
            " sequence = excluded.sequence, event_index = excluded.event_index",
            [(*key, *row) for key, row in self.sessions.items()],
        )
        cursor.executemany(
            "INSERT OR REPLACE INTO node_registration VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (client, at, where.subnet, where.agent, event.digest, to_json(event.snapshot), sequence, index)
                for client, (event, where, at, sequence, index) in self.registrations.items()
            ],
        )
        cursor.executemany(
            "INSERT OR REPLACE INTO node_application VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *key,
                    at,
                    *map(storable, msgspec.structs.astuple(event.generation)),
                    to_json(event.items),
                    sequence,
                    index,
                )
                for key, (event, at, sequence, index) in self.applications.items()
            ],
        )


def _texts(addresses: Iterable[Personal]) -> str:
    return msgspec.json.encode([address.text for address in addresses]).decode()


def fold(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:  # noqa: PLR0912  # one case an event
    """Take in who nodes are and what agents saw of them."""
    changes = _Changes()
    for stored in batch:
        where = place(stored.subject)
        if where.family not in {"node", "seen"}:
            continue
        at, sequence = stored.commit.time, stored.sequence
        for index, event in enumerate(stored.commit.events):
            match event:
                case NodeIdentified():
                    changes.identities[event.client] = (event, sequence)
                case NodeForgotten():
                    changes.forget(event.client)
                    continue
                case NodeEntered():
                    changes.entered[event.client] = (event, at)
                    changes.ready.discard(event.client)
                    changes.parted.discard(event.client)
                case NodeReady():
                    changes.ready.add(event.client)
                case NodeJoined():
                    changes.joins[event.client] = event.into
                case NodeParted():
                    changes.part(event.client)
                case NodeArrived():
                    changes.arrivals[event.client] = (event.subnet, at)
                case SessionOpened():
                    session = (event.client, where.subnet, where.agent)
                    changes.sessions[session] = (1, event.peer, at, "", sequence, index)
                case SessionClosed():
                    session = (event.client, where.subnet, where.agent)
                    # Without its opening in this batch, the peer's address stands in the table already.
                    peer = changes.sessions[session][1] if session in changes.sessions else b""
                    changes.sessions[session] = (0, peer, at, event.why, sequence, index)
                case ConfigurationRegistered():
                    changes.registrations[event.client] = (event, where, at, sequence, index)
                case ConfigurationApplied():
                    changes.applications[event.client, where.subnet] = (event, at, sequence, index)
                case _:
                    continue
            changes.see(event.client, at)
    changes.write(cursor)
