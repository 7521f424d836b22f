"""A time in which somebody had an address, or a prefix, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

LEASE, REGISTERED, SEEN, DELEGATED = "lease", "registered", "seen", "delegated"
SOURCES = (LEASE, REGISTERED, SEEN, DELEGATED)
"""Who says so: the ledger, which gave it; the node itself; a Subnet Agent, which met it there; the ledger, which
delegated a prefix with it."""

CONFIRMED, SINGLE, CONTRADICTED = "confirmed", "single", "contradicted"


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which one client had an address, as one source says.

    It is `confirmed` where another source says at some moment of it that this node had the address, `contradicted`
    where any source says that another one had it there, on the same subnet, and else `single`.
    """

    address: str  # or the prefix, where that was delegated
    client: str  # hex
    node: str | None  # its name, as it is now
    source: str  # lease, registered, seen, delegated
    subnet: str
    pool: str | None  # of a lease, or of what was delegated
    interface: str | None  # as registered
    origin: str | None  # as registered
    how: str | None = None  # it was seen: session, outage, blocked, contested, link
    agent: str | None = None  # that saw it
    since: datetime
    until: datetime | None  # None: still so; the same as `since`: it was seen at that moment
    sure: str = SINGLE  # by the other holdings of the same answer
    opened: str  # position of the event that began it
    opened_by: str  # its name
    closed: str | None
    closed_by: str | None


def judged(holdings: Sequence[Holding], known_as: Mapping[str, str]) -> list[Holding]:
    """The same with how sure they are, each beside all others of its address.

    `known_as`: the client by which the node of a joined one is known, both in hex.
    """
    by_address: dict[str, list[int]] = {}
    for place, holding in enumerate(holdings):
        by_address.setdefault(holding.address, []).append(place)
    said = [SINGLE] * len(holdings)
    for places in by_address.values():
        places.sort(key=lambda place: holdings[place].since)
        lasting: list[int] = []  # those that a later one can overlap
        for place in places:
            one = holdings[place]
            lasting = [other for other in lasting if _lasts(holdings[other], one.since)]
            for other in lasting:
                _judge(holdings, place, other, known_as, said)
            lasting.append(place)
    return [msgspec.structs.replace(holding, sure=sure) for holding, sure in zip(holdings, said, strict=True)]


def _lasts(holding: Holding, moment: datetime) -> bool:
    """Whether it goes on at a moment that is not before it began."""
    return holding.until is None or moment < holding.until or holding.since == holding.until == moment


def _judge(holdings: Sequence[Holding], one: int, other: int, known_as: Mapping[str, str], said: list[str]) -> None:
    first, second = holdings[one], holdings[other]
    if known_as.get(first.client, first.client) != known_as.get(second.client, second.client):
        if first.subnet == second.subnet:
            said[one] = said[other] = CONTRADICTED
    elif first.source != second.source:
        for place in (one, other):
            said[place] = CONFIRMED if said[place] == SINGLE else said[place]
