"""A naive model of the delegations of one pool: a list of who has what until when, searched from end to end."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from dnms.events.ip import Prefix
from dnms.events.prefix import (
    PrefixDelegated,
    PrefixDeprecated,
    PrefixExpired,
    PrefixReleased,
    PrefixRenewed,
    PrefixWithdrawn,
)
from dnms.events.recorded import Event


class Setting(msgspec.Struct, frozen=True):
    """A pool, and what it is cut from."""

    source: Prefix
    kept: Prefix | None  # of it, what the link has
    length: int
    shortest: int
    longest: int
    exclude: bool
    sequential: bool
    cut: bool  # it comes from above

    def asked(self, hint: int) -> int:
        """The length of the block that this hint stands for."""
        return min(max(hint or self.length, self.shortest, self.source.length), self.longest)

    def blocks(self, length: int) -> list[Prefix]:
        """All of a length, the lowest first."""
        if length < self.source.length:
            return []
        size = 1 << (128 - length)
        return [Prefix(first.to_bytes(16), length) for first in range(self.source.first, self.source.last + 1, size)]


class Has(msgspec.Struct):
    """One delegation."""

    prefix: Prefix
    client: bytes
    iaid: int
    until: int  # microseconds


class Model:
    """What is delegated, what rests, and who had what."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.held: list[Has] = []
        self.resting: list[tuple[Prefix, bytes, int]] = []
        self.former: list[tuple[Prefix, bytes]] = []  # what is free for longest first

    def of(self, client: bytes, iaid: int) -> Has | None:
        return next((each for each in self.held if (each.client, each.iaid) == (client, iaid)), None)

    def undelegated(self, length: int) -> list[Prefix]:
        """Blocks of which nobody has anything."""
        return [
            block for block in self.setting.blocks(length) if not any(each.prefix.overlaps(block) for each in self.held)
        ]

    def free(self, client: bytes, length: int, at: int, *, excludes: bool) -> list[Prefix]:
        """Those that this client may be given."""
        kept, may_exclude = self.setting.kept, self.setting.exclude and excludes
        return [
            block
            for block in self.undelegated(length)
            if (kept is None or not kept.overlaps(block) or (may_exclude and block != kept and block.covers(kept)))
            and not any(prefix.overlaps(block) and who != client and until > at for prefix, who, until in self.resting)
        ]

    def choices(self, client: bytes, free: list[Prefix]) -> list[Prefix]:
        """Of what is free for a client what it is to get: nothing that another one had, else what is free for longest;
        and of several the lowest one, where the plan says so.
        """
        others = [prefix for prefix, who in self.former if who != client]
        new = [block for block in free if block not in others]
        if new:
            return new[:1] if self.setting.sequential else new
        return [prefix for prefix in others if prefix in free][:1]

    def take(self, event: Event) -> Iterator[str]:
        """Take in what has happened; what cannot have."""
        if isinstance(event, PrefixDelegated):
            self.former = [each for each in self.former if each[0] != event.prefix]
            self.resting = [each for each in self.resting if each[0] != event.prefix]
            self.held.append(Has(event.prefix, event.client, event.iaid, event.horizon))
            return
        if not isinstance(event, PrefixRenewed | PrefixReleased | PrefixExpired | PrefixWithdrawn | PrefixDeprecated):
            return
        there = next((each for each in self.held if each.prefix == event.prefix), None)
        if there is None or there.client != event.client:
            yield f"{event} of who does not have it"
        elif isinstance(event, PrefixRenewed):
            there.until = event.horizon
        elif not isinstance(event, PrefixDeprecated):
            self.held.remove(there)
            self.former.append((there.prefix, there.client))
            if isinstance(event, PrefixWithdrawn):
                self.resting.append((there.prefix, there.client, there.until))
