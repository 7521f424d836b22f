"""A log whose files were damaged under a stopped server, and sets that are in the kernel already."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from dnms.bus.append import append
from dnms.bus.embedded import EmbeddedServer
from dnms.bus.jetstream import JetStreamLog, connect
from dnms.bus.port import LogDamaged, LogError, LogForked
from dnms.disk.subscriber_state import SubscriberState
from dnms.events import codec
from dnms.events.commit import Commit
from dnms.subscribers import firewall
from dnms.subscribers.firewall.examples import EXAMPLES
from dnms.subscribers.firewall.items import Item
from dnms.subscribers.firewall.planning import Found
from dnms.subscribers.runner import Counts, Runner
from dnms.subscribers.subscriber import Local
from tests.netns.subscribers.conftest import PERIOD, Machine
from tests.system.bus import blocks
from tests.system.bus.conftest import TOKEN

HISTORY = EXAMPLES[0].log
LENGTH = len(HISTORY)
DEADLINE = 60.0


class Ended(msgspec.Struct, frozen=True):
    """How a runner ended by itself."""

    error: LogError
    counts: Counts


@asynccontextmanager
async def opened(server: EmbeddedServer, site: str) -> AsyncIterator[JetStreamLog]:
    log = await connect(server.url, site, token=TOKEN)
    try:
        yield log
    finally:
        await log.close()


async def write(log: JetStreamLog) -> None:
    heads: dict[str, int] = {}
    for number, one in enumerate(HISTORY, start=1):
        subject = f"dnms.{log.site}.{one.subject}"
        head = heads.get(subject, 0)
        commit = Commit(id=number.to_bytes(16), time=number, predecessor=head, actor="agent/east", events=one.events)
        heads[subject] = await append(log, subject, codec.encode(commit), expected=head)


def runner(log: JetStreamLog, state: Path) -> Runner[Item, Found]:
    kept = SubscriberState(state / log.site, "firewall")
    return Runner(log, firewall.SUBSCRIBER, kept, local=Local(site=log.site), period=PERIOD, first_pause=PERIOD)


async def written(directory: Path, sites: Sequence[str], state: Path) -> None:
    """A log for each site, and the sets that all of them mean, in the kernel."""
    async with EmbeddedServer(directory, token=TOKEN) as server:
        for site in sites:
            async with opened(server, site) as log:
                await write(log)
                stop, running = asyncio.Event(), runner(log, state)
                task = asyncio.create_task(running.run(stop))
                await running.settled.wait()
                stop.set()
                await task


async def ended(directory: Path, sites: Sequence[str], state: Path) -> dict[str, Ended]:
    """How the subscribers of these sites end at the next start of the server; all must."""

    async def one(server: EmbeddedServer, site: str) -> Ended:
        counts = Counts()
        try:
            async with opened(server, site) as log:
                running = runner(log, state)
                counts = running.counts
                await running.run(asyncio.Event())
        except (LogDamaged, LogForked) as error:
            return Ended(error, counts)
        raise AssertionError("it ended without a reason")

    async with asyncio.timeout(DEADLINE), EmbeddedServer(directory, token=TOKEN) as server:
        return dict(zip(sites, await asyncio.gather(*(one(server, site) for site in sites)), strict=True))


def flip(directory: Path, site: str, number: int) -> None:
    (block,) = blocks.blocks(directory, site)
    blocks.flip(block, blocks.messages(block)[number].fields["payload"][0])


def flip_and_forget(directory: Path, site: str, number: int) -> None:
    """As under a server that was killed: it finds it at its start, and cuts off what is behind it."""
    flip(directory, site, number)
    blocks.index(directory, site).unlink()


def cut(directory: Path, site: str, number: int) -> None:
    """As a backup from before: the log is whole, and shorter."""
    (block,) = blocks.blocks(directory, site)
    blocks.cut(block, blocks.messages(block)[number].first)
    blocks.index(directory, site).unlink()


@pytest.mark.parametrize(
    ("damage", "known", "expected"),
    [(flip, True, LogDamaged), (flip, False, LogDamaged), (flip_and_forget, False, LogDamaged), (cut, True, LogForked)],
)
def test_sets_lose_no_element_by_a_damage_at_any_message(
    machine: Machine,
    tmp_path: Path,
    damage: Callable[[Path, str, int], None],
    known: bool,
    expected: type[LogError],
) -> None:
    """By one that acted by the whole log before, and by one that is new on this machine."""
    directory, state = tmp_path / "log", tmp_path / "state"
    sites = [f"s{number}" for number in range(LENGTH)]
    machine.run(lambda: written(directory, sites, state))
    before = machine.sets()
    assert sum(map(len, before.values())) == 4
    for number, site in enumerate(sites):
        damage(directory, site, number)
    if not known:
        shutil.rmtree(state)
    told = machine.run(lambda: ended(directory, sites, state))
    assert {type(each.error) for each in told.values()} == {expected}
    assert not [site for site, each in told.items() if each.counts.dropped]
    now = machine.sets()
    assert now.keys() == before.keys()
    assert all(now[name] >= before[name] for name in before)
