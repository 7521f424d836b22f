"""A log is copied from one server to another, and to three, and nobody who knows it sees a difference."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest

from dnms.archive import copying
from dnms.archive.records import ArchiveError, Encoder, Header
from dnms.bus import importing
from dnms.bus.append import append
from dnms.bus.connection import STORED_AT, Connection
from dnms.bus.embedded import EmbeddedServer
from dnms.bus.importing import Occupied, import_log
from dnms.bus.jetstream import DETAILS
from dnms.bus.jetstream_api import Misconfigured, Stream, ask
from dnms.bus.port import Record
from dnms.bus.reading import Position, decode, read
from dnms.disk.site import Site
from dnms.events import subjects
from tests.system.archive.conftest import DEADLINE, cluster, opened, read_all, served, write


async def exported(site: Site, path: Path, *, commits: int, padding: int = 0) -> tuple[list[Record], str]:
    """A file with a log of the site; what is in the log, and its id."""
    async with served(site) as log:
        await write(log, commits, padding=padding)
        done = await copying.export(log, path, site=site.name)
        assert (done.messages, done.log_id) == (commits, log.log_id)
        return await read_all(log), log.log_id


async def test_one_server_to_another(site: Site, tmp_path: Path) -> None:
    records, log_id = await exported(site, tmp_path / "file", commits=30)
    position = Position(log_id, 20, decode(records[19]).commit.id)
    async with EmbeddedServer(tmp_path / "other", token=site.bus_token) as server:
        done = await copying.import_source(copying.source(tmp_path / "file"), server.url, token=site.bus_token)
        assert (done.messages, done.log_id) == (30, log_id)
        async with opened(server.url, site) as log:
            assert log.log_id == log_id
            assert await read_all(log) == records  # subjects, sequences, times and bytes
            last = records[-1]
            assert await log.first_after(last.subject, last.sequence - 1) == last
            async with asyncio.timeout(DEADLINE), aclosing(read(log, ["dnms.here.>"], after=position)) as batches:
                batch = await anext(batches)  # who stored a position goes on
                assert batch.stored[0].sequence == 21
            before = await log.clock()
            assert await append(log, last.subject, b"goes on", expected=last.sequence) == 31
            connection = Connection([server.url], token=site.bus_token, name="test")
            await connection.open(DEADLINE)
            await connection.request(last.subject, b"forged", timeout=DEADLINE, headers={STORED_AT: "1"})
            await connection.close()
            own = (await read_all(log))[30:]
            assert [record.data for record in own] == [b"goes on", b"forged"]
            assert min(record.stored_at for record in own) >= before  # of its own messages it tells its own time
        # And so can the copy be copied.
        async with opened(server.url, site) as log:
            await copying.export(log, tmp_path / "again", site=site.name)
            assert list(copying.source(tmp_path / "again").messages())[:30] == records


async def test_one_server_to_three(site: Site, tmp_path: Path) -> None:
    records, log_id = await exported(site, tmp_path / "file", commits=200)
    async with cluster(tmp_path / "cluster", token=site.bus_token) as urls:
        url = ",".join(urls)
        await copying.import_source(copying.source(tmp_path / "file"), url, token=site.bus_token)
        for one in urls:
            async with opened(one, site) as log:
                assert (log.log_id, await read_all(log)) == (log_id, records)
        connection = Connection(list(urls), token=site.bus_token, name="test")
        await connection.open(DEADLINE)
        stream = await ask(connection, f"STREAM.INFO.{subjects.stream(site.name)}", DETAILS, Stream)
        await connection.close()
        assert stream.config["num_replicas"] == 3
        async with opened(url, site) as log:
            last = records[-1]
            assert await append(log, last.subject, b"goes on", expected=last.sequence) == 201


async def test_an_import_that_was_killed_goes_on(site: Site, tmp_path: Path) -> None:
    records, log_id = await exported(site, tmp_path / "file", commits=120)
    program = (
        "import asyncio, sys, os, signal\n"
        "from pathlib import Path\n"
        "from dnms.archive import copying\n"
        "from dnms.bus import importing\n"
        "importing.WINDOW = 1\n"
        "found = copying.source(Path(sys.argv[1]))\n"
        "def until_killed():\n"
        "    for record in found.messages():\n"
        "        if record.sequence == int(sys.argv[4]):\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        yield record\n"
        "asyncio.run(importing.import_log(sys.argv[2], found.site, token=sys.argv[3], log_id=found.log_id,\n"
        "    last=found.last, records=until_killed))\n"
    )
    async with EmbeddedServer(tmp_path / "other", token=site.bus_token) as server:
        for killed_at in (1, 2, 50, 119):
            words = (tmp_path / "file", server.url, site.bus_token, str(killed_at))
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, *words)
            assert await asyncio.wait_for(process.wait(), DEADLINE) == -9
            with pytest.raises(Misconfigured, match=r"interrupted after \d+ of 120 messages; run it again"):
                async with opened(server.url, site):
                    pass
        await copying.import_source(copying.source(tmp_path / "file"), server.url, token=site.bus_token)
        await copying.import_source(copying.source(tmp_path / "file"), server.url, token=site.bus_token)  # as before
        async with opened(server.url, site) as log:
            assert (log.log_id, await read_all(log)) == (log_id, records)


async def test_an_import_survives_a_server_that_is_killed(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "WINDOW", 5)
    records, log_id = await exported(site, tmp_path / "file", commits=150)
    found = copying.source(tmp_path / "file")
    async with EmbeddedServer(tmp_path / "other", token=site.bus_token) as server:
        crashes = iter((40, 90))
        crash = next(crashes)

        def killing() -> Iterator[Record]:
            nonlocal crash
            for record in found.messages():
                if record.sequence == crash and server.pid is not None:
                    process, crash = server.pid, next(crashes, 0)
                    os.kill(process, signal.SIGKILL)
                yield record

        await import_log(server.url, site.name, token=site.bus_token, log_id=log_id, last=150, records=killing)
        assert crash == 0
        async with opened(server.url, site) as log:
            assert await read_all(log) == records


async def test_nothing_is_copied_over_another_log(site: Site, tmp_path: Path) -> None:
    records, _ = await exported(site, tmp_path / "file", commits=5)
    found = copying.source(tmp_path / "file")
    async with EmbeddedServer(site.log_directory, token=site.bus_token) as server:
        with pytest.raises(Occupied, match="this log itself"):
            await copying.import_source(found, server.url, token=site.bus_token)
        async with opened(server.url, site) as log:
            assert await read_all(log) == records
    async with EmbeddedServer(tmp_path / "other", token=site.bus_token) as server, opened(server.url, site) as log:
        await write(log, 2)
        others = await read_all(log)
        with pytest.raises(Occupied, match="another log"):
            await copying.import_source(found, server.url, token=site.bus_token)
        assert await read_all(log) == others


async def test_what_is_not_what_was_copied_is_told(site: Site, tmp_path: Path) -> None:
    records, log_id = await exported(site, tmp_path / "file", commits=8)

    def changed() -> Iterator[Record]:
        yield from records[:5]
        yield Record(records[5].subject, 6, records[5].stored_at + 1, records[5].data)
        yield from records[6:]

    async with EmbeddedServer(tmp_path / "other", token=site.bus_token) as server:
        again = partial(import_log, server.url, site.name, token=site.bus_token, log_id=log_id, last=8)
        await again(records=changed)
        with pytest.raises(Occupied, match="the message at 6 is not the one"):
            await again(records=lambda: iter(records))


async def test_a_log_without_messages_is_copied(site: Site, tmp_path: Path) -> None:
    records, log_id = await exported(site, tmp_path / "file", commits=0)
    assert records == []
    async with EmbeddedServer(tmp_path / "other", token=site.bus_token) as server:
        await copying.import_source(copying.source(tmp_path / "file"), server.url, token=site.bus_token)
        async with opened(server.url, site) as log:
            assert (log.log_id, await log.end()) == (log_id, 0)


async def test_a_large_log_is_copied_through_a_window(site: Site, tmp_path: Path) -> None:
    """Of bytes too: each message is more than a MiB."""
    records, _ = await exported(site, tmp_path / "file", commits=24, padding=3 << 20)
    async with EmbeddedServer(tmp_path / "other", token=site.bus_token) as server:
        await copying.import_source(copying.source(tmp_path / "file"), server.url, token=site.bus_token)
        async with opened(server.url, site) as log:
            assert await read_all(log) == records


async def test_a_file_that_is_there_is_not_written_over(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("dear")
    async with served(site) as log:
        with pytest.raises(ArchiveError, match="is there already"):
            await copying.export(log, tmp_path / "file", site=site.name)
    assert (tmp_path / "file").read_text() == "dear"


async def test_one_segment_is_no_log(site: Site, tmp_path: Path) -> None:
    records, log_id = await exported(site, tmp_path / "file", commits=4)
    encoder = Encoder(Header(site.name, log_id, 3))
    parts = [encoder.begin(), *map(encoder.message, records[2:]), encoder.end()]
    (tmp_path / "part").write_bytes(b"".join(parts))
    with pytest.raises(ArchiveError, match="begins at 3"):
        copying.source(tmp_path / "part")
