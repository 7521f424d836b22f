"""The log while its server is killed, frozen, or its answers are lost on the way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from dnms.bus.append import append
from dnms.bus.committer import Committer, WriteOnly
from dnms.bus.connection import TAKEN_WITHIN, Connection, _writer
from dnms.bus.embedded import EmbeddedServer
from dnms.bus.jetstream import JetStreamLog, connect
from dnms.bus.port import LogError, LogForked, LostRace, Record, Unanswered, Unavailable
from dnms.bus.reading import read
from dnms.domain.aggregate import Fold
from dnms.events.commit import Stored
from dnms.events.seen import SessionClosed
from dnms.kit.clock import SystemClock

DEADLINE = 60.0
SITE = "here"
PLAN = f"dnms.{SITE}.plan"


@pytest.fixture
async def log(server: EmbeddedServer, token: str) -> AsyncIterator[JetStreamLog]:
    connected = await connect(server.url, SITE, token=token)
    yield connected
    await connected.close()


def crash(server: EmbeddedServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)


@contextmanager
def frozen(server: EmbeddedServer) -> Iterator[None]:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def follow_until(log: JetStreamLog, end: int, subjects: Sequence[str], heard: asyncio.Event) -> list[Record]:
    """Follow from the beginning until the message `end` has come; say when something was heard."""
    records: list[Record] = []
    async with aclosing(log.follow(subjects)) as batches:
        async for batch in batches:
            records.extend(batch.records)
            heard.set()
            if records and records[-1].sequence >= end:
                return records
    raise AssertionError("the follow ended")


async def test_a_follow_goes_on_over_crashes(server: EmbeddedServer, log: JetStreamLog) -> None:
    heard = asyncio.Event()
    following = asyncio.create_task(follow_until(log, 200, [f"dnms.{SITE}.>"], heard))
    last = 0
    async with asyncio.timeout(DEADLINE):
        for number in range(200):
            last = await append(log, PLAN, b"%d" % number, expected=last, patience=DEADLINE)
            if number % 50 == 25:
                heard.clear()
                crash(server)
        records = await following
    assert [record.sequence for record in records] == list(range(1, 201))
    assert [int(record.data) for record in records] == list(range(200))


async def test_a_follow_misses_nothing_of_what_was_stored_while_it_was_away(
    server: EmbeddedServer, log: JetStreamLog, token: str
) -> None:
    async with aclosing(log.follow([PLAN])) as batches:
        assert (await anext(batches)).caught_up
        waiting = asyncio.ensure_future(anext(batches))
        crash(server)
        other = await connect_again(server, token)
        for number in range(10):
            await append(other, PLAN, b"%d" % number, expected=number)
        await other.close()
        async with asyncio.timeout(DEADLINE):
            records = list((await waiting).records)
            while len(records) < 10:
                records.extend((await anext(batches)).records)
    assert [record.sequence for record in records] == list(range(1, 11))


async def connect_again(server: EmbeddedServer, token: str) -> JetStreamLog:
    async with asyncio.timeout(DEADLINE):
        while True:
            with contextlib.suppress(Unavailable):
                return await connect(server.url, SITE, token=token)


async def test_a_frozen_server_leaves_us_in_doubt_and_nothing_is_stored_twice(
    server: EmbeddedServer, log: JetStreamLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dnms.bus.jetstream.STORE_TIMEOUT", 0.3)
    monkeypatch.setattr("dnms.bus.jetstream_api.ASK_TIMEOUT", 0.3)
    with frozen(server), pytest.raises(Unanswered):
        await append(log, PLAN, b"ours", expected=0, patience=1.0)
    with pytest.raises(LostRace):  # it is stored late, in doubt as we were
        await append(log, PLAN, b"another's", expected=0)
    found = await log.first_after(PLAN, 0)
    assert found is not None
    assert found.data == b"ours"
    assert await log.end() == 1


async def test_a_follow_survives_silence(
    server: EmbeddedServer, log: JetStreamLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dnms.bus.following.SILENCE", 0.3)  # less than a heartbeat: every wait counts as silence
    heard = asyncio.Event()
    following = asyncio.create_task(follow_until(log, 20, [PLAN], heard))
    async with asyncio.timeout(DEADLINE):
        await heard.wait()
        for number in range(20):
            await append(log, PLAN, b"%d" % number, expected=number)
            if number % 8 == 4:
                with frozen(server):
                    await asyncio.sleep(0.5)  # the freeze itself is what is tested
        records = await following
    assert [record.sequence for record in records] == list(range(1, 21))


class Lossy:
    """A proxy in front of the server; it can lose what the server answers."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._writers: list[asyncio.StreamWriter] = []
        self._listening: asyncio.Server | None = None
        self._busy: set[asyncio.Task[None]] = set()
        self.losing = False
        self.url = ""

    async def start(self) -> None:
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._listening is not None
        self._listening.close()
        self.cut()
        await asyncio.gather(*self._busy, return_exceptions=True)
        await self._listening.wait_closed()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server.port)
        self._writers += [writer, to_server]
        await asyncio.gather(self._pass(reader, to_server), self._pass(from_server, writer, answers=True))

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool = False) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                if not (answers and self.losing):
                    sink.write(data)
                    await sink.drain()
        sink.close()
        with contextlib.suppress(ConnectionError):
            await sink.wait_closed()


@pytest.fixture
async def lossy(server: EmbeddedServer) -> AsyncIterator[Lossy]:
    proxy = Lossy(server)
    await proxy.start()
    yield proxy
    await proxy.stop()


async def test_a_lost_acknowledgement_is_found_in_the_log(
    log: JetStreamLog, lossy: Lossy, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dnms.bus.jetstream.STORE_TIMEOUT", 0.5)
    monkeypatch.setattr("dnms.bus.jetstream_api.ASK_TIMEOUT", 0.5)
    writer = await connect(lossy.url, SITE, token=token)
    try:
        last = await append(writer, PLAN, b"first", expected=0)
        lossy.losing = True
        with pytest.raises(Unanswered):
            await writer.store(PLAN, b"ours", expected=last)
        found = await log.first_after(PLAN, last)  # it was stored nevertheless
        assert found is not None
        assert found.data == b"ours"
        appending = asyncio.create_task(append(writer, PLAN, b"ours", expected=last))
        await asyncio.wait({appending}, timeout=0.2)
        assert not appending.done()
        lossy.losing = False
        lossy.cut()
        assert await asyncio.wait_for(appending, DEADLINE) == 2
        assert await log.end() == 2
    finally:
        await writer.close()


async def test_nothing_is_stored_late_that_was_published_without_a_connection(
    server: EmbeddedServer, log: JetStreamLog, token: str
) -> None:
    crash(server)
    outcomes: list[int | LogError] = []
    for _ in range(20):
        try:
            outcomes.append(await log.store(PLAN, b"lost", expected=0))
        except LogError as error:
            outcomes.append(error)
            await asyncio.sleep(0)
    assert any(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert not any(isinstance(outcome, int) for outcome in outcomes)
    other = await connect_again(server, token)
    assert await append(other, PLAN, b"another's", expected=0) == 1
    assert await append(log, PLAN, b"ours", expected=1) == 2
    await other.close()


async def test_a_stream_that_was_made_anew_is_another_log(
    log: JetStreamLog, token: str, server: EmbeddedServer
) -> None:
    for number in range(3):
        await append(log, PLAN, b"%d" % number, expected=number)
    async with aclosing(log.follow([PLAN])) as batches:
        assert len((await anext(batches)).records) == 3
        waiting = asyncio.ensure_future(anext(batches))
        await log._connection.request(f"$JS.API.STREAM.DELETE.DNMS_{SITE}", b"", timeout=5)
        other = await connect(server.url, SITE, token=token)
        assert other.log_id != log.log_id
        await other.close()
        with pytest.raises(LogForked, match="this is the log"):
            await asyncio.wait_for(waiting, DEADLINE)
    with pytest.raises(LogForked):
        await log.end()


@asynccontextmanager
async def committing(log: JetStreamLog, subject: str) -> AsyncIterator[Committer[Any]]:
    """A committer that is fed by a follow, as an agent does it."""
    fold: Fold[Any] = Fold(WriteOnly())
    committer = Committer(log, subject, fold, actor="agent/test", now=SystemClock().now, random=secrets.token_bytes)

    async def feed() -> None:
        async with aclosing(read(log, [subject])) as batches:
            async for batch in batches:
                for stored in batch.stored:
                    committer.take(stored)

    tasks = [asyncio.create_task(committer.run()), asyncio.create_task(feed())]
    try:
        yield committer
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes


async def test_racing_committers_lose_nothing_that_was_acknowledged_over_crashes(
    server: EmbeddedServer, token: str
) -> None:
    subject = f"dnms.{SITE}.seen.lan.one"
    async with AsyncExitStack() as stack:
        committers = []
        for _ in range(2):
            log = await connect(server.url, SITE, token=token)
            stack.push_async_callback(log.close)
            committers.append(await stack.enter_async_context(committing(log, subject)))
        acknowledged: dict[str, int] = {}

        async def write(index: int) -> None:
            for number in range(150):
                word = f"{index}.{number}"
                event = SessionClosed(client=bytes(16), why=word)
                with contextlib.suppress(LogError):
                    acknowledged[word] = await committers[index % 2].observe([event])
                if len(acknowledged) in {100, 250, 400} and server.pid is not None:
                    crash(server)

        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*(write(index) for index in range(4)))
            stored: list[Stored] = []
            async with aclosing(cast("Any", read(log, [subject]))) as batches:
                async for batch in batches:
                    stored.extend(batch.stored)
                    if batch.caught_up:
                        break
    where = {cast("SessionClosed", event).why: each.sequence for each in stored for event in each.commit.events}
    assert sum(len(each.commit.events) for each in stored) == len(where)  # none twice
    assert acknowledged.items() <= where.items()
    assert len(acknowledged) > 500
    assert server.restarts > 0


@pytest.mark.parametrize(("silent", "why"), [(True, "no answer"), (False, "nats: unexpected EOF")])
async def test_a_line_says_why_the_connection_was_lost(
    server: EmbeddedServer, token: str, monkeypatch: pytest.MonkeyPatch, silent: bool, why: str
) -> None:
    monkeypatch.setattr("dnms.bus.connection.PING_INTERVAL", 0.1)
    connection = Connection([server.url], token=token, name="test")
    await connection.open(DEADLINE)
    try:
        with capture_logs() as lines, frozen(server) if silent else contextlib.nullcontext():
            if not silent:
                crash(server)
            async with asyncio.timeout(DEADLINE):
                await connection.link.lost
                while not lines:  # noqa: ASYNC110  # a log line is no event
                    await asyncio.sleep(0.01)
    finally:
        await connection.close()
    assert [line["why"] for line in lines if line["event"] == "connection to the bus lost"] == [why]


async def test_the_kernel_gives_up_what_the_bus_does_not_take(server: EmbeddedServer, token: str) -> None:
    connection = Connection([server.url], token=token, name="test")
    await connection.open(DEADLINE)
    writer = _writer(connection.link.client)
    assert writer is not None
    connected = writer.get_extra_info("socket")
    assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == TAKEN_WITHIN * 1_000
    await connection.close()
