"""How a Subnet Agent begins, with a real bus that is there, or comes later, or is another one."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from dnms.agents.subnet.folds import Folds
from dnms.agents.subnet.start import reach
from dnms.bus.append import append
from dnms.bus.clock import MAX_JUMP, Told, this_boot
from dnms.bus.embedded import EmbeddedServer
from dnms.bus.late import LateLog
from dnms.bus.port import LogForked, Unavailable
from dnms.bus.reading import Position
from dnms.disk.site import Site

PLAN = "dnms.s.plan"
DEADLINE = 60.0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.create(tmp_path / "site", "s")


async def stopped(path: Path, site: Site) -> tuple[EmbeddedServer, Folds]:
    """A server that has ended, and what an agent made of its log before: nothing, but it knows the log and its time."""
    folds = Folds(site.secret)
    async with EmbeddedServer(path, token=site.bus_token) as server:
        reached = await reach(server.url, site, None, stop=asyncio.Event())
        assert reached is not None
        assert not reached.away
        await append(reached.log, PLAN, b"first", expected=0)
        folds.read = Position(reached.log.log_id, 1, bytes(16))
        folds.told = reached.clock.told
        assert folds.told is not None
        assert folds.told.boot == this_boot()
        await reached.log.close()
    return server, folds


async def test_it_begins_without_the_bus_and_has_the_log_when_that_comes(site: Site, tmp_path: Path) -> None:
    server, folds = await stopped(tmp_path / "log", site)
    reached = await reach(server.url, site, folds, stop=asyncio.Event())
    assert reached is not None
    log, clock = reached.log, reached.clock
    assert reached.away
    assert isinstance(log, LateLog)
    for asking in (log.end(), log.clock(), log.first_after(PLAN, 0), append(log, PLAN, b"x", expected=1, patience=0)):
        with pytest.raises(Unavailable, match="not reached yet"):
            await asking
    async with aclosing(log.follow((PLAN,))) as batches:
        first = asyncio.ensure_future(anext(batches))
        async with EmbeddedServer(server.directory, token=site.bus_token, port=server.port):
            async with asyncio.timeout(DEADLINE):
                batch = await first
            assert [record.data for record in batch.records] == [b"first"]
            assert await log.end() == 1
            assert abs(await log.clock() - clock.now()) < MAX_JUMP
            assert not await clock.measure()
    await log.close()


async def test_another_log_is_not_taken_for_it(site: Site, tmp_path: Path) -> None:
    server, folds = await stopped(tmp_path / "log", site)
    reached = await reach(server.url, site, folds, stop=asyncio.Event())
    assert reached is not None
    async with (
        EmbeddedServer(tmp_path / "other", token=site.bus_token, port=server.port),
        aclosing(reached.log.follow((PLAN,))) as batches,
        asyncio.timeout(DEADLINE),
    ):
        with pytest.raises(LogForked, match="was read before"):
            await anext(batches)


async def test_after_a_boot_nobody_knows_the_time_and_it_waits(site: Site, tmp_path: Path) -> None:
    server, folds = await stopped(tmp_path / "log", site)
    assert folds.told is not None
    folds.told = Told(folds.told.said, folds.told.at, "another boot")
    stop = asyncio.Event()
    waiting = asyncio.ensure_future(reach(server.url, site, folds, stop=stop))
    async with EmbeddedServer(server.directory, token=site.bus_token, port=server.port):
        reached = await asyncio.wait_for(waiting, DEADLINE)
        assert reached is not None
        assert not reached.away
        await reached.log.close()
    stop.set()
    assert await asyncio.wait_for(reach(server.url, site, folds, stop=stop), DEADLINE) is None
