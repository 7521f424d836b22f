"""Questions about how much happened."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal

import aiosqlite
import msgspec

from dnms.projections.activity.fold import HOUR
from dnms.projections.events.queries import kind_of
from dnms.projections.text import instant

MAX_ROWS = 100_000  # in one answer: eleven years of hours, or a month of them by 100 kinds and subnets

By = Literal["kind", "family", "subnet"]
"""What is told apart: names of events, the families that names begin with, subnets."""

Each = Literal["hour", "day"]
"""How long a row of the answer is; days are those of UTC."""

_COLUMNS: dict[By, str] = {
    "kind": "name",
    "family": "substr(name, 1, instr(name, '.') - 1)",
    "subnet": "subnet",
}
_HOURS: dict[Each, int] = {"hour": 1, "day": 24}


class ActivityRow(msgspec.Struct, frozen=True, kw_only=True):
    """How many events there were in an hour or a day, which begins at `time`; of one kind or subnet where asked for."""

    time: datetime
    subnet: str | None  # None: of all; empty: of none
    kind: str | None  # None: of all
    events: int


async def activity(
    db: aiosqlite.Connection,
    *,
    since: int | None = None,
    until: int | None = None,
    by: Collection[By] = (),
    each: Each = "hour",
    kind: str | None = None,
    subnet: str | None = None,
    limit: int = MAX_ROWS,
) -> list[ActivityRow]:
    """Events by time, the oldest first, from the hour of `since` to that of `until` (microseconds), as far as any.

    `kind` is a name or a family of names. Hours without events have no row. ValueError if there is no such kind.
    """
    hours = _HOURS[each]
    kinds: By | None = "kind" if "kind" in by else "family" if "family" in by else None
    columns = [
        f"hour / {hours} * {hours}" if hours > 1 else "hour",
        "subnet" if "subnet" in by else "NULL",
        _COLUMNS[kinds] if kinds else "NULL",
    ]
    terms, values = ["true"], list[Any]()
    for bound, term in ((since, "hour >= ?"), (until, "hour <= ?")):
        if bound is not None:
            terms.append(term)
            values.append(bound // HOUR)
    if subnet is not None:
        terms.append("subnet = ?")
        values.append(subnet)
    if kind is not None:
        terms.append("(name = ? OR (name > ? AND name < ?))")
        values += [kind_of(kind), f"{kind}.", f"{kind}/"]  # "/" is the character after "."
    rows = await db.execute_fetchall(
        f"SELECT {', '.join(columns)}, sum(events) FROM activity JOIN activity_series ON id = series"
        f" WHERE {' AND '.join(terms)} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT ?",
        [*values, max(0, min(limit, MAX_ROWS))],
    )
    return [ActivityRow(time=instant(row[0] * HOUR), subnet=row[1], kind=row[2], events=row[3]) for row in rows]
