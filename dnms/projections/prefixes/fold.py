"""Delegations, prefixes from above and links' own prefixes from the ledgers."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

from dnms.events.commit import Stored
from dnms.events.ip import Prefix
from dnms.events.plan import PlanAdopted
from dnms.events.prefix import (
    PrefixDelegated,
    PrefixDeprecated,
    PrefixExpired,
    PrefixReleased,
    PrefixRenewed,
    PrefixWithdrawn,
)
from dnms.events.uplink import UplinkDeprecated, UplinkLost, UplinkReceived
from dnms.projections.prefixes.schema import DELEGATION, LINK, UPLINK
from dnms.projections.projection import place, storable
from dnms.projections.versions import Rows

DELEGATED, DEPRECATED, RELEASED, EXPIRED, WITHDRAWN = "delegated", "deprecated", "released", "expired", "withdrawn"
RECEIVED, LOST = "received", "lost"

_Ends = PrefixReleased | PrefixExpired | PrefixWithdrawn
_OfADelegation = PrefixDelegated | PrefixRenewed | PrefixDeprecated | _Ends
_OfAnUplink = UplinkReceived | UplinkDeprecated | UplinkLost
_OF_A_DELEGATION = frozenset(get_args(_OfADelegation))
_OF_AN_UPLINK = frozenset(get_args(_OfAnUplink))
KINDS = _OF_A_DELEGATION | _OF_AN_UPLINK | {PlanAdopted}
_ENDS = {PrefixReleased: RELEASED, PrefixExpired: EXPIRED, PrefixWithdrawn: WITHDRAWN}

_Place = tuple[int, int]
"""Sequence and index of an event."""


class _Delegation(NamedTuple):
    """A row of `prefix_delegation` behind its key."""

    state: str
    client: bytes
    iaid: int
    pool: str
    next_hop: bytes
    link: str
    member_of: int
    counter: int
    excluded: str
    since: int
    until: int | None
    valid_until: int
    horizon: int
    opened_sequence: int
    opened_index: int
    changed_sequence: int
    changed_index: int


class _Uplink(NamedTuple):
    """A row of `prefix_uplink` behind its key."""

    state: str
    uplink: str
    source: str
    source_log: str
    source_sequence: int
    excluded: str
    since: int
    until: int | None
    preferred_until: int
    valid_until: int
    why: str
    opened_sequence: int
    opened_index: int
    changed_sequence: int
    changed_index: int


class _Link(NamedTuple):
    """A row of `prefix_link` behind its key."""

    plan: int
    sequence: int
    event_index: int


class _Links(Rows[_Link]):
    """The links' own prefixes, and which of them each subnet that a batch touches has."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        super().__init__(cursor, LINK, _Link)
        self._of: dict[str, set[Prefix]] = {}

    def adopt(self, subnet: str, prefixes: Sequence[Prefix], plan: int, where: _Place) -> None:
        """These are the subnet's from here on. What it had stays as it is, by the plan that it has it by."""
        if subnet not in self._of:
            select = "SELECT network, length FROM prefix_subnet WHERE subnet = ?"
            self._of[subnet] = {Prefix(*row) for row in self._cursor.execute(select, (subnet,))}
        before, self._of[subnet] = self._of[subnet], set(prefixes)
        for prefix in before - self._of[subnet]:
            self.set(None, prefix.network, prefix.length, subnet, sequence=where[0])
        for prefix in self._of[subnet] - before:
            self.set(_Link(storable(plan), *where), prefix.network, prefix.length, subnet, sequence=where[0])

    def write(self) -> None:
        super().write()
        self._cursor.executemany("DELETE FROM prefix_subnet WHERE subnet = ?", [(subnet,) for subnet in self._of])
        rows = [(subnet, each.network, each.length) for subnet, own in self._of.items() for each in own]
        self._cursor.executemany("INSERT INTO prefix_subnet VALUES (?, ?, ?)", rows)


def fold(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
    """Take in what ledgers say of prefixes."""
    delegations, uplinks = Rows(cursor, DELEGATION, _Delegation), Rows(cursor, UPLINK, _Uplink)
    links = _Links(cursor)
    for stored in batch:
        subnet, at, sequence = place(stored.subject).subnet, stored.commit.time, stored.sequence
        for index, event in enumerate(stored.commit.events):
            where = (sequence, index)
            if type(event) in _OF_A_DELEGATION:
                of_delegation: Any = event
                key = (of_delegation.prefix.network, of_delegation.prefix.length, subnet)
                delegations.set(_delegation(delegations.get(*key), of_delegation, at, where), *key, sequence=sequence)
            elif type(event) in _OF_AN_UPLINK:
                of_uplink: Any = event
                key = (of_uplink.prefix.network, of_uplink.prefix.length, subnet)
                uplinks.set(_uplink(uplinks.get(*key), of_uplink, at, where), *key, sequence=sequence)
            elif isinstance(event, PlanAdopted):
                own = event.plan.subnet.prefixes if event.plan.subnet is not None else ()
                links.adopt(subnet, own, event.plan.position, where)
    for rows in (delegations, uplinks, links):
        rows.write()


def _delegation(before: _Delegation | None, event: _OfADelegation, at: int, where: _Place) -> _Delegation | None:
    """The row of a prefix after an event about it; one that the log says nothing of before has none."""
    match event:
        case PrefixDelegated():
            return _Delegation(
                state=DELEGATED,
                client=event.client,
                iaid=event.iaid,
                pool=event.delegation,
                next_hop=event.next_hop,
                link=event.interface,
                member_of=event.group,
                counter=storable(event.counter),
                excluded="" if event.exclude is None else str(event.exclude),
                since=at,
                until=None,
                valid_until=storable(event.valid_until),
                horizon=storable(event.horizon),
                opened_sequence=where[0],
                opened_index=where[1],
                changed_sequence=where[0],
                changed_index=where[1],
            )
        case _ if before is None:
            return None
        case PrefixRenewed():
            after = before._replace(
                state=DELEGATED,
                next_hop=event.next_hop,
                link=event.interface,
                member_of=event.group,
                valid_until=storable(event.valid_until),
                horizon=storable(event.horizon),
            )
        case PrefixDeprecated():
            after = before._replace(state=DEPRECATED, next_hop=event.next_hop, valid_until=storable(event.valid_until))
        case _:
            after = before._replace(state=_ENDS[type(event)], until=at)
    return after._replace(changed_sequence=where[0], changed_index=where[1])


def _uplink(before: _Uplink | None, event: _OfAnUplink, at: int, where: _Place) -> _Uplink | None:
    """The row of a prefix from above after an event about it."""
    if isinstance(event, UplinkLost):
        if before is None:
            return None
        after = before._replace(state=LOST, until=at, why=event.why)
        return after._replace(changed_sequence=where[0], changed_index=where[1])
    lasts = before is not None and before.state != LOST
    received = isinstance(event, UplinkReceived)
    excluded = event.exclude if isinstance(event, UplinkReceived) else None
    return _Uplink(
        state=RECEIVED if received else DEPRECATED,
        uplink=event.uplink,
        source=event.source.name,
        source_log=event.source.log,
        source_sequence=storable(event.source.position),
        excluded=str(excluded) if excluded is not None else before.excluded if before and not received else "",
        since=before.since if before is not None and lasts else at,
        until=None,
        preferred_until=storable(event.preferred_until) if isinstance(event, UplinkReceived) else at,
        valid_until=storable(event.valid_until),
        why="",
        opened_sequence=before.opened_sequence if before is not None and lasts else where[0],
        opened_index=before.opened_index if before is not None and lasts else where[1],
        changed_sequence=where[0],
        changed_index=where[1],
    )
