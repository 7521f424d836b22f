"""Questions about who had an address, and which addresses somebody had."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from dnms.events.ip import Prefix, format_address
from dnms.projections.connection import Connection
from dnms.projections.history import delegated
from dnms.projections.history.holding import DELEGATED, LEASE, REGISTERED, SEEN, SOURCES, Holding, judged
from dnms.projections.text import instant, position

__all__ = ["DELEGATED", "LEASE", "REGISTERED", "SEEN", "Holding"]

MAX_SCOPES = 1_000  # subnets, or clients, that ever had one address; a site has one address on every machine sometimes
MAX_ROWS = 10_000  # of each address by one source; the newest are answered
MAX_ADDRESSES = 1_000  # in one answer; a caller pages on
AT_ONCE = 500  # values in one statement

EVER = (-(1 << 63), (1 << 63) - 1)
"""From and to of what has no bounds, in microseconds."""

_Times = tuple[int, int]
"""From and to in microseconds, both included."""


class _Row(msgspec.Struct, frozen=True):
    """One holding as it is read."""

    address: bytes
    client: bytes
    subnet: str
    since: int
    opened: tuple[int, int]
    opened_by: str
    until: int | None
    closed: tuple[int, int] | None
    closed_by: str | None
    pool: str | None = None
    link: str | None = None
    origin: str | None = None
    how: str | None = None
    agent: str | None = None
    length: int | None = None  # of a prefix that was delegated; `address` is its first


_NEXT = """
    SELECT *, lead(since) OVER after AS ends, lead(sequence) OVER after AS end_sequence,
        lead(event_index) OVER after AS end_index, {event}
    FROM {table} WHERE {where}
    WINDOW after AS (PARTITION BY {scope} ORDER BY since, sequence, event_index{last})
"""
"""Each row with the one that ends what it says. The key has them in this order, so nothing is sorted."""

_COLUMNS = "address, client, subnet, since, sequence, event_index"
_ENDS = "ends, end_sequence, end_index, end_event"

_LEASE = f"""
    SELECT {_COLUMNS}, event, {_ENDS}, pool, NULL, NULL, NULL, NULL FROM ({{next}})
    WHERE client IS NOT NULL AND since <= ? AND (ends IS NULL OR ends > ?)
"""
_USE = f"""
    SELECT {_COLUMNS}, event, {_ENDS}, NULL, link, origin, NULL, NULL FROM ({{next}})
    WHERE used AND since <= ? AND (ends IS NULL OR ends > ?)
"""
_SEEN = f"""
    SELECT {_COLUMNS}, event, ended, iif(until IS NULL, end_sequence, NULL), end_index, end_event, NULL, NULL, NULL,
        how, nullif(agent, '')
    FROM (SELECT *, coalesce(until, ends) AS ended FROM ({{next}}))
    WHERE seen AND since <= ? AND (ended IS NULL OR ended > ? OR (ended = since AND since >= ?))
"""
_ENDED_BY_EVENT = "lead(event) OVER after AS end_event"


async def who_had(db: Connection, address: bytes, at: int | None = None) -> list[Holding]:
    """Who had the address at an instant (microseconds), or, without one, everybody who ever had it; newest first.

    Leases come before registrations, these before what was seen, and last who was delegated a prefix that it lies in.
    """
    return await db.call(lambda views: who_had_in(views, address, at))


async def holdings(
    db: Connection, first: bytes, last: bytes, times: _Times = EVER, *, after: bytes = b"", limit: int = 100
) -> tuple[list[Holding], bytes | None]:
    """Who had the addresses from `first` to `last` in a time; and behind which address the answer goes on.

    Of at most `limit` addresses that anybody ever had, in their order, behind the address `after`; of each as
    `who_had`. An answer can be empty and go on. Prefixes that were delegated, and have some of them, come first.
    """
    return await db.call(lambda views: _page(views, first, last, times, after=after, limit=limit))


async def of_clients(db: Connection, clients: Sequence[bytes], times: _Times = EVER) -> list[Holding]:
    """Which addresses these clients had in a time, in the order of the addresses; of each as `who_had`.

    How sure that is says what these clients' own sources and those of others say of the same addresses.
    """
    return await db.call(lambda views: _of_clients(views, clients, times))


def who_had_in(db: sqlite3.Connection, address: bytes, at: int | None) -> list[Holding]:
    """As `who_had`, for who has the tables on a thread of its own."""
    times = EVER if at is None else (at, at)
    if at is None:
        rows = _rows(db, "address = ?", [address], times, addresses=1)
    else:  # seeks, since an address may have been given a thousand times
        rows = [
            *_at(db, "history_lease", "subnet", address, at),
            *_at(db, "history_use", "client", address, at),
            *_seen(db, "address = ?", [address], times, addresses=1),
        ]
    return _holdings(db, [*rows, *map(_delegated, delegated.around(db, address, times, MAX_ROWS))])


def _page(
    db: sqlite3.Connection, first: bytes, last: bytes, times: _Times, *, after: bytes, limit: int
) -> tuple[list[Holding], bytes | None]:
    limit = max(1, min(limit, MAX_ADDRESSES))
    page = _addresses(db, max(first, after), last, above=first <= after, limit=limit)
    above = [] if after else map(_delegated, delegated.overlapping(db, first, last, times, MAX_ROWS))
    found = _holdings(db, above)
    if not page:
        return found, None
    rows = _rows(db, "address BETWEEN ? AND ?", [page[0], page[-1]], times, addresses=len(page))
    return found + _holdings(db, rows), page[-1] if len(page) == limit else None


def _of_clients(db: sqlite3.Connection, clients: Sequence[bytes], times: _Times) -> list[Holding]:
    marks = _marks(clients)
    pairs = db.execute(
        f"SELECT DISTINCT address FROM history_had WHERE client IN ({marks}) ORDER BY address", list(clients)
    )
    found: list[Holding] = []
    for addresses in _parts([row[0] for row in pairs]):
        where, number = f"address IN ({_marks(addresses)})", len(addresses)
        rows = _rows(db, where, addresses, times, addresses=number)
        # Some addresses are on every machine, and those of these clients are not to be lost among the others.
        where, values = f"{where} AND client IN ({marks})", [*addresses, *clients]
        rows += _used(db, where, values, times, addresses=number)
        rows += _seen(db, where, values, times, addresses=number)
        found += _holdings(db, set(rows))
    found += _holdings(db, map(_delegated, delegated.of_clients(db, clients, times, MAX_ROWS)))
    own = {client.hex() for client in clients}
    return [holding for holding in found if holding.client in own]


def _addresses(db: sqlite3.Connection, first: bytes, last: bytes, *, above: bool, limit: int) -> list[bytes]:
    """The lowest addresses of a range that anybody ever had, a seek each; `above`: without the first of the range."""
    found: set[bytes] = set()
    for table in ("history_lease", "history_use", "history_seen"):
        rows = db.execute(
            f"""
            WITH RECURSIVE had (address) AS (
                SELECT min(address) FROM {table} WHERE address {">" if above else ">="} :first AND address <= :last
                UNION ALL
                SELECT (SELECT min(address) FROM {table} WHERE address > had.address AND address <= :last)
                FROM had WHERE had.address IS NOT NULL
            )
            SELECT address FROM had WHERE address IS NOT NULL LIMIT :limit
            """,
            {"first": first, "last": last, "limit": limit},
        )
        found.update(row[0] for row in rows)
    return sorted(found)[:limit]


def _rows(db: sqlite3.Connection, where: str, values: Sequence[Any], times: _Times, *, addresses: int) -> list[_Row]:
    inner = _NEXT.format(table="history_lease", where=where, scope="address, subnet", event=_ENDED_BY_EVENT, last="")
    return [
        *_read(db, _LEASE.format(next=inner), [*values, times[1], times[0]], addresses),
        *_used(db, where, values, times, addresses=addresses),
        *_seen(db, where, values, times, addresses=addresses),
    ]


def _used(db: sqlite3.Connection, where: str, values: Sequence[Any], times: _Times, *, addresses: int) -> list[_Row]:
    scope = "address, client"
    inner = _NEXT.format(table="history_use", where=where, scope=scope, event=_ENDED_BY_EVENT, last="")
    return _read(db, _USE.format(next=inner), [*values, times[1], times[0]], addresses)


def _seen(db: sqlite3.Connection, where: str, values: Sequence[Any], times: _Times, *, addresses: int) -> list[_Row]:
    scope = "address, client, how, subnet, agent"
    inner = _NEXT.format(table="history_seen", where=where, scope=scope, event=_ENDED_BY_EVENT, last=", seen")
    return _read(db, _SEEN.format(next=inner), [*values, times[1], times[0], times[0]], addresses)


def _read(db: sqlite3.Connection, select: str, values: Sequence[Any], addresses: int) -> list[_Row]:
    rows = db.execute(f"{select} ORDER BY since DESC LIMIT {MAX_ROWS * addresses}", values)
    return [_row(row) for row in rows]


def _at(db: sqlite3.Connection, table: str, scope: str, address: bytes, at: int) -> list[_Row]:
    """Those of one instant: two seeks for each subnet, or client, that ever had the address."""
    lease = table == "history_lease"
    columns = "event, pool, NULL, NULL, client IS NOT NULL" if lease else "event, NULL, link, origin, used"
    found: list[_Row] = []
    for value in _scopes(db, table, scope, address):
        select = f"SELECT {_COLUMNS}, {columns} FROM {table} WHERE address = ? AND {scope} = ?"
        order = "since {0}, sequence {0}, event_index {0} LIMIT 1"
        own = (address, value, at)
        [*rows] = db.execute(f"{select} AND since <= ? ORDER BY {order.format('DESC')}", own)
        if not rows or not rows[0][10]:
            continue
        [*later] = db.execute(f"{select} AND since > ? ORDER BY {order.format('ASC')}", own)
        begin, end = rows[0], later[0] if later else (None,) * 7
        ended_by = end[6] if later else None
        found.append(_row((*begin[:7], *end[3:6], ended_by, *begin[7:10], None, None)))
    return found


def _scopes(db: sqlite3.Connection, table: str, scope: str, address: bytes) -> list[Any]:
    """The subnets, or the clients, that have rows of the address: a seek each."""
    rows = db.execute(
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


def _row(row: sqlite3.Row | Sequence[Any]) -> _Row:
    address, client, subnet, since, sequence, index, event, ends, end_sequence, end_index, end_event, *more = row
    if ends is not None and end_sequence is None:  # what began it says when it ended, too
        end_sequence, end_index, end_event = sequence, index, event
    closed = None if ends is None else (end_sequence, end_index)
    return _Row(address, client, subnet, since, (sequence, index), event, ends, closed, end_event, *more)


def _delegated(found: delegated.Found) -> _Row:
    *holding, pool, length = found
    return msgspec.structs.replace(_row((*holding, pool, None, None, None, None)), length=length)


def _holdings(db: sqlite3.Connection, rows: Iterable[_Row]) -> list[Holding]:
    """By address, source, and the newest first."""
    ordered = sorted(rows, key=lambda row: (row.since, row.opened), reverse=True)
    ordered.sort(key=lambda row: (row.address, _source(row), row.length or 0))
    names = _names(db, {row.client for row in ordered})
    known_as = {client.hex(): known.hex() for client, (known, _) in names.items()}
    return judged([_holding(row, names[row.client][1]) for row in ordered], known_as)


def _names(db: sqlite3.Connection, clients: set[bytes]) -> dict[bytes, tuple[bytes, str | None]]:
    """By what client the node of each is known, and its name."""
    found: dict[bytes, tuple[bytes, str | None]] = {client: (client, None) for client in clients}
    for part in _parts(sorted(clients)):
        joined = db.execute(f"SELECT client, into_client FROM node_join WHERE client IN ({_marks(part)})", part)
        known_as = {client: client for client in part} | {row[0]: row[1] for row in joined}
        into = sorted(set(known_as.values()))
        rows = db.execute(f"SELECT client, name FROM node WHERE client IN ({_marks(into)})", into)
        names = {row[0]: row[1] for row in rows}
        found |= {client: (known, names.get(known)) for client, known in known_as.items()}
    return found


def _holding(row: _Row, name: str | None) -> Holding:
    return Holding(
        address=format_address(row.address) if row.length is None else str(Prefix(row.address, row.length)),
        client=row.client.hex(),
        node=name,
        source=SOURCES[_source(row)],
        subnet=row.subnet,
        pool=row.pool,
        interface=row.link,
        origin=row.origin,
        how=row.how,
        agent=row.agent,
        since=instant(row.since),
        until=None if row.until is None else instant(row.until),
        opened=position(*row.opened),
        opened_by=row.opened_by,
        closed=None if row.closed is None else position(*row.closed),
        closed_by=row.closed_by,
    )


def _source(row: _Row) -> int:
    if row.length is not None:
        return 3
    return 2 if row.how is not None else 1 if row.link is not None else 0


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (values[first : first + AT_ONCE] for first in range(0, len(values), AT_ONCE))
