"""What an instance that calls writes to the log, in batches: a burst of calls is a few commits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from dnms.bus.port import Log
from dnms.events.effect import MAX_CALLS, Call, EffectCalled, EffectDead, EffectDelayed
from dnms.subscribers.own_subject import OwnSubject
from dnms.subscribers.progress import Progress

GATHER = 1.0  # seconds for which what is done is gathered; after a crash it is called for again
AT_ONCE = 2_000  # events in one commit
MARK = 10_000
"""Commits that hold nothing to be called for, after which the position is written all the same: so a restart need not
read them again."""
LAST_PATIENCE = 5.0  # seconds at the end for the log to take what is left


class Standing:
    """What is known while a record is written: up to where all is settled, and what waits."""

    def __init__(self) -> None:
        self.position = 0
        self.waiting = 0
        self.delayed = 0


class CallsRecord:
    """Of one instance."""

    def __init__(
        self,
        log: Log,
        subscriber: str,
        instance: str,
        *,
        site: str,
        now: Callable[[], int],
        standing: Callable[[], Standing],
    ) -> None:
        self.progress = Progress()
        """What is in the log of it; as it was at the end, once `read` is set."""
        self.read = asyncio.Event()
        self._own = OwnSubject(log, subscriber, instance, site=site, state=self.progress, now=now)
        self._standing = standing
        self._calls: deque[Call] = deque()
        self._words: deque[EffectDelayed | EffectDead] = deque()
        self._noted = asyncio.Event()
        self._said = Standing()
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Read, then write what is noted, until cancelled. LogError, for what cannot be mended."""
        await self._own.run(self._write)

    async def begin(self, position: int) -> None:
        """Say that the calls begin behind this sequence, and wait until the log has it."""
        await self._own.store([EffectCalled(position=position)])

    def called(self, call: Call) -> None:
        """A call was done."""
        self._calls.append(call)
        self._noted.set()

    def word(self, word: EffectDelayed | EffectDead) -> None:
        """A call failed for the first time, or is tried no more."""
        self._words.append(word)
        self._noted.set()

    def moved(self) -> None:
        """The log was read further: write it if much has changed."""
        now = self._standing()
        if now.waiting > 2 * self._said.waiting + MAX_CALLS or now.position > self.progress.position + MARK:
            self._noted.set()

    async def finish(self) -> None:
        """Write what is left, if the log takes it soon."""
        try:
            async with asyncio.timeout(LAST_PATIENCE):
                while self._calls or self._words:
                    await self._write_once()
        except TimeoutError:
            pass  # it is called for again, which is allowed

    async def _write(self) -> None:
        self.read.set()
        while True:
            await self._noted.wait()
            await asyncio.sleep(GATHER)
            self._noted.clear()
            await self._write_once()
            if self._calls or self._words:
                self._noted.set()

    async def _write_once(self) -> None:
        """Write as much as one commit takes. What the position covers is in it, or in the log before it."""
        async with self._writing:
            await self._write_some()

    async def _write_some(self) -> None:
        words = list(self._words)[:AT_ONCE]
        calls = list(self._calls)[:MAX_CALLS]
        events: list[EffectCalled | EffectDelayed | EffectDead] = list(words)
        if len(words) == len(self._words):
            said = self._standing()
            position = said.position if len(calls) == len(self._calls) else self.progress.position
            events.append(
                EffectCalled(position=position, calls=tuple(calls), waiting=said.waiting, delayed=said.delayed)
            )
            self._said = said
        else:
            calls = []
        await self._own.store(events)
        for _ in words:
            self._words.popleft()
        for _ in calls:
            self._calls.popleft()
