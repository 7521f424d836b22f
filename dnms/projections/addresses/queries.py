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
    """A lease, an address that rests because a client declined it or was seen with it, or one that is reserved.

    `valid_until` is what the client was last known to be told, `horizon` until when the log promises the address to it;
    a renewal that ends before the horizon is answered without an event. Of one that rests both are the end of its
    quarantine, and of one that is reserved and not leased there are none.
    """

    address: str
    subnet: str
    state: str  # held, declined, blocked, reserved
    client: str  # hex; who holds it, who declined it, who was seen with it, or for whom it is reserved
    node: str | None  # the client's name
    iaid: int
    pool: str
    group: str | None  # its name, or its number where the plan no longer has it
    counter: int  # which candidate of the pool's strategy it is
    since: datetime
    valid_until: datetime | None
    horizon: datetime | None
    opened: str  # position of the event that gave it
    changed: str  # position of the last event about it
    reserved: bool  # it is kept for a client, whatever its state


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
    """One address of one node: leased to it, registered by it, or both; or seen with it on its link."""

    address: str
    origin: str  # as registered; else `leased`, `reserved` or `seen`
    leased: bool
    registered: bool
    subnet: str
    interface: str | None
    prefix_length: int | None
    pool: str | None
    since: datetime
    valid_until: datetime | None  # None: for ever
    horizon: datetime | None  # of the lease
    seen: bool = False  # on the link, and neither leased nor registered


_POOL = """(SELECT min(name) FROM pool
    WHERE subnet = h.subnet AND NOT withdrawn AND h.address BETWEEN first AND last)"""
"""In which a reserved address lies; of several, as a log can have them, one."""

_ROWS = """
    SELECT l.address, l.subnet, l.state, l.client, n.name AS node, l.iaid, l.pool, l.member_of, g.name AS member_name,
        l.counter, l.since, l.valid_until, l.horizon, l.opened_sequence, l.opened_index,
        l.changed_sequence, l.changed_index, l.reserved
    FROM (
        SELECT l.*, h.address IS NOT NULL AS reserved
        FROM address_lease l LEFT JOIN address_hold h ON h.address = l.address AND h.subnet = l.subnet
        WHERE {leases}
        UNION ALL
        SELECT h.address, h.subnet, 'reserved', h.client, h.iaid, coalesce({pool}, ''), 0, 0, h.since, NULL, NULL,
            h.sequence, h.event_index, h.sequence, h.event_index, 1
        FROM address_hold h
        WHERE NOT EXISTS (SELECT 1 FROM address_lease l WHERE l.address = h.address AND l.subnet = h.subnet)
            AND {holds}
        ORDER BY 1 {direction}, 2 {direction} LIMIT ?
    ) l
    LEFT JOIN node_join j ON j.client = l.client
    LEFT JOIN node n ON n.client = coalesce(j.into_client, l.client)
    LEFT JOIN pool_group g ON l.member_of != 0 AND g.number = l.member_of
    ORDER BY l.address {direction}, l.subnet {direction}
"""
"""Leases, and reservations where no lease is: each part by the terms that are put in, in their order by a key."""


async def addresses(
    db: aiosqlite.Connection,
    *,
    subnet: str | None = None,
    pool: str | None = None,
    client: bytes | None = None,
    state: str | None = None,
    after: tuple[bytes, str] = (b"", ""),
    descending: bool = False,
    limit: int = 1_000,
) -> list[AddressRow]:
    """Leases, declined and reserved addresses in the order of their bytes, behind the address and subnet `after`.

    Those of a client are also those of what was joined into it.
    """
    behind = "<" if descending and after[0] else ">"  # the beginning is before all, in either direction
    leases, holds = [f"(l.address, l.subnet) {behind} (?, ?)"], [f"(h.address, h.subnet) {behind} (?, ?)"]
    values = list[Any](after)
    for lease, hold, wanted in (
        ("l.subnet", "h.subnet", subnet),
        ("l.pool", _POOL, pool),
        ("l.state", "'reserved'", state),
    ):
        if wanted is not None:
            leases.append(f"{lease} = ?")
            holds.append(f"{hold} = ?")
            values.append(wanted)
    if client is not None:
        own = "IN (SELECT ? UNION ALL SELECT client FROM node_join WHERE into_client = ?)"
        leases.append(f"l.client {own}")
        holds.append(f"h.client {own}")
        values += (client, client)
    return await _selected(db, leases, holds, values, limit, descending=descending)


async def leases_of(db: aiosqlite.Connection, address: bytes) -> list[AddressRow]:
    """The lease or the reservation of one address, in each subnet that has it."""
    return await _selected(db, ["l.address = ?"], ["h.address = ?"], [address], MAX_ADDRESSES)


async def _selected(
    db: aiosqlite.Connection,
    leases: list[str],
    holds: list[str],
    values: list[Any],
    limit: int,
    *,
    descending: bool = False,
) -> list[AddressRow]:
    """`values` are those of either part."""
    direction = "DESC" if descending else "ASC"
    select = _ROWS.format(leases=" AND ".join(leases), holds=" AND ".join(holds), direction=direction, pool=_POOL)
    rows = await db.execute_fetchall(select, (*values, *values, max(0, min(limit, MAX_ADDRESSES))))
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
    """All addresses of one node: what it registered, from wherever it has it, what it holds, what is kept for it, and
    with what it is seen.

    Leases and reservations are those of what was joined into it too.
    """
    rows = await db.execute_fetchall(
        f"""
        WITH own (client) AS (SELECT :client UNION ALL SELECT client FROM node_join WHERE into_client = :client)
        SELECT s.address, s.origin, l.address IS NOT NULL, 1, coalesce(l.subnet, s.subnet), s.link, s.prefix_length,
            l.pool, coalesce(l.since, s.since), coalesce(l.valid_until, s.valid_until), l.horizon, 0
        FROM address_seen s
        LEFT JOIN address_lease l ON l.address = s.address AND l.client IN (SELECT client FROM own) AND l.state = :held
        WHERE s.client = :client
        UNION ALL
        SELECT l.address, 'leased', 1, 0, l.subnet, NULL, NULL, l.pool, l.since, l.valid_until, l.horizon, 0
        FROM address_lease l
        WHERE l.client IN (SELECT client FROM own) AND l.state = :held
            AND NOT EXISTS (SELECT 1 FROM address_seen s WHERE s.client = :client AND s.address = l.address)
        UNION ALL
        SELECT h.address, 'reserved', 0, 0, h.subnet, NULL, NULL, {_POOL}, h.since, NULL, NULL, 0
        FROM address_hold h
        WHERE h.client IN (SELECT client FROM own)
            AND NOT EXISTS (
                SELECT 1 FROM address_lease l WHERE l.address = h.address AND l.subnet = h.subnet AND l.state = :held
            )
            AND NOT EXISTS (SELECT 1 FROM address_seen s WHERE s.client = :client AND s.address = h.address)
        UNION ALL
        SELECT g.address, 'seen', 0, 0, g.subnet, NULL, NULL, NULL, g.since, NULL, NULL, 1
        FROM link_sighted g
        WHERE g.client IN (SELECT client FROM own)
            AND NOT EXISTS (
                SELECT 1 FROM address_lease l WHERE l.address = g.address AND l.subnet = g.subnet AND l.state = :held
            )
            AND NOT EXISTS (SELECT 1 FROM address_seen s WHERE s.client = :client AND s.address = g.address)
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
            seen=bool(row[11]),
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
        valid_until=instant_or_none(row[11]),
        horizon=instant_or_none(row[12]),
        opened=position(row[13], row[14]),
        changed=position(row[15], row[16]),
        reserved=bool(row[17]),
    )
