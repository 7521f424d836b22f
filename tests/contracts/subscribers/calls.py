"""Runs subscribers that call in virtual time, over a log in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from dnms.bus.memory import MemoryLog
from dnms.bus.port import Unavailable
from dnms.disk.subscriber_state import SubscriberState
from dnms.events import codec, subjects
from dnms.events.commit import Commit
from dnms.events.effect import EffectAsked, EffectCalled, EffectDead, EffectDelayed
from dnms.events.node import NodeArrived
from dnms.events.recorded import Event
from dnms.kit.clock import MICROSECONDS
from dnms.subscribers.caller import Caller, CallError, Calling, Happening, Kinds
from dnms.subscribers.calling import CallRunner
from dnms.subscribers.subscriber import Local
from tests.virtual_time import VirtualTimeLoop, pass_time

SITE = "example"
LOCAL = Local(site=SITE, instance="here")
HOUR = 3_600.0

T = TypeVar("T")


def virtually(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work())


def now() -> int:
    return int(asyncio.get_running_loop().time() * MICROSECONDS)


class Frail(MemoryLog):
    """A log that takes nothing, and is not read, while it is cut off."""

    cut = False

    def __init__(self) -> None:
        super().__init__(SITE, log_id="one", now=now)

    async def store(self, subject: str, data: bytes, *, expected: int) -> int:
        if self.cut:
            raise Unavailable("cut off by the test")
        return await super().store(subject, data, expected=expected)

    async def append(self, subject: str, *events: Event) -> int:
        """One commit; its sequence."""
        whole = f"dnms.{SITE}.{subject}"
        head = max((record.sequence for record in self.records if record.subject == whole), default=0)
        number = len(self.records) + 1
        commit = Commit(id=number.to_bytes(16), time=now(), predecessor=head, actor="agent/east", events=events)
        return await super().store(whole, codec.encode(commit), expected=head)

    async def arrived(self, client: int, subnet: str) -> int:
        """A node comes to a subnet."""
        return await self.append(f"node.{client:02x}", NodeArrived(client=bytes([client]) * 16, subnet=subnet))

    async def ask(self, *places: Any) -> int:
        """An operator wants dead letters again."""
        return await self.append("effect.ear.here.asked", EffectAsked(places=places))

    def said(self) -> list[Event]:
        """What the instance wrote."""
        own = subjects.effect(SITE, "ear", "here")
        return [event for record in self.records if record.subject == own for event in codec.decode(record.data).events]

    def commits(self) -> int:
        return sum(record.subject == subjects.effect(SITE, "ear", "here") for record in self.records)

    def of(self, kind: type[EffectCalled] | type[EffectDelayed] | type[EffectDead]) -> list[Any]:
        return [event for event in self.said() if isinstance(event, kind)]


class Ear:
    """Hears what it is called for; of some clients it cannot, and may be away."""

    at_once = 4

    def __init__(self, *, kinds: Iterable[str] = (), from_first: bool = False, takes: float = 0.1) -> None:
        self.kinds = Kinds(kinds)
        self.from_first = from_first
        self.heard: list[Happening] = []  # in the order in which calls were done
        self.tried: list[tuple[float, str]] = []  # when, and the position
        self.away = False
        self.deaf: set[bytes] = set()
        self._takes = takes

    async def call(self, happening: Happening) -> None:
        self.tried.append((asyncio.get_running_loop().time(), happening.position))
        await pass_time(self._takes)
        if self.away or getattr(happening.event, "client", b"") in self.deaf:
            raise CallError("deaf", "heard nothing")
        self.heard.append(happening)

    async def close(self) -> None:
        pass

    def positions(self) -> list[str]:
        return [each.position for each in self.heard]


@asynccontextmanager
async def calling(log: Frail, caller: Caller, directory: Path) -> AsyncIterator[CallRunner]:
    """A runner for as long as the context lasts; what it raises is raised."""
    runner = CallRunner(
        log,
        Calling(name="ear", about="", caller=lambda _: caller),
        SubscriberState(directory, "ear.here"),
        local=LOCAL,
        now=now,
        chance=random.Random(7).random,
    )
    stop, read = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(runner.run(stop, ready=lambda _: read.set()))
    reading = asyncio.create_task(read.wait())
    await asyncio.wait((task, reading), return_when=asyncio.FIRST_COMPLETED)
    reading.cancel()
    try:
        yield runner
    finally:
        stop.set()
        await task


async def killed(log: Frail, caller: Caller, directory: Path, after: float) -> None:
    """Run one that is killed: what it has not written yet, it never will."""
    try:
        async with calling(log, caller, directory):
            await pass_time(after)
            log.cut = True  # it may say what it likes
    finally:
        log.cut = False
