"""Ask the views all that the naive fold knows, by the queries that users ask, and say where they differ."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TypeVar

import aiosqlite

from dnms.bus.port import Log
from dnms.events.ip import parse_address, parse_prefix
from dnms.projections import naive
from dnms.projections.activity import queries as activity
from dnms.projections.activity.fold import HOUR
from dnms.projections.addresses import queries as addresses
from dnms.projections.connection import Connection
from dnms.projections.history import queries as history
from dnms.projections.naive import Interval, Naive
from dnms.projections.nodes import queries as nodes
from dnms.projections.pools import queries as pools
from dnms.projections.prefixes import queries as prefixes
from dnms.projections.text import microseconds
from dnms.projections.views import Reading, Views

MAX_LISTED = 20  # differences of one kind; the first tell what is wrong

K = TypeVar("K")
V = TypeVar("V")


async def differences(log: Log, views: Views) -> list[str]:
    """Fold the log naively up to the position of the views and compare; empty if they agree. LogError, ViewsError."""
    async with views.read() as reading:
        position = reading.position
        found = await naive.fold_log(log, position.site, until=position.sequence)
        return await compare(found, reading)


async def compare(expected: Naive, reading: Reading) -> list[str]:
    """Where the views differ from a naive fold up to the same position; empty if they agree."""
    db, position = reading.db, reading.position
    if position.sequence != expected.sequence:
        return [f"the views are at {position.sequence} and the log was folded to {expected.sequence}"]
    found = [f"{duplicate}: given to two clients" for duplicate in expected.duplicates]
    found += _unlike("commits and events", [(position.commits, position.events)], [(expected.commits, expected.events)])
    leases = await _leases(db)
    held = {(row.address, row.subnet): row.client for row in leases if row.state == "held"}
    declined = {(row.address, row.subnet): row.client for row in leases if row.state == "declined"}
    found += _unlike("holder", held.items(), expected.holders.items())
    blocked = {(row.address, row.subnet): row.client for row in leases if row.state == "blocked"}
    found += _unlike("declined", declined.items(), expected.declined.items())
    found += _unlike("blocked", blocked.items(), expected.blocked.items())
    found += _unlike("reserved", {(row.address, row.subnet) for row in leases if row.reserved}, expected.reserved)
    kept = {(row.address, row.subnet): row.client for row in leases if row.state == "reserved"}
    taken = {*expected.holders, *expected.declined, *expected.blocked}
    found += _unlike(
        "reserved and free", kept.items(), [entry for entry in expected.reserved.items() if entry[0] not in taken]
    )
    rows = await _nodes(db)
    names = {row.client: row.name for row in rows if row.name is not None}
    found += _unlike("name", names.items(), expected.names.items())
    found += _unlike("subnet", {row.client: row.subnet for row in rows if row.subnet}.items(), expected.places.items())
    joins = {(identity, row.client) for row in rows for identity in row.identities}
    found += _unlike("joined", joins, expected.joins.items())
    for row in rows:
        mine = [one.address for one in await addresses.of_node(db, bytes.fromhex(row.client)) if one.registered]
        found += _unlike(f"address of {row.client}", set(mine), expected.registered.get(row.client, set()))
    listed = {(row.subnet, row.pool): row.held for row in await pools.pools(db, at=0)}
    found += _unlike("held of pool", listed.items(), expected.held_of_pool.items())
    counted = await activity.activity(db, by=("kind", "subnet"))
    hours = {(microseconds(row.time) // HOUR, row.subnet, row.kind): row.events for row in counted}
    found += _unlike("activity", hours.items(), expected.activity.items())
    found += await _unlike_prefixes(db, expected)
    return found + await _unlike_history(db, expected.intervals)


async def _leases(db: aiosqlite.Connection) -> list[addresses.AddressRow]:
    rows: list[addresses.AddressRow] = []
    after = (b"", "")
    while page := await addresses.addresses(db, after=after, limit=addresses.MAX_ADDRESSES):
        rows += page
        after = (parse_address(page[-1].address), page[-1].subnet)
    return rows


async def _nodes(db: aiosqlite.Connection) -> list[nodes.NodeRow]:
    rows: list[nodes.NodeRow] = []
    after = b""
    while page := await nodes.nodes(db, after=after, limit=nodes.MAX_NODES, joined=True):
        rows += page
        after = bytes.fromhex(page[-1].client)
    return rows


async def _unlike_prefixes(db: Connection, expected: Naive) -> list[str]:
    """Compares what is delegated, what comes from above, and to whom each prefix was ever delegated."""
    rows: list[prefixes.DelegationRow] = []
    while page := await prefixes.delegations(db, after=prefixes.key_of(rows[-1]) if rows else None):
        rows += page
    delegated = {(row.prefix, row.subnet): (row.client, row.state) for row in rows}
    found = _unlike("delegated", delegated.items(), expected.delegated.items())
    uplinks = {(row.prefix, row.subnet): row.state for row in await prefixes.uplinks(db, lost=True)}
    found += _unlike("uplink", uplinks.items(), expected.uplinks.items())
    links = {(row.prefix, row.subnet) for row in await prefixes.links(db)}
    found += _unlike("link", links, {(prefix, subnet) for subnet, own in expected.links.items() for prefix in own})
    for text in {interval[0] for interval in expected.prefix_intervals}:
        prefix = parse_prefix(text)
        known = [interval for interval in expected.prefix_intervals if interval[0] == text]
        held = await history.who_had(db, prefix.network)
        found += _unlike("history", [_interval(one) for one in held if one.address == text], known)
        for at in {interval[3] for interval in known}:
            held = await history.who_had(db, prefix.last.to_bytes(16), at)
            then = [one for one in known if one[3] <= at and (one[4] is None or at < one[4])]
            found += _unlike(f"at {at}", [_interval(one) for one in held if one.address == text], then)
    return found


async def _unlike_history(db: Connection, intervals: list[Interval]) -> list[str]:
    """Compares whole histories, and asks who had each address when an interval began."""
    found: list[str] = []
    by_address: dict[str, list[Interval]] = {}
    for interval in intervals:
        by_address.setdefault(interval[0], []).append(interval)
    for address, expected in by_address.items():
        packed = parse_address(address)
        found += _unlike("history", map(_interval, _own(await history.who_had(db, packed))), expected)
        for at in {interval[3] for interval in expected}:
            then = [one for one in expected if one[3] <= at and (one[4] is None or at < one[4] or _moment(one, at))]
            found += _unlike(f"at {at}", map(_interval, _own(await history.who_had(db, packed, at))), then)
    return found


def _own(holdings: list[history.Holding]) -> list[history.Holding]:
    """Those of the address itself, and not of a prefix that it lies in."""
    return [holding for holding in holdings if holding.source != history.DELEGATED]


def _moment(interval: Interval, at: int) -> bool:
    """Whether it is what was seen at this very moment, and not known to have lasted."""
    return interval[2] == history.SEEN and interval[3] == interval[4] == at


def _interval(holding: history.Holding) -> Interval:
    return (
        holding.address,
        holding.client,
        holding.source,
        microseconds(holding.since),
        _or_none(holding.until),
        holding.subnet,
    )


def _or_none(moment: datetime | None) -> int | None:
    return None if moment is None else microseconds(moment)


def _unlike(what: str, found: Iterable[K], expected: Iterable[K]) -> list[str]:
    """The entries that only one of both has; each may stand there several times."""
    missing, beyond = list(expected), []
    known: dict[K, int] = {}
    for entry in missing:
        known[entry] = known.get(entry, 0) + 1
    for entry in found:
        if known.get(entry, 0):
            known[entry] -= 1
        else:
            beyond.append(entry)
    lost = [entry for entry, times in known.items() for _ in range(times)]
    return [f"{what}: {entry} is in the views and not in the log" for entry in beyond[:MAX_LISTED]] + [
        f"{what}: {entry} is in the log and not in the views" for entry in lost[:MAX_LISTED]
    ]
