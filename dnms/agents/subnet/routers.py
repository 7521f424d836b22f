"""Waits until the routers of the link have a route, before who was delegated a prefix hears of that (`routers` of a
subnet in the plan: instances of the subscriber `routes`).

A route that comes after the first packet is the field's oldest complaint about prefix delegation. What an instance has
done it says on the log, so it makes no difference on which machine it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from dnms.events.effect import EffectApplied
from dnms.events.ip import Prefix

SUBSCRIBER = "routes"

WITHIN = 3.0  # seconds; a node waits for longer than that


class Reached(msgspec.Struct):
    """How far each router has come: what of the log outlives the agent, in its snapshot."""

    positions: dict[str, int] = {}  # by instance
    named: tuple[str, ...] = ()  # by the plan that was adopted last
    lacking: dict[str, dict[str, int]] = {}
    """By instance: prefixes to which it cannot have a route now, and the position up to which it did not say so."""


class Routers:
    """How far each router has come, and who waits for that."""

    def __init__(self, state: Reached, *, followed: int = 0) -> None:
        self._state = state
        self.followed = followed
        """Sequence of the newest commit of the log that the follow has brought."""
        self._moved = asyncio.Event()
        self._late = 0  # the newest position that was waited for in vain

    def adopted(self, routers: tuple[str, ...], position: int) -> None:
        """A plan names these. What was delegated before then was told without those that it did not name."""
        for each in set(routers) - set(self._state.named):
            self._advance(each, position)
        self._state.named = routers

    def applied(self, instance: str, event: EffectApplied) -> None:
        """An instance has said that its routes are as the log says, but for those that it lacks."""
        before, known = self._state.positions.get(instance, 0), self._state.lacking.get(instance, {})
        prefixes = (route.partition(" ")[0] for route in event.lacks)
        self._state.lacking[instance] = {each: known.get(each, before) for each in prefixes}
        self._advance(instance, event.position)

    def _advance(self, instance: str, position: int) -> None:
        positions = self._state.positions
        positions[instance] = max(position, positions.get(instance, 0))
        self._moved.set()
        self._moved = asyncio.Event()

    def has_route(self, routers: Sequence[str], prefix: Prefix, position: int) -> bool:
        """Whether all of these have had a route to a prefix since it was delegated, at this position."""
        reached, lacking = self.reached(routers), self._state.lacking
        has = (position <= lacking.get(each, {}).get(str(prefix), position) for each in routers)
        return reached is None or (reached >= position and all(has))

    def reached(self, routers: Sequence[str]) -> int | None:
        """The position up to which all of these have their routes; None: there are none to wait for.

        A plan that names another one is in the ledger when the log has taken it, and here when the follow brings it.
        Meanwhile nobody is to lose what was told before.
        """
        positions, named = self._state.positions, self._state.named
        several = (max(positions.get(each, 0), 0 if each in named else self.followed) for each in routers)
        return min(several, default=None)

    async def wait(self, routers: Sequence[str], position: int) -> None:
        """Wait until all of these have the routes of a position, for WITHIN seconds at most, and once: while a router
        is away, everybody who comes again would wait for it, and be told late of all else.
        """
        if position <= self._late:
            return
        try:
            async with asyncio.timeout(WITHIN):
                while (reached := self.reached(routers)) is not None and reached < position:
                    await self._moved.wait()
        except TimeoutError:
            self._late = max(self._late, position)
