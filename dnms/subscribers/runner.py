"""Runs one subscriber: what the log wants is compared with what is there, and the difference applied.

It looks once the log is folded, when something else is wanted (what comes meanwhile is one more look), and on a timer,
since others change the world too. Until `following` says that the fold is complete, while the log does not say what is
wanted, and while it cannot be asked whether it is whole, it only adds. Where the log cannot be trusted it ends, and
everything stays.

While the log is still being folded, changes do not make it look: a log has much in it that is over, and who left a
group long ago would be back in it for a moment. The timer does, so that a log that does not come to its end leaves a
world that lacks less.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Generic, TypeVar

import msgspec
import structlog

from dnms.bus.port import Log
from dnms.disk.subscriber_state import SubscriberState, SubscriberStateError
from dnms.subscribers.effects import Effects
from dnms.subscribers.following import Following
from dnms.subscribers.subscriber import Actual, ApplyError, Hearing, Local, PartlyApplied, Plan, Subscriber

PERIOD = 30.0  # seconds between two looks where nothing happens

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds after a look that failed, doubling from the one to the other. What changes meanwhile waits too."""

NO_PLAN = "the log has no plan, so nothing says that what is there is not wanted"
NOT_FOLDED = "the log is not folded to its end"
NOT_REACHED = "the log cannot be reached"

T = TypeVar("T")
A = TypeVar("A", bound=Actual[Any])


class Counts(msgspec.Struct):
    """What a runner has done since its start."""

    looked: int = 0  # and what was to be done then was done
    added: int = 0
    dropped: int = 0
    held_back: int = 0  # looks at which something would have been dropped, and was not
    failed: Counter[str] = msgspec.field(default_factory=Counter)  # looks that failed, by a stable word


class Runner(Generic[T, A]):
    """Keeps the world of one subscriber as a site's log says."""

    def __init__(
        self,
        log: Log,
        subscriber: Subscriber[T, A],
        state: SubscriberState,
        *,
        local: Local,
        effects: Effects | None = None,
        period: float = PERIOD,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        self._log = log
        self._subscriber = subscriber
        self._world = subscriber.world(local)
        self._state = state
        self._local = local
        self._effects = effects
        self._period = period
        self._first_pause = first_pause
        self._changed = asyncio.Event()
        self._told = 0  # the position that the log was told last
        self._said: dict[str, object] = {}  # what was logged last, by what it is about
        self._logger = structlog.get_logger(__name__).bind(subscriber=subscriber.name)
        self.counts = Counts()
        self.position = 0
        """Of the newest commit that the last look knew of."""
        self.settled = asyncio.Event()
        """Set at the first look that had the whole log."""

    async def run(self, stop: asyncio.Event, *, ready: Callable[[int], None] = lambda _: None) -> None:
        """Run until `stop` is set, or until the log cannot be trusted: LogForked, LogDamaged, UnknownToThisRelease,
        Doubled.

        `ready` is called once, when it has looked with the whole log, with the sequence of the newest commit in it.
        SubscriberStateError if another one runs, or if it is not known by which log was acted last. What else is raised
        is a defect.
        """
        with self._state.own():
            folding = self._subscriber.folding(self._local)
            following = Following(self._log, folding, self._state, site=self._local.site)
            tasks = [
                asyncio.create_task(following.run(self._changed.set)),
                asyncio.create_task(self._keep(following, ready)),
                asyncio.create_task(stop.wait()),
                *([asyncio.create_task(self._effects.run())] if self._effects is not None else []),
                *([asyncio.create_task(self._hear(self._world))] if isinstance(self._world, Hearing) else []),
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled() and (error := task.exception()) is not None:
                    self._logger.error("stopped; what is there stays", reason=str(error))
                    raise error

    async def _hear(self, world: Hearing) -> None:
        async with aclosing(world.changes()) as changes:
            async for _ in changes:
                self._changed.set()

    async def _keep(self, following: Following[T], ready: Callable[[int], None]) -> None:
        pause, longest = self._first_pause, self._period
        while True:
            try:
                async with asyncio.timeout(longest):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            longest = self._period
            try:
                complete = await self._look(following)
            except (ApplyError, SubscriberStateError) as error:
                why = error.why if isinstance(error, ApplyError) else "state"
                self.counts.failed[why] += 1
                self._logger.error("not applied", why=why, reason=str(error), again_in=pause)
                if self._effects is not None:
                    self._effects.failed(following.position.sequence, why, str(error))
                if isinstance(error, PartlyApplied):
                    longest = min(pause, self._period)
                    self._settle(ready, complete=following.complete)
                else:
                    await asyncio.sleep(pause)
                    self._changed.set()
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                pause = self._first_pause
                self._settle(ready, complete=complete)

    def _settle(self, ready: Callable[[int], None], *, complete: bool) -> None:
        if complete and not self.settled.is_set():
            ready(self.position)
            self.settled.set()

    async def _look(self, following: Following[T]) -> bool:
        """Compare and apply once; whether the whole log was known."""
        complete, wanted, position = following.complete, following.wanted, following.position.sequence
        since, following.since = following.since, 0
        try:
            await self._compare(following, wanted, position, since=since if complete else 0)
        except PartlyApplied:
            self.position = position
            raise
        except BaseException:
            following.since = since or following.since  # it waits still
            raise
        self.position = position
        self.counts.looked += 1
        return complete

    async def _compare(
        self, following: Following[T], wanted: frozenset[T] | None, position: int, *, since: int
    ) -> None:
        complete, decided = following.complete, following.decided
        if wanted is None:
            await self._keep_all(complete=complete)
        else:
            following.note_acting()
            plan = self._subscriber.plan(wanted, await self._world.actual())
            why = await self._why_not_to_drop(following, complete=complete) if plan.drop else ""
            self._note(plan, why)
            if why:
                plan = msgspec.structs.replace(plan, drop=frozenset())
                self.counts.held_back += 1
            if plan.late and not complete:
                plan = msgspec.structs.replace(plan, add=plan.add - plan.late, late=frozenset())
            refused: PartlyApplied | None = None
            if plan.add or plan.drop:
                try:
                    await self._world.apply(plan)
                except PartlyApplied as error:
                    refused = error
                self.counts.added += len(plan.add)
                self.counts.dropped += len(plan.drop)
                self._logger.info("applied", added=len(plan.add), dropped=len(plan.drop), position=position)
            # Also that nothing had to be done: at once where something else was wanted, and by the timer where anything
            # was decided, since others wait for the position.
            effects, is_awaited = self._effects, since or (complete and decided > self._told)
            has_changed = refused is None and bool(plan.add or plan.drop)
            if effects is not None and not why and (is_awaited or has_changed or (effects.is_failing and not refused)):
                done = plan if refused is None else Plan(lacks=plan.lacks)  # what of it is there the world alone knows
                lacks = None if refused is None else refused.lacks
                effects.applied(position, done, since=since if self.settled.is_set() else 0, refused=lacks)
                self._told = position
            if refused is not None:
                raise refused

    async def _keep_all(self, *, complete: bool) -> None:
        """Nothing is known of what is wanted."""
        there = len((await self._world.actual()).ours)
        if there:
            self.counts.held_back += 1
        if complete and self._is_new("drop", (NO_PLAN, there)):
            self._logger.warning("nothing is dropped", why=NO_PLAN, there=there)

    async def _why_not_to_drop(self, following: Following[T], *, complete: bool) -> str:
        """Empty if it may be dropped. LogForked, LogDamaged."""
        if not complete:
            return NOT_FOLDED
        return "" if await following.whole_now() else NOT_REACHED

    def _note(self, plan: Plan[T], why: str) -> None:
        """Tell people what is not done, each once as long as it stays so."""
        if self._is_new("drop", why) and why:
            self._logger.warning("nothing is dropped", why=why, unwanted=len(plan.drop))
        if self._is_new("notes", plan.notes):
            for note in plan.notes:
                self._logger.warning(note)

    def _is_new(self, about: str, said: object) -> bool:
        before = self._said.get(about)
        self._said[about] = said
        return said != before
