"""What the agent does to the kernel: one thing at a time, and the newest wins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any

import structlog

from dnms.disk.node_state import NodeStateError
from dnms.linux.errors import KernelError

FIRST_PAUSE = 1.0  # seconds between two repairs
LONGEST_PAUSE = 600.0

_logger = structlog.get_logger(__name__)


class Work:
    """The one thing that is being done."""

    def __init__(self) -> None:
        self._doing: dict[asyncio.Task[None], bool] = {}  # what has not ended yet, and whether it is whole
        self._broken: BaseException | None = None
        self._breaks = asyncio.Event()

    @property
    def idle(self) -> bool:
        """Whether nothing is being done."""
        return not self._doing

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]], *, whole: bool = False) -> None:
        """Do this instead of what is being done, which is declarative and older; if that is `whole`, after it."""
        before = tuple(self._doing)
        for task in before:
            if not self._doing[task]:
                task.cancel()
        task = asyncio.create_task(_do(work, before))
        self._doing[task] = whole
        task.add_done_callback(self._done)

    async def stop(self) -> None:
        """Cut short what is being done, and wait until it has ended."""
        doing = tuple(self._doing)
        for task in doing:
            task.cancel()
        if doing:
            await asyncio.wait(doing)

    async def watch(self) -> None:
        """Until cancelled, or until something that was begun ends by a defect: it is raised here, and never hidden."""
        await self._breaks.wait()
        if self._broken is not None:
            raise self._broken

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._doing[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = error
            self._breaks.set()


async def _do(work: Callable[[], Coroutine[Any, Any, None]], before: Collection[asyncio.Task[None]]) -> None:
    if before:
        await asyncio.wait(before)
    try:
        await work()
    except (KernelError, NodeStateError, OSError) as error:
        _logger.error("not done", reason=str(error))


class Pace:
    """When to repair again what somebody else may break again: at once at first, and then ever more seldom."""

    def __init__(self) -> None:
        self._pause = 0.0
        self._not_before = 0.0

    def wait(self, now: float) -> float:
        """Seconds until the next repair may begin."""
        return max(0.0, self._not_before - now)

    def repaired(self, now: float) -> None:
        """A repair was made."""
        self._pause = min(LONGEST_PAUSE, 2 * self._pause or FIRST_PAUSE)
        self._not_before = now + self._pause

    def sound(self, now: float) -> None:
        """Nothing was broken; if that lasted, the next repair need not wait."""
        if now >= self._not_before:
            self._pause = 0.0
