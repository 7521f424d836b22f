"""How events are searched: by a key that leads to few of them in the log's order; these are looked at one by one.

Which key leads to the fewest is counted, up to a bound. So a search takes as long as its rarest term is frequent.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import aiosqlite
import msgspec

from dnms.events.codec import decode_event
from dnms.projections.events.fold import HOUR, INDEX_BITS
from dnms.projections.text import instant, plain, position

LAST_INDEX = (1 << INDEX_BITS) - 1
NEVER = (0, -1)
"""Positions between which nothing is."""

MAX_COUNTED = 10_000  # events by which two keys are compared; beyond that either is as good


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One event, with all that its commit says of it."""

    position: str
    time: datetime
    stored: datetime  # by the log's own clock
    subject: str
    name: str
    actor: str  # who wrote it
    client: str | None  # hex
    node: str | None  # the client's name, as it is now
    request: str | None  # what was asked for; None: it was merely seen
    cause: int | None  # the commit that it names as its cause
    plan: int | None  # position of the plan that it was decided by
    fields: dict[str, Any]  # those that do not hold their default


class Key(msgspec.Struct, frozen=True):
    """What leads to events, to each once: what stands behind FROM and WHERE, and what that binds."""

    source: str
    where: str
    values: tuple[Any, ...]
    position: str = "e.position"  # by which the source has them in the log's order
    order: str = "e.position {0}"


class Term(msgspec.Struct, frozen=True):
    """What is wanted of an event: some keys, any of which leads to it, and how one is looked at that another led to."""

    keys: tuple[Key, ...]
    where: str
    values: tuple[Any, ...]


EVENT = "event e"
OF_COMMIT = (
    f"event_commit x CROSS JOIN event e ON e.position BETWEEN x.sequence << {INDEX_BITS}"
    f" AND x.sequence << {INDEX_BITS} | {LAST_INDEX}"
)


def of_event(where: str, *values: Any) -> Key:
    """The events `e` that match."""
    return Key(EVENT, where, values)


def of_commit(where: str, *values: Any) -> Key:
    """All events of the commits `x` that match."""
    return Key(OF_COMMIT, where, values, order="x.sequence {0}, e.position {0}")


def of_positions(select: str, *values: Any) -> Key:
    """The events at the positions that a SELECT finds as `position`."""
    source = f"(SELECT DISTINCT {select}) p CROSS JOIN event e ON e.position = p.position"
    return Key(source, "true", values, position="p.position", order="p.position {0}")


def of_word(word: int, where: str = "true") -> Key:
    """The events in which a word stands and that match."""
    source = "event_text t CROSS JOIN event e ON e.position = t.position"
    return Key(source, f"t.word = ? AND {where}", (word,), position="t.position", order="t.position {0}")


async def between(db: aiosqlite.Connection, since: int | None, until: int | None) -> tuple[int, int]:
    """The positions outside of which no event has a time from `since` to `until` (microseconds)."""
    [low] = await db.execute_fetchall(
        "SELECT min(first) FROM event_hour WHERE hour >= ?", (_BEGIN if since is None else since // HOUR,)
    )
    [high] = await db.execute_fetchall(
        "SELECT max(last) FROM event_hour WHERE hour <= ?", (-_BEGIN if until is None else until // HOUR,)
    )
    if low[0] is None or high[0] is None:
        return NEVER
    return low[0] << INDEX_BITS, high[0] << INDEX_BITS | LAST_INDEX


_BEGIN = -(1 << 62)


async def search(
    db: aiosqlite.Connection,
    terms: Sequence[Term],
    *,
    since: int | None,
    until: int | None,
    bounds: tuple[int, int],
    limit: int,
    newest: bool,
) -> list[AuditRow]:
    """Events that are all that the terms want, within positions `bounds` and times; the newest or the oldest, first."""
    low, high = await between(db, since, until)
    low, high = max(low, bounds[0]), min(high, bounds[1])
    if low > high or limit < 1:
        return []
    leading = await _rarest(db, terms, low, high)
    keys = leading.keys if leading is not None else (Key(EVENT, "true", ()),)
    where = "".join(f" AND ({term.where})" for term in terms if term is not leading)
    values = [value for term in terms if term is not leading for value in term.values]
    if since is not None:
        where, values = f"{where} AND c.time >= ?", [*values, since]
    if until is not None:
        where, values = f"{where} AND c.time <= ?", [*values, until]
    found: dict[int, Sequence[Any]] = {}
    for key in keys:
        rows = await db.execute_fetchall(
            f"""
            SELECT e.position, c.time, c.stored_at, c.subject, e.name, c.actor, e.client, n.name, w.text, e.cause,
                c.plan, e.item
            FROM (
                SELECT e.position AS position FROM {key.source}
                CROSS JOIN event_commit c ON c.sequence = e.position >> {INDEX_BITS}
                WHERE {key.where} AND {_within(key, low, high)} {where}
                ORDER BY {key.order.format("DESC" if newest else "ASC")}
                LIMIT ?
            ) f
            CROSS JOIN event e ON e.position = f.position
            CROSS JOIN event_commit c ON c.sequence = e.position >> {INDEX_BITS}
            LEFT JOIN node n ON n.client = e.client
            LEFT JOIN event_word w ON w.id = e.request
            """,
            [*key.values, *values, limit],
        )
        found |= {row[0]: row for row in rows}
    ordered = sorted(found, reverse=newest)[:limit]
    return [_row(found[position]) for position in ordered]


def _within(key: Key, low: int, high: int) -> str:
    bounds = f"{key.position} BETWEEN {low} AND {high}"
    if key.source == OF_COMMIT:  # also of the commits, by which it is sought
        bounds += f" AND x.sequence BETWEEN {low >> INDEX_BITS} AND {high >> INDEX_BITS}"
    return bounds


async def _rarest(db: aiosqlite.Connection, terms: Sequence[Term], low: int, high: int) -> Term | None:
    """The term with the fewest events, as far as they are counted; of equals the first."""
    keyed = [term for term in terms if term.keys]  # others lead to none, and take some away
    if len(keyed) < 2:
        return keyed[0] if keyed else None
    best: tuple[int, Term] | None = None
    for term in keyed:
        count = 0
        for key in term.keys:
            [row] = await db.execute_fetchall(
                f"SELECT count(*) FROM (SELECT 1 FROM {key.source} WHERE {key.where} AND {_within(key, low, high)}"
                " LIMIT ?)",
                [*key.values, MAX_COUNTED],
            )
            count += row[0]
        if best is None or count < best[0]:
            best = (count, term)
    return None if best is None else best[1]


def _row(row: sqlite3.Row | Sequence[Any]) -> AuditRow:
    return AuditRow(
        position=position(row[0] >> INDEX_BITS, row[0] & LAST_INDEX),
        time=instant(row[1]),
        stored=instant(row[2]),
        subject=row[3],
        name=row[4],
        actor=row[5],
        client=None if row[6] is None else row[6].hex(),
        node=row[7],
        request=row[8],
        cause=row[9],
        plan=row[10] or None,
        fields=plain(decode_event(row[11])),
    )
