"""The newest of each instance, from the family `effect`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from dnms.events.commit import Stored
from dnms.events.effect import EffectApplied, EffectFailed
from dnms.projections.projection import place, storable
from dnms.projections.versions import Rows, Table

INSTANCE = Table(
    name="effect_instance",
    key={"subscriber": "TEXT NOT NULL", "instance": "TEXT NOT NULL"},
    columns={
        "position": "INTEGER NOT NULL",  # up to which its world is as the log says; 0: it never was
        "applied": "INTEGER",  # when it said so
        "waited": "INTEGER NOT NULL",  # microseconds
        "failing": "INTEGER",  # since when; NULL: it does not
        "why": "TEXT NOT NULL",
        "text": "TEXT NOT NULL",
    },
)
SCHEMA = INSTANCE.schema
INDEXES = INSTANCE.asked_by
PAST = (INSTANCE.past,)


class _Instance(NamedTuple):
    """A row behind its key."""

    position: int
    applied: int | None
    waited: int
    failing: int | None
    why: str
    text: str


NEW = _Instance(0, None, 0, None, "", "")


def fold(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
    """Take in what subscribers did."""
    instances = Rows(cursor, INSTANCE, _Instance)
    for stored in batch:
        where, at = place(stored.subject), stored.commit.time
        if where.family != "effect":
            continue
        key = where.subscriber, where.instance
        for event in stored.commit.events:
            before = instances.get(*key) or NEW
            match event:
                case EffectApplied():
                    after = _Instance(storable(event.position), at, storable(event.waited), None, "", "")
                case EffectFailed():
                    failing = at if before.failing is None else before.failing
                    after = before._replace(failing=failing, why=event.why, text=event.text)
                case _:
                    continue
            instances.set(after, *key, sequence=stored.sequence)
    instances.write()
