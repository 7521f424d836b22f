"""Questions about subscribers."""

from __future__ import annotations

from datetime import datetime

import aiosqlite
import msgspec

from dnms.projections.text import instant, instant_or_none, position


class SubscriberRow(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of a subscriber, by what it wrote to the log last."""

    subscriber: str
    instance: str
    position: int  # up to which its world was as the log says, or its calls were done; 0: never
    applied: datetime | None
    waited_ms: float  # from the first commit that made that necessary until it was done; of several calls the longest
    waiting: int = 0  # calls that it knew of then and had not done
    dead: int = 0  # dead letters: calls that it has given up
    failing_since: datetime | None  # None: it does not fail
    why: str  # a stable word
    text: str


class DeadRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event for which an instance calls no more."""

    subscriber: str
    instance: str
    position: str  # of the event in the log
    kind: str
    died: datetime
    attempts: int
    why: str  # a stable word
    text: str


async def subscribers(db: aiosqlite.Connection) -> list[SubscriberRow]:
    """All that ever wrote."""
    rows = await db.execute_fetchall(
        "SELECT subscriber, instance, position, applied, waited, failing, why, text, waiting, dead FROM effect_instance"
        " ORDER BY subscriber, instance"
    )
    return [
        SubscriberRow(
            subscriber=row[0],
            instance=row[1],
            position=row[2],
            applied=instant_or_none(row[3]),
            waited_ms=row[4] / 1_000,
            failing_since=instant_or_none(row[5]),
            why=row[6],
            text=row[7],
            waiting=row[8],
            dead=row[9],
        )
        for row in rows
    ]


async def dead_letters(
    db: aiosqlite.Connection, *, subscriber: str | None = None, instance: str | None = None
) -> list[DeadRow]:
    """All, or those of a subscriber, or of one instance of it; in the log's order for each instance."""
    rows = await db.execute_fetchall(
        "SELECT subscriber, instance, sequence, idx, kind, died, attempts, why, text FROM effect_dead"
        " WHERE coalesce(?1, subscriber) = subscriber AND coalesce(?2, instance) = instance"
        " ORDER BY subscriber, instance, sequence, idx",
        (subscriber, instance),
    )
    return [
        DeadRow(
            subscriber=row[0],
            instance=row[1],
            position=position(row[2], row[3]),
            kind=row[4],
            died=instant(row[5]),
            attempts=row[6],
            why=row[7],
            text=row[8],
        )
        for row in rows
    ]
