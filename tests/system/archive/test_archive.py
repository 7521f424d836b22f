"""An archive follows a real log, through kill -9 of who archives; and what is wrong with the log is found in it."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from dnms.archive import segments
from dnms.archive.comparing import Comparison, Span, compare
from dnms.archive.follower import archive
from dnms.archive.records import ArchiveError
from dnms.archive.repair import MARK, NotRepairable, Repaired, repair
from dnms.archive.segments import Archive
from dnms.archive.stores import served_copy
from dnms.bus.embedded import EmbeddedServer, EmbeddedServerError
from dnms.bus.port import LogForked, Record
from dnms.bus.survey import survey
from dnms.disk.site import Site
from tests.system.archive.conftest import DEADLINE, opened, read_all, served, write
from tests.system.bus import blocks

COMMITS = 30


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "FULL", 1_000)  # 10 messages or so


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "archive"


async def archive_once(site: Site, url: str, directory: Path) -> int:
    async with opened(url, site) as log:
        return await archive(
            log, directory, site=site.name, once=True, stop=asyncio.Event(), archived=lambda last: None
        )


async def archived(site: Site, directory: Path, *, more: int = 0, padding: int = 0) -> list[Record]:
    """A log and its archive, then `more` commits that are in the log alone; all that is in the log."""
    async with EmbeddedServer(site.log_directory, token=site.bus_token) as server, opened(server.url, site) as log:
        await write(log, COMMITS, padding=padding)
        assert await archive_once(site, server.url, directory) == COMMITS
        await write(log, more, padding=padding)
        return await read_all(log)


async def compared(site: Site, directory: Path) -> Comparison:
    async with (
        served_copy(site.log_directory, site.path / "copy", site=site.name, token=site.bus_token) as (url, on_disk),
        survey(url, site.name, token=site.bus_token) as found,
    ):
        return await compare(Archive.open(directory), found, on_disk=on_disk)


async def repaired(site: Site, directory: Path, *, archive_alone: bool = False) -> Repaired:
    kept = Archive.open(directory)
    return await repair(
        site.log_directory, kept, token=site.bus_token, archive_alone=archive_alone, say=lambda text: None
    )


async def until_archived(directory: Path, end: int) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            if Archive.open(directory).end == end:
                return
            await asyncio.sleep(0.01)


def store(directory: Path) -> dict[str, bytes]:
    """Every file of a site's log, but for the lock."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


async def test_it_follows_until_it_is_stopped_and_goes_on(
    site: Site, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dnms.archive.follower.INTERVAL", 0.02)
    async with EmbeddedServer(site.log_directory, token=site.bus_token) as server, opened(server.url, site) as log:
        for turn in range(3):
            stop, reached = asyncio.Event(), asyncio.Queue[int]()
            async with opened(server.url, site) as followed:
                following = asyncio.create_task(
                    archive(followed, directory, site=site.name, once=False, stop=stop, archived=reached.put_nowait)
                )
                assert await asyncio.wait_for(reached.get(), DEADLINE) == 17 * turn
                await write(log, 17)
                await until_archived(directory, 17 * (turn + 1))
                stop.set()
                assert await asyncio.wait_for(following, DEADLINE) == 17 * (turn + 1)
        assert list(Archive.open(directory).all()) == await read_all(log)
    assert (await compared(site, directory)).whole


async def test_it_is_complete_after_kill_9_at_any_time(site: Site, directory: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from dnms.archive import follower, segments\n"
        "from dnms.bus import jetstream\n"
        "segments.FULL = 1_000\n"
        "follower.INTERVAL = 0.001\n"
        "async def main():\n"
        "    log = await jetstream.connect(sys.argv[1], sys.argv[2], token=sys.argv[3])\n"
        "    await follower.archive(log, Path(sys.argv[4]), site=sys.argv[2], once=False, stop=asyncio.Event(),\n"
        "        archived=lambda last: print(last, flush=True))\n"
        "asyncio.run(main())\n"
    )
    async with EmbeddedServer(site.log_directory, token=site.bus_token) as server, opened(server.url, site) as log:
        ends = []
        for turn in range(6):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", program, server.url, site.name, site.bus_token, directory),
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None
            assert await asyncio.wait_for(process.stdout.readline(), DEADLINE) == b"%d\n" % (turn * 25)
            await write(log, 25)
            process.kill()  # in the middle of whatever it does with them
            await process.wait()
            if (directory / segments.MANIFEST).exists():
                kept = Archive.open(directory)
                assert list(kept.all()) == (await read_all(log))[: kept.end]
                ends.append(kept.end)
        assert len(ends) == 6
        assert await archive_once(site, server.url, directory) == 150
        assert list(Archive.open(directory).all()) == await read_all(log)


async def test_it_does_not_go_on_with_a_log_that_is_shorter_or_another(
    site: Site, directory: Path, tmp_path: Path
) -> None:
    await archived(site, directory)
    kept = Archive.open(directory)
    site.log_directory.rename(site.path / "elsewhere")
    async with EmbeddedServer(site.log_directory, token=site.bus_token) as server:
        with pytest.raises(ArchiveError, match="another log"):
            await archive_once(site, server.url, directory)
    other, shorter = tmp_path / "other", tmp_path / "shorter"
    last = list(kept.all())[-1]
    for place, more in ((other, Record(last.subject, 31, 1, b"another")), (shorter, Record(last.subject, 31, 1, b""))):
        shutil.copytree(directory, place)
        with segments.writing(place, site=site.name, log_id=kept.log_id) as writer:
            writer.add([more])
            writer.flush()
    async with EmbeddedServer(site.path / "elsewhere", token=site.bus_token) as server:
        with pytest.raises(LogForked):
            await archive_once(site, server.url, shorter)
        async with opened(server.url, site) as log:
            await write(log, 2)
        with pytest.raises(LogForked, match="ends with the message at 31, and the log has another"):
            await archive_once(site, server.url, other)
        assert Archive.open(other).end == 31
        assert await archive_once(site, server.url, directory) == COMMITS + 2


async def test_a_log_and_its_archive_are_compared(site: Site, directory: Path) -> None:
    await archived(site, directory, more=3)
    found = await compared(site, directory)
    assert found.whole
    assert (found.archived, found.stored, found.not_archived) == (COMMITS, COMMITS + 3, 3)
    segment = Archive.open(directory).segments[1]
    blocks.flip(directory / segment.name, segment.size // 2)
    found = await compared(site, directory)
    assert not found.whole
    assert found.stream_is_whole
    assert [segment.name in said for said in found.damaged] == [True]


@pytest.mark.parametrize("indexed", [True, False], ids=["stopped", "killed"])
@pytest.mark.parametrize("field", ["payload", "sequence", "headers", "length", "checksum"])
async def test_a_flipped_bit_is_found_and_healed(site: Site, directory: Path, field: str, indexed: bool) -> None:
    records = await archived(site, directory)
    (block,) = blocks.blocks(site.log_directory, site.name)
    blocks.flip(block, blocks.messages(block)[14].fields[field][0], bit=2)
    if not indexed:
        blocks.index(site.log_directory, site.name).unlink()
    damaged = store(site.log_directory)

    found = await compared(site, directory)
    assert not found.whole
    assert found.missing[0].first == 15
    assert not (found.lost or found.changed or found.damaged)

    done = await repaired(site, directory)
    assert (done.changed, done.messages, done.restored) == (True, COMMITS, sum(span.size for span in found.missing))
    async with served(site) as log:
        assert (log.log_id, await read_all(log)) == (found.log_id, records)
        await write(log, 3)  # and it goes on
        assert await log.end() == COMMITS + 3
    assert (await compared(site, directory)).whole

    # The damaged one is kept as it was, but for the keys, which are nowhere twice; and nothing else is left.
    old = Path(done.kept)
    kept = {name: data for name, data in damaged.items() if "DNMS-KEYS_" not in str(name)}
    assert {name: (old / name).read_bytes() for name in kept} == kept != damaged
    assert not any("DNMS-KEYS_" in str(name) for name in store(old))
    assert not list(site.path.glob("log.repair*"))
    assert not (site.log_directory / MARK).exists()
    again = await repaired(site, directory)
    assert not again.changed


async def test_what_is_not_archived_yet_comes_from_the_stream(site: Site, directory: Path) -> None:
    records = await archived(site, directory, more=5)
    (block,) = blocks.blocks(site.log_directory, site.name)
    blocks.flip(block, blocks.messages(block)[3].fields["payload"][0])
    # What the archive cannot tell any more the stream can.
    segment = Archive.open(directory).segments[-1]
    blocks.flip(directory / segment.name, segment.size // 2)
    done = await repaired(site, directory)
    assert (done.messages, done.restored) == (COMMITS + 5, 1)
    async with served(site) as log:
        assert await read_all(log) == records


async def test_what_is_in_neither_stops_a_repair(site: Site, directory: Path) -> None:
    records = await archived(site, directory, more=5)
    (block,) = blocks.blocks(site.log_directory, site.name)
    for number in (3, COMMITS + 1):
        blocks.flip(block, blocks.messages(block)[number].fields["payload"][0])
    before = store(site.log_directory)
    found = await compared(site, directory)
    assert (found.missing, found.lost) == ([Span(4, 4)], [Span(COMMITS + 2, COMMITS + 2)])
    with pytest.raises(NotRepairable, match=rf"neither .* has the messages at {COMMITS + 2}; nothing was changed"):
        await repaired(site, directory)
    assert store(site.log_directory) == before
    assert not list(site.path.glob("log.*"))
    # Who says so gets what is archived, and keeps the rest beside it.
    done = await repaired(site, directory, archive_alone=True)
    assert (done.changed, done.messages) == (True, COMMITS)
    async with served(site) as log:
        assert await read_all(log) == records[:COMMITS]
    assert blocks.blocks(Path(done.kept), site.name)


@pytest.mark.parametrize("field", ["payload", "sequence", "headers", "length", "checksum", "time"])
@pytest.mark.parametrize("number", [3, COMMITS + 3, COMMITS + 4])
async def test_what_a_killed_server_cuts_off_is_not_forgotten(
    site: Site, directory: Path, number: int, field: str
) -> None:
    """Without its index it drops a damaged message and all behind it, and has none of them afterwards."""
    await archived(site, directory, more=5)
    (block,) = blocks.blocks(site.log_directory, site.name)
    blocks.flip(block, blocks.messages(block)[number].fields[field][0])
    blocks.index(site.log_directory, site.name).unlink()
    before = store(site.log_directory)
    with pytest.raises(NotRepairable, match=rf"neither .* messages at {max(number, COMMITS) + 1}( to {COMMITS + 5})?;"):
        await repaired(site, directory)
    assert store(site.log_directory) == before


async def test_a_write_that_was_not_finished_was_never_in_the_log(site: Site, directory: Path) -> None:
    records = await archived(site, directory, more=5)
    (block,) = blocks.blocks(site.log_directory, site.name)
    blocks.cut(block, blocks.messages(block)[-1].first + 60)
    blocks.index(site.log_directory, site.name).unlink()
    blocks.flip(block, blocks.messages(block)[3].fields["payload"][0])
    with pytest.raises(NotRepairable, match=rf"messages at {COMMITS + 1} to {COMMITS + 4};"):
        await repaired(site, directory)
    blocks.flip(block, blocks.messages(block)[3].fields["payload"][0])
    assert not (await repaired(site, directory)).changed
    async with served(site) as log:
        assert await read_all(log) == records[:-1]


async def test_a_log_that_is_gone_is_built_from_its_archive(site: Site, directory: Path) -> None:
    records = await archived(site, directory)
    site.log_directory.rename(site.path / "gone")
    with pytest.raises(NotRepairable, match="there is no log"):
        await repaired(site, directory)
    done = await repaired(site, directory, archive_alone=True)
    assert (done.messages, done.kept) == (COMMITS, "")
    async with served(site) as log:
        assert await read_all(log) == records


async def test_a_block_that_is_gone_is_healed(site: Site, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    records = await archived(site, directory, padding=3 << 20)
    blocks.blocks(site.log_directory, site.name)[1].unlink()
    found = await compared(site, directory)
    assert found.missing
    await repaired(site, directory)
    async with served(site) as log:
        assert await read_all(log) == records


async def test_a_log_that_is_served_is_not_repaired(site: Site, directory: Path) -> None:
    await archived(site, directory)
    async with served(site):
        with pytest.raises(EmbeddedServerError, match="stop `dnms serve` first"):
            await repaired(site, directory)


async def test_the_archive_of_another_history_repairs_nothing(site: Site, directory: Path, tmp_path: Path) -> None:
    """The same id, and other messages: neither is taken for the right one."""
    records = await archived(site, directory)
    before = store(site.log_directory)
    other = tmp_path / "other"
    with segments.writing(other, site=site.name, log_id=Archive.open(directory).log_id) as writer:
        changed = Record(records[6].subject, 7, records[6].stored_at, b"another")
        writer.add([*records[:6], changed, *records[7:]])
        writer.flush()
    assert (await compared(site, other)).changed == [Span(7, 7)]
    with pytest.raises(NotRepairable, match="not the same at 7"):
        await repaired(site, other)
    assert store(site.log_directory) == before


async def test_a_repair_that_was_killed_left_the_old_log_or_the_new_one(site: Site, directory: Path) -> None:
    """Killed before the exchange, what was built is made anew; after it, the old log is kept all the same."""
    records = await archived(site, directory)
    (block,) = blocks.blocks(site.log_directory, site.name)
    blocks.flip(block, blocks.messages(block)[3].fields["payload"][0])
    scratch = site.path / "log.repair"
    (scratch / "new" / "jetstream").mkdir(parents=True)
    (scratch / "new" / MARK).touch()
    (scratch / "copy").mkdir()
    done = await repaired(site, directory)
    assert done.changed
    # As if it had been killed right after the exchange.
    scratch.mkdir()
    shutil.move(done.kept, scratch / "new")
    (site.log_directory / MARK).touch()
    async with served(site) as log:
        assert await read_all(log) == records
    again = await repaired(site, directory)
    assert not again.changed
    assert blocks.blocks(Path(done.kept), site.name)
    assert not (site.log_directory / MARK).exists()
    assert not scratch.exists()
