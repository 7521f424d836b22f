"""The runner: follows, resumes, rebuilds, and stops where the log cannot be trusted, for all to see."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest

from dnms.bus.memory import MemoryLog
from dnms.bus.port import LogDamaged, Record
from dnms.bus.reading import Commits
from dnms.events import codec
from dnms.projections import PROJECTIONS, files, runner
from dnms.projections.addresses.examples import EXAMPLES
from dnms.projections.example import SITE, happened, stored
from dnms.projections.files import ViewsBusy, ViewsError
from dnms.projections.nodes.examples import EXAMPLES as NODES
from dnms.projections.runner import Runner, rebuild
from dnms.projections.verify import verify
from dnms.projections.views import Status, Views
from tests.contracts.projections.conftest import Running
from tests.contracts.projections.logs import memory_log, tables, write

PATIENCE = 20.0  # seconds; a loaded machine


async def eventually(ask: Callable[[], Awaitable[Status]], state: str) -> Status:
    async with asyncio.timeout(PATIENCE):
        while (status := await ask()).state != state:  # noqa: ASYNC110  # a file tells nobody that it changed
            await asyncio.sleep(0.02)
    return status


async def test_it_folds_what_is_there_and_what_comes(views: Views, running: Running) -> None:
    log = memory_log()
    await write(log, *EXAMPLES[0].log)
    async with running(log):
        assert await views.reached(2, within=PATIENCE)
        await write(log, *EXAMPLES[0].log)
        assert await views.reached(4, within=PATIENCE)
        status = await eventually(views.status, "following")
    assert status.running
    assert status.position is not None
    assert (status.position.sequence, status.position.commits, status.position.events) == (4, 4, 8)
    assert not (await views.status()).running


async def test_it_goes_on_from_where_it_was(path: Path, views: Views, running: Running) -> None:
    log = memory_log()
    for number, one in enumerate(EXAMPLES[2].log, start=1):
        await write(log, one)
        async with running(log):
            assert await views.reached(number, within=PATIENCE)
    assert (await verify(log, path)).equal


async def test_an_empty_log_has_empty_views(views: Views, running: Running) -> None:
    async with running(memory_log()):
        assert await views.reached(0, within=PATIENCE)
        assert (await eventually(views.status, "following")).position is not None


@pytest.mark.parametrize("what", ["another id", "another commit", "shorter"])
async def test_another_log_stops_it(views: Views, running: Running, what: str) -> None:
    log = memory_log()
    await write(log, *EXAMPLES[0].log)
    async with running(log):
        assert await views.reached(2, within=PATIENCE)
    other = memory_log("two" if what == "another id" else "one")
    await write(other, *(EXAMPLES[0].log[:1] if what == "shorter" else EXAMPLES[1].log))
    if what == "another commit":
        other.records[1] = msgspec.structs.replace(
            other.records[1], data=other.records[1].data.replace((2).to_bytes(16), b"another commit's")
        )
    async with running(other):
        status = await eventually(views.status, "stopped")
    assert status.why == "log-forked"
    assert status.explanation
    assert status.position is not None
    assert status.position.sequence == 2  # what was folded is still there to ask
    async with running(log):
        assert (await eventually(views.status, "following")).why == ""


class DamagedLog(MemoryLog):
    """A log that has lost a message, as a broken disk does."""

    def lose(self, sequence: int) -> None:
        del self.records[sequence - 1]


async def test_a_gap_stops_it_before_the_gap(views: Views, running: Running) -> None:
    log = DamagedLog(SITE, log_id="one", now=lambda: 0)
    await write(log, *EXAMPLES[2].log)
    log.lose(2)
    async with running(log):
        status = await eventually(views.status, "stopped")
    assert status.why == "log-damaged"


async def test_bytes_that_are_no_commit_stop_it(views: Views, running: Running) -> None:
    log = memory_log()
    await write(log, *EXAMPLES[0].log)
    log.records.append(Record(f"dnms.{SITE}.plan", 3, 0, b"\x93"))
    async with running(log):
        status = await eventually(views.status, "stopped")
    assert status.why == "log-damaged"
    assert "3" in status.explanation


async def test_an_event_of_a_newer_release_stops_it(views: Views, running: Running) -> None:
    log = memory_log()
    await write(log, NODES[0].log[2])
    assert b"node.arrived" in log.records[0].data
    newer = log.records[0].data.replace(b"node.arrived", b"node.beamed!")
    log.records[0] = msgspec.structs.replace(log.records[0], data=newer)
    async with running(log):
        status = await eventually(views.status, "stopped")
    assert status.why == "unknown-to-this-release"
    assert "upgrade" in status.explanation


async def test_a_raised_version_folds_everything_anew(path: Path, views: Views, running: Running) -> None:
    log = memory_log()
    await write(log, *EXAMPLES[0].log)
    async with running(log):
        assert await views.reached(2, within=PATIENCE)
    old = files.current(path)
    raised = [msgspec.structs.replace(one, version=one.version + 1) for one in PROJECTIONS]
    renewed = Views(path, projections=raised)
    assert (await renewed.status()).state == "outdated"
    async with running(log, raised):
        assert await renewed.reached(2, within=PATIENCE)
        assert (await views.status()).why == "views-outdated"
    assert files.current(path) != old
    assert old is not None
    assert not old.exists()
    await renewed.close()


async def test_a_damaged_file_is_folded_anew(path: Path, views: Views, running: Running) -> None:
    log = memory_log()
    await write(log, *EXAMPLES[0].log)
    async with running(log):
        assert await views.reached(2, within=PATIENCE)
    file = files.current(path)
    assert file is not None
    file.write_bytes(os.urandom(8_192))
    async with running(log):
        assert await views.reached(2, within=PATIENCE)
        await eventually(views.status, "following")


async def test_what_a_killed_rebuild_left_behind_is_deleted(path: Path, views: Views, running: Running) -> None:
    left = [path.with_name(f"{path.name}.0123abcd{part}") for part in ("", "-journal", "-aside", "-aside-journal")]
    for one in left:
        one.write_bytes(b"half")
    async with running(memory_log()):
        assert await views.reached(0, within=PATIENCE)
    assert not any(one.exists() for one in left)


async def test_views_that_are_behind_the_log_at_first_are_not_shown(path: Path, views: Views) -> None:
    assert (await views.status()).state == "missing"
    with pytest.raises(ViewsError, match="no views"):
        async with views.read():
            pass


async def test_there_is_one_writer(path: Path, views: Views, running: Running) -> None:
    log = memory_log()
    async with running(log):
        assert await views.reached(0, within=PATIENCE)
        with pytest.raises(ViewsBusy, match="another process"):
            await rebuild(log, path, site=SITE)


async def test_a_rebuild_equals_what_was_followed(path: Path, views: Views, running: Running) -> None:
    log = memory_log()
    async with running(log):
        for one in (*EXAMPLES[4].log, *NODES[2].log):
            await write(log, one)
            assert await views.reached(len(log.records), within=PATIENCE)
    followed = files.current(path)
    assert followed is not None
    before = tables(followed)
    position = await rebuild(log, path, site=SITE)
    assert position.sequence == len(log.records)
    file = files.current(path)
    assert file is not None
    assert file != followed
    assert tables(file) == before
    async with views.read() as reading:  # a reader that was open goes over to the new file
        assert reading.position.sequence == position.sequence
    assert sorted(one.name for one in path.parent.iterdir() if one.name.startswith(file.name)) == [
        file.name,
        f"{file.name}-shm",
        f"{file.name}-wal",
    ]
    assert (await verify(log, path)).equal


async def test_a_rebuild_from_a_damaged_log_leaves_the_views_as_they_were(
    path: Path, views: Views, running: Running
) -> None:
    log = DamagedLog(SITE, log_id="one", now=lambda: 0)
    await write(log, *EXAMPLES[2].log)
    async with running(log):
        assert await views.reached(3, within=PATIENCE)
    before = files.current(path)
    log.lose(2)
    with pytest.raises(LogDamaged):
        await rebuild(log, path, site=SITE)
    assert files.current(path) == before
    assert (await views.status()).state == "following"
    assert {one.name for one in path.parent.glob("views.db.????????")} == {before.name if before else ""}


def test_what_lies_in_the_place_of_the_views_is_left_alone(path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(ViewsError, match="move it away"):
        asyncio.run(Runner(memory_log(), path, site=SITE).run(asyncio.Event()))
    assert path.read_text() == "mine"


async def test_a_large_batch_is_several_transactions(
    path: Path, views: Views, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dnms.projections.runner.MAX_EVENTS", 3)
    log = memory_log()
    await write(log, *EXAMPLES[0].log, *EXAMPLES[0].log, *EXAMPLES[0].log, happened("plan", 1))
    async with running(log):
        assert await views.reached(7, within=PATIENCE)
    assert (await verify(log, path)).equal


def test_a_commit_of_an_example_can_be_written() -> None:
    for one in stored(EXAMPLES[0].log):
        assert codec.decode(codec.encode(one.commit)) == one.commit


async def test_what_comes_in_pieces_is_folded_in_bounded_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a long log in one batch would take as much memory as it is long."""
    monkeypatch.setattr(runner, "MAX_EVENTS", 4)
    commits = stored(EXAMPLES[0].log * 5)
    events = [len(one.commit.events) for one in commits]

    async def pieces() -> AsyncGenerator[Commits, None]:
        for number, one in enumerate(commits, start=1):
            yield Commits((one,), caught_up=number == len(commits))

    async with aclosing(pieces()) as read, aclosing(runner.gathered(read)) as gathered:
        batches = [batch async for batch in gathered]
    assert [one for batch in batches for one in batch.stored] == commits
    assert [batch.caught_up for batch in batches] == [False] * (len(batches) - 1) + [True]
    sizes = [sum(len(one.commit.events) for one in batch.stored) for batch in batches]
    assert all(4 <= size < 4 + max(events) for size in sizes[:-1])
    assert len(batches) > 2
