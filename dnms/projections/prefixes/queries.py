"""Questions about prefixes: who holds what of whom, until when, and by which event."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import aiosqlite
import msgspec

from dnms.events.ip import Prefix, format_address, parse_prefix, prefix_of
from dnms.projections.prefixes.fold import DELEGATED, DEPRECATED, LOST
from dnms.projections.text import instant, instant_or_none, position

MAX_PREFIXES = 10_000  # in one answer; a caller pages on with `after`

STANDING = (DELEGATED, DEPRECATED)
"""States of delegations that are not over."""

Key = tuple[bytes, int, str]
"""Network, length and subnet, by which prefixes are ordered."""


class DelegationRow(msgspec.Struct, frozen=True, kw_only=True):
    """A prefix and to whom it was last delegated.

    `valid_until` is what the client was last known to be told, `horizon` until when the log promises the prefix to it;
    a renewal that ends before the horizon is answered without an event.
    """

    prefix: str
    subnet: str  # whose ledger delegated it
    state: str  # delegated, deprecated, released, expired, withdrawn
    client: str  # hex
    node: str | None  # the client's name
    iaid: int
    pool: str  # the delegation of the plan
    group: str | None  # its name, or its number where the plan no longer has it
    next_hop: str
    interface: str  # of the agent that answered, towards the link
    exclude: str | None  # of it, what the delegating link has itself (RFC 6603)
    above: str | None  # what it is cut from, where that came from above
    since: datetime
    until: datetime | None  # when it was over; None: it is not
    valid_until: datetime
    horizon: datetime
    opened: str  # position of the event that gave it
    changed: str  # position of the last event about it
    closed: str | None  # position of the event that ended it


class UplinkRow(msgspec.Struct, frozen=True, kw_only=True):
    """A prefix that the router of a subnet has from above."""

    prefix: str
    subnet: str
    uplink: str
    state: str  # received, deprecated, lost
    source: str  # who delegated it
    source_log: str | None  # the id of the log that has the delegation
    source_position: int | None  # sequence of the commit there
    exclude: str | None
    since: datetime
    until: datetime | None  # when it was lost
    preferred_until: datetime
    valid_until: datetime
    why: str | None  # it was lost
    opened: str
    changed: str
    closed: str | None


class LinkRow(msgspec.Struct, frozen=True, kw_only=True):
    """A prefix that is a subnet's own, by the plan that its ledger has adopted."""

    prefix: str
    subnet: str
    plan: int  # sequence of the newest commit on `plan` in it
    position: str  # of the event by which the ledger adopted it


_DELEGATIONS = """
    SELECT d.network, d.length, d.subnet, d.state, d.client, n.name, d.iaid, d.pool, d.member_of, g.name, d.next_hop,
        d.link, d.excluded, d.since, d.until, d.valid_until, d.horizon, d.opened_sequence, d.opened_index,
        d.changed_sequence, d.changed_index
    FROM prefix_delegation d
    LEFT JOIN node_join j ON j.client = d.client
    LEFT JOIN node n ON n.client = coalesce(j.into_client, d.client)
    LEFT JOIN pool_group g ON d.member_of != 0 AND g.number = d.member_of
    WHERE {where} ORDER BY d.network {direction}, d.length {direction}, d.subnet {direction} LIMIT ?
"""
_UPLINKS = """
    SELECT network, length, subnet, uplink, state, source, source_log, source_sequence, excluded, since, until,
        preferred_until, valid_until, why, opened_sequence, opened_index, changed_sequence, changed_index
    FROM prefix_uplink WHERE {where} ORDER BY network, length, subnet
"""


async def delegations(
    db: aiosqlite.Connection,
    *,
    subnet: str | None = None,
    pool: str | None = None,
    client: bytes | None = None,
    state: str | None = None,
    within: Prefix | None = None,
    after: Key | None = None,
    descending: bool = False,
    limit: int = 1_000,
) -> list[DelegationRow]:
    """Delegations in the order of their prefixes, behind `after`: those that are not over, or those in one state.

    Those of a client are also those of what was joined into it. `within`: those that have some address of a prefix.
    """
    terms, values = list[str](), list[Any]()
    if after is not None:
        terms.append(f"(d.network, d.length, d.subnet) {'<' if descending else '>'} (?, ?, ?)")
        values += after
    for column, wanted in (("subnet", subnet), ("pool", pool), ("state", state)):
        if wanted is not None:
            terms.append(f"d.{column} = ?")
            values.append(wanted)
    if state is None:
        terms.append("d.state IN (?, ?)")
        values += STANDING
    if client is not None:
        terms.append("d.client IN (SELECT ? UNION ALL SELECT client FROM node_join WHERE into_client = ?)")
        values += (client, client)
    if within is not None:
        term, of_range = overlapping(within, "d.")
        terms.append(term)
        values += of_range
    return await _delegations(db, terms, values, limit, descending=descending)


async def of_prefix(db: aiosqlite.Connection, prefix: Prefix) -> list[DelegationRow]:
    """The last delegation of exactly this prefix in each subnet, whatever became of it."""
    return await _delegations(db, ["d.network = ?", "d.length = ?"], [prefix.network, prefix.length], MAX_PREFIXES)


async def opened_at(db: aiosqlite.Connection, sequence: int) -> list[DelegationRow]:
    """The delegations that the commit at a sequence made, or changed last."""
    return await _delegations(
        db, ["(d.opened_sequence = ? OR d.changed_sequence = ?)"], [sequence, sequence], MAX_PREFIXES
    )


async def uplinks(
    db: aiosqlite.Connection, *, subnet: str | None = None, within: Prefix | None = None, lost: bool = False
) -> list[UplinkRow]:
    """Prefixes from above in their order; `lost`: also those that are lost."""
    terms, values = ["true"], list[Any]()
    if subnet is not None:
        terms.append("subnet = ?")
        values.append(subnet)
    if within is not None:
        term, of_range = overlapping(within)
        terms.append(term)
        values += of_range
    if not lost:
        terms.append("state != ?")
        values.append(LOST)
    return [_uplink(row) for row in await db.execute_fetchall(_UPLINKS.format(where=" AND ".join(terms)), values)]


async def links(db: aiosqlite.Connection, *, subnet: str | None = None, within: Prefix | None = None) -> list[LinkRow]:
    """The own prefixes of subnets, in their order."""
    terms, values = ["true"], list[Any]()
    if subnet is not None:
        terms.append("subnet = ?")
        values.append(subnet)
    if within is not None:
        term, of_range = overlapping(within)
        terms.append(term)
        values += of_range
    rows = await db.execute_fetchall(
        "SELECT network, length, subnet, plan, sequence, event_index FROM prefix_link"
        f" WHERE {' AND '.join(terms)} ORDER BY network, length, subnet",
        values,
    )
    return [
        LinkRow(prefix=str(Prefix(row[0], row[1])), subnet=row[2], plan=row[3], position=position(row[4], row[5]))
        for row in rows
    ]


def key_of(row: DelegationRow) -> Key:
    """By what a delegation is ordered."""
    prefix = parse_prefix(row.prefix)
    return prefix.network, prefix.length, row.subnet


def overlapping(prefix: Prefix, table: str = "") -> tuple[str, list[Any]]:
    """The term, and what it binds, of what lies in a prefix or has it in it."""
    around = [prefix_of(prefix.network, length) for length in range(prefix.length)]
    networks = [each.network for each in around]
    pairs = [value for each in around for value in (each.network, each.length)]
    inside = f"({table}network BETWEEN ? AND ? AND {table}length >= ?)"
    bounds: list[Any] = [prefix.network, prefix.last.to_bytes(16), prefix.length]
    if not around:
        return inside, bounds
    # By the network alone it is sought: SQLite seeks by no pair of values.
    outside = (
        f"({table}network IN ({', '.join('?' * len(networks))})"
        f" AND ({table}network, {table}length) IN (VALUES {', '.join(['(?, ?)'] * len(around))}))"
    )
    return f"({inside} OR {outside})", [*bounds, *networks, *pairs]


async def _delegations(
    db: aiosqlite.Connection, terms: Sequence[str], values: Sequence[Any], limit: int, *, descending: bool = False
) -> list[DelegationRow]:
    select = _DELEGATIONS.format(where=" AND ".join(terms), direction="DESC" if descending else "ASC")
    rows = await db.execute_fetchall(select, (*values, max(0, min(limit, MAX_PREFIXES))))
    above = await db.execute_fetchall("SELECT network, length, subnet FROM prefix_uplink")
    received: dict[str, list[Prefix]] = {}
    for network, length, subnet in above:
        received.setdefault(subnet, []).append(Prefix(network, length))
    return [_delegation(row, received.get(row[2], [])) for row in rows]


def _delegation(row: Any, received: Sequence[Prefix]) -> DelegationRow:
    prefix = Prefix(row[0], row[1])
    above = max((each for each in received if each.covers(prefix)), key=lambda each: each.length, default=None)
    return DelegationRow(
        prefix=str(prefix),
        subnet=row[2],
        state=row[3],
        client=row[4].hex(),
        node=row[5],
        iaid=row[6],
        pool=row[7],
        group=None if row[8] == 0 else row[9] or f"{row[8]:#06x}",
        next_hop=format_address(row[10]),
        interface=row[11],
        exclude=row[12] or None,
        above=None if above is None else str(above),
        since=instant(row[13]),
        until=instant_or_none(row[14]),
        valid_until=instant(row[15]),
        horizon=instant(row[16]),
        opened=position(row[17], row[18]),
        changed=position(row[19], row[20]),
        closed=None if row[14] is None else position(row[19], row[20]),
    )


def _uplink(row: Any) -> UplinkRow:
    changed = position(row[16], row[17])
    return UplinkRow(
        prefix=str(Prefix(row[0], row[1])),
        subnet=row[2],
        uplink=row[3],
        state=row[4],
        source=row[5],
        source_log=row[6] or None,
        source_position=row[7] or None,
        exclude=row[8] or None,
        since=instant(row[9]),
        until=instant_or_none(row[10]),
        preferred_until=instant(row[11]),
        valid_until=instant(row[12]),
        why=row[13] or None,
        opened=position(row[14], row[15]),
        changed=changed,
        closed=None if row[10] is None else changed,
    )
