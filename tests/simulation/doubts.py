"""Addresses that two nodes had at once, and whether the log tells why.

While an agent cannot reach the log, it gives what another may give too. So that may be, where the log has an
`outage.granted` that says so by `contested`, or by when it `happened`. Where a journal was lost with its disk nobody
can tell the log; then it may be for as long as the client was told to have the address, and no longer: what it is told
by another agent afterwards comes from the log, or from that agent's journal.

All times are true ones, in seconds on the loop's clock, whatever was done to the log's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from dnms.events import subjects
from dnms.events.address import (
    AddressAllocated,
    AddressDeclined,
    AddressExpired,
    AddressReleased,
    AddressWithdrawn,
    OutageGranted,
)
from dnms.events.commit import Stored
from dnms.events.ip import format_address
from dnms.events.requests import MergeOutage
from tests.simulation.journal import Lost
from tests.simulation.plans import SITE, SUBNET

SLACK = 120.0  # seconds for a node to hear that it was moved, or else for its lifetime to end
LATE = 30.0  # seconds; a node counts lifetimes from when it hears of them, and a stream may be slow

Happened = tuple[bytes, bytes, int]
"""Client, address and when it was first granted, by the agent's reckoning: the name of a grant."""


class Doubt(msgspec.Struct, frozen=True):
    """Two clients with one address."""

    address: bytes
    clients: frozenset[bytes]
    at: float
    said: str
    used: bool  # by both; else one of them has found the other in time


class Grant(msgspec.Struct):
    """What an agent gave in an outage, and told a node: from when to when that lasts."""

    since: float
    until: float


class _Had(msgspec.Struct):
    client: bytes
    since: float
    until: float = float("inf")


class _Granted(msgspec.Struct):
    client: bytes
    contested: bool
    since: float
    merged: float


def unexplained(
    doubts: Iterable[Doubt],
    stored: list[Stored],
    stored_at: Sequence[float],
    grants: dict[Happened, Grant],
    lost: Iterable[Lost],
) -> Iterator[str]:
    """The doubts that the log does not explain; `stored_at` is of each sequence, from 1 on."""
    had, granted = _history(stored, stored_at, grants)
    gone = [(each.entry, grant) for each in lost if (grant := grants.get(happened(each.entry))) is not None]
    for doubt in doubts:
        if any(
            entry.address == doubt.address
            and entry.client in doubt.clients
            and grant.since - LATE <= doubt.at <= grant.until + LATE
            for entry, grant in gone
        ):
            continue
        near = [
            each
            for each in granted[doubt.address]
            if each.client in doubt.clients and each.since - SLACK <= doubt.at <= each.merged + SLACK
        ]
        if any(each.contested or not doubt.used or _overlaps(each, had[doubt.address]) for each in near):
            continue
        yield f"{doubt.said}, and the log does not say why ({format_address(doubt.address)})"


def happened(grant: OutageGranted | MergeOutage) -> Happened:
    """The name of a grant."""
    return grant.client, grant.address, grant.happened


def _overlaps(granted: _Granted, had: list[_Had]) -> bool:
    return any(
        each.client != granted.client and each.since <= granted.merged + SLACK and granted.since - SLACK <= each.until
        for each in had
    )


def _history(
    stored: list[Stored], stored_at: Sequence[float], grants: dict[Happened, Grant]
) -> tuple[dict[bytes, list[_Had]], dict[bytes, list[_Granted]]]:
    """By address: who had it when, and what was granted in outages, with when the log had it."""
    had: dict[bytes, list[_Had]] = defaultdict(list)
    granted: dict[bytes, list[_Granted]] = defaultdict(list)
    for each in stored:
        if each.subject != subjects.ledger(SITE, SUBNET):
            continue
        time = stored_at[each.sequence - 1]
        for event in each.commit.events:
            match event:
                case AddressAllocated():
                    had[event.address].append(_Had(event.client, time))
                case OutageGranted():
                    grant = grants.get(happened(event), Grant(time, time))
                    granted[event.address].append(_Granted(event.client, event.contested, grant.since, time))
                    until = grant.until if event.contested else float("inf")
                    had[event.address].append(_Had(event.client, grant.since, until))
                case AddressReleased() | AddressExpired() | AddressDeclined() | AddressWithdrawn():
                    for one in had[event.address]:
                        if one.client == event.client:
                            one.until = min(one.until, time)
    return had, granted
