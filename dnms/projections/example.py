"""The form of the examples that every projection brings: a short log, and what its tables then hold."""

from __future__ import annotations

from typing import Any

import msgspec

from dnms.events.commit import Commit, Stored
from dnms.events.ip import parse_address
from dnms.events.recorded import Event

SITE = "example"

ALICE = bytes(range(16))
BOB = bytes(range(16, 32))
"""Two clients."""

FIRST = parse_address("2001:db8::1")
SECOND = parse_address("2001:db8::2")
OLD = parse_address("192.0.2.7")
"""Addresses."""


class Happened(msgspec.Struct, frozen=True):
    """One commit of an example's log."""

    subject: str  # behind the site: plan, ledger.lan, …
    time: int
    events: tuple[Event, ...]


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A log, and rows by the SELECT that finds them."""

    title: str
    log: tuple[Happened, ...]
    rows: dict[str, list[tuple[Any, ...]]]


def happened(subject: str, time: int, *events: Event) -> Happened:
    """One commit."""
    return Happened(subject, time, events)


def stored(log: tuple[Happened, ...]) -> list[Stored]:
    """The commits of an example, with their places in the log."""
    heads: dict[str, int] = {}
    found = []
    for sequence, one in enumerate(log, start=1):
        subject = f"dnms.{SITE}.{one.subject}"
        commit = Commit(
            id=sequence.to_bytes(16),
            time=one.time,
            predecessor=heads.get(subject, 0),
            actor="agent/east",
            events=one.events,
        )
        found.append(Stored(subject=subject, sequence=sequence, stored_at=one.time, commit=commit, size=100))
        heads[subject] = sequence
    return found
