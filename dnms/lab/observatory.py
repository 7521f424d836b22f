"""Waits until the kernels of several namespaces have what they should have."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from dnms.lab import kernel
from dnms.lab.kernel import Kernel, Watch
from dnms.linux.namespaces import Namespace

READ_AGAIN = 1.0  # seconds, in case that a change was not told
GATHER = 0.02  # seconds: several changes of one namespace come together, and it is read once for all of them


class Observatory:
    """Follows the kernels of some namespaces."""

    def __init__(self, namespaces: Sequence[Namespace]) -> None:
        """Begin. Needs a running loop."""
        self._namespaces = namespaces
        self._changed: set[int] = set()
        self._wake = asyncio.Event()
        self._watches = [Watch(namespace, self._mark(place)) for place, namespace in enumerate(namespaces)]

    def close(self) -> None:
        """Stop following."""
        for watch in self._watches:
            watch.close()

    async def wait(
        self,
        done: Callable[[Kernel], bool],
        *,
        deadline: float,
        reached: Callable[[int], None],
        check: Callable[[], None],
    ) -> list[int]:
        """Wait until all are done, for at most `deadline` seconds; the places of those that are not.

        `reached` is told how many are, and `check` may raise where waiting has become pointless.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline
        pending = set(range(len(self._namespaces)))
        candidates = set(pending)
        while True:
            pending -= {place for place in candidates & pending if done(kernel.read(self._namespaces[place]))}
            reached(len(self._namespaces) - len(pending))
            if not pending or loop.time() >= end:
                return sorted(pending)
            check()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(READ_AGAIN, end - loop.time())):
                    await self._wake.wait()
                    await asyncio.sleep(GATHER)
            candidates = set(self._changed) if self._wake.is_set() else set(pending)
            self._changed.clear()
            self._wake.clear()

    def usable_at(self, place: int, address: bytes) -> float | None:
        """When that namespace's kernel first let an address of ours be used: seconds, monotonic."""
        return self._watches[place].usable_at.get(address)

    def _mark(self, place: int) -> Callable[[], None]:
        def mark() -> None:
            self._changed.add(place)
            self._wake.set()

        return mark
