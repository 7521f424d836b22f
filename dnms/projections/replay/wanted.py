"""Which events of a replay are wanted: where they stand, what they are, what they are about."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from dnms.events.commit import Stored
from dnms.events.ip import Prefix, parse_address, parse_prefix
from dnms.events.plan import ReservationDefined
from dnms.events.recorded import Event
from dnms.projections.events.queries import FAMILIES, NAMES
from dnms.projections.nodes.queries import SHORT
from dnms.projections.projection import place
from dnms.projections.replay.states import States, named
from dnms.projections.text import microseconds


class Bound(msgspec.Struct, frozen=True):
    """A place in the log: a commit, one of its events, or an instant."""

    sequence: int = 0
    index: int | None = None  # None: all of the commit
    time: datetime | None = None


def parse_bound(text: str) -> Bound | None:
    """`12` or `12.3`; None of what is no position."""
    sequence, dot, index = text.partition(".")
    if text.isascii() and sequence.isdecimal() and (not dot or index.isdecimal()):
        return Bound(int(sequence), int(index) if dot else None)
    return None


def is_behind(stored: Stored, index: int, bound: Bound) -> bool:
    """Whether an event stands behind a bound, which is not behind itself."""
    if bound.time is not None:
        return stored.commit.time > microseconds(bound.time)
    last = index if bound.index is None else bound.index
    return (stored.sequence, index) > (bound.sequence, last)


def is_ahead(stored: Stored, index: int, bound: Bound) -> bool:
    """Whether an event stands ahead of a bound, which is not ahead of itself."""
    if bound.time is not None:
        return stored.commit.time < microseconds(bound.time)
    return (stored.sequence, index) < (bound.sequence, bound.index or 0)


class Only:
    """A kind of events, or what they are to be about: an address or prefix, a node, a name of the plan."""

    def __init__(self, text: str) -> None:
        """A word that is a kind means the kind."""
        self.text = text
        self._kind = text if text in NAMES or text in FAMILIES else ""
        self._prefix = None if self._kind else _prefix(text)
        lowered = text.lower()
        self._client = lowered if len(text) >= SHORT and set(lowered) <= set("0123456789abcdef") else ""

    def wants(self, stored: Stored, event: Event, states: States) -> bool:
        """Whether the event is one; `states` are those before it or after it."""
        if self._kind:
            return self._kind == event.NAME or event.NAME.startswith(f"{self._kind}.")
        # What the plan reserves is about the same things as what a ledger keeps.
        about = event.reservation if isinstance(event, ReservationDefined) else event
        if self._prefix is not None:
            return any(address in self._prefix for address in _addresses(about))
        if self.text in (place(stored.subject).subnet, getattr(about, "subnet", ""), getattr(about, "pool", "")):
            return True
        if place(stored.subject).family == "plan" and named(event) == self.text:
            return True
        return any(self._is(client, states) for client in _clients(about))

    def _is(self, client: bytes, states: States) -> bool:
        return bool(self._client and client.hex().startswith(self._client)) or states.name(client) == self.text


def _prefix(text: str) -> Prefix | None:
    try:
        return parse_prefix(text) if "/" in text else Prefix(parse_address(text), 128)
    except ValueError:
        return None


def _addresses(event: msgspec.Struct) -> Sequence[bytes]:
    """The addresses that an event names, a node's own configuration included."""
    found = [getattr(event, name, None) for name in ("address", "peer", "holder", "contender")]
    snapshot = getattr(event, "snapshot", None)
    found += [one.address for one in snapshot.addresses] if snapshot is not None else []
    found += [one.address for one in getattr(event, "items", ())]
    return [each for each in found if isinstance(each, bytes)]


def _clients(event: msgspec.Struct) -> Sequence[bytes]:
    found = [getattr(event, name, None) for name in ("client", "into", "entered")]
    return [each for each in found if isinstance(each, bytes)]
