"""The subject of one instance of a subscriber, on which nobody else writes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog

from dnms.bus.committer import Committer
from dnms.bus.port import Doubled, Log, LostRace, Unanswered, Unavailable
from dnms.domain.aggregate import Fold, State
from dnms.events import subjects
from dnms.events.commit import Stored
from dnms.events.recorded import Event

PAUSE = 1.0  # seconds between two attempts to read or to write

S = TypeVar("S", bound=State)

_logger = structlog.get_logger(__name__)


class OwnSubject(Generic[S]):
    """Folds it, and writes to it."""

    def __init__(
        self, log: Log, subscriber: str, instance: str, *, site: str, state: S, now: Callable[[], int]
    ) -> None:
        """`now`: microseconds since 1970-01-01 UTC."""
        self.state = state
        """The fold: of all that is in the log once `run` writes."""
        self._name = f"{subscriber}/{instance}"
        self._committer = Committer(
            log,
            subjects.effect(site, subscriber, instance),
            Fold(state),
            actor=f"subscriber/{self._name}",
            now=now,
            random=secrets.token_bytes,
            foreign=self._foreign,
        )

    async def run(self, write: Callable[[], Awaitable[None]]) -> None:
        """Fold the subject, then run `write`, until cancelled. LogError, for what cannot be mended: Doubled."""
        while True:
            try:
                await self._committer.catch_up()
                break
            except (Unavailable, Unanswered):
                await asyncio.sleep(PAUSE)
        tasks = [asyncio.ensure_future(self._committer.run()), asyncio.ensure_future(write())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def store(self, events: Sequence[Event]) -> None:
        """Write events together, as soon as the log takes them."""
        while True:
            try:
                await self._committer.observe(events)
            except (Unavailable, Unanswered, LostRace) as error:
                _logger.debug("what was done is not recorded yet", why=error.why)
                await asyncio.sleep(PAUSE)
            else:
                return

    def _foreign(self, stored: Stored) -> None:
        if self._committer.has_written:
            raise Doubled(
                f"another subscriber {self._name} writes to the log (position {stored.sequence}): "
                "give one of the two another --instance"
            )
