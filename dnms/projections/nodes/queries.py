"""Questions about nodes."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import aiosqlite
import msgspec

from dnms.domain.configured import changed
from dnms.events.codec import decode_event
from dnms.events.configuration import Snapshot
from dnms.events.ip import format_address
from dnms.events.seen import ConfigurationApplied, ConfigurationChanged, ConfigurationRegistered
from dnms.projections.configurations.fold import TOLD
from dnms.projections.configurations.fold import told as whole
from dnms.projections.text import instant, instant_or_none, microseconds, plain

MAX_NODES = 10_000  # in one answer; a caller pages on with `after`

CLIENT_DIGITS = 32
SHORT = 8
"""So many digits of a client id are shown where it is to tell two nodes apart, and are enough to name one."""

_HARDWARE = re.compile(r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")
_CLIENT = re.compile(rf"[0-9a-f]{{{SHORT},{CLIENT_DIGITS}}}")


class NodeRow(msgspec.Struct, frozen=True, kw_only=True):
    """A node as far as it is known."""

    client: str  # hex
    name: str | None  # None until it has said who it is
    subnet: str
    session: str  # open, closed, none
    agent: str | None  # the other end of the newest session
    session_since: datetime | None  # it is open, or closed
    session_closed: str  # why, where it is
    kernel: str
    hardware: list[str]
    duid: str | None
    arrived: datetime | None
    entered: datetime | None  # by an operator
    ready: bool  # addresses are kept for it wherever it was entered for
    entered_group: str | None  # with which it was entered
    identities: list[str]  # client ids, in hex, of others that are this node too
    first_seen: datetime
    last_seen: datetime
    registered: datetime | None
    applied: datetime | None
    generation: list[int] | None  # epoch, plan, ledger of what it applied last on its subnet
    outcomes: dict[str, str]  # of that: address to usable, duplicate, refused, rolled-back
    unproven: bool  # of that: the node may still go back to what it had before
    went_back: str | None  # of that: why it did, or was not taken over


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """The last session of a node with one agent."""

    subnet: str
    agent: str
    open: bool
    peer: str | None
    since: datetime  # it is open or closed
    why: str  # it was closed


class DriftRow(msgspec.Struct, frozen=True, kw_only=True):
    """The last time that somebody else changed what DNMS had configured on a node, on one subnet."""

    subnet: str
    time: datetime
    action: str  # left, reported, restored, contested
    rival: str  # who manages the link beside DNMS, where that was recognised
    items: list[dict[str, str]]  # kind, name, change, was, now
    more: int  # that are not listed


class SessionCount(msgspec.Struct, frozen=True):
    """How many sessions an agent has open."""

    subnet: str
    agent: str
    open: int


class Identity(msgspec.Struct, frozen=True):
    """By what a node is put into a group; what cannot be read is left out."""

    client: bytes
    name: str
    duid: bytes
    hardware: tuple[bytes, ...]
    entered_group: str


_NODES = """
    SELECT n.client, n.name, n.subnet, s.open, s.agent, s.since, s.why, n.kernel, n.hardware, n.duid, n.arrived,
        n.first_seen, coalesce(t.time, n.first_seen),
        (SELECT c.time FROM event_commit c WHERE c.sequence = t.registered >> 13), a.time, a.epoch, a.plan, a.ledger,
        (SELECT e.item FROM event e WHERE e.position = a.sequence << 13 | a.event_index),
        n.entered, n.ready, n.entered_group,
        (SELECT json_group_array(lower(hex(j.client))) FROM node_join j WHERE j.into_client = n.client),
        a.unproven, a.why
    FROM node n
    LEFT JOIN node_last t ON t.client = n.client
    LEFT JOIN node_session s ON s.client = n.client AND s.sequence << 13 | s.event_index = (
        SELECT max(x.sequence << 13 | x.event_index) FROM node_session x
        WHERE x.client = n.client AND x.open = (SELECT max(o.open) FROM node_session o WHERE o.client = n.client)
    )
    LEFT JOIN node_application a ON a.client = n.client AND a.subnet = n.subnet
"""
"""With the newest of the open sessions, or else of the closed ones."""

ORDERS = {
    "client": ("n.client",),
    "name": ("coalesce(n.name, '')", "n.client"),
    "last_seen": ("coalesce(t.time, n.first_seen)", "n.client"),
}
"""By what nodes can be ordered, which no two of them share."""

_SESSIONS = {"open": "s.open = 1", "closed": "s.open = 0", "none": "s.open IS NULL"}

_OF_ITS_OWN = """NOT EXISTS (
    SELECT 1 FROM node_join j JOIN node known ON known.client = j.into_client WHERE j.client = n.client
)"""
"""What was joined into another node is that one, as soon as that is known: two subjects have no order."""


async def nodes(
    db: aiosqlite.Connection,
    *,
    subnet: str | None = None,
    agent: str | None = None,
    session: str | None = None,
    name: str | None = None,
    order: str = "client",
    descending: bool = False,
    after: bytes | tuple[Any, ...] = b"",
    limit: int = 1_000,
    joined: bool = False,
) -> list[NodeRow]:
    """Nodes in an order of ORDERS, behind the client or the key (`key_of`) `after`.

    `agent` and `session` (open, closed, none) are those of its newest session, `name` is a pattern such as `phone-*`.
    `joined`: also identities of other nodes.
    """
    where, values = ["TRUE"] if joined else [_OF_ITS_OWN], list[Any]()
    key, behind, direction = ORDERS[order], "<" if descending else ">", "DESC" if descending else "ASC"
    if after:
        values += [after] if isinstance(after, bytes) else after
        where.append(f"({', '.join(key)}) {behind} ({', '.join('?' * len(key))})")
    for term, wanted in (("n.subnet = ?", subnet), ("s.agent = ?", agent), ("n.name GLOB ?", name)):
        if wanted is not None:
            where.append(term)
            values.append(wanted)
    if session is not None:
        where.append(_SESSIONS[session])
    values.append(max(0, min(limit, MAX_NODES)))
    by = ", ".join(f"{part} {direction}" for part in key)
    rows = await db.execute_fetchall(f"{_NODES} WHERE {' AND '.join(where)} ORDER BY {by} LIMIT ?", values)
    return [_node(row) for row in rows]


def key_of(row: NodeRow, order: str) -> tuple[Any, ...]:
    """The key of a row in an order: `after` of the rows behind it."""
    client = bytes.fromhex(row.client)
    if order == "client":
        return (client,)
    return (row.name or "" if order == "name" else microseconds(row.last_seen), client)


async def find(db: aiosqlite.Connection, name_or_client: str) -> list[NodeRow]:
    """The nodes of this name, of which there can be several, or else those whose client id in hex begins so, or that
    have this hardware address, with colons.

    A node is also found by what those were called that were joined into it: as an operator entered it.
    """
    rows = await _known_as(db, "x.name = ?", [name_or_client])
    if not rows and _CLIENT.fullmatch(name_or_client):
        bounds = [bytes.fromhex(name_or_client.ljust(CLIENT_DIGITS, digit)) for digit in "0f"]
        rows = await _known_as(db, "x.client BETWEEN ? AND ?", bounds)
    if not rows and _HARDWARE.fullmatch(name_or_client):
        has = "EXISTS (SELECT 1 FROM json_each(x.hardware) WHERE value = ?)"
        rows = await _known_as(db, has, [name_or_client.lower()])
    return rows


async def _known_as(db: aiosqlite.Connection, where: str, values: Sequence[Any]) -> list[NodeRow]:
    of_node = "SELECT coalesce(j.into_client, x.client) FROM node x LEFT JOIN node_join j ON j.client = x.client"
    rows = await db.execute_fetchall(
        f"{_NODES} WHERE n.client IN ({of_node} WHERE {where}) ORDER BY n.client LIMIT 100", values
    )
    return [_node(row) for row in rows]


async def joined_into(db: aiosqlite.Connection, client: bytes) -> list[bytes]:
    """The clients that are this node too."""
    rows = await db.execute_fetchall("SELECT client FROM node_join WHERE into_client = ? ORDER BY client", (client,))
    return [row[0] for row in rows]


async def identities(db: aiosqlite.Connection) -> list[Identity]:
    """All nodes that have said who they are."""
    rows = await db.execute_fetchall(
        "SELECT client, name, duid, hardware, entered_group FROM node WHERE name IS NOT NULL ORDER BY client"
    )
    return [
        Identity(
            row[0], row[1], _octets(row[2]), tuple(map(_octets, msgspec.json.decode(row[3], type=list[str]))), row[4]
        )
        for row in rows
    ]


async def unready(db: aiosqlite.Connection) -> list[bytes]:
    """The clients that were entered, and for which addresses may not be kept everywhere yet."""
    rows = await db.execute_fetchall("SELECT client FROM node WHERE entered IS NOT NULL AND NOT ready ORDER BY client")
    return [row[0] for row in rows]


def _octets(text: str | None) -> bytes:
    """What is shown as hex digits and colons; empty for what is sealed."""
    try:
        return bytes.fromhex((text or "").replace(":", ""))
    except ValueError:
        return b""


def ambiguous(asked: str, found: Sequence[NodeRow]) -> str:
    """What to say where one node is wanted and several were found."""
    clients = ", ".join(one.client for one in found)
    return f"{len(found)} nodes are called {asked!r}; give a client id, or its first {SHORT} digits: {clients}"


async def sessions(db: aiosqlite.Connection, client: bytes) -> list[SessionRow]:
    """A node's last session with each agent, the newest first."""
    rows = await db.execute_fetchall(
        "SELECT subnet, agent, open, peer, since, why FROM node_session WHERE client = ? "
        "ORDER BY sequence DESC, event_index DESC",
        (client,),
    )
    return [
        SessionRow(
            subnet=row[0],
            agent=row[1],
            open=bool(row[2]),
            peer=format_address(row[3]) if row[3] else None,
            since=instant(row[4]),
            why=row[5],
        )
        for row in rows
    ]


async def drifts(db: aiosqlite.Connection, client: bytes) -> list[DriftRow]:
    """What somebody else changed on a node last, on each subnet; the newest first."""
    rows = await db.execute_fetchall(
        "SELECT subnet, time, action, rival, items, more FROM node_drift WHERE client = ? "
        "ORDER BY sequence DESC, event_index DESC",
        (client,),
    )
    return [
        DriftRow(
            subnet=row[0],
            time=instant(row[1]),
            action=row[2],
            rival=row[3],
            items=msgspec.json.decode(row[4], type=list[dict[str, str]]),
            more=row[5],
        )
        for row in rows
    ]


async def count(db: aiosqlite.Connection) -> int:
    """How many nodes there are, those counted once that are several identities."""
    [row] = await db.execute_fetchall(f"SELECT count(*) FROM node n WHERE {_OF_ITS_OWN}")
    return int(row[0])


async def open_sessions(db: aiosqlite.Connection) -> list[SessionCount]:
    """The sessions that each agent has open."""
    rows = await db.execute_fetchall(
        "SELECT subnet, agent, count(*) FROM node_session WHERE open GROUP BY subnet, agent ORDER BY subnet, agent"
    )
    return [SessionCount(*row) for row in rows]


async def snapshot(db: aiosqlite.Connection, client: bytes) -> dict[str, Any] | None:
    """The whole configuration that a node has told: what it registered, and what changed after that."""
    told = await db.execute_fetchall(
        "SELECT e.item FROM node_last t JOIN event e ON e.client = t.client"
        " AND e.position >= t.registered WHERE t.client = ? AND e.name IN (?, ?)"
        " ORDER BY e.position",
        (client, ConfigurationRegistered.NAME, ConfigurationChanged.NAME),
    )
    configuration: Snapshot | None = None
    for (item,) in told:
        match decode_event(item):
            case ConfigurationRegistered(snapshot=whole):
                configuration = whole
            case ConfigurationChanged(change=change):
                configuration = changed(configuration or Snapshot(), change)
    return None if configuration is None else plain(configuration)


async def told(db: aiosqlite.Connection, client: bytes) -> Snapshot | None:
    """The whole configuration that a node has now by what it told; not of the past."""
    rows = list(await db.execute_fetchall(TOLD, (client,)))
    return whole(*rows[0]) if rows else None


def outcomes(item: bytes) -> dict[str, str]:
    """What became of each address, by the event that says what a node applied."""
    event = decode_event(item)
    items = event.items if isinstance(event, ConfigurationApplied) else ()
    return {format_address(one.address): one.outcome for one in items}


def _node(row: sqlite3.Row | Sequence[Any]) -> NodeRow:
    return NodeRow(
        client=row[0].hex(),
        name=row[1],
        subnet=row[2],
        session="none" if row[3] is None else "open" if row[3] else "closed",
        agent=row[4],
        session_since=instant_or_none(row[5]),
        session_closed=row[6] or "",
        kernel=row[7],
        hardware=msgspec.json.decode(row[8], type=list[str]),
        duid=row[9],
        arrived=instant_or_none(row[10]),
        entered=instant_or_none(row[19]),
        ready=bool(row[20]),
        entered_group=row[21] or None,
        identities=msgspec.json.decode(row[22], type=list[str]),
        first_seen=instant(row[11]),
        last_seen=instant(row[12]),
        registered=instant_or_none(row[13]),
        applied=instant_or_none(row[14]),
        generation=None if row[15] is None else [row[15], row[16], row[17]],
        outcomes={} if row[18] is None else outcomes(row[18]),
        unproven=bool(row[23]),
        went_back=row[24] or None,
    )
