"""From what is to why it is: each step with the event that brought it about, who wrote that, and what was asked for.

Every step is deeper than the one that it is the cause of. The way back ends at the plan, with the operator who applied
it, and at what came from above; where that was delegated by what is not in this log, the last step says so.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from dnms.events.ip import Prefix, format_address, parse_prefix, prefix_of
from dnms.events.plan import DelegationDefined, GroupDefined, PoolDefined, SubnetDefined, UplinkDefined
from dnms.projections.addresses import queries as addresses
from dnms.projections.addresses.queries import AddressRow
from dnms.projections.connection import Connection
from dnms.projections.prefixes import queries as prefixes
from dnms.projections.prefixes.queries import STANDING, DelegationRow, LinkRow, UplinkRow
from dnms.projections.prefixes.tree import parent_of
from dnms.projections.why.asked import Asked
from dnms.projections.why.found import Found, Recorded, Step, by_event

__all__ = ["Step", "unknown", "why"]

MAX_DEPTH = 64  # each delegation is longer than the one that it is cut from; more is a log that says nonsense
_SET = re.compile(r"(held_|mac_|net_|_)?([a-z0-9-]+)-[46](?:/\d{1,3})?")
"""The names of the firewall's sets: of a group, and of what a subnet has."""


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
        self._found = Found(db)
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
        what = format_address(about.prefix.network) if about.is_address else str(about.prefix)
        below = [
            step
            async for step in (self._address(about.prefix, 1) if about.is_address else self._prefix(about.prefix, 1))
        ]
        match = _SET.fullmatch(about.element_of)
        if not below or match is None:
            return
        kind, name = match.groups()
        of = f"group {name}" if kind in (None, "_") else f"subnet {name}"
        text = f"{what} in {about.element_of}"
        done = await self._found.effects(text, lambda added: added == text or added.startswith(f"{text} "))
        for recorded in done:
            yield by_event(0, f"{_who(recorded)} has added {text}, a set of {of}", recorded)
        if not done:
            yield Step(depth=0, what=f"{text}, a set of {of}")
        if kind in (None, "_"):
            async for each in self._group(about.prefix, name, 1):
                yield each
        else:
            async for each in self._defined(SubnetDefined, name, 1):
                yield each
        for each in below:
            yield each

    async def _group(self, prefix: Prefix, group: str, depth: int) -> AsyncIterator[Step]:
        """A group with the rules that name it, and by what the holder of a prefix is its member."""
        async for each in self._defined(GroupDefined, group, depth):
            yield each
        for name, recorded in await self._found.rules_of(group):
            yield by_event(depth, f"rule {name} of the plan is about group {group}", recorded)
        held: Sequence[AddressRow | DelegationRow] = (
            await addresses.leases_of(self._db, prefix.network)
            if prefix.length == 128
            else await prefixes.of_prefix(self._db, prefix)
        )
        names = {row.client: row.node for row in held if row.group == group}
        for client, node in names.items():
            if (member := await self._found.membership(client, group)) is not None:
                yield by_event(depth, f"{node or client} {member[0]} group {group}", member[1])

    async def _route(self, about: Asked) -> AsyncIterator[Step]:
        below = [step async for step in self._of_route(about)]
        if not below:
            return
        text = f"unreachable {about.prefix}" if about.unreachable else str(about.prefix)
        text += f" via {about.via}" if about.via else ""
        text += f" dev {about.dev}" if about.dev else ""
        begins = f"unreachable {about.prefix} " if about.unreachable else f"{about.prefix} "
        done = await self._found.effects(begins, lambda added: _is_route(added, about))
        for recorded in done:
            yield by_event(0, f"{_who(recorded)} has added the route {text}", recorded)
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
        if (pool := await self._found.pool_of(str(prefix))) is not None:
            yield by_event(depth, f"{prefix} is what delegation {pool[0]} of the plan is cut from", pool[1])

    async def _address(self, prefix: Prefix, depth: int) -> AsyncIterator[Step]:
        address = format_address(prefix.network)
        leases = await addresses.leases_of(self._db, prefix.network)
        for row in leases:
            who = row.node or row.client
            rests = {"declined": "rests: {} found it in use", "blocked": "rests: {} uses it"}
            said = {"held": "is leased to {}", "reserved": "is reserved for {}", **rests}[row.state].format(who)
            yield by_event(depth, f"{address} {said}, in subnet {row.subnet}", await self._found.at(row.opened))
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
        """All that this prefix is, from what is farthest from its origin on; `standing`: now."""
        links, text = await prefixes.links(self._db, within=prefix), str(prefix)
        uplinks = await prefixes.uplinks(self._db, within=prefix, lost=not standing)
        ways = [self._link(row, depth) for row in links if row.prefix == text]
        ways += [self._uplink(row, depth) for row in uplinks if row.prefix == text]
        ways += [
            self._delegation(row, depth)
            for row in await prefixes.of_prefix(self._db, prefix)
            if row.state in STANDING or not standing
        ]
        for way in ways:
            async for step in way:
                yield step

    async def _delegation(self, row: DelegationRow, depth: int) -> AsyncIterator[Step]:
        if not self._enter("delegation", row.prefix, row.subnet, depth):
            return
        who = row.node or row.client
        opened = await self._found.at(row.opened)
        was = "is" if row.state in STANDING else "was"
        yield by_event(
            depth, f"{row.prefix} {was} delegated to {who}, via {row.next_hop}, in subnet {row.subnet}", opened
        )
        if row.changed != row.opened:
            changed = await self._found.at(row.changed)
            became = "was renewed last" if row.state == "delegated" else f"is {row.state} since"
            yield by_event(depth, f"{row.prefix} {became}", changed)
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
        adopted = await self._found.at(row.position)
        yield by_event(depth, f"{row.prefix} is the own prefix of subnet {row.subnet}", adopted)
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
        state = {"received": "", "deprecated": ", and is deprecated", "lost": ", and is lost"}[row.state]
        opened = await self._found.at(row.opened)
        yield by_event(
            depth, f"{row.prefix} came to subnet {row.subnet} over {row.uplink}, from {row.source}{state}", opened
        )
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
        if (recorded := await self._found.defined(kind, name)) is not None:
            yield by_event(depth, f"{recorded.event.NAME.partition('.')[0]} {name} is so in the plan", recorded)

    def _enter(self, kind: str, prefix: str, subnet: str, depth: int) -> bool:
        """Whether this was not met before: a log can say that two are each other's cause."""
        key = (kind, prefix, subnet)
        if key in self._met or depth > MAX_DEPTH:
            return False
        self._met.add(key)
        return True


def _who(recorded: Recorded) -> str:
    return recorded.actor.removeprefix("subscriber/")


def _is_route(text: str, about: Asked) -> bool:
    words = text.split()
    own = dict(zip(words[1::2], words[2::2], strict=False))
    return about.unreachable or (
        (not about.via or own.get("via") == about.via) and (not about.dev or own.get("dev") == about.dev)
    )
