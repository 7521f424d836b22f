"""Follows the kernels of several namespaces: waits until they are as they should be, or sees whether they stay so."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence

from dnms.lab import kernel
from dnms.lab.doubled import Holding
from dnms.lab.kernel import Kernel, Watch
from dnms.linux.namespaces import Namespace

READ_AGAIN = 1.0  # seconds, in case that a change was not told
GATHER = 0.02  # seconds: several changes of one namespace come together, and it is read once for all of them
LOOK_AGAIN = 0.25  # seconds between two looks of a vigil at a kernel that changes nothing

Complaints = Callable[[int, Kernel], Iterable[str]]
"""What is wrong with the kernel of the namespace at a place: nothing, or a text each for people."""


class Vigil:
    """What was wrong in any look at the kernels."""

    def __init__(self) -> None:
        self.looks = 0
        self._found: dict[str, list[float]] = {}  # text to the seconds at which it was so

    def seen(self, complaints: Iterable[str], at: float) -> None:
        """Take in one look, so many seconds after the first."""
        self.looks += 1
        for text in complaints:
            self._found.setdefault(text, []).append(at)

    def complaints(self) -> list[str]:
        """Each complaint once, with when it was so."""
        return [
            f"{text} (seen {len(times)} times, from {times[0]:.2f} s to {times[-1]:.2f} s)"
            for text, times in self._found.items()
        ]


class _Changes:
    """Places whose kernels changed since they were last read by one who follows."""

    def __init__(self) -> None:
        self.places: set[int] = set()
        self.wake = asyncio.Event()

    def mark(self, place: int) -> None:
        self.places.add(place)
        self.wake.set()

    async def take(self, within: float) -> set[int] | None:
        """Wait for changes, and return their places; None if nothing changes within so many seconds."""
        try:
            async with asyncio.timeout(within):
                await self.wake.wait()
        except TimeoutError:
            return None
        places, self.places = self.places, set()
        self.wake.clear()
        return places


class Observatory:
    """Follows the kernels of some namespaces."""

    def __init__(self, namespaces: Sequence[Namespace]) -> None:
        """Begin. Needs a running loop."""
        self._namespaces = namespaces
        self._followers: list[_Changes] = []
        self._watches = [Watch(namespace, self._mark(place)) for place, namespace in enumerate(namespaces)]

    def close(self) -> None:
        """Stop following."""
        for watch in self._watches:
            watch.close()

    async def wait(
        self,
        done: Callable[[int, Kernel], bool],
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
        with self._followed() as changes:
            while True:
                pending -= {place for place in candidates & pending if done(place, self.read(place))}
                reached(len(self._namespaces) - len(pending))
                if not pending or loop.time() >= end:
                    return sorted(pending)
                check()
                changed = await changes.take(min(READ_AGAIN, end - loop.time()))
                if changed is not None:
                    await asyncio.sleep(GATHER)
                    changed |= changes.places
                candidates = set(pending) if changed is None else changed

    @contextlib.asynccontextmanager
    async def vigil(self, complaints: Complaints) -> AsyncGenerator[Vigil, None]:
        """Look at every kernel after each of its changes, and now and then, as long as the context is entered."""
        vigil = Vigil()
        with self._followed() as changes:
            looking = asyncio.ensure_future(self._look(vigil, complaints, changes))
            try:
                yield vigil
            finally:
                looking.cancel()
                await asyncio.wait((looking,))
        if not looking.cancelled():
            looking.result()

    def read(self, place: int) -> Kernel:
        """What the kernel of the namespace at this place has now."""
        return kernel.read(self._namespaces[place])

    def usable_at(self, place: int, address: bytes) -> float | None:
        """When that namespace's kernel first let an address of ours be used: seconds, monotonic."""
        return self._watches[place].usable_at.get(address)

    def probed(self, place: int, address: bytes, *, since: float) -> tuple[float, float] | None:
        """How long DAD kept the namespace from using an address of ours, in seconds: of fe80:: and of the address.

        Of fe80:: what came after the moment `since` (monotonic): nothing, where it could be used before. None if the
        address was never seen to be probed for, or is not usable.
        """
        watch = self._watches[place]
        began, usable = watch.probed_from.get(address), watch.usable_at.get(address)
        if began is None or usable is None:
            return None
        return max(0.0, (watch.link_local_at or since) - since), usable - began

    def added_at(self, place: int, address: bytes) -> float | None:
        """When that namespace's kernel began to probe for an address of ours, for the first use of it: monotonic."""
        return self._watches[place].probed_from.get(address)

    def used(self, place: int) -> dict[bytes, float]:
        """Every address of ours that the namespace's kernel has let be used, and since when: seconds, monotonic."""
        return dict(self._watches[place].usable_at)

    def removed(self, place: int) -> frozenset[bytes]:
        """Addresses of ours that the namespace's kernel has lost at some time, even if they came back at once."""
        return frozenset(self._watches[place].removed)

    def holdings(self) -> Iterator[Holding]:
        """Every time in which a kernel let an address of ours be used, up to now: seconds, monotonic."""
        now = time.monotonic()
        for namespace, watch in zip(self._namespaces, self._watches, strict=True):
            for address, since, until in (*watch.used, *((each, at, now) for each, at in watch.using.items())):
                yield Holding(namespace.name, address, since, until)

    def deaf(self) -> list[str]:
        """Names of namespaces whose kernels said more than was read: of those not every moment is known."""
        return [space.name for space, watch in zip(self._namespaces, self._watches, strict=True) if watch.lost]

    async def _look(self, vigil: Vigil, complaints: Complaints, changes: _Changes) -> None:
        every = range(len(self._namespaces))
        began = looked = time.monotonic()
        places: Iterable[int] = every
        while True:
            for place in places:
                name = self._namespaces[place].name
                found = [f"{name}: {text}" for text in complaints(place, self.read(place))]
                vigil.seen(found, time.monotonic() - began)
            changed = await changes.take(max(0.0, looked + LOOK_AGAIN - time.monotonic()))
            places = every if changed is None else changed
            if changed is None:
                looked = time.monotonic()

    @contextlib.contextmanager
    def _followed(self) -> Iterator[_Changes]:
        changes = _Changes()
        self._followers.append(changes)
        try:
            yield changes
        finally:
            self._followers.remove(changes)

    def _mark(self, place: int) -> Callable[[], None]:
        def mark() -> None:
            for follower in self._followers:
                follower.mark(place)

        return mark
