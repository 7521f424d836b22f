"""Questions about who had an address."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import aiosqlite
import msgspec

from dnms.events.ip import format_address
from dnms.projections.text import instant, position

LEASE, REGISTERED = "lease", "registered"

MAX_SCOPES = 1_000  # subnets, or clients, that ever had one address; a site has one address on every machine sometimes
MAX_ROWS = 10_000  # of the history of one address in one subnet, or at one client


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which one client had an address, by a lease or as it registered."""

    address: str
    client: str  # hex
    node: str | None  # its name, as it is now
    source: str  # lease, registered
    subnet: str
    pool: str | None  # of a lease
    interface: str | None  # as registered
    origin: str | None  # as registered
    since: datetime
    until: datetime | None  # None: still so
    opened: str  # position of the event that began it
    opened_by: str  # its name
    closed: str | None
    closed_by: str | None


class _Change(msgspec.Struct, frozen=True):
    """A row: what is so from an instant on. `client` is None where the address is free."""

    since: int
    sequence: int
    index: int
    event: str
    client: bytes | None
    subnet: str
    pool: str | None = None
    link: str | None = None
    origin: str | None = None


_LEASE = "SELECT since, sequence, event_index, event, client, subnet, pool FROM history_lease"
_USE = (
    "SELECT since, sequence, event_index, 'configuration.registered', CASE used WHEN 1 THEN client END, subnet, NULL,"
    " link, origin FROM history_use"
)
_SOURCES = ((LEASE, "history_lease", "subnet", _LEASE), (REGISTERED, "history_use", "client", _USE))


async def who_had(db: aiosqlite.Connection, address: bytes, at: int | None = None) -> list[Holding]:
    """Who had the address at an instant (microseconds), or, without one, everybody who ever had it; newest first.

    Leases come before registrations. One seek in the key for each subnet and each client that ever had it.
    """
    found: list[Holding] = []
    for source, table, scope, select in _SOURCES:
        holdings: list[tuple[_Change, _Change | None]] = []
        for value in await _scopes(db, table, scope, address):
            where = f"{select} WHERE address = ? AND {scope} = ?"
            if at is None:
                holdings += await _ever(db, where, (address, value))
            else:
                holdings += await _at(db, where, (address, value), at)
        holdings.sort(key=lambda pair: (pair[0].since, pair[0].sequence, pair[0].index), reverse=True)
        names = await _names(db, {begin.client for begin, _ in holdings if begin.client is not None})
        found += [_holding(address, source, begin, end, names) for begin, end in holdings]
    return found


async def _scopes(db: aiosqlite.Connection, table: str, scope: str, address: bytes) -> list[Any]:
    """The subnets, or the clients, that have rows of the address: a seek each."""
    rows = await db.execute_fetchall(
        f"""
        WITH RECURSIVE scopes (value) AS (
            SELECT min({scope}) FROM {table} WHERE address = :address
            UNION ALL
            SELECT (SELECT min({scope}) FROM {table} WHERE address = :address AND {scope} > scopes.value)
            FROM scopes WHERE scopes.value IS NOT NULL
        )
        SELECT value FROM scopes WHERE value IS NOT NULL LIMIT :limit
        """,
        {"address": address, "limit": MAX_SCOPES},
    )
    return [row[0] for row in rows]


async def _at(
    db: aiosqlite.Connection, where: str, scope: tuple[Any, ...], at: int
) -> list[tuple[_Change, _Change | None]]:
    order = "since {0}, sequence {0}, event_index {0} LIMIT 1"
    [*rows] = await db.execute_fetchall(f"{where} AND since <= ? ORDER BY {order.format('DESC')}", (*scope, at))
    if not rows or rows[0][4] is None:
        return []
    [*later] = await db.execute_fetchall(f"{where} AND since > ? ORDER BY {order.format('ASC')}", (*scope, at))
    return [(_change(rows[0]), _change(later[0]) if later else None)]


async def _ever(db: aiosqlite.Connection, where: str, scope: tuple[Any, ...]) -> list[tuple[_Change, _Change | None]]:
    rows = await db.execute_fetchall(
        f"{where} ORDER BY since DESC, sequence DESC, event_index DESC LIMIT {MAX_ROWS}", scope
    )
    changes = [None, *(_change(row) for row in rows)]
    return [(begin, end) for end, begin in pairwise(changes) if begin is not None and begin.client is not None]


async def _names(db: aiosqlite.Connection, clients: set[bytes]) -> dict[bytes, str | None]:
    names: dict[bytes, str | None] = {}
    for client in clients:
        known_as = "coalesce((SELECT into_client FROM node_join WHERE client = :client), :client)"
        select = f"SELECT name FROM node WHERE client = {known_as}"
        rows = list(await db.execute_fetchall(select, {"client": client}))
        names[client] = rows[0][0] if rows else None
    return names


def _change(row: sqlite3.Row | Sequence[Any]) -> _Change:
    return _Change(*row)


def _holding(
    address: bytes, source: str, begin: _Change, end: _Change | None, names: dict[bytes, str | None]
) -> Holding:
    client = begin.client or b""
    return Holding(
        address=format_address(address),
        client=client.hex(),
        node=names.get(client),
        source=source,
        subnet=begin.subnet,
        pool=begin.pool,
        interface=begin.link,
        origin=begin.origin,
        since=instant(begin.since),
        until=None if end is None else instant(end.since),
        opened=position(begin.sequence, begin.index),
        opened_by=begin.event,
        closed=None if end is None else position(end.sequence, end.index),
        closed_by=None if end is None else end.event,
    )
