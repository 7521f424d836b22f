"""Addresses that two nodes had at once, and whether the log tells why.

While an agent cannot reach the log, it gives what another may give too. So that may be, where the log has an
`outage.granted` that says so by `contested`, or by when it `happened`; or where a journal was lost with its disk.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

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
from dnms.kit.clock import MICROSECONDS
from tests.simulation.plans import SITE, SUBNET

SLACK = 120 * MICROSECONDS  # for a node to hear that it was moved, or else for its lifetime to end
FOREVER = 1 << 62


class Doubt(msgspec.Struct, frozen=True):
    """Two clients with one address, at an instant of the log's clock."""

    address: bytes
    clients: frozenset[bytes]
    at: int
    said: str
    used: bool  # by both; else one of them has found the other in time


class _Had(msgspec.Struct):
    client: bytes
    since: int
    until: int


def unexplained(doubts: Iterable[Doubt], stored: list[Stored], lost: Iterable[MergeOutage], skew: int) -> Iterator[str]:
    """The doubts that the log does not explain; `skew` is by how much its clock was set, in all."""
    had, granted = _history(stored)
    gone = {(each.address, each.client) for each in lost}
    for doubt in doubts:
        if any((doubt.address, client) in gone for client in doubt.clients):
            continue
        slack = SLACK + skew
        near = [
            (event, at)
            for event, at in granted[doubt.address]
            if event.client in doubt.clients and event.happened - slack <= doubt.at <= at + slack
        ]
        if any(
            event.contested or not doubt.used or _overlaps(event, at, had[doubt.address], slack) for event, at in near
        ):
            continue
        yield f"{doubt.said}, and the log does not say why ({format_address(doubt.address)})"


def _overlaps(event: OutageGranted, at: int, had: list[_Had], slack: int) -> bool:
    return any(
        each.client != event.client and each.since <= at + slack and event.happened - slack <= each.until
        for each in had
    )


def _history(
    stored: list[Stored],
) -> tuple[dict[bytes, list[_Had]], dict[bytes, list[tuple[OutageGranted, int]]]]:
    """By address: who had it when, and what was granted in outages, with when the log had it."""
    had: dict[bytes, list[_Had]] = defaultdict(list)
    granted: dict[bytes, list[tuple[OutageGranted, int]]] = defaultdict(list)
    for each in stored:
        if each.subject != subjects.ledger(SITE, SUBNET):
            continue
        time = each.commit.time
        for event in each.commit.events:
            match event:
                case AddressAllocated():
                    had[event.address].append(_Had(event.client, time, FOREVER))
                case OutageGranted():
                    granted[event.address].append((event, time))
                    until = event.valid_until if event.contested else FOREVER
                    had[event.address].append(_Had(event.client, event.happened, until))
                case AddressReleased() | AddressExpired() | AddressDeclined() | AddressWithdrawn():
                    for one in had[event.address]:
                        if one.client == event.client:
                            one.until = min(one.until, time)
    return had, granted
