"""Leases and reservations from the ledgers, and addresses from registrations.

Works on a batch in memory, then writes what changed.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

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
from dnms.kit.clock import MICROSECONDS
from dnms.projections.addresses.schema import HOLD, LEASE, SEEN
from dnms.projections.configurations.fold import TELL, Configurations
from dnms.projections.projection import clients_of, place, storable
from dnms.projections.versions import Rows

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


class _Hold(NamedTuple):
    """A row of `address_hold` behind its key."""

    client: bytes
    iaid: int
    since: int
    sequence: int
    event_index: int


class _Leases(Rows[_Lease]):
    """The leases that a batch touches, and the counts that go with them."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        super().__init__(cursor, LEASE, _Lease)
        self._held: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._declined: defaultdict[tuple[str, str], int] = defaultdict(int)

    def take(self, event: _OfALease, subnet: str, *, at: int, sequence: int, index: int) -> None:
        """Take in an event about one."""
        before = self.get(event.address, subnet)
        row = _after(before, event, at=at, place=(sequence, index))
        for each, difference in ((before, -1), (row, 1)):
            if each is not None:
                counts = self._held if each.state == HELD else self._declined
                counts[subnet, each.pool] += difference
        self.set(row, event.address, subnet, sequence=sequence)

    def write(self) -> None:
        super().write()
        self._cursor.executemany(
            "INSERT INTO address_count VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET held = held + excluded.held, declined = declined + excluded.declined",
            [(*pool, self._held[pool], self._declined[pool]) for pool in {**self._held, **self._declined}],
        )


def _register(
    seen: Rows[_Seen], client: bytes, snapshot: Snapshot, *, subnet: str, at: int, sequence: int, index: int
) -> None:
    """The addresses of a client are those of its newest registration."""
    links = {link.index: link.name for link in snapshot.links}
    before = seen.under(client)
    now: set[tuple[Any, ...]] = set()
    for one in snapshot.addresses:
        key = (client, storable(one.interface), one.address)
        known = before.get(key)
        now.add(key)
        preferred = None if one.preferred is None else at + one.preferred * MICROSECONDS
        valid = None if one.valid is None else at + one.valid * MICROSECONDS
        told: tuple[int | str | None, ...]
        told = (subnet, links.get(one.interface, ""), one.prefix_length, one.origin, one.flags, preferred, valid)
        if known is not None and known[: len(told)] == told:
            continue
        told = tuple(storable(value) if type(value) is int else value for value in told)
        if known is None or known[: len(told)] != told:
            row = tuple.__new__(_Seen, (*told, at if known is None else known.since, sequence, index))
            seen.set(row, *key, sequence=sequence)
    for key in before.keys() - now:
        seen.set(None, *key, sequence=sequence)


def fold(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
    """Take in leases, reservations and registrations."""
    leases, seen, holds = _Leases(cursor), Rows(cursor, SEEN, _Seen), Rows(cursor, HOLD, _Hold)
    configurations = Configurations(cursor)
    seen.learn(set().union(*clients_of(batch, TELL).values()))
    leases.learn(
        {
            event.address  # type: ignore[attr-defined]  # of all of them
            for stored in batch
            for event in stored.commit.events
            if type(event) in _OF_A_LEASE
        }
    )
    for stored in batch:
        where, at, sequence = place(stored.subject), stored.commit.time, stored.sequence
        for index, event in enumerate(stored.commit.events):
            kind = type(event)
            if kind in TELL:
                if (snapshot := configurations.take(event)) is not None:
                    client: bytes = event.client  # type: ignore[attr-defined]  # of all in TELL
                    _register(seen, client, snapshot, subnet=where.subnet, at=at, sequence=sequence, index=index)
            elif kind in _OF_A_LEASE:
                of_lease: Any = event
                leases.take(of_lease, where.subnet, at=at, sequence=sequence, index=index)
            elif isinstance(event, AddressHeld):
                hold = _Hold(event.client, event.iaid, at, sequence, index)
                holds.set(hold, event.address, where.subnet, sequence=sequence)
            elif isinstance(event, AddressUnheld):
                holds.set(None, event.address, where.subnet, sequence=sequence)
    for rows in (leases, seen, holds):
        rows.write()


_Gives = AddressAllocated | OutageGranted
_Rests = AddressDeclined | AddressBlocked
_Lasts = AddressRenewed | AddressDeprecated
_Ends = AddressReleased | AddressExpired | AddressWithdrawn
_OfALease = _Gives | _Rests | _Lasts | _Ends
_OF_A_LEASE = frozenset(get_args(_OfALease))
_END = frozenset(get_args(_Ends))


def _after(  # noqa: PLR0911  # one return a case
    before: _Lease | None, event: _OfALease, *, at: int, place: tuple[int, int]
) -> _Lease | None:
    """The row of an address after an event about it."""
    kind = type(event)
    if kind in _END:
        return None
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
    of = (HELD, event.client, event.iaid, event.pool, event.group, event.counter)
    return _Lease(*of, at, event.valid_until, event.horizon, *place, *place)


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
