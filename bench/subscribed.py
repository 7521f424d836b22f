"""Subscribers with real kernels, for `bench.subscribers`: event to kernel, and everything from nothing.

Each measurement is a process of its own in a network namespace of its own, with a log in memory, since what the bus
costs is measured elsewhere. Writer and subscriber share one event loop. So an event's time begins when it was due:
where the subscriber works for long, the writer is late, which one with a process of its own would not be. What is due
by then is written together, for the subscriber to find as it would.

A thing is there when the transaction that has it was acknowledged. At the end of each run other programs than ours list
what the kernel has, and a run in which that is another number has failed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import structlog

from bench.joins import median, percentile
from bench.processes import Memory, in_namespace, memory, own_namespace
from bench.sides import Stopwatch
from dnms.bus.memory import MemoryLog
from dnms.disk.subscriber_state import Acted, SubscriberState
from dnms.events import codec, subjects
from dnms.events.commit import Commit
from dnms.events.recorded import Event
from dnms.linux.namespaces import search_path, set_up
from dnms.subscribers.runner import Runner
from dnms.subscribers.subscriber import Actual, Hearing, Local, Plan, Subscriber, World

SITE, SUBNET = "bench", "lan"
LEDGER = subjects.ledger(SITE, SUBNET)
IN_A_COMMIT = 1_000  # events, where a log is filled
BARE = 100  # bare changes beside a rate
THERE_WITHIN = 60.0  # seconds from the last event
ROUNDS = 3  # of all from nothing

T = TypeVar("T")
A = TypeVar("A", bound=Actual[Any])


class Kept(msgspec.Struct, Generic[T, A], frozen=True, kw_only=True):
    """What one subscriber keeps in the kernel, of which each event of the log means one. Numbers begin with 0."""

    subscriber: Subscriber[T, A]
    local: Local
    plan: Sequence[Event]
    event: Callable[[int], Event]
    item: Callable[[int], T]  # that the event means
    prepare: Callable[[], None]  # in an empty namespace, once
    clear: Callable[[], None]  # all of the subscriber's, as if it had never run
    count: Callable[[], int]  # what the kernel has, by a program that is not ours
    make_room: Callable[[], None]  # what a bare loop finds, where nothing was
    bare: Callable[[Sequence[int]], Awaitable[float]]  # add these without log and subscriber: seconds
    peer: Callable[[Sequence[int]], float] | None = None  # another program that adds them: seconds


class Latency(msgspec.Struct, frozen=True):
    """Event to kernel, in milliseconds."""

    before: int  # things that were there at the beginning
    rate: float  # events a second
    events: int
    p50: float
    p99: float
    most: float
    transactions: int
    bare_p50: float  # one thing, no log and no subscriber
    bare_p99: float
    state_p50: float  # to write down, on the disk of temporary files, by which commit is acted, as each look does


class Filled(msgspec.Struct, frozen=True):
    """All of it from nothing; medians of some rounds."""

    items: int
    from_nothing: float  # seconds: fold, read, plan, change
    found_again: float  # seconds: fold, read, nothing to do
    bare: float  # seconds: the same change alone
    peer: float | None  # seconds
    before: Memory  # of the process, with the log in it
    holding: Memory  # with the subscriber that has put it all there
    kernel_bytes: int  # that the slabs of the machine grew by meanwhile


class Part(msgspec.Struct, frozen=True):
    """All that was measured of one subscriber."""

    latencies: list[Latency]
    filled: Filled


def measured(module: str, *, items: int, rates: Sequence[float], seconds: float) -> Part:
    """At each rate for so many seconds, with nothing there and with so many; then so many from nothing. `module` is run
    in a namespace for each. RuntimeError.
    """
    return Part(
        [
            in_namespace(module, Latency, "latency", str(before), str(rate), str(seconds))
            for before in (0, items)
            for rate in rates
        ],
        in_namespace(module, Filled, "filled", str(items)),
    )


def main(kept: Kept[T, A]) -> int:
    """The command line of a module that says what is kept; the exit code."""
    parser = argparse.ArgumentParser(description="A part of bench.subscribers.")
    parts = parser.add_subparsers(dest="part", required=True)
    latency = parts.add_parser("latency")
    latency.add_argument("before", type=int)
    latency.add_argument("rate", type=float)
    latency.add_argument("seconds", type=float)
    parts.add_parser("filled").add_argument("items", type=int)
    given = parser.parse_args()
    own_namespace()
    # What is wrong goes to stderr: standard output is for the answer alone.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(40), logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )
    set_up("lo")
    kept.prepare()
    found: Latency | Filled
    if given.part == "latency":
        found = asyncio.run(_latency(kept, given.before, given.rate, given.seconds))
    else:
        found = asyncio.run(_filled(kept, given.items))
    sys.stdout.buffer.write(msgspec.json.encode(found))
    return 0


async def _latency(kept: Kept[T, A], before: int, rate: float, seconds: float) -> Latency:
    """Write events at a steady rate, with so many things there at first. RuntimeError, TimeoutError."""
    log, count = Numbered(), max(1, round(rate * seconds))
    await log.plan(kept)
    await log.fill(kept, range(before))
    due: dict[T, float] = {}
    with tempfile.TemporaryDirectory(prefix="dnms-bench-") as folder:
        async with running(kept, log, Path(folder)) as world:
            world.note()
            begin = time.perf_counter()
            for number in range(count):
                at = begin + number / rate
                if (wait := at - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                await log.write(LEDGER, [kept.event(before + number)])
                due[kept.item(before + number)] = at
            await world.wait_for(due)
        state = [_written(Path(folder), number) * 1_000 for number in range(BARE)]
    _check(kept, before + count)
    waited = [(world.there[each] - at) * 1_000 for each, at in due.items()]
    bare = [await kept.bare([before + count + number]) * 1_000 for number in range(BARE)]
    _check(kept, before + count + len(bare))
    return Latency(
        before=before,
        rate=rate,
        events=count,
        p50=percentile(waited, 50),
        p99=percentile(waited, 99),
        most=max(waited),
        transactions=world.transactions,
        bare_p50=percentile(bare, 50),
        bare_p99=percentile(bare, 99),
        state_p50=percentile(state, 50),
    )


async def _filled(kept: Kept[T, A], items: int, rounds: int = ROUNDS) -> Filled:
    """So many from nothing, by the subscriber, by a bare loop and by a peer in turns. RuntimeError."""
    log = Numbered()
    await log.plan(kept)
    await log.fill(kept, range(items))
    from_nothing, found_again, bare, peer = list[float](), list[float](), list[float](), list[float]()
    process, slabs = [memory(os.getpid())], [_slabs()]
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="dnms-bench-") as folder:
            watch = Stopwatch()
            async with running(kept, log, Path(folder)):
                from_nothing.append(watch.seconds())
                process.append(memory(os.getpid()))
                slabs.append(_slabs())
            _check(kept, items)
            watch = Stopwatch()
            async with running(kept, log, Path(folder)) as world:
                found_again.append(watch.seconds())
                if world.transactions:
                    raise RuntimeError("what was there was not found")
        kept.clear()
        kept.make_room()
        bare.append(await kept.bare(range(items)))
        _check(kept, items)
        kept.clear()
        if kept.peer is not None:
            kept.make_room()
            peer.append(kept.peer(range(items)))
            _check(kept, items)
            kept.clear()
    return Filled(
        items=items,
        from_nothing=median(from_nothing),
        found_again=median(found_again),
        bare=median(bare),
        peer=median(peer) if peer else None,
        before=process[0],
        holding=process[1],  # later rounds find memory that the first one has left
        kernel_bytes=slabs[1] - slabs[0],
    )


class Numbered:
    """A log, whose clients and commits are numbered."""

    def __init__(self) -> None:
        self.log = MemoryLog(SITE, log_id="bench", now=lambda: time.time_ns() // 1_000)
        self._heads: dict[str, int] = {}

    async def write(self, subject: str, events: Sequence[Event]) -> None:
        """One commit."""
        head = self._heads.get(subject, 0)
        number = len(self.log.records) + 1
        commit = Commit(
            id=number.to_bytes(16), time=time.time_ns() // 1_000, predecessor=head, actor="bench", events=tuple(events)
        )
        self._heads[subject] = await self.log.store(subject, codec.encode(commit), expected=head)

    async def plan(self, kept: Kept[T, A]) -> None:
        """The first commit."""
        await self.write(subjects.plan(SITE), kept.plan)

    async def fill(self, kept: Kept[T, A], numbers: range) -> None:
        """The events with these numbers, in large commits."""
        for begin in range(0, len(numbers), IN_A_COMMIT):
            some = numbers[begin : begin + IN_A_COMMIT]
            await self.write(LEDGER, [kept.event(number) for number in some])


class Watched(Generic[T, A]):
    """A subscriber's world that notes when something was there. Implements `subscriber.World` and `Hearing`."""

    def __init__(self, world: World[T, A]) -> None:
        self.there: dict[T, float] = {}
        self.transactions = 0
        self._world = world
        self._noting = False
        self._changed = asyncio.Condition()

    def note(self) -> None:
        """From now on; what was put there before is neither counted nor kept."""
        self._noting, self.transactions = True, 0

    async def wait_for(self, items: dict[T, float]) -> None:
        """Until all of these were there. TimeoutError."""
        async with asyncio.timeout(THERE_WITHIN), self._changed:
            await self._changed.wait_for(lambda: items.keys() <= self.there.keys())

    async def actual(self) -> A:
        """As of the one inside."""
        return await self._world.actual()

    async def apply(self, plan: Plan[T]) -> None:
        """As of the one inside, and note what it has added."""
        await self._world.apply(plan)
        now = time.perf_counter()
        self.transactions += 1
        if self._noting:
            self.there.update((item, now) for item in plan.add)
            async with self._changed:
                self._changed.notify_all()

    def changes(self) -> AsyncGenerator[None, None]:
        """As of the one inside."""
        assert isinstance(self._world, Hearing)
        return self._world.changes()


@asynccontextmanager
async def running(kept: Kept[T, A], log: Numbered, folder: Path) -> AsyncIterator[Watched[T, A]]:
    """The subscriber, once it has looked with the whole log; what it keeps over its end is in the folder."""
    world = Watched(kept.subscriber.world(kept.local))
    subscriber = msgspec.structs.replace(kept.subscriber, world=lambda _: world)
    state = SubscriberState(folder, subscriber.name)
    runner: Runner[T, A] = Runner(log.log, subscriber, state, local=kept.local)
    stop = asyncio.Event()
    task = asyncio.create_task(runner.run(stop))
    settled = asyncio.create_task(runner.settled.wait())
    try:
        await asyncio.wait((task, settled), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield world
    finally:
        stop.set()
        settled.cancel()
        await task


def run(name: str, *words: str, given: str = "") -> tuple[float, bytes]:
    """Run another program to its end: how many seconds it took, and what it printed. RuntimeError."""
    found = shutil.which(name, path=search_path())
    if found is None:
        raise RuntimeError(f"the program {name} is not installed")
    data, watch = given.encode(), Stopwatch()
    done = subprocess.run((found, *words), input=data, capture_output=True, check=False)
    took = watch.seconds()
    if done.returncode:
        raise RuntimeError(f"{name} {' '.join(words)}: {done.stderr.decode(errors='replace')[:400]}")
    return took, done.stdout


def _written(folder: Path, number: int) -> float:
    """Seconds to write a subscriber's state."""
    watch = Stopwatch()
    SubscriberState(folder, "bare").write(Acted("bench", number, number.to_bytes(16).hex()))
    return watch.seconds()


def _check(kept: Kept[T, A], wanted: int) -> None:
    if (there := kept.count()) != wanted:
        raise RuntimeError(f"the kernel has {there} of {wanted}")


def _slabs() -> int:
    """Bytes of the kernel's memory in small pieces, of the whole machine."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Slab:"))
