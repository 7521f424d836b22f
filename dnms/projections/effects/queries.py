"""Questions about subscribers."""

from __future__ import annotations

from datetime import datetime

import aiosqlite
import msgspec

from dnms.projections.text import instant_or_none


class SubscriberRow(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of a subscriber, by what it wrote to the log last."""

    subscriber: str
    instance: str
    position: int  # up to which its world was as the log says; 0: it never was
    applied: datetime | None
    waited_ms: float  # from the first commit that made that necessary until it was done
    failing_since: datetime | None  # None: it does not fail
    why: str  # a stable word
    text: str


async def subscribers(db: aiosqlite.Connection) -> list[SubscriberRow]:
    """All that ever wrote."""
    rows = await db.execute_fetchall(
        "SELECT subscriber, instance, position, applied, waited, failing, why, text FROM effect_instance"
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
        )
        for row in rows
    ]
