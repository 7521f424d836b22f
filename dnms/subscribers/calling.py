"""Runs a subscriber that calls for each event: in order for an entity, again until it is done, and never in silence.

Theory of operation. The log is followed from the position that the instance wrote to it last, and each event of a kind
that is called for is put into the lines of its entities (`lines`). Who is first in all of its lines is called for, a
few at a time. A call that fails is tried again after a pause, doubling, and only what stands in a line behind it waits.
After a day it is a dead letter: it leaves its lines, with an event that says so, and is called for again when an
operator asks for that.

What was done is written to the log in batches, with the position up to which nothing is left to do. Who is killed
before that calls for the same events again when it starts: at least once, each time with the same position.

What an operator asks stands in the log like what is called for: the position does not pass it before the dead letters
that it names are done, or dead again. So a restart takes it up by itself.

Time and chance are arguments, and pauses are the event loop's.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec
import structlog

from dnms.bus.port import Log, LogDamaged, Unanswered, Unavailable
from dnms.bus.reading import read_opened
from dnms.disk.subscriber_state import SubscriberState
from dnms.events import subjects
from dnms.events.commit import Stored
from dnms.events.effect import Call, EffectAsked, EffectDead, EffectDelayed
from dnms.kit.clock import MICROSECONDS
from dnms.subscribers.caller import Caller, CallError, Calling, Happening
from dnms.subscribers.calls_record import CallsRecord, Standing
from dnms.subscribers.effects import MAX_TEXT
from dnms.subscribers.lines import Item, Lines, Where
from dnms.subscribers.own_subject import PAUSE
from dnms.subscribers.subscriber import Local

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 600.0
"""Seconds after a call that failed, doubling from the one to the other; between a half and the whole is drawn."""

DEAD_AFTER = 24 * 3_600 * MICROSECONDS
"""Since a call failed for the first time."""

MAX_WAITING = 50_000
"""Events in memory that wait; the log is not read further before there is room. An entity that fails for a day fills
it only with as many events of its own."""


class CallCounts(msgspec.Struct):
    """What a runner has done since its start."""

    called: int = 0
    dead: int = 0
    failed: Counter[str] = msgspec.field(default_factory=Counter)  # calls, by a stable word


class CallRunner:
    """Calls for the events of a site's log, as one instance of a subscriber."""

    def __init__(
        self,
        log: Log,
        calling: Calling,
        state: SubscriberState,
        *,
        local: Local,
        now: Callable[[], int],
        chance: Callable[[], float],
    ) -> None:
        """`now`: microseconds since 1970-01-01 UTC; `chance`: draws from 0 up to 1."""
        self._log = log
        self._caller: Caller = calling.caller(local)
        self._state = state
        self._site = local.site
        self._now = now
        self._chance = chance
        own = (calling.name, local.instance)
        self._own = subjects.effect(local.site, *own)
        self._asked = subjects.effect_asked(local.site, *own)
        self._record = CallsRecord(log, *own, site=local.site, now=now, standing=self._standing)
        self._lines = Lines()
        self._ready: asyncio.Queue[Item] = asyncio.Queue()
        self._read = 0  # sequence of the newest commit that was read
        self._open: dict[Where, Item | None] = {}  # of the log from its position on: what is not settled; None: asked
        self._places: list[Where] = []  # a heap of these, with some that are settled by now
        self._again: dict[Where, Item] = {}  # dead letters that an operator wants
        self._left: Counter[Where] = Counter()  # of what an operator asked: how many of its dead letters
        self._delayed = 0  # calls that have failed and are tried again
        self._room = asyncio.Event()
        self._logger = structlog.get_logger(__name__).bind(subscriber=calling.name, instance=local.instance)
        self.counts = CallCounts()

    async def run(self, stop: asyncio.Event, *, ready: Callable[[int], None] = lambda _: None) -> None:
        """Run until `stop` is set, or until the log cannot be trusted: LogForked, LogDamaged, UnknownToThisRelease,
        Doubled.

        `ready` is called once, when it has read the log to its end, with the sequence up to which nothing is left.
        SubscriberStateError if this instance runs already. What else is raised is a defect.
        """
        with self._state.own():
            tasks = [
                asyncio.create_task(self._record.run()),
                asyncio.create_task(self._follow(ready)),
                *(asyncio.create_task(self._work()) for _ in range(self._caller.at_once)),
                asyncio.create_task(stop.wait()),
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks[1:]:
                    task.cancel()
                await asyncio.wait(tasks[1:])
                if not tasks[0].done():
                    await self._record.finish()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                await self._caller.close()
            for task in tasks:
                if not task.cancelled() and (error := task.exception()) is not None:
                    self._logger.error("stopped", reason=str(error))
                    raise error

    async def _follow(self, ready: Callable[[int], None]) -> None:
        await self._record.read.wait()
        told = False
        while True:
            try:
                if not self._record.progress.begun:
                    begin = 0 if self._caller.from_first else await self._log.end()
                    await self._record.begin(begin)
                    self._logger.info("begins", behind=begin)
                self._read = max(self._read, self._record.progress.position)
                async for caught_up in self._read_on():
                    if caught_up and not told:
                        told = True
                        ready(self._standing().position)
            except (Unavailable, Unanswered) as error:
                self._logger.warning("waiting for the log", reason=str(error), position=self._read)
            else:
                self._logger.warning("reads on when half of them are called for", waiting=len(self._open))
                while len(self._open) > MAX_WAITING // 2:
                    self._room.clear()
                    await self._room.wait()
            await asyncio.sleep(PAUSE)

    async def _read_on(self) -> AsyncGenerator[bool, None]:
        """Take in what comes, until there is no room; of each batch whether it was the log's end."""
        follow = read_opened(self._log, [subjects.everything(self._site)], after=self._read)
        async with aclosing(follow) as batches:
            async for batch in batches:
                for stored in batch.stored:
                    if len(self._open) >= MAX_WAITING:
                        return  # and no follow is kept waiting, perhaps for hours
                    await self._take(stored)
                self._record.moved()
                yield batch.caught_up

    async def _take(self, stored: Stored) -> None:
        """Put what is to be called for into its lines."""
        if stored.subject != self._own:
            for index, event in enumerate(stored.commit.events):
                where = stored.sequence, index
                if where in self._record.progress.settled:
                    continue
                if stored.subject == self._asked and isinstance(event, EffectAsked):
                    await self._take_asked(where, event)
                elif event.NAME in self._caller.kinds:
                    self._put(self._happening(stored, index))
        self._read = stored.sequence

    def _put(self, happening: Happening, *, asked: Where | None = None) -> None:
        item = Item(happening, happening.entities(), asked)
        item.since = self._record.progress.delayed.get(item.where, 0)
        self._delayed += item.since > 0
        if asked is None:
            self._open_at(item.where, item)
        else:
            self._again[item.where] = item
        if self._lines.add(item):
            self._ready.put_nowait(item)

    async def _take_asked(self, where: Where, event: EffectAsked) -> None:
        """Call again for dead letters, behind what waits for the same entities now."""
        dead = self._record.progress.dead
        named = [(place.sequence, place.index) for place in event.places] or sorted(dead)
        again = [each for each in dict.fromkeys(named) if each in dead and each not in self._again]
        self._logger.info("asked to call again", position=f"{where[0]}.{where[1]}", dead_letters=len(again))
        found = [self._happening(await self._fetch(sequence), index) for sequence, index in again]
        for happening in found:  # all or none: it is taken again where the log went away meanwhile
            self._left[where] += 1
            self._open_at(where, None)
            self._put(happening, asked=where)

    async def _fetch(self, sequence: int) -> Stored:
        """One commit of the log. LogDamaged, Unavailable, Unanswered."""
        follow = read_opened(self._log, [subjects.everything(self._site)], after=sequence - 1)
        async with aclosing(follow) as batches:
            async for batch in batches:
                if batch.stored:
                    return batch.stored[0]
                if batch.caught_up:
                    break
        raise LogDamaged(f"the commit at {sequence} is missing, which was read before")

    def _happening(self, stored: Stored, index: int) -> Happening:
        return Happening(
            log_id=self._log.log_id,
            sequence=stored.sequence,
            index=index,
            subject=stored.subject,
            time=stored.commit.time,
            stored_at=stored.stored_at,
            actor=stored.commit.actor,
            event=stored.commit.events[index],
        )

    async def _work(self) -> None:
        while True:
            item = await self._ready.get()
            item.attempts += 1
            try:
                await self._caller.call(item.happening)
            except CallError as error:
                self._failed(item, error)
            except Exception as error:  # a defect of the subscriber: it must not stop other entities
                self._logger.error("a call could not be made", position=item.happening.position, exc_info=error)
                self._failed(item, CallError("defect", repr(error)))
            else:
                self._done(item)

    def _done(self, item: Item) -> None:
        self.counts.called += 1
        sequence, index = item.where
        waited = max(0, self._now() - item.happening.stored_at)
        self._settle(item)
        self._record.called(Call(sequence=sequence, index=index, attempts=item.attempts, waited=waited))

    def _failed(self, item: Item, error: CallError) -> None:
        self.counts.failed[error.why] += 1
        now = self._now()
        sequence, index = item.where
        kind, why, text = item.happening.kind, error.why, str(error)[:MAX_TEXT]
        if not item.since:
            item.since = now
            self._delayed += 1
            self._record.word(EffectDelayed(sequence=sequence, index=index, kind=kind, why=why, text=text))
        if now - item.since >= DEAD_AFTER:
            self.counts.dead += 1
            self._settle(item)
            self._record.word(
                EffectDead(sequence=sequence, index=index, kind=kind, why=why, text=text, attempts=item.attempts)
            )
            self._logger.error("dead letter", position=item.happening.position, why=why, reason=text)
            return
        pause = max(error.not_before, self.pause(item.attempts))
        asyncio.get_running_loop().call_later(pause, self._ready.put_nowait, item)
        tell = self._logger.warning if item.attempts == 1 else self._logger.debug  # an outage has very many
        tell("not called", position=item.happening.position, why=why, reason=text, again_in=round(pause, 1))

    def pause(self, attempts: int) -> float:
        """Seconds until the next attempt."""
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempts - 1, 20))
        return longest * (0.5 + 0.5 * self._chance())

    def _settle(self, item: Item) -> None:
        self._delayed -= item.since > 0
        for freed in self._lines.take_out(item):
            self._ready.put_nowait(freed)
        if item.asked is None:
            del self._open[item.where]
        else:
            del self._again[item.where]
            self._left[item.asked] -= 1
            if not self._left[item.asked]:
                del self._left[item.asked], self._open[item.asked]
        self._room.set()

    def _open_at(self, where: Where, item: Item | None) -> None:
        if where not in self._open:
            heapq.heappush(self._places, where)
        self._open[where] = item

    def _standing(self) -> Standing:
        while self._places and self._places[0] not in self._open:
            heapq.heappop(self._places)
        found = Standing()
        found.position = self._places[0][0] - 1 if self._places else self._read
        found.waiting = len(self._open) - len(self._left) + len(self._again)
        found.delayed = self._delayed
        return found
