"""Waits until the routers of the link have a route, before who was delegated a prefix hears of that (`routers` of a
subnet in the plan: instances of the subscriber `routes`).

A route that comes after the first packet is the field's oldest complaint about prefix delegation. What an instance has
done it says on the log, so it makes no difference on which machine it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from dnms.events.effect import EffectApplied

SUBSCRIBER = "routes"

WITHIN = 3.0  # seconds; a node waits for longer than that


class Routers:
    """How far each router has come."""

    def __init__(self, position: int) -> None:
        """What is in the log up to this position was waited for by who made the snapshot that begins there."""
        self._begin = position
        self._positions: dict[str, int] = {}
        self._moved = asyncio.Event()

    def applied(self, instance: str, event: EffectApplied) -> None:
        """An instance has said that its routes are as the log says."""
        self._positions[instance] = max(event.position, self._positions.get(instance, 0))
        self._moved.set()
        self._moved = asyncio.Event()

    def reached(self, routers: Sequence[str]) -> int | None:
        """The position up to which all of these have their routes; None: there are none to wait for."""
        return min((max(self._begin, self._positions.get(each, 0)) for each in routers), default=None)

    async def wait(self, routers: Sequence[str], position: int) -> None:
        """Wait until all of these have the routes of a position, for WITHIN seconds at most."""
        try:
            async with asyncio.timeout(WITHIN):
                while (reached := self.reached(routers)) is not None and reached < position:
                    await self._moved.wait()
        except TimeoutError:
            pass
