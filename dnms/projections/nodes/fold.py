"""Nodes from the families `node` and `seen`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import msgspec

from dnms.events.commit import Stored
from dnms.events.node import NodeArrived, NodeEntered, NodeForgotten, NodeIdentified, NodeJoined, NodeParted, NodeReady
from dnms.events.recorded import Event, Personal
from dnms.events.seen import (
    ConfigurationApplied,
    ConfigurationContested,
    ConfigurationDrifted,
    ConfigurationRegistered,
    SessionClosed,
    SessionOpened,
)
from dnms.projections.events.fold import INDEX_BITS
from dnms.projections.nodes.schema import APPLICATION, DRIFT, JOIN, NODE, OF_NODE, SEEN, SESSION
from dnms.projections.projection import Place, clients_of, place, storable
from dnms.projections.text import to_json
from dnms.projections.versions import Rows
from dnms.projections.writing import insert

_SEEN = frozenset(SEEN)
KINDS = frozenset({*OF_NODE, *SEEN, NodeForgotten})


class _Node(NamedTuple):
    """A row of `node` behind its key."""

    name: str | None
    duid: str | None
    hardware: str
    kernel: str
    subnet: str
    arrived: int | None
    identified_sequence: int | None
    entered: int | None
    entered_group: str
    ready: int
    first_seen: int


class _Join(NamedTuple):
    into_client: bytes


class _Session(NamedTuple):
    open: int
    peer: bytes
    since: int
    why: str
    sequence: int
    event_index: int


class _Application(NamedTuple):
    time: int
    epoch: int
    plan: int
    ledger: int
    unproven: int
    why: str
    sequence: int
    event_index: int


class _Drift(NamedTuple):
    time: int
    action: str
    rival: str
    items: str
    more: int
    sequence: int
    event_index: int


class _Nodes:
    """All tables, while a batch is folded."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self._last: dict[bytes, int] = {}
        self._registered: dict[bytes, int] = {}
        self._forgotten: list[bytes] = []
        self.nodes = Rows(cursor, NODE, _Node)
        self.joins = Rows(cursor, JOIN, _Join)
        self.sessions = Rows(cursor, SESSION, _Session)
        self.applications = Rows(cursor, APPLICATION, _Application)
        self.drifts = Rows(cursor, DRIFT, _Drift)

    def learn(self, clients: Mapping[type[Event], Set[bytes]]) -> None:
        """Look up what is known of the clients of a batch's events, by type of event."""
        for rows, types in (
            (self.nodes, KINDS),
            (self.sessions, {SessionOpened, SessionClosed}),
            (self.applications, {ConfigurationApplied}),
            (self.drifts, {ConfigurationDrifted, ConfigurationContested}),
        ):
            rows.learn(set().union(*(of for kind, of in clients.items() if kind in types)))

    def write(self) -> None:
        for rows in (self.nodes, self.joins, self.sessions, self.applications, self.drifts):
            rows.write()
        self._cursor.executemany("DELETE FROM node_last WHERE client = ?", [(client,) for client in self._forgotten])
        insert(
            self._cursor,
            "INSERT INTO node_last",
            [(client, at, self._registered.get(client)) for client, at in sorted(self._last.items())],
            "ON CONFLICT DO UPDATE SET time = excluded.time, registered = coalesce(excluded.registered, registered)",
        )

    def node(self, client: bytes, at: int) -> _Node:
        """A node of which something is said at an instant."""
        self._last[client] = at
        node = self.nodes.get(client)
        if node is None:
            return _Node(None, None, "[]", "", "", None, None, None, "", 0, at)
        return node if node.first_seen <= at else node._replace(first_seen=at)

    def noticed(self, client: bytes, *, at: int, sequence: int) -> None:
        """A node was there."""
        self._last[client] = at
        node = self.nodes.get(client)
        if node is None or at < node.first_seen:
            self.nodes.set(self.node(client, at), client, sequence=sequence)

    def forget(self, client: bytes, sequence: int) -> None:
        self._last.pop(client, None)
        self._registered.pop(client, None)
        self._forgotten.append(client)
        for rows in (self.nodes, self.joins):
            rows.set(None, client, sequence=sequence)
        for several in (self.sessions, self.applications, self.drifts):
            for key in several.under(client):
                several.set(None, *key, sequence=sequence)

    def told(self, event: Event, node: _Node, *, at: int, sequence: int) -> _Node:
        """What an event of the family `node` says of its node."""
        match event:
            case NodeIdentified():
                return node._replace(
                    name=event.name.text,
                    duid=event.duid.text,
                    hardware=_texts(event.hardware),
                    kernel=event.kernel,
                    identified_sequence=sequence,
                )
            case NodeEntered():
                if node.identified_sequence is None:  # what the node says of itself wins, whichever came first
                    node = node._replace(name=event.name.text, hardware=_texts(event.hardware))
                duid = event.duid.text if node.duid is None else node.duid
                return node._replace(duid=duid, entered=at, entered_group=event.group, ready=0)
            case NodeReady():
                return node._replace(ready=1)
            case NodeJoined():
                self.joins.set(_Join(event.into), event.client, sequence=sequence)
            case NodeParted():
                self.joins.set(None, event.client, sequence=sequence)
                return node._replace(entered=None, entered_group="", ready=0)
            case NodeArrived():
                return node._replace(subnet=event.subnet, arrived=at)
        return node

    def saw(self, event: Event, where: Place, *, at: int, sequence: int, index: int) -> None:
        """What an event of the family `seen` says beside that its node was there."""
        match event:
            case SessionOpened():
                session = _Session(1, event.peer, at, "", sequence, index)
                self.sessions.set(session, event.client, where.subnet, where.agent, sequence=sequence)
            case SessionClosed():
                before = self.sessions.get(event.client, where.subnet, where.agent)
                session = _Session(0, b"" if before is None else before.peer, at, event.why, sequence, index)
                self.sessions.set(session, event.client, where.subnet, where.agent, sequence=sequence)
            case ConfigurationRegistered():
                self._registered[event.client] = sequence << INDEX_BITS | index
            case ConfigurationApplied():
                epoch, plan, ledger = map(storable, msgspec.structs.astuple(event.generation))
                application = _Application(at, epoch, plan, ledger, int(event.unproven), event.why, sequence, index)
                self.applications.set(application, event.client, where.subnet, sequence=sequence)
            case ConfigurationDrifted():
                items, more = to_json(event.items), storable(event.more)
                drift = _Drift(at, event.action, event.rival, items, more, sequence, index)
                self.drifts.set(drift, event.client, where.subnet, sequence=sequence)
            case ConfigurationContested():
                drift = _Drift(at, "contested", event.rival, to_json(event.items), 0, sequence, index)
                self.drifts.set(drift, event.client, where.subnet, sequence=sequence)


def _texts(addresses: Iterable[Personal]) -> str:
    return msgspec.json.encode([address.text for address in addresses]).decode()


def fold(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
    """Take in who nodes are and what agents saw of them."""
    folded = _Nodes(cursor)
    folded.learn(clients_of(batch, KINDS))
    for stored in batch:
        where = place(stored.subject)
        if where.family not in {"node", "seen"}:
            continue
        at, sequence = stored.commit.time, stored.sequence
        for index, event in enumerate(stored.commit.events):
            kind = type(event)
            if kind in _SEEN:
                folded.noticed(event.client, at=at, sequence=sequence)  # type: ignore[attr-defined]  # of all of them
                folded.saw(event, where, at=at, sequence=sequence, index=index)
            elif isinstance(event, OF_NODE):
                node = folded.node(event.client, at)
                folded.nodes.set(folded.told(event, node, at=at, sequence=sequence), event.client, sequence=sequence)
            elif isinstance(event, NodeForgotten):
                folded.forget(event.client, sequence)
    folded.write()
