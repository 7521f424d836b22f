"""How far a subscriber has read the log, and whether that is enough to say that something is not wanted.

The log is folded anew at each start, from its first commit, all subjects of it: so a gap anywhere is seen, and no state
of the fold is kept that could be damaged. That costs the time of reading the log; positions to resume from come only
where that is too much.

By a log that is empty, short or another one, everything is unwanted. So nothing may be dropped until the fold has
reached the end of the log as it was read at the start, its chain unbroken, and past the commit by which the subscriber
acted last: of a log that was restored from a backup nothing else tells that there was more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Generic, TypeVar

import structlog

from dnms.bus.port import Log, LogForked, Unanswered, Unavailable
from dnms.bus.reading import Position, read_opened
from dnms.disk.subscriber_state import Acted, SubscriberState
from dnms.events import subjects
from dnms.events.commit import Stored
from dnms.subscribers.subscriber import Folding

PAUSE = 1.0  # seconds between two attempts to reach the log

EFFECT = "effect"
"""The family of subjects with what subscribers did."""

DECIDED = frozenset({"plan", "node", "ledger"})
"""Families of subjects on which something is decided; what agents and subscribers only say is on others."""

T = TypeVar("T")

_logger = structlog.get_logger(__name__)


class Following(Generic[T]):
    """One follow of a site's log, and the fold that it feeds."""

    def __init__(self, log: Log, folding: Folding[T], state: SubscriberState, *, site: str) -> None:
        self._log = log
        self._folding = folding
        self._state = state
        self._site = site
        self._end: int | None = None  # of the log, as read at the start
        self._wanted = folding.wanted()
        self._stale = False  # something may be wanted that is not in there yet
        self._acted = state.read()
        self.since = 0
        """When the log stored the first commit since the last look by which something else is wanted; 0: none."""
        self.decided = 0
        """Sequence of the newest commit by which anything was decided, whether anything else is wanted by it or not."""
        self.complete = False
        """Whether the fold has reached the end of the log as read at the start. Past a gap it never comes."""
        self.position = Position(log.log_id)
        if self._acted is not None and self._acted.log_id != log.log_id:
            raise self._forked(f"this is the log {log.log_id}, and that was {self._acted.log_id}")

    @property
    def wanted(self) -> frozenset[T] | None:
        """What is wanted by what was folded; None if the log does not say so."""
        if self._stale:
            self._wanted, self._stale = self._folding.wanted(), False
        return self._wanted

    async def run(self, changed: Callable[[], None]) -> None:
        """Follow, until cancelled; `changed` is called when the fold is complete, and when something else is wanted.

        LogForked, LogDamaged, UnknownToThisRelease: then nothing goes on by itself. While the log cannot be reached,
        it waits.
        """
        while True:
            try:
                await self._follow(changed)
            except (Unavailable, Unanswered) as error:
                _logger.warning("waiting for the log", reason=str(error), position=self.position.sequence)
            await asyncio.sleep(PAUSE)

    def note_acting(self) -> None:
        """Write down by which commit is acted now, before it is. SubscriberStateError.

        The newest one stands, whether it led to anything or not: what is there already is kept by it too.
        """
        position = self.position
        if position.sequence > (self._acted.sequence if self._acted else 0):
            acted = Acted(position.log_id, position.sequence, position.commit.hex())
            self._state.write(acted)
            self._acted = acted

    async def whole_now(self) -> bool:
        """Ask the log whether it has all that was folded; false if it cannot be reached. LogForked, LogDamaged."""
        folded = self.position.sequence  # and not what comes while the answer does, which it does not know of
        try:
            end = await self._log.end()
        except (Unavailable, Unanswered):
            return False
        if end < folded:
            raise LogForked(f"the log ends at {end}, and was folded up to {folded} before")
        return True

    async def _follow(self, changed: Callable[[], None]) -> None:
        if self._end is None:
            end = await self._log.end()
            if self._acted is not None and end < self._acted.sequence:
                raise self._forked(f"it ends at {end}, and that was at {self._acted.sequence}")
            self._end = end
        everything = [subjects.everything(self._site)]
        async with aclosing(read_opened(self._log, everything, after=self.position)) as batches:
            async for batch in batches:
                matters = False
                for stored in batch.stored:
                    matters |= self._take(stored)
                self._stale |= matters
                if not self.complete and self.position.sequence >= self._end:
                    self.complete = matters = True
                    _logger.info("the log is folded", position=self.position.sequence)
                if self.complete and matters:
                    changed()

    def _take(self, stored: Stored) -> bool:
        acted, commit = self._acted, stored.commit.id
        if acted is not None and stored.sequence == acted.sequence and commit.hex() != acted.commit:
            raise self._forked(f"{commit.hex()} is at {stored.sequence} now, and {acted.commit} was there")
        family = stored.subject.split(".", 3)[2]
        # Not told of what subscribers did: a fold for which everything matters would have ever more to say.
        matters = family != EFFECT and self._folding.take(stored)
        if family in DECIDED:
            self.decided = stored.sequence
        if matters and not self.since:
            self.since = stored.stored_at
        self.position = Position(self.position.log_id, stored.sequence, commit)
        return matters

    def _forked(self, what: str) -> LogForked:
        return LogForked(
            f"this is not the log by which was acted last, or not all of it: {what}; nothing was dropped. If it is the "
            f"right one from now on, remove {self._state.path}"
        )
