"""What an instance of a subscriber writes to the log: what it did, up to which position, and what it could not do.

It is written when the log takes it: what was done is done, and the log being away holds nothing up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Set
from typing import Any

from dnms.bus.committer import WriteOnly
from dnms.bus.port import Log
from dnms.events.commit import MAX_EVENTS
from dnms.events.effect import MAX_ITEMS, MAX_LACKING, EffectApplied, EffectFailed
from dnms.subscribers.own_subject import OwnSubject
from dnms.subscribers.subscriber import Plan

MAX_WAITING = 1_000  # events that wait for the log; of more, the oldest are not written
MAX_TEXT = 1_000  # characters of what went wrong

Effect = EffectApplied | EffectFailed


class Effects:
    """Of one instance."""

    def __init__(self, log: Log, subscriber: str, instance: str, *, site: str, now: Callable[[], int]) -> None:
        """`now`: microseconds since 1970-01-01 UTC."""
        self._now = now
        self._own = OwnSubject(log, subscriber, instance, site=site, state=WriteOnly(), now=now)
        self._waiting: deque[Effect] = deque(maxlen=MAX_WAITING)
        self._noted = asyncio.Event()
        self._failing = ""  # the stable word of what was written last that failed

    async def run(self) -> None:
        """Write what is noted, until cancelled. LogError, for what cannot be mended: Doubled among others."""
        await self._own.run(self._write)

    def applied(self, position: int, plan: Plan[Any], *, since: int, refused: Set[str] | None = None) -> None:
        """The world is as wanted; `since`: when the log had the first commit that made that necessary, 0: none did.

        `refused`: some was, and `failed` is said of that. It holds up nobody who waits for the rest.
        """
        added, dropped = sorted(map(str, plan.add)), sorted(map(str, plan.drop))
        listed = added[:MAX_ITEMS], dropped[:MAX_ITEMS]
        self._note(
            EffectApplied(
                position=position,
                added=tuple(listed[0]),
                dropped=tuple(listed[1]),
                more=len(added) + len(dropped) - sum(map(len, listed)),
                lacks=tuple(sorted({*map(str, plan.lacks), *(refused or ())})[:MAX_LACKING]),
                waited=max(0, self._now() - since) if since else 0,
            )
        )
        if refused is None:
            self._failing = ""

    @property
    def is_failing(self) -> bool:
        """Whether the last that was said is that it failed."""
        return bool(self._failing)

    def failed(self, position: int, why: str, text: str) -> None:
        """The world could not be made so; of the same in a row the first is written."""
        if why != self._failing:
            self._note(EffectFailed(position=position, why=why, text=text[:MAX_TEXT]))
            self._failing = why

    def _note(self, effect: Effect) -> None:
        self._waiting.append(effect)
        self._noted.set()

    async def _write(self) -> None:
        while True:
            await self._noted.wait()
            self._noted.clear()
            while self._waiting:
                events = tuple(self._waiting)[:MAX_EVENTS]
                await self._own.store(events)
                for event in events:
                    if self._waiting and self._waiting[0] is event:
                        self._waiting.popleft()
