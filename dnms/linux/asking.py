"""Asking a link who answers for an address: what ARP and Neighbor Discovery have in common."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

ASKS = 3
ASK_INTERVAL = 0.3  # seconds, after the last too
MAX_ANSWERS = 8
"""Hardware addresses that answer for one address, of which more than two are an attack: anybody can invent more."""


class Answers:
    """By address, the hardware addresses that answer for it."""

    def __init__(self, wanted: int = 0) -> None:
        """`wanted`: for how many addresses one answer each is all that is asked for; 0: all answers are."""
        self._found: dict[bytes, set[bytes]] = {}
        self._wanted = wanted
        self.enough = asyncio.Event()

    def note(self, address: bytes, hardware: bytes) -> None:
        """This hardware answers for that address."""
        if len(answering := self._found.setdefault(address, set())) < MAX_ANSWERS:
            answering.add(hardware)
        if len(self._found) == self._wanted:
            self.enough.set()

    def all(self) -> dict[bytes, frozenset[bytes]]:
        """All that were noted."""
        return {address: frozenset(hardware) for address, hardware in self._found.items()}


@contextlib.asynccontextmanager
async def listening(listen: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Have this listen meanwhile; what ends it before is raised at the end."""
    task = asyncio.get_running_loop().create_task(listen)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def ask(listen: Coroutine[Any, Any, None], send: Callable[[], None], enough: asyncio.Event) -> None:
    """Send what asks, several times, while this listens, until that is `enough`. What either raises."""
    async with listening(listen) as task:
        for _ in range(ASKS):
            send()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ASK_INTERVAL):
                    await enough.wait()
            if task.done() or enough.is_set():
                break
