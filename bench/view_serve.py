"""`dnms serve` with a long log: how long its first views take, what it holds, how it answers, how closely it follows.

The log is copied to its embedded server, as `dnms log import` does. Then more of it comes, at a steady pace, and a
reader of the views' file looks every few milliseconds how far they are: the lag of a commit is the time from its
acknowledgement until a reader sees it.
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec

from bench.processes import Memory, cpu_seconds, memory
from bench.sides import Stopwatch
from bench.view_questions import Asked, Times, rest, times
from bench.visits import SITE
from dnms.archive.copying import Source
from dnms.bus.append import append
from dnms.bus.embedded import EmbeddedServer
from dnms.bus.importing import import_log
from dnms.bus.jetstream import JetStreamLog, connect
from dnms.bus.port import Record
from dnms.cli.serve import Serving
from dnms.disk.site import Site
from dnms.events import codec
from dnms.projections import files

PACE = 2_000  # events a second
FOLLOW = 10.0  # seconds
IN_FLIGHT = 64  # commits
LOOK = 0.002  # seconds
FOLDED_WITHIN = 3_600.0  # seconds


class Served(msgspec.Struct, frozen=True):
    """All that was measured."""

    import_seconds: float
    first_views_seconds: float  # from its start on
    first_views_cpu: float  # seconds, of all its threads
    memory_building: Memory  # when the first views are there
    memory: Memory  # at the end
    lag: Times
    sent: float  # events a second that were acknowledged in fact
    who_had: Times
    page: Times


async def measure(folder: Path, log: Source, more: Iterator[Record], asked: Sequence[Asked]) -> Served:
    """Copy the log, serve it, ask, and add to it."""
    site = Site.create(folder / "site", SITE)
    watch = Stopwatch()
    async with EmbeddedServer(site.log_directory, token=site.bus_token) as server:
        await import_log(server.url, SITE, token=site.bus_token, log_id=log.log_id, last=log.last, records=log.messages)
    import_seconds, watch = watch.seconds(), Stopwatch()
    async with _serving(site, folder / "serve.log") as (pid, serving):
        with _looking(await _views(site)) as look:
            async with asyncio.timeout(FOLDED_WITHIN):
                while look() < log.last:  # noqa: ASYNC110  # it is another process that is waited for
                    await asyncio.sleep(LOOK)
            seconds, cpu, building = watch.seconds(), cpu_seconds(pid), memory(pid)
            bus = await connect(serving.bus, SITE, token=site.bus_token)
            try:
                lag, sent = await _follow(bus, more, look)
            finally:
                await bus.close()
        who_had, page = await rest(serving.api, site.api_token, asked)
        return Served(import_seconds, seconds, cpu, building, memory(pid), lag, sent, who_had, page)


@asynccontextmanager
async def _serving(site: Site, log: Path) -> AsyncIterator[tuple[int, Serving]]:
    ports = ("--listen", "127.0.0.1:0", "--bus-listen", "127.0.0.1:0")
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).with_name("dnms")), "serve", "--site", str(site.path), *ports, "-o", "json"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    assert process.stdout is not None
    try:
        said = b""
        while not said.rstrip().endswith(b"}"):
            if not (line := await process.stdout.readline()):
                said_why = await asyncio.to_thread(log.read_text)
                raise RuntimeError(f"dnms serve has ended:\n{said_why[-4_000:]}")
            said += line
        yield process.pid, msgspec.json.decode(said, type=Serving)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def _views(site: Site) -> Path:
    """The file of its views, when they are published."""
    async with asyncio.timeout(FOLDED_WITHIN):
        while (file := files.current(site.views)) is None:  # noqa: ASYNC110  # it is another process that is waited for
            await asyncio.sleep(LOOK)
    return file


@contextmanager
def _looking(file: Path) -> Iterator[Callable[[], int]]:
    """How far the views are, each time that it is called."""
    db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)

    def look() -> int:
        [(sequence,)] = db.execute("SELECT sequence FROM view_position").fetchall()
        return int(sequence)

    try:
        yield look
    finally:
        db.close()


async def _follow(log: JetStreamLog, more: Iterator[Record], look: Callable[[], int]) -> tuple[Times, float]:
    """Append at PACE; how long after each acknowledgement a reader saw the commit, and how fast it went in fact."""
    acknowledged: deque[tuple[int, float]] = deque()
    lags: list[float] = []
    watch, events = Stopwatch(), 0

    def see() -> None:
        position, now = look(), watch.seconds()
        while acknowledged and acknowledged[0][0] <= position:
            lags.append(now - acknowledged.popleft()[1])

    async def watch_views() -> None:
        while True:
            see()
            await asyncio.sleep(LOOK)

    async def send(record: Record, predecessor: int) -> None:
        async with few:
            sequence = await append(log, record.subject, record.data, expected=predecessor)
        if sequence != record.sequence:
            raise RuntimeError(f"somebody else writes to the log too: {sequence}, and not {record.sequence}")
        acknowledged.append((sequence, watch.seconds()))

    watching, few = asyncio.create_task(watch_views()), asyncio.Semaphore(IN_FLIGHT)
    async with asyncio.TaskGroup() as sending:  # tasks begin in their order, and so the server gets it
        while watch.seconds() < FOLLOW:
            record = next(more)
            commit = codec.decode(record.data)
            await asyncio.sleep(max(0.0, events / PACE - watch.seconds()))
            sending.create_task(send(record, commit.predecessor))
            events += len(commit.events)
    sent = events / watch.seconds()
    async with asyncio.timeout(FOLDED_WITHIN):
        while acknowledged:  # noqa: ASYNC110  # it is another process that is waited for
            await asyncio.sleep(LOOK)
    watching.cancel()
    await asyncio.wait((watching,))
    return times(lags), sent
