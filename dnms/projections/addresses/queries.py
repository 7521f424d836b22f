"""Questions about who has which address now."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import aiosqlite
import msgspec

from dnms.events.ip import format_address
from dnms.projections.addresses.fold import HELD
from dnms.projections.text import instant, instant_or_none, position, prefix_length

MAX_ADDRESSES = 10_000  # in one answer; a caller pages on with `after`


class AddressRow(msgspec.Struct, frozen=True, kw_only=True):
    """A lease, or an address that rests because a client declined it or was seen with it.

    `valid_until` is what the client was last known to be told, `horizon` until when the log promises the address to it;
    a renewal that ends before the horizon is answered without an event. Of one that rests both are the end of its
    quarantine.
    """

    address: str
    subnet: str
    state: str  # held, declined, blocked
    client: str  # hex; who holds it, who declined it, or who was seen with it
    node: str | None  # the client's name
    iaid: int
    pool: str
    group: str | None  # its name, or its number where the plan no longer has it
    counter: int  # which candidate of the pool's strategy it is
    since: datetime
    valid_until: datetime
    horizon: datetime
    opened: str  # position of the event that gave it
    changed: str  # position of the last event about it


class RegisteredRow(msgspec.Struct, frozen=True, kw_only=True):
    """An address that a node registered as its own, whoever gave it."""

    address: str
    client: str
    node: str | None
    subnet: str  # where it was registered
    interface: str
    prefix_length: int  # of 32 for IPv4, of 128 for IPv6
    origin: str  # link-local, slaac, temporary, managed, loopback, other
    since: datetime
    preferred_until: datetime | None  # None: for ever
    valid_until: datetime | None
    changed: str


class NodeAddressRow(msgspec.Struct, frozen=True, kw_only=True):
    """One address of one node: leased to it, registered by it, or both."""

    address: str
    origin: str  # as registered; `leased` where the node has not registered it
    leased: bool
    registered: bool
    subnet: str
    interface: str | None
    prefix_length: int | None
    pool: str | None
    since: datetime
    valid_until: datetime | None  # None: for ever
    horizon: datetime | None  # of the lease


_LEASES = """
    SELECT l.address, l.subnet, l.state, l.client, n.name AS node, l.iaid, l.pool, l.member_of, g.name AS member_name,
        l.counter, l.since, l.valid_until, l.horizon, l.opened_sequence, l.opened_index,
        l.changed_sequence, l.changed_index
    FROM address_lease l
    LEFT JOIN node n ON n.client = l.client
    LEFT JOIN pool_group g ON l.member_of != 0 AND g.number = l.member_of
"""


async def addresses(
    db: aiosqlite.Connection,
    *,
    subnet: str | None = None,
    pool: str | None = None,
    client: bytes | None = None,
    state: str | None = None,
    after: tuple[bytes, str] = (b"", ""),
    limit: int = 1_000,
) -> list[AddressRow]:
    """Leases and declined addresses in the order of their bytes, behind the address and subnet `after`."""
    terms, values = ["(l.address, l.subnet) > (?, ?)"], list[Any](after)
    for column, wanted in (("subnet", subnet), ("pool", pool), ("client", client), ("state", state)):
        if wanted is not None:
            terms.append(f"l.{column} = ?")
            values.append(wanted)
    values.append(max(0, min(limit, MAX_ADDRESSES)))
    rows = await db.execute_fetchall(
        f"{_LEASES} WHERE {' AND '.join(terms)} ORDER BY l.address, l.subnet LIMIT ?", values
    )
    return [_lease(row) for row in rows]


async def leases_of(db: aiosqlite.Connection, address: bytes) -> list[AddressRow]:
    """The lease of one address, in each subnet that has it."""
    rows = await db.execute_fetchall(f"{_LEASES} WHERE l.address = ? ORDER BY l.subnet", (address,))
    return [_lease(row) for row in rows]


async def registered(db: aiosqlite.Connection, address: bytes) -> list[RegisteredRow]:
    """The nodes that registered one address as their own."""
    rows = await db.execute_fetchall(
        """
        SELECT s.address, s.client, n.name, s.subnet, s.link, s.prefix_length, s.origin, s.since, s.preferred_until,
            s.valid_until, s.changed_sequence, s.changed_index
        FROM address_seen s LEFT JOIN node n ON n.client = s.client
        WHERE s.address = ? ORDER BY s.client, s.interface LIMIT ?
        """,
        (address, MAX_ADDRESSES),
    )
    return [
        RegisteredRow(
            address=format_address(row[0]),
            client=row[1].hex(),
            node=row[2],
            subnet=row[3],
            interface=row[4],
            prefix_length=prefix_length(row[0], row[5]),
            origin=row[6],
            since=instant(row[7]),
            preferred_until=instant_or_none(row[8]),
            valid_until=instant_or_none(row[9]),
            changed=position(row[10], row[11]),
        )
        for row in rows
    ]


async def of_node(db: aiosqlite.Connection, client: bytes) -> list[NodeAddressRow]:
    """All addresses of one node: what it registered, from wherever it has it, and what it holds."""
    rows = await db.execute_fetchall(
        """
        SELECT s.address, s.origin, l.address IS NOT NULL, 1, coalesce(l.subnet, s.subnet), s.link, s.prefix_length,
            l.pool, coalesce(l.since, s.since), coalesce(l.valid_until, s.valid_until), l.horizon
        FROM address_seen s
        LEFT JOIN address_lease l ON l.address = s.address AND l.client = s.client AND l.state = :held
        WHERE s.client = :client
        UNION ALL
        SELECT l.address, 'leased', 1, 0, l.subnet, NULL, NULL, l.pool, l.since, l.valid_until, l.horizon
        FROM address_lease l
        WHERE l.client = :client AND l.state = :held
            AND NOT EXISTS (SELECT 1 FROM address_seen s WHERE s.client = :client AND s.address = l.address)
        ORDER BY 1, 5, 6
        """,
        {"client": client, "held": HELD},
    )
    return [
        NodeAddressRow(
            address=format_address(row[0]),
            origin=row[1],
            leased=bool(row[2]),
            registered=bool(row[3]),
            subnet=row[4],
            interface=row[5],
            prefix_length=None if row[6] is None else prefix_length(row[0], row[6]),
            pool=row[7],
            since=instant(row[8]),
            valid_until=instant_or_none(row[9]),
            horizon=instant_or_none(row[10]),
        )
        for row in rows
    ]


def _lease(row: sqlite3.Row | Sequence[Any]) -> AddressRow:
    return AddressRow(
        address=format_address(row[0]),
        subnet=row[1],
        state=row[2],
        client=row[3].hex(),
        node=row[4],
        iaid=row[5],
        pool=row[6],
        group=None if row[7] == 0 else row[8] or f"{row[7]:#06x}",
        counter=row[9],
        since=instant(row[10]),
        valid_until=instant(row[11]),
        horizon=instant(row[12]),
        opened=position(row[13], row[14]),
        changed=position(row[15], row[16]),
    )
