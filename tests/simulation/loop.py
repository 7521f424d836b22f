"""The event loop of a simulation: virtual time, no file descriptors, and the same order of everything in every run.

It has timers and what is to be called soon, and no selector, no threads and no signals: asyncio's own loop took a third
of a simulation's time. In a round it calls what was ready at its beginning and the timers that are due, as that one
does. Where nothing is ready its clock jumps to the next timer.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from itertools import count
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


LEAST = 1e-9
"""Seconds that a round of the loop takes, its own resolution: a clock that came to the last digit before a deadline
would stay there.
"""
MOST_ROUNDS = 50_000  # without a timer; an agent that does so much at once does it for ever


class Stuck(Exception):
    """Nothing is due, ever."""


class Spinning(Exception):
    """Something is due, always."""


class _Task(asyncio.Task[T]):
    """A task that stands in sets where its number puts it, and not where it lies in memory."""

    number = 0

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Call(asyncio.TimerHandle):
    """What is to be called, soon or at a time. Without what asyncio keeps of one for people and for its debug mode."""

    __slots__ = ()

    def __init__(self, when: float, callback: Callable[..., object], args: tuple[Any, ...], context: Context) -> None:
        self._when = when
        self._callback = callback
        self._args = args
        self._context = context
        self._cancelled = False
        self._repr = None

    def cancel(self) -> None:
        self._cancelled = True


class SimulationLoop(asyncio.BaseEventLoop):
    """A loop whose every run is alike. It begins at 0."""

    _ready: deque[_Call]
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0
        self._timers: list[tuple[float, int, _Call]] = []  # a heap
        self._numbers = count(1)  # of tasks
        self._calls = count(1)  # so that of timers of one moment the first that was set is the first

    def time(self) -> float:
        return self.passed

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        call = _Call(0.0, callback, args, copy_context() if context is None else context)
        self._ready.append(call)
        return call

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        call = _Call(when, callback, args, copy_context() if context is None else context)
        heapq.heappush(self._timers, (when, next(self._calls), call))
        return call

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.passed + delay, callback, *args, context=context)

    def create_task(self, work: Generator[Any, None, T] | Coroutine[Any, Any, T], **more: Any) -> asyncio.Task[T]:  # type: ignore[override]  # whatever a release has beside name and context
        _Task.number = next(self._numbers)  # the constructor adds it to the set of all tasks
        task: _Task[T] = _Task(work, loop=self, **more)
        task.number = _Task.number
        return task

    def _run_once(self) -> None:
        """All rounds until it is told to stop. Stuck, Spinning."""
        ready, timers = self._ready, self._timers
        rounds, at = 0, self.passed
        while not self._stopping:
            while timers and timers[0][2]._cancelled:
                heapq.heappop(timers)
            if ready:
                self.passed += LEAST
            elif timers:
                self.passed = max(self.passed + LEAST, timers[0][0])
            else:
                raise Stuck
            due = self.passed + LEAST
            while timers and timers[0][0] < due:
                call = heapq.heappop(timers)[2]
                if not call._cancelled:
                    ready.append(call)
            for _ in range(len(ready)):
                call = ready.popleft()
                if not call._cancelled:
                    self._call(call)
            rounds += 1
            if rounds == MOST_ROUNDS:
                if self.passed - at < MOST_ROUNDS * LEAST * 2:
                    raise Spinning(f"nothing waits at {self.passed:.6f}")
                rounds, at = 0, self.passed

    def _call(self, call: _Call) -> None:
        try:
            call._context.run(call._callback, *call._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.call_exception_handler({"message": f"Exception in {call._callback}", "exception": error})
