"""Elements of the firewall's sets. `python -m bench.firewall_elements [-o json]`, as root.

In a network namespace that is made for it, with the real nft, and a log in memory: what the bus costs is measured
elsewhere. Event to kernel: from the acknowledgement of a commit with one lease to the end of the transaction that has
its address in its group's set, at a steady rate, with a set that is empty at first and with one that is full. And a
full set from nothing: until it is in the kernel, and until a subscriber that is started again has found that it is.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import structlog
from rich.console import Console
from rich.table import Table

from bench.command import main
from bench.processes import Memory, memory
from dnms.bus.memory import MemoryLog
from dnms.disk.subscriber_state import SubscriberState
from dnms.events import codec
from dnms.events.address import AddressAllocated
from dnms.events.commit import Commit
from dnms.events.plan import Group, GroupDefined, SiteDefined
from dnms.events.recorded import Event
from dnms.linux.namespaces import Namespace
from dnms.subscribers import firewall
from dnms.subscribers.firewall.items import Item, Member
from dnms.subscribers.firewall.kernel import Kernel
from dnms.subscribers.runner import Runner
from dnms.subscribers.subscriber import Local, Plan

SITE = "bench"
GROUP = 0x5A1E
FULL = 100_000  # elements of a set
RATES = ((1, 20), (100, 10), (1_000, 10))  # events a second, and for how many seconds
IN_A_COMMIT = 1_000  # leases, where a log is filled


class Latency(msgspec.Struct, frozen=True):
    """Event to kernel, in milliseconds."""

    elements: int  # in the set at the beginning
    rate: float  # events a second that were wanted
    events: int
    p50: float
    p99: float
    most: float
    transactions: int


class Filled(msgspec.Struct, frozen=True):
    """A full set."""

    elements: int
    from_nothing: float  # seconds: fold, read, plan, one transaction
    found_again: float  # seconds: fold, read, nothing to do
    subscriber: Memory
    kernel_bytes: int  # that the kernel's slabs grew by


class Report(msgspec.Struct, frozen=True):
    """All that was measured."""

    latencies: list[Latency]
    filled: Filled


class _Watched(Kernel):
    """Notes when an element was there."""

    def __init__(self) -> None:
        super().__init__()
        self.there: dict[bytes, float] = {}
        self.transactions = 0
        self.changed = asyncio.Condition()

    async def apply(self, plan: Plan[Item]) -> None:
        await super().apply(plan)
        now = time.perf_counter()
        self.transactions += 1
        self.there.update((item.element, now) for item in plan.add if isinstance(item, Member))
        async with self.changed:
            self.changed.notify_all()


class _Site:
    """A log, its clients numbered."""

    def __init__(self) -> None:
        self.log = MemoryLog(SITE, log_id="bench", now=lambda: time.time_ns() // 1_000)
        self._heads: dict[str, int] = {}

    async def write(self, subject: str, events: Sequence[Event]) -> None:
        subject = f"dnms.{SITE}.{subject}"
        head = self._heads.get(subject, 0)
        number = len(self.log.records) + 1
        commit = Commit(
            id=number.to_bytes(16), time=time.time_ns() // 1_000, predecessor=head, actor="bench", events=tuple(events)
        )
        self._heads[subject] = await self.log.store(subject, codec.encode(commit), expected=head)

    async def plan(self) -> None:
        await self.write(
            "plan", [SiteDefined(name=SITE, level=1), GroupDefined(group=Group(name="sales", number=GROUP))]
        )

    async def fill(self, count: int) -> None:
        for begin in range(0, count, IN_A_COMMIT):
            await self.write("ledger.lan", [lease(number) for number in range(begin, min(count, begin + IN_A_COMMIT))])


def address(number: int) -> bytes:
    """Of the lease with this number."""
    return (0x2001_0DB8_0001_0001_5A1E << 48 | number + 1).to_bytes(16)


def lease(number: int) -> AddressAllocated:
    """One that says its group, of a client that is not known otherwise."""
    return AddressAllocated(
        address=address(number),
        client=number.to_bytes(16),
        iaid=1,
        pool="six",
        group=GROUP,
        valid_until=1 << 60,
        horizon=1 << 60,
    )


@asynccontextmanager
async def _running(log: MemoryLog, folder: Path) -> AsyncIterator[_Watched]:
    """The subscriber, once it has looked at the whole log."""
    world = _Watched()
    subscriber = msgspec.structs.replace(firewall.SUBSCRIBER, world=lambda _: world)
    runner = Runner(log, subscriber, SubscriberState(folder, "firewall"), local=Local(site=SITE))
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


async def _latency(elements: int, rate: float, seconds: float, folder: Path) -> Latency:
    site, count = _Site(), max(1, round(rate * seconds))
    await site.plan()
    await site.fill(elements)
    async with _running(site.log, folder) as world:
        world.transactions = 0
        acknowledged: dict[bytes, float] = {}
        begin = time.perf_counter()
        for number in range(elements, elements + count):
            await asyncio.sleep(max(0.0, begin + (number - elements) / rate - time.perf_counter()))
            await site.write("ledger.lan", [lease(number)])
            acknowledged[address(number)] = time.perf_counter()
        async with asyncio.timeout(60), world.changed:
            await world.changed.wait_for(lambda: acknowledged.keys() <= world.there.keys())
        waited = sorted((world.there[each] - at) * 1_000 for each, at in acknowledged.items())
        return Latency(
            elements=elements,
            rate=rate,
            events=count,
            p50=statistics.median(waited),
            p99=waited[min(len(waited) - 1, round(0.99 * len(waited)))],
            most=waited[-1],
            transactions=world.transactions,
        )


async def _filled(elements: int, folder: Path) -> Filled:
    site = _Site()
    await site.plan()
    await site.fill(elements)
    before, begin = _slabs(), time.perf_counter()
    async with _running(site.log, folder):
        from_nothing = time.perf_counter() - begin
        held = memory(os.getpid())
    after, begin = _slabs(), time.perf_counter()
    async with _running(site.log, folder) as world:
        found_again = time.perf_counter() - begin
        if world.transactions:
            raise RuntimeError("what was there was not found")
    return Filled(
        elements=elements,
        from_nothing=from_nothing,
        found_again=found_again,
        subscriber=held,
        kernel_bytes=after - before,
    )


def _slabs() -> int:
    """Bytes of the kernel's memory in small pieces, of the whole machine."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Slab:"))


async def measured(elements: int, rates: Sequence[tuple[float, float]]) -> Report:
    """With sets of so many elements; `rates`: events a second, for so many seconds."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    latencies = []
    for there in (0, elements):
        for rate, seconds in rates:
            with Namespace.create("bench") as namespace, tempfile.TemporaryDirectory(prefix="dnms-bench-") as folder:
                namespace.enter()
                latencies.append(await _latency(there, rate, seconds, Path(folder)))
    with Namespace.create("bench") as namespace, tempfile.TemporaryDirectory(prefix="dnms-bench-") as folder:
        namespace.enter()
        return Report(latencies=latencies, filled=await _filled(elements, Path(folder)))


async def measure() -> Report:
    """Everything."""
    return await measured(FULL, RATES)


def show(report: Report) -> None:
    """For people."""
    table = Table("elements before", "events/s", "events", "p50 ms", "p99 ms", "most ms", "transactions")
    for each in report.latencies:
        figures = (f"{each.p50:.1f}", f"{each.p99:.1f}", f"{each.most:.1f}")
        table.add_row(str(each.elements), f"{each.rate:g}", str(each.events), *figures, str(each.transactions))
    console, filled = Console(), report.filled
    console.print(table)
    console.print(
        f"{filled.elements} elements, s: {filled.from_nothing:.2f} from nothing, {filled.found_again:.2f} again"
    )
    console.print(f"MB: the process {filled.subscriber.rss / 1e6:.0f}, the kernel {filled.kernel_bytes / 1e6:.0f} more")


if __name__ == "__main__":
    main("firewall_elements", str(__doc__).splitlines()[0], measure, show)
