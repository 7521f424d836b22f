"""What a projection is: a schema, a fold, and a version that is raised when either changes."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence, Set
from functools import lru_cache
from typing import Any

import msgspec

from dnms.events.commit import Stored
from dnms.events.recorded import Event

Fold = Callable[[sqlite3.Cursor, Sequence[Stored]], None]
"""Takes commits in, in the log's order, and changes its own tables only.

What it writes depends on the log alone: not on the clock, not on chance, and not on how the log was cut into batches.
"""


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """One view of the log. The names of its tables begin with its own."""

    name: str
    version: int  # raise it when the schema or the fold changes: the views are then folded anew
    schema: str  # CREATE statements
    past: tuple[str, ...] = ()  # CREATE TEMP VIEW statements, of what it has as of a moment (see `versions`)
    fold: Fold
    kinds: Set[type[Event]] | None = None
    """Types of the events that its fold takes in, if these are few of a log: it is called where there are any."""
    indexes: tuple[str, ...] = ()
    """CREATE INDEX statements, of those that no fold reads: while a log is folded from its beginning they are not
    there, and are made in the end, each by one sort."""
    appended: tuple[str, ...] = ()
    """Names of tables that no fold reads or changes a row of, or counts on the key of: while a log is folded from its
    beginning they have no key, and are sorted in the end (see `building`)."""


MAX_INTEGER = (1 << 63) - 1


def storable(number: int) -> int:
    """A number that a node told, cut to what SQLite can hold: no node can stop the views with a wrong one."""
    return number if -MAX_INTEGER <= number <= MAX_INTEGER else MAX_INTEGER if number > 0 else -MAX_INTEGER


def clients_of(batch: Sequence[Stored], kinds: Set[Any]) -> dict[type[Event], set[bytes]]:
    """By type of event: the clients of all events of these types, each of which names one."""
    found: defaultdict[type[Event], set[bytes]] = defaultdict(set)
    for stored in batch:
        for event in stored.commit.events:
            if type(event) in kinds:
                found[type(event)].add(event.client)  # type: ignore[attr-defined]  # of all of them
    return found


class Place(msgspec.Struct, frozen=True):
    """Where a commit was written: the parts of its subject (see `dnms.events.subjects`)."""

    family: str  # plan, node, ledger, seen, effect
    subnet: str = ""  # of ledger and seen
    agent: str = ""  # of seen
    subscriber: str = ""  # of effect
    instance: str = ""  # of effect


@lru_cache(maxsize=4_096)  # a site has a few subjects a subnet; past that, splitting again is cheap
def place(subject: str) -> Place:
    """The parts of a subject."""
    _, _, family, *rest = subject.split(".")
    if family == "ledger":
        return Place(family, subnet=rest[0])
    if family == "seen":
        return Place(family, subnet=rest[0], agent=rest[1])
    if family == "effect":
        return Place(family, subscriber=rest[0], instance=rest[1])
    return Place(family)
