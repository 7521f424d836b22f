"""Questions about what happened."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import aiosqlite
import msgspec

from dnms.events.codec import EVENTS, decode_event
from dnms.projections.events.fold import INDEX_BITS
from dnms.projections.text import instant, plain, position

MAX_EVENTS = 1_000  # in one answer; a caller pages on with `after`

NAMES = frozenset(event.NAME for event in EVENTS)
FAMILIES = frozenset(name.partition(".")[0] for name in NAMES)


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """One event, with what its commit says of it."""

    sequence: int
    index: int
    time: datetime
    subject: str
    name: str
    actor: str
    client: str | None  # hex
    node: str | None  # the client's name, as it is now
    fields: dict[str, Any]  # those that do not hold their default

    @property
    def position(self) -> str:
        """Where it stands in the log."""
        return position(self.sequence, self.index)


def kind_of(text: str) -> str:
    """A name of events, or a family of names; ValueError if there is none such, for which one would wait in vain."""
    if text not in NAMES and text not in FAMILIES:
        raise ValueError(
            f"there is no kind of events {text!r}; expected a name such as address.allocated, "
            f"or the first word of one: {', '.join(sorted(FAMILIES))}"
        )
    return text


class Counts(msgspec.Struct, frozen=True):
    """How much happened."""

    commits: int
    events: int


def after_commit(sequence: int) -> int:
    """The cursor behind every event of a commit."""
    return (sequence + 1 << INDEX_BITS) - 1


def after_event(sequence: int, index: int) -> int:
    """The cursor behind one event."""
    return sequence << INDEX_BITS | index


def position_of(cursor: int) -> str:
    """The position that `cursor` is behind: of a commit where it is behind all of one."""
    sequence, index = cursor >> INDEX_BITS, cursor & (1 << INDEX_BITS) - 1
    return str(sequence) if cursor == after_commit(sequence) else position(sequence, index)


async def events(
    db: aiosqlite.Connection,
    *,
    after: int = -1,
    limit: int = 100,
    kind: str | None = None,
    client: bytes | None = None,
    address: bytes | None = None,
    newest: bool = False,
) -> list[EventRow]:
    """Events behind the cursor `after`, in the log's order; at most MAX_EVENTS.

    `kind` is a name (`address.allocated`) or a family of names (`address`). With `newest` they are the last ones that
    match, still in the log's order. Of a client also those of what was joined into it.
    """
    terms, values = ["e.position > ?"], [after]
    wanted: list[Any] = list(values)
    if kind is not None:
        if "." in kind:
            terms.append("e.name = ?")
            wanted.append(kind)
        else:
            terms.append("e.name > ? AND e.name < ?")
            wanted += [f"{kind}.", f"{kind}/"]  # "/" is the character after "."
    if client is not None:
        joined = await db.execute_fetchall("SELECT client FROM node_join WHERE into_client = ?", (client,))
        clients = [client, *(row[0] for row in joined)]
        # Of one client the index has them in the log's order.
        terms.append("e.client = ?" if len(clients) == 1 else f"e.client IN ({', '.join('?' * len(clients))})")
        wanted += clients
    if address is not None:
        terms.append("e.address = ?")
        wanted.append(address)
    wanted.append(max(0, min(limit, MAX_EVENTS)))
    rows = await db.execute_fetchall(
        f"""
        SELECT e.position, c.time, c.subject, e.name, c.actor, e.client, n.name, e.item
        FROM event e
        JOIN event_commit c ON c.sequence = e.position >> {INDEX_BITS}
        LEFT JOIN node n ON n.client = e.client
        WHERE {" AND ".join(terms)}
        ORDER BY e.position {"DESC" if newest else ""}
        LIMIT ?
        """,
        wanted,
    )
    found = [
        EventRow(
            sequence=row[0] >> INDEX_BITS,
            index=row[0] & (1 << INDEX_BITS) - 1,
            time=instant(row[1]),
            subject=row[2],
            name=row[3],
            actor=row[4],
            client=None if row[5] is None else row[5].hex(),
            node=row[6],
            fields=plain(decode_event(row[7])),
        )
        for row in rows
    ]
    return found[::-1] if newest else found


async def counts(db: aiosqlite.Connection) -> Counts:
    """How many commits and events are folded, from the counters that the position carries."""
    [row] = await db.execute_fetchall("SELECT commits, events FROM view_position")
    return Counts(row[0], row[1])
