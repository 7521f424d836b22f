"""An event loop whose clock jumps to the next timer instead of waiting for it: an hour passes in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any


class _JumpingSelector(selectors.BaseSelector):
    """Waits for nothing: where the loop would sleep, time has passed."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready:
            return ready
        if timeout is None:
            return self._real.select(None)  # nothing is due ever: only another thread can wake us
        self.passed += max(0.0, timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop that begins at 0 and never sleeps."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.passed


async def pass_time(seconds: float) -> None:
    """Let so many virtual seconds pass, and all happen that happens in them."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    end = loop.time() + seconds
    while loop.time() < end:  # noqa: ASYNC110  # nothing waits
        await asyncio.sleep(end - loop.time())
