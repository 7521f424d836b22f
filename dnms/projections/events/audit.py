"""What happened, searched: by kind, writer, what it is about, cause, time and text; and histories of single things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aiosqlite
import msgspec

from dnms.events import subjects
from dnms.events.ip import Prefix, parse_address, parse_prefix, prefix_of
from dnms.events.requests import REQUESTS
from dnms.projections.events.fold import INDEX_BITS
from dnms.projections.events.queries import NAMES, kind_of
from dnms.projections.events.searching import (
    AuditRow,
    Key,
    Term,
    of_commit,
    of_event,
    of_positions,
    of_word,
    search,
)
from dnms.projections.nodes.queries import find, joined_into

MAX_FOUND = 1_000  # events in one answer; a caller pages on
MAX_WORDS = 500  # of the log that a text may stand in; more is no search

LONGEST = 64
"""Bits of the longest prefix that is delegated."""

ASKED = frozenset(request.NAME for request in REQUESTS)

WRITERS = ("agent", "operator")
"""What stands before the name of who writes."""

RENEWED = "address.renewed"
"""Changes nothing but until when."""


class Unknown(ValueError):
    """Nothing in the log is called so."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What an event has to be, all of it. Times are microseconds since 1970-01-01 UTC, both ends included."""

    kind: str | None = None  # a name of events, or the family that names begin with
    actor: str | None = None  # who wrote it, as agent/east
    entity: str | None = None  # what it is about: an address, a prefix, a node, a name of the plan
    since: int | None = None
    until: int | None = None
    texts: tuple[str, ...] = ()  # each stands in some text of it; upper and lower case are the same
    cause: str | None = None  # a commit that it names as its cause, or the request that it came of


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of the events is wanted: from the newest back or from the oldest on, beyond a position."""

    newest: bool = True
    beyond: int | None = None  # as `queries.after_event` makes it
    limit: int = 100

    @property
    def bounds(self) -> tuple[int, int]:
        """The first position and the last."""
        if self.beyond is None:
            return 0, (1 << 63) - 1
        return (0, self.beyond - 1) if self.newest else (self.beyond + 1, (1 << 63) - 1)


async def audit(db: aiosqlite.Connection, site: str, wanted: Wanted, page: Page) -> list[AuditRow]:
    """The events that are wanted, the newest first or the oldest.

    ValueError, for people, if a kind or a cause is none, a text stands in too much, or nothing is called `entity` or
    was written by `actor`.
    """
    terms: list[Term] = []
    if wanted.entity is not None:
        terms.append(await _about(db, site, wanted.entity))
    terms += [await _text(db, text) for text in wanted.texts]
    if wanted.cause is not None:
        terms.append(await _cause(db, wanted.cause))
    if wanted.actor is not None:
        await _wrote(db, wanted.actor)
        terms.append(Term((of_commit("x.actor = ?", wanted.actor),), "c.actor = ?", (wanted.actor,)))
    if wanted.kind is not None:
        terms.append(_kind(wanted.kind))
    return await _found(db, terms, page, since=wanted.since, until=wanted.until)


async def of_addresses(
    db: aiosqlite.Connection,
    first: bytes,
    last: bytes,
    page: Page,
    *,
    since: int | None = None,
    until: int | None = None,
) -> list[AuditRow]:
    """All that happened to addresses: in ledgers, on nodes as far as it changed, where agents met them, in the plan."""
    return await _found(db, [_range(first, last)], page, since=since, until=until)


async def changes(
    db: aiosqlite.Connection,
    site: str,
    subnet: str,
    page: Page,
    *,
    since: int | None = None,
    until: int | None = None,
) -> list[AuditRow]:
    """What changed in a subnet: its part of the plan, its ledger but for mere renewals, which nodes came and left.

    Unknown if there never was such a subnet.
    """
    keys = [of_positions("position FROM event_part WHERE subnet = ?", subnet)]
    subject = subjects.ledger(site, subnet)
    keys.append(of_commit("x.subject = ?", subject))
    word = await _word(db, subnet)
    if word is not None:
        keys.append(of_word(word, "e.name = 'node.arrived'"))
    known = await db.execute_fetchall(
        "SELECT EXISTS (SELECT 1 FROM event_part WHERE subnet = ?)"
        " OR EXISTS (SELECT 1 FROM view_subject WHERE subject = ?)",
        (subnet, subject),
    )
    if not next(iter(known))[0]:
        raise Unknown(f"there never was a subnet {subnet!r}")
    own = Term(tuple(keys), "true", ())
    return await _found(db, [own, Term((), "e.name != ?", (RENEWED,))], page, since=since, until=until)


async def _found(
    db: aiosqlite.Connection, terms: Sequence[Term], page: Page, *, since: int | None, until: int | None
) -> list[AuditRow]:
    limit = max(1, min(page.limit, MAX_FOUND))
    return await search(db, terms, since=since, until=until, bounds=page.bounds, limit=limit, newest=page.newest)


async def _wrote(db: aiosqlite.Connection, actor: str) -> None:
    """Unknown if somebody never wrote, with who may be meant: writers are told apart by what they are."""
    for name in (actor, *(f"{what}/{actor}" for what in WRITERS)):
        if list(await db.execute_fetchall("SELECT 1 FROM event_commit WHERE actor = ? LIMIT 1", (name,))):
            if name == actor:
                return
            raise Unknown(f"nobody called {actor!r} wrote to the log; did you mean {name!r}?")
    raise Unknown(f"nobody called {actor!r} wrote to the log; expected a name such as agent/east or operator/api")


def _kind(kind: str) -> Term:
    kind_of(kind)
    names = sorted(name for name in NAMES if name == kind or name.startswith(f"{kind}."))
    # A sign before a column keeps SQLite from seeking by it where another key leads.
    return Term(tuple(of_event("e.name = ?", name) for name in names), f"+e.name IN ({_marks(names)})", tuple(names))


async def _about(db: aiosqlite.Connection, site: str, entity: str) -> Term:
    if (prefix := _prefix(entity)) is not None:
        return _range(prefix.network, prefix.last.to_bytes(16))
    keys: list[Key] = []
    where: list[str] = []
    values: list[Any] = []
    clients: list[bytes] = []
    for node in await find(db, entity):
        client = bytes.fromhex(node.client)
        clients += [client, *await joined_into(db, client)]
    if clients:
        keys += [of_event("e.client = ?", client) for client in clients]
        where.append(f"+e.client IN ({_marks(clients)})")
        values += clients
    if (word := await _word(db, entity.lower())) is not None:
        keys.append(of_word(word))
        where.append(_HAS_WORD.format("?"))
        values.append(word)
    ledger, seen = subjects.ledger(site, entity), subjects.seen(site, entity, "")
    written = await db.execute_fetchall(
        "SELECT subject FROM view_subject WHERE subject = ? OR (subject > ? AND subject < ?)",
        (ledger, seen, f"{seen.removesuffix('.')}/"),
    )
    for [subject] in written:
        keys.append(of_commit("x.subject = ?", subject))
        where.append("c.subject = ?")
        values.append(subject)
    if not keys:
        raise Unknown(f"nothing in the log is called {entity!r}: no node, no name of the plan, no word of an event")
    return Term(tuple(keys), " OR ".join(where), tuple(values))


def _range(first: bytes, last: bytes) -> Term:
    one = first == last  # then the index has its events in the log's order
    own = of_event("e.address = ?", first) if one else of_event("e.address BETWEEN ? AND ?", first, last)
    around = [prefix_of(first, length) for length in range(LONGEST + 1)]
    networks = [each.network for each in around]
    place = f"sequence << {INDEX_BITS} | event_index AS position"
    others = [
        (f"{place} FROM history_use WHERE address BETWEEN ? AND ?", (first, last)),
        (f"{place} FROM history_seen WHERE address BETWEEN ? AND ?", (first, last)),
        ("position FROM event_part WHERE first <= ? AND last >= ?", (last, first)),
        (
            f"{place} FROM history_prefix WHERE network IN ({_marks(networks)})"
            f" AND (network, length) IN (VALUES {', '.join(['(?, ?)'] * len(around))})",
            (*networks, *(value for each in around for value in (each.network, each.length))),
        ),
    ]
    where = ["+e.address BETWEEN ? AND ?", *(f"e.position IN (SELECT {select})" for select, _ in others)]
    values = (first, last, *(value for _, bound in others for value in bound))
    return Term((own, *(of_positions(select, *bound) for select, bound in others)), " OR ".join(where), values)


async def _text(db: aiosqlite.Connection, text: str) -> Term:
    found = await db.execute_fetchall(
        "SELECT id FROM event_word WHERE instr(text, ?) LIMIT ?", (text.lower(), MAX_WORDS + 1)
    )
    words = [row[0] for row in found]
    if len(words) > MAX_WORDS:
        raise ValueError(f"{text!r} stands in more than {MAX_WORDS} words of the log; give more of it")
    if not words:
        return Term((), "false", ())
    return Term(tuple(map(of_word, words)), _HAS_WORD.format(_marks(words)), tuple(words))


async def _cause(db: aiosqlite.Connection, cause: str) -> Term:
    if cause.isascii() and cause.isdecimal() and len(cause) < 19:
        return Term((of_event("e.cause = ?", int(cause)),), "+e.cause = ?", (int(cause),))
    if cause not in ASKED:
        raise ValueError(
            f"{cause!r} is no cause; expected the position of a commit, or one of {', '.join(sorted(ASKED))}"
        )
    word = await _word(db, cause)
    if word is None:
        return Term((), "false", ())
    return Term((of_word(word, f"e.request = {word}"),), "e.request = ?", (word,))


async def _word(db: aiosqlite.Connection, text: str) -> int | None:
    rows = list(await db.execute_fetchall("SELECT id FROM event_word WHERE text = ?", (text,)))
    return rows[0][0] if rows else None


def _prefix(text: str) -> Prefix | None:
    try:
        return parse_prefix(text) if "/" in text else Prefix(parse_address(text), 128)
    except ValueError:
        return None


_HAS_WORD = "EXISTS (SELECT 1 FROM event_text q WHERE q.position = e.position AND q.word IN ({0}))"


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
