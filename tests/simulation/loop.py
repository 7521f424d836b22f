"""The event loop of a simulation: virtual time, no file descriptors, and the same order of everything in every run."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Generator
from itertools import count
from typing import Any, TypeVar

from tests.virtual_time import VirtualTimeLoop, _JumpingSelector

T = TypeVar("T")


LEAST = 1e-9
"""Seconds that a round of the loop takes, its own resolution: a clock that came to the last digit before a deadline
would stay there.
"""
MOST_ROUNDS = 50_000  # without a timer; an agent that does so much at once does it for ever


class Stuck(Exception):
    """Nothing is due, ever."""


class Spinning(Exception):
    """Something is due, always."""


class _NoDescriptors(_JumpingSelector):
    """Asks the kernel nothing: a simulation has no descriptor but the loop's own."""

    def __init__(self) -> None:
        super().__init__()
        self._rounds = 0
        self._at = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck
        self.passed += max(LEAST, timeout)
        self._rounds += 1
        if self._rounds == MOST_ROUNDS:
            if self.passed - self._at < MOST_ROUNDS * LEAST * 2:
                raise Spinning(f"nothing waits at {self.passed:.6f}")
            self._rounds, self._at = 0, self.passed
        return []


class _Task(asyncio.Task[T]):
    """A task that stands in sets where its number puts it, and not where it lies in memory."""

    number = 0

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class SimulationLoop(VirtualTimeLoop):
    """A loop whose every run is alike."""

    def __init__(self) -> None:
        self._jumping = _NoDescriptors()
        asyncio.SelectorEventLoop.__init__(self, self._jumping)
        self._numbers = count(1)
        self.set_task_factory(self._make)

    def _make(
        self, loop: asyncio.AbstractEventLoop, work: Generator[Any, None, T] | Coroutine[Any, Any, T], **more: Any
    ) -> asyncio.Task[T]:
        _Task.number = next(self._numbers)  # the constructor adds it to the set of all tasks
        task: _Task[T] = _Task(work, loop=loop, **more)
        task.number = _Task.number
        return task
