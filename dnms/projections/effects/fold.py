"""The newest of each instance, from the family `effect`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from dnms.events.commit import Stored
from dnms.events.effect import EffectApplied, EffectCalled, EffectDead, EffectDelayed, EffectFailed
from dnms.events.recorded import Event
from dnms.projections.projection import place, storable
from dnms.projections.versions import Rows, Table

INSTANCE = Table(
    name="effect_instance",
    key={"subscriber": "TEXT NOT NULL", "instance": "TEXT NOT NULL"},
    columns={
        "position": "INTEGER NOT NULL",  # up to which its world is as the log says, or its calls are done; 0: never
        "applied": "INTEGER",  # when it said so
        "waited": "INTEGER NOT NULL",  # microseconds; of several calls the longest
        "waiting": "INTEGER NOT NULL",  # calls that it knew of and had not done
        "dead": "INTEGER NOT NULL",  # dead letters
        "failing": "INTEGER",  # since when; NULL: it does not
        "why": "TEXT NOT NULL",
        "text": "TEXT NOT NULL",
    },
)
DEAD = Table(
    name="effect_dead",
    key={
        "subscriber": "TEXT NOT NULL",
        "instance": "TEXT NOT NULL",
        "sequence": "INTEGER NOT NULL",  # where the event stands for which nobody was called
        "idx": "INTEGER NOT NULL",
    },
    columns={
        "kind": "TEXT NOT NULL",
        "died": "INTEGER NOT NULL",
        "attempts": "INTEGER NOT NULL",
        "why": "TEXT NOT NULL",
        "text": "TEXT NOT NULL",
    },
)
SCHEMA = INSTANCE.schema + DEAD.schema
INDEXES = INSTANCE.asked_by + DEAD.asked_by
PAST = (INSTANCE.past, DEAD.past)


class _Instance(NamedTuple):
    """A row behind its key."""

    position: int
    applied: int | None
    waited: int
    waiting: int
    dead: int
    failing: int | None
    why: str
    text: str


class _Dead(NamedTuple):
    """A row behind its key."""

    kind: str
    died: int
    attempts: int
    why: str
    text: str


KINDS: frozenset[type[Event]] = frozenset({EffectApplied, EffectFailed, EffectDelayed, EffectDead, EffectCalled})

NEW = _Instance(0, None, 0, 0, 0, None, "", "")


def fold(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
    """Take in what subscribers did."""
    instances, letters = Rows(cursor, INSTANCE, _Instance), Rows(cursor, DEAD, _Dead)
    for stored in batch:
        where, at = place(stored.subject), stored.commit.time
        if where.family != "effect":
            continue
        key = where.subscriber, where.instance
        for event in stored.commit.events:
            before = instances.get(*key) or NEW
            match event:
                case EffectApplied():
                    after = NEW._replace(position=storable(event.position), applied=at, waited=storable(event.waited))
                case EffectFailed():
                    failing = at if before.failing is None else before.failing
                    after = before._replace(failing=failing, why=event.why, text=event.text)
                case EffectDelayed():
                    failing = at if before.failing is None else before.failing
                    after = before._replace(failing=failing, why=event.why, text=event.text)
                case EffectDead():
                    letter = (*key, storable(event.sequence), storable(event.index))
                    is_new = letters.get(*letter) is None
                    died = _Dead(event.kind, at, storable(event.attempts), event.why, event.text)
                    letters.set(died, *letter, sequence=stored.sequence)
                    after = before._replace(dead=before.dead + is_new)
                case EffectCalled():
                    after = _called(before, event, at)
                    if before.dead:
                        gone = [
                            (call.sequence, call.index)
                            for call in event.calls
                            if letters.get(*key, storable(call.sequence), storable(call.index)) is not None
                        ]
                        for one in gone:
                            letters.set(None, *key, *one, sequence=stored.sequence)
                        after = after._replace(dead=before.dead - len(gone))
                case _:
                    continue
            instances.set(after, *key, sequence=stored.sequence)
    instances.write()
    letters.write()


def _called(before: _Instance, event: EffectCalled, at: int) -> _Instance:
    after = before._replace(position=storable(event.position), applied=at, waiting=storable(event.waiting))
    if event.calls:
        after = after._replace(waited=storable(max(call.waited for call in event.calls)))
    return after if event.delayed else after._replace(failing=None, why="", text="")
