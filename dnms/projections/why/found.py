"""Events of the views by what they say, for steps back: of the plan by a name, of subscribers by what they added."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from dnms.events.codec import decode_event
from dnms.events.effect import EffectApplied
from dnms.events.plan import DelegationDefined, GroupDefined, PoolDefined, SubnetDefined, UplinkDefined
from dnms.events.recorded import Event
from dnms.events.rule import RuleDefined, RuleWithdrawn
from dnms.projections.connection import Connection
from dnms.projections.events.fold import INDEX_BITS
from dnms.projections.text import instant, position

MAX_DEFINED = 10_000  # events of the plan that are looked through for a name
MAX_TOLD = 100  # events about who a node is, of the newest
MAX_EFFECTS = 1_000  # of subscribers, that are looked through for what they added

_PLAN: dict[type[Any], str] = {
    PoolDefined: "pool",
    DelegationDefined: "delegation",
    UplinkDefined: "uplink",
    SubnetDefined: "subnet",
    GroupDefined: "group",
}
"""Of the plan's events the field with what they define, which is what that is called too."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is so, and the event by which it is."""

    depth: int  # the causes of a step follow it, one deeper
    what: str
    event: str | None = None  # its name; None: the log has no event for it
    position: str | None = None
    time: datetime | None = None
    actor: str | None = None  # who wrote it
    request: str | None = None  # what was asked for; None: it was merely seen
    subject: str | None = None
    log: str | None = None  # the id of another log, where the way goes on


class Recorded(msgspec.Struct, frozen=True):
    """An event where it stands."""

    place: str
    time: datetime
    subject: str
    actor: str
    request: str | None
    event: Event


def by_event(depth: int, what: str, recorded: Recorded | None) -> Step:
    """What is so by an event, if there is one."""
    if recorded is None:
        return Step(depth=depth, what=what)
    return Step(
        depth=depth,
        what=what,
        event=recorded.event.NAME,
        position=recorded.place,
        time=recorded.time,
        actor=recorded.actor,
        request=recorded.request,
        subject=recorded.subject,
    )


class Found:
    """What the views have of events, as of when they are read."""

    def __init__(self, db: Connection) -> None:
        self._db = db

    async def at(self, place: str) -> Recorded | None:
        """The event at a position."""
        sequence, _, index = place.partition(".")
        [*found] = await self.events("e.position = ?", int(sequence) << INDEX_BITS | int(index), limit=1)
        return found[0] if found else None

    async def defined(self, kind: type[Any], name: str) -> Recorded | None:
        """By which event the plan has a part of this name as it is."""
        for recorded in await self.events("e.name = ?", kind.NAME, limit=MAX_DEFINED):
            if getattr(recorded.event, _PLAN[kind]).name == name:
                return recorded
        return None

    async def pool_of(self, prefix: str) -> tuple[str, Recorded] | None:
        """The delegation of the plan that is cut from just this prefix, and its event."""
        for recorded in await self.events("e.name = ?", DelegationDefined.NAME, limit=MAX_DEFINED):
            event = recorded.event
            if isinstance(event, DelegationDefined) and str(event.delegation.prefix) == prefix:
                return event.delegation.name, recorded
        return None

    async def rules_of(self, group: str) -> list[tuple[str, Recorded]]:
        """The rules of the plan that name a group, with their events."""
        newest: dict[str, Recorded] = {}
        where = "e.name IN (?, ?)"
        for recorded in await self.events(where, RuleDefined.NAME, RuleWithdrawn.NAME, limit=MAX_DEFINED):
            event = recorded.event
            if isinstance(event, RuleDefined | RuleWithdrawn):
                newest.setdefault(event.rule.name if isinstance(event, RuleDefined) else event.name, recorded)
        found = []
        for name, recorded in sorted(newest.items()):
            if isinstance(event := recorded.event, RuleDefined):
                named = {event.rule.group, *(peer.group for peer in event.rule.peers)}
                found += [(name, recorded)] if group in named else []
        return found

    async def membership(self, client: str, group: str) -> tuple[str, Recorded] | None:
        """By what a client (hex) is in a group: an operator has entered it with that, or it has said its name."""
        told = await self.events(
            "e.client = ? AND e.name IN ('node.entered', 'node.identified')", bytes.fromhex(client), limit=MAX_TOLD
        )
        for each in told:
            if getattr(each.event, "group", "") == group:
                return "was entered with", each
        return next((("has a name of", each) for each in told if each.event.NAME == "node.identified"), None)

    async def effects(self, text: str, is_it: Callable[[str], bool]) -> list[Recorded]:
        """By which effect each instance of a subscriber has last added what begins with a text, and is it."""
        found: dict[str, Recorded] = {}
        for recorded in await self.events(
            "e.name = 'effect.applied' AND e.position IN (SELECT t.position FROM event_text t WHERE t.word IN"
            " (SELECT id FROM event_word WHERE text >= ? AND text < ?))",
            text.lower(),
            f"{text[:-1].lower()}{chr(ord(text[-1]) + 1)}",
            limit=MAX_EFFECTS,
        ):
            event = recorded.event
            if isinstance(event, EffectApplied) and any(map(is_it, event.added)):
                found.setdefault(recorded.subject, recorded)
        return [found[subject] for subject in sorted(found)]

    async def events(self, where: str, *values: object, limit: int) -> list[Recorded]:
        """Events, the newest first."""
        rows = await self._db.execute_fetchall(
            f"""
            SELECT e.position, c.time, c.subject, c.actor, w.text, e.item
            FROM event e JOIN event_commit c ON c.sequence = e.position >> {INDEX_BITS}
            LEFT JOIN event_word w ON w.id = e.request
            WHERE {where} ORDER BY e.position DESC LIMIT ?
            """,
            (*values, limit),
        )
        return [
            Recorded(
                position(row[0] >> INDEX_BITS, row[0] & (1 << INDEX_BITS) - 1),
                instant(row[1]),
                row[2],
                row[3],
                row[4],
                decode_event(row[5]),
            )
            for row in rows
        ]
