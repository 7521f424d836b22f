"""From what is to why it is: each step with the event that brought it about, who wrote that, and what was asked for.

Every step is deeper than the one that it is the cause of. The way back ends at the plan, with the operator who applied
it, and at what came from above; where that was delegated by what is not in this log, the last step says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from dnms.events.codec import decode_event
from dnms.events.effect import EffectApplied
from dnms.events.ip import Prefix, format_address, parse_prefix, prefix_of
from dnms.events.plan import (
    Delegation,
    DelegationDefined,
    GroupDefined,
    PoolDefined,
    SubnetDefined,
    UplinkDefined,
)
from dnms.events.recorded import Event
from dnms.projections.addresses import queries as addresses
from dnms.projections.addresses.queries import AddressRow
from dnms.projections.connection import Connection
from dnms.projections.events.fold import INDEX_BITS
from dnms.projections.prefixes import queries as prefixes
from dnms.projections.prefixes.queries import STANDING, DelegationRow, LinkRow, UplinkRow
from dnms.projections.prefixes.tree import parent_of
from dnms.projections.text import instant, position
from dnms.projections.why.asked import Asked

MAX_DEPTH = 64  # each delegation is longer than the one that it is cut from; more is a log that says nonsense
MAX_DEFINED = 10_000  # events of the plan that are looked through for a name
MAX_TOLD = 100  # events about who a node is, of the newest
MAX_EFFECTS = 1_000  # of subscribers, that are looked through for a route

_PLAN: dict[type[Any], tuple[str, str]] = {
    PoolDefined: ("pool", "pool"),
    DelegationDefined: ("delegation", "delegation"),
    UplinkDefined: ("uplink", "uplink"),
    SubnetDefined: ("subnet", "subnet"),
    GroupDefined: ("group", "group"),
}
"""Of the plan's events the field with what they define, and what that is called."""


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


class _Recorded(msgspec.Struct, frozen=True):
    """An event where it stands."""

    place: str
    time: datetime
    subject: str
    actor: str
    request: str | None
    event: Event


async def why(db: Connection, log_id: str, about: Asked) -> list[Step]:
    """Why what is asked about is as it is; empty if the log knows of no such thing."""
    return [step async for step in _Back(db, log_id).of(about)]


def unknown(of: str) -> str:
    """What people are told where there are no steps."""
    return f"the log knows nothing of {of!r}: it is not DNMS that brought it about, or it is over (ask as of then)"


class _Back:
    """One way back."""

    def __init__(self, db: Connection, log_id: str) -> None:
        self._db = db
        self._log_id = log_id
        self._met: set[tuple[str, str, str]] = set()

    async def of(self, about: Asked) -> AsyncIterator[Step]:
        """The steps of what is asked about."""
        if about.element_of:
            async for step in self._element(about):
                yield step
        elif about.is_route:
            async for step in self._route(about):
                yield step
        elif about.is_address:
            async for step in self._address(about.prefix, 0):
                yield step
        else:
            async for step in self._prefix(about.prefix, 0):
                yield step

    async def _element(self, about: Asked) -> AsyncIterator[Step]:
        name = about.element_of.removeprefix("_").rpartition("-")[0] or about.element_of
        below = [
            step
            async for step in (self._address(about.prefix, 1) if about.is_address else self._prefix(about.prefix, 1))
        ]
        if not below:
            return
        what = format_address(about.prefix.network) if about.is_address else str(about.prefix)
        yield Step(depth=0, what=f"{what} is in the set {about.element_of}: it is a member's of group {name}")
        async for step in self._defined(GroupDefined, name, 1):
            yield step
        async for step in self._membership(about.prefix, name, 1):
            yield step
        for step in below:
            yield step

    async def _membership(self, prefix: Prefix, group: str, depth: int) -> AsyncIterator[Step]:
        """By what the holder is in a group: an operator has entered it, or it has said its name."""
        held: Sequence[AddressRow | DelegationRow] = (
            await addresses.leases_of(self._db, prefix.network)
            if prefix.length == 128
            else await prefixes.of_prefix(self._db, prefix)
        )
        names = {row.client: row.node for row in held if row.group == group}
        for client, name in names.items():
            told = await self._events(
                "e.client = ? AND e.name IN ('node.entered', 'node.identified')", bytes.fromhex(client), limit=MAX_TOLD
            )
            entered = [each for each in told if getattr(each.event, "group", "") == group]
            identified = [each for each in told if each.event.NAME == "node.identified"]
            if entered:
                yield _step(depth, f"{name or client} was entered with group {group}", entered[0])
            elif identified:
                yield _step(depth, f"{name or client} is what a pattern of group {group} says", identified[0])

    async def _route(self, about: Asked) -> AsyncIterator[Step]:
        below = [step async for step in self._of_route(about)]
        if not below:
            return
        text = f"unreachable {about.prefix}" if about.unreachable else str(about.prefix)
        text += f" via {about.via}" if about.via else ""
        text += f" dev {about.dev}" if about.dev else ""
        done = await self._effects(about)
        for recorded in done:
            yield _step(0, f"{recorded.actor.removeprefix('subscriber/')} has added the route {text}", recorded)
        if not done:
            yield Step(depth=0, what=f"the route {text}")
        for step in below:
            yield step

    async def _of_route(self, about: Asked) -> AsyncIterator[Step]:
        """What a route is there for."""
        if about.unreachable:
            above = await prefixes.uplinks(self._db, within=about.prefix)
            ways = [self._uplink(row, 1) for row in above if row.prefix == str(about.prefix)]
            ways.append(self._static(about.prefix, 1))
        elif about.via:
            given = await prefixes.of_prefix(self._db, about.prefix)
            ways = [self._delegation(row, 1) for row in given if (row.next_hop, row.closed) == (about.via, None)]
        else:
            own = await prefixes.links(self._db, within=about.prefix)
            ways = [self._link(row, 1) for row in own if row.prefix == str(about.prefix)]
        for way in ways:
            async for step in way:
                yield step

    async def _static(self, prefix: Prefix, depth: int) -> AsyncIterator[Step]:
        """A pool of prefixes that the plan has itself."""
        for recorded in await self._events("e.name = ?", DelegationDefined.NAME, limit=MAX_DEFINED):
            pool: Delegation = recorded.event.delegation  # type: ignore[attr-defined]  # by its name
            if pool.prefix == prefix:
                yield _step(depth, f"{prefix} is what delegation {pool.name} of the plan is cut from", recorded)
                return

    async def _address(self, prefix: Prefix, depth: int) -> AsyncIterator[Step]:
        address = format_address(prefix.network)
        leases = await addresses.leases_of(self._db, prefix.network)
        for row in leases:
            who = row.node or row.client
            rests = {"declined": "rests: {} found it in use", "blocked": "rests: {} uses it"}
            said = {"held": "is leased to {}", "reserved": "is reserved for {}", **rests}[row.state].format(who)
            yield _step(depth, f"{address} {said}, in subnet {row.subnet}", await self._at(row.opened))
            async for step in self._defined(PoolDefined, row.pool, depth + 1):
                yield step
            async for step in self._link_of(prefix, row.subnet, depth + 1):
                yield step
        if not leases:
            async for step in self._prefix(prefix, depth, within=True):
                yield step

    async def _prefix(self, prefix: Prefix, depth: int, *, within: bool = False) -> AsyncIterator[Step]:
        """What is delegated, a link's own or from above; `within`: what has it in it, the longest."""
        for length in range(prefix.length, -1, -1) if within else [prefix.length]:
            around = prefix_of(prefix.network, length)
            found = [step async for step in self._exactly(around, depth, standing=within)]
            for step in found:
                yield step
            if found:
                return

    async def _exactly(self, prefix: Prefix, depth: int, *, standing: bool) -> AsyncIterator[Step]:
        """All that this prefix is; `standing`: now."""
        for row in await prefixes.of_prefix(self._db, prefix):
            if row.state in STANDING or not standing:
                async for step in self._delegation(row, depth):
                    yield step
        for link in await prefixes.links(self._db, within=prefix):
            if link.prefix == str(prefix):
                async for step in self._link(link, depth):
                    yield step
        for uplink in await prefixes.uplinks(self._db, within=prefix, lost=not standing):
            if uplink.prefix == str(prefix):
                async for step in self._uplink(uplink, depth):
                    yield step

    async def _delegation(self, row: DelegationRow, depth: int) -> AsyncIterator[Step]:
        if not self._enter("delegation", row.prefix, row.subnet, depth):
            return
        who = row.node or row.client
        opened = await self._at(row.opened)
        was = "is" if row.state in STANDING else "was"
        yield _step(depth, f"{row.prefix} {was} delegated to {who}, via {row.next_hop}, in subnet {row.subnet}", opened)
        if row.changed != row.opened:
            changed = await self._at(row.changed)
            yield _step(depth, f"{row.prefix} is {row.state} since", changed)
        async for step in self._defined(DelegationDefined, row.pool, depth + 1):
            yield step
        async for step in self._above(parse_prefix(row.prefix), row.subnet, depth + 1):
            yield step

    async def _link_of(self, prefix: Prefix, subnet: str, depth: int) -> AsyncIterator[Step]:
        """The own prefix of a subnet that something lies in."""
        for row in await prefixes.links(self._db, subnet=subnet, within=prefix):
            if parse_prefix(row.prefix).covers(prefix):
                async for step in self._link(row, depth):
                    yield step
                return
        async for step in self._above(prefix, subnet, depth):
            yield step

    async def _link(self, row: LinkRow, depth: int) -> AsyncIterator[Step]:
        if not self._enter("link", row.prefix, row.subnet, depth):
            return
        adopted = await self._at(row.position)
        yield _step(depth, f"{row.prefix} is the own prefix of subnet {row.subnet}", adopted)
        async for step in self._defined(SubnetDefined, row.subnet, depth + 1):
            yield step
        async for step in self._above(parse_prefix(row.prefix), row.subnet, depth + 1):
            yield step

    async def _above(self, prefix: Prefix, subnet: str, depth: int) -> AsyncIterator[Step]:
        """What of a subnet's has come from above and has a prefix in it."""
        found = [
            row
            for row in await prefixes.uplinks(self._db, subnet=subnet, within=prefix, lost=True)
            if parse_prefix(row.prefix).covers(prefix)
        ]
        for row in sorted(found, key=lambda each: parse_prefix(each.prefix).length)[-1:]:
            async for step in self._uplink(row, depth):
                yield step

    async def _uplink(self, row: UplinkRow, depth: int) -> AsyncIterator[Step]:
        if not self._enter("uplink", row.prefix, row.subnet, depth):
            return
        state = {"received": "came", "deprecated": "came, is deprecated now,", "lost": "came, is lost now,"}[row.state]
        opened = await self._at(row.opened)
        yield _step(depth, f"{row.prefix} {state} to subnet {row.subnet} over {row.uplink}, from {row.source}", opened)
        async for step in self._defined(UplinkDefined, row.uplink, depth + 1):
            yield step
        parent = parent_of(row, self._log_id, await self._candidates(row))
        if parent is not None:
            async for step in self._delegation(parent, depth + 1):
                yield step
        elif row.source_log is not None and row.source_log != self._log_id:
            yield Step(
                depth=depth + 1,
                what=f"{row.source} delegated it, by another log than this",
                position=None if row.source_position is None else str(row.source_position),
                log=row.source_log,
            )
        else:
            yield Step(depth=depth + 1, what=f"{row.source} delegated it; no log says why")

    async def _candidates(self, uplink: UplinkRow) -> list[DelegationRow]:
        """Delegations that a prefix from above may have come of."""
        prefix = parse_prefix(uplink.prefix)
        found = await prefixes.opened_at(self._db, uplink.source_position) if uplink.source_position else []
        for length in range(prefix.length, -1, -1):
            around = await prefixes.of_prefix(self._db, prefix_of(prefix.network, length))
            found += [each for each in around if each.state in STANDING and each not in found]
        return found

    async def _defined(self, kind: type[Any], name: str, depth: int) -> AsyncIterator[Step]:
        """What the plan says of something, as it was defined last."""
        field, called = _PLAN[kind]
        for recorded in await self._events("e.name = ?", kind.NAME, limit=MAX_DEFINED):
            if getattr(recorded.event, field).name == name:
                yield _step(depth, f"{called} {name} is so in the plan", recorded)
                return

    async def _effects(self, about: Asked) -> list[_Recorded]:
        """By which effect each instance of a subscriber has added a route last."""
        before = f"unreachable {about.prefix} " if about.unreachable else f"{about.prefix} "
        found: dict[str, _Recorded] = {}
        for recorded in await self._events(
            "e.name = 'effect.applied' AND e.position IN (SELECT t.position FROM event_text t WHERE t.word IN"
            " (SELECT id FROM event_word WHERE text >= ? AND text < ?))",
            before,
            f"{before[:-1]}!",
            limit=MAX_EFFECTS,
        ):
            event = recorded.event
            if isinstance(event, EffectApplied) and any(_is_route(each, about) for each in event.added):
                found.setdefault(recorded.actor, recorded)
        return [found[actor] for actor in sorted(found)]

    async def _at(self, place: str) -> _Recorded | None:
        sequence, _, index = place.partition(".")
        [*found] = await self._events("e.position = ?", int(sequence) << INDEX_BITS | int(index), limit=1)
        return found[0] if found else None

    async def _events(self, where: str, *values: object, limit: int) -> list[_Recorded]:
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
            _Recorded(
                position(row[0] >> INDEX_BITS, row[0] & (1 << INDEX_BITS) - 1),
                instant(row[1]),
                row[2],
                row[3],
                row[4],
                decode_event(row[5]),
            )
            for row in rows
        ]

    def _enter(self, kind: str, prefix: str, subnet: str, depth: int) -> bool:
        """Whether this was not met before: a log can say that two are each other's cause."""
        key = (kind, prefix, subnet)
        if key in self._met or depth > MAX_DEPTH:
            return False
        self._met.add(key)
        return True


def _is_route(text: str, about: Asked) -> bool:
    words = text.split()
    own = dict(zip(words[1::2], words[2::2], strict=False))
    return about.unreachable or (
        (not about.via or own.get("via") == about.via) and (not about.dev or own.get("dev") == about.dev)
    )


def _step(depth: int, what: str, recorded: _Recorded | None) -> Step:
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
