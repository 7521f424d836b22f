"""Records who the clients of a DHCP server are behind their answers: nobody waits for that.

Theory of operation. What a client is told to have is in the log before it is told. Who it is beside that, its DUID, its
hardware and its name, may come a moment later, and it does not come alone: nodes are written in 256 subjects, and each
new one has a key of its own to be stored before, so that one by one they cost several times what their leases do. So
a few subjects at a time have their turn, all that wait for one together, and behind it is a pause of a few times what
it took. Where few clients come nobody sees that; where thousands come at once, they have their addresses first, and
more of them wait for each subject.

What waits when the agent ends, or is more than may wait, is recorded when the client asks again, at T1 at the latest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

MAX_WAITING: Final = 65_536
"""Clients that are to be recorded: those of the largest link; whoever invents more makes nothing grow."""

AT_ONCE: Final = 8
"""Of one turn, or as many as the last of its subjects has more: while they are written nobody is answered."""

PAUSE: Final = 4
"""Times what a turn took, until the next one: a fifth of the work is for this, while there is other work."""


class Recording:
    """Of one server."""

    def __init__(self) -> None:
        # By the first byte of a client, which is by the subject of its node, and by client.
        self._waiting: dict[int, dict[bytes, Callable[[], Awaitable[None]]]] = {}
        self._number = 0
        self._more = asyncio.Event()

    def __len__(self) -> int:
        """How many wait."""
        return self._number

    def add(self, client: bytes, record: Callable[[], Awaitable[None]]) -> bool:
        """Have this done for a client soon, in the place of what waits for it already; false if too many wait."""
        of_subject = self._waiting.setdefault(client[0], {})
        if client not in of_subject:
            if self._number >= MAX_WAITING:
                return False
            self._number += 1
        of_subject[client] = record
        self._more.set()
        return True

    async def run(self) -> None:
        """Until cancelled. An exception group of what a record raises."""
        loop = asyncio.get_running_loop()
        while True:
            await self._more.wait()
            began, taken = loop.time(), 0
            async with asyncio.TaskGroup() as turn:
                while self._waiting and taken < AT_ONCE:
                    of_subject = self._waiting.pop(next(iter(self._waiting)))
                    taken += len(of_subject)
                    self._number -= len(of_subject)
                    for record in of_subject.values():
                        turn.create_task(_awaited(record))
            if not self._waiting:
                self._more.clear()
            await asyncio.sleep(PAUSE * (loop.time() - began))


async def _awaited(record: Callable[[], Awaitable[None]]) -> None:
    await record()
