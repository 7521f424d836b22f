"""Leases and reservations from the ledgers, and addresses from registrations.

Works on a batch in memory, then writes what changed.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from dnms.events.address import (
    AddressAllocated,
    AddressBlocked,
    AddressDeclined,
    AddressDeprecated,
    AddressExpired,
    AddressHeld,
    AddressReleased,
    AddressRenewed,
    AddressUnheld,
    AddressWithdrawn,
    OutageGranted,
)
from dnms.events.commit import Stored
from dnms.events.configuration import Snapshot
from dnms.events.seen import ConfigurationRegistered
from dnms.kit.clock import MICROSECONDS
from dnms.projections.projection import place, storable

HELD, DECLINED, BLOCKED = "held", "declined", "blocked"
RESERVED = "reserved"  # of an address that is kept for a client, and nobody has or is kept from


class _Lease(NamedTuple):
    """A row of `address_lease` behind its key."""

    state: str
    client: bytes
    iaid: int
    pool: str
    member_of: int
    counter: int
    since: int
    valid_until: int
    horizon: int
    opened_sequence: int
    opened_index: int
    changed_sequence: int
    changed_index: int


class _Seen(NamedTuple):
    """A row of `address_seen` behind its key."""

    subnet: str
    link: str
    prefix_length: int
    origin: str
    flags: int
    preferred_until: int | None
    valid_until: int | None
    since: int
    changed_sequence: int
    changed_index: int


_LeaseKey = tuple[bytes, str]
_SeenKey = tuple[int, bytes]


class _Leases:
    """The leases that a batch touches, and the counts that go with them."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self._rows: dict[_LeaseKey, _Lease | None] = {}
        self._held: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._declined: defaultdict[tuple[str, str], int] = defaultdict(int)

    def get(self, key: _LeaseKey) -> _Lease | None:
        if key not in self._rows:
            self._cursor.execute(
                f"SELECT {', '.join(_Lease._fields)} FROM address_lease WHERE address = ? AND subnet = ?", key
            )
            row = self._cursor.fetchone()
            self._rows[key] = None if row is None else _Lease(*row)
        return self._rows[key]

    def set(self, key: _LeaseKey, lease: _Lease | None) -> None:
        for row, difference in ((self.get(key), -1), (lease, 1)):
            if row is not None:
                counts = self._held if row.state == HELD else self._declined
                counts[key[1], row.pool] += difference
        self._rows[key] = lease

    def write(self) -> None:
        cursor = self._cursor
        cursor.executemany(
            "DELETE FROM address_lease WHERE address = ? AND subnet = ?",
            [key for key, lease in self._rows.items() if lease is None],
        )
        cursor.executemany(
            f"INSERT OR REPLACE INTO address_lease VALUES (?, ?{', ?' * len(_Lease._fields)})",
            [(*key, *lease) for key, lease in self._rows.items() if lease is not None],
        )
        cursor.executemany(
            "INSERT INTO address_count VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET held = held + excluded.held, declined = declined + excluded.declined",
            [(*pool, self._held[pool], self._declined[pool]) for pool in {**self._held, **self._declined}],
        )


class _Registered:
    """The registered addresses of the clients that a batch touches."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self._before: dict[bytes, dict[_SeenKey, _Seen]] = {}
        self._now: dict[bytes, dict[_SeenKey, _Seen]] = {}

    def register(self, client: bytes, snapshot: Snapshot, *, subnet: str, at: int, sequence: int, index: int) -> None:
        if client not in self._now:
            self._cursor.execute(
                f"SELECT interface, address, {', '.join(_Seen._fields)} FROM address_seen WHERE client = ?", (client,)
            )
            self._before[client] = {(row[0], row[1]): _Seen(*row[2:]) for row in self._cursor}
            self._now[client] = self._before[client]
        links = {link.index: link.name for link in snapshot.links}
        before = self._now[client]
        self._now[client] = now = {}
        for one in snapshot.addresses:
            key = (storable(one.interface), one.address)
            known = before.get(key)
            now[key] = _Seen(
                subnet=subnet,
                link=links.get(one.interface, ""),
                prefix_length=storable(one.prefix_length),
                origin=one.origin,
                flags=storable(one.flags),
                preferred_until=None if one.preferred is None else storable(at + one.preferred * MICROSECONDS),
                valid_until=None if one.valid is None else storable(at + one.valid * MICROSECONDS),
                since=at if known is None else known.since,
                changed_sequence=sequence,
                changed_index=index,
            )

    def write(self) -> None:
        self._cursor.executemany(
            "DELETE FROM address_seen WHERE client = ? AND interface = ? AND address = ?",
            [(client, *key) for client, rows in self._before.items() for key in rows.keys() - self._now[client].keys()],
        )
        self._cursor.executemany(
            f"INSERT OR REPLACE INTO address_seen VALUES (?, ?, ?{', ?' * len(_Seen._fields)})",
            [(client, *key, *row) for client, rows in self._now.items() for key, row in rows.items()],
        )


def fold(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
    """Take in leases, reservations and registrations."""
    leases, registered = _Leases(cursor), _Registered(cursor)
    holds: dict[_LeaseKey, tuple[bytes, int, int, int, int] | None] = {}
    for stored in batch:
        where, at, sequence = place(stored.subject), stored.commit.time, stored.sequence
        for index, event in enumerate(stored.commit.events):
            if isinstance(event, ConfigurationRegistered):
                registered.register(
                    event.client, event.snapshot, subnet=where.subnet, at=at, sequence=sequence, index=index
                )
            elif isinstance(event, AddressHeld):
                holds[event.address, where.subnet] = (event.client, event.iaid, at, sequence, index)
            elif isinstance(event, AddressUnheld):
                holds[event.address, where.subnet] = None
            elif isinstance(event, _OF_A_LEASE):
                key = (event.address, where.subnet)
                before = leases.get(key)
                after = _after(before, event, at=at, place=(sequence, index))
                if after != before:
                    leases.set(key, after)
    leases.write()
    registered.write()
    cursor.executemany(
        "DELETE FROM address_hold WHERE address = ? AND subnet = ?",
        [key for key, hold in holds.items() if hold is None],
    )
    cursor.executemany(
        "INSERT OR REPLACE INTO address_hold VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(*key, *hold) for key, hold in holds.items() if hold is not None],
    )


_Gives = AddressAllocated | OutageGranted
_Rests = AddressDeclined | AddressBlocked
_Lasts = AddressRenewed | AddressDeprecated
_Ends = AddressReleased | AddressExpired | AddressWithdrawn
_OF_A_LEASE = _Gives | _Rests | _Lasts | _Ends


def _after(  # noqa: PLR0911  # one return a case
    before: _Lease | None, event: _Gives | _Rests | _Lasts | _Ends, *, at: int, place: tuple[int, int]
) -> _Lease | None:
    """The row of an address after an event about it."""
    match event:
        case AddressAllocated():
            return _given(event, at=at, place=place)
        case OutageGranted():
            if event.contested:
                return before
            if before is not None and before.state == HELD:
                return before._replace(horizon=max(before.horizon, event.horizon))
            return _given(event, at=at, place=place)
        case AddressRenewed() if before is not None:
            return before._replace(
                valid_until=event.valid_until,
                horizon=event.horizon,
                changed_sequence=place[0],
                changed_index=place[1],
            )
        case AddressDeprecated() if before is not None:
            return before._replace(valid_until=event.valid_until, changed_sequence=place[0], changed_index=place[1])
        case AddressDeclined():
            return _resting(before, event, DECLINED, event.iaid, until=event.quarantined_until, at=at, place=place)
        case AddressBlocked():
            return _resting(before, event, BLOCKED, 0, until=event.blocked_until, at=at, place=place)
    return None


def _given(event: _Gives, *, at: int, place: tuple[int, int]) -> _Lease:
    return _Lease(
        state=HELD,
        client=event.client,
        iaid=event.iaid,
        pool=event.pool,
        member_of=event.group,
        counter=event.counter,
        since=at,
        valid_until=event.valid_until,
        horizon=event.horizon,
        opened_sequence=place[0],
        opened_index=place[1],
        changed_sequence=place[0],
        changed_index=place[1],
    )


def _resting(
    before: _Lease | None, event: _Rests, state: str, iaid: int, *, until: int, at: int, place: tuple[int, int]
) -> _Lease:
    return _Lease(
        state=state,
        client=event.client,
        iaid=iaid,
        pool="" if before is None else before.pool,
        member_of=0 if before is None else before.member_of,
        counter=0 if before is None else before.counter,
        since=at,
        valid_until=until,
        horizon=until,
        opened_sequence=place[0],
        opened_index=place[1],
        changed_sequence=place[0],
        changed_index=place[1],
    )
