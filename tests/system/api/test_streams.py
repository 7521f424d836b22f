"""Live events: through restarts of real processes nothing is missed or seen twice; who is slow costs little."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from dnms.api import events as api_events
from dnms.bus import jetstream
from dnms.bus.append import append
from dnms.bus.port import LogError
from dnms.disk.site import Site
from dnms.events import codec
from dnms.events.address import AddressAllocated, AddressReleased
from dnms.events.commit import Commit
from dnms.events.configuration import InterfaceAddress, Snapshot
from dnms.events.ip import parse_address
from dnms.events.seen import ConfigurationRegistered, SessionOpened
from dnms.projections.events import queries
from dnms.projections.example import ALICE, SITE, happened
from tests.contracts.projections.logs import write
from tests.system.api.conftest import TOKEN, Served, free_port

DNMS = Path(sys.executable).parent / "dnms"
PATIENCE = 60.0  # seconds; a loaded machine


class Reader:
    """A client of the stream (HTML, 9.2.6): it comes back with the last id, and is away while `gate` is closed."""

    def __init__(self, url: str, token: str, **wanted: str) -> None:
        self.heard: list[str] = []  # positions
        self.last = ""
        self.gate = asyncio.Event()
        self.gate.set()
        self.connected = asyncio.Event()
        self._url = url
        self._wanted = wanted
        self._headers = {"Authorization": f"Bearer {token}"}

    async def run(self) -> None:
        async with httpx.AsyncClient(headers=self._headers, timeout=PATIENCE, trust_env=False) as client:
            while True:
                await self.gate.wait()
                with suppress(httpx.TransportError):
                    await self._once(client)
                self.connected.clear()
                await asyncio.sleep(0.05)

    async def _once(self, client: httpx.AsyncClient) -> None:
        headers = {"Last-Event-ID": self.last} if self.last else {}
        url = f"{self._url}/api/v1/events/stream"
        async with client.stream("GET", url, params=self._wanted, headers=headers) as answer:
            if answer.status_code != 200:
                return
            given, data = self.last, ""
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    given = value
                elif name == "data":
                    data = value
                elif not line:
                    self.last = given
                    self.connected.set()
                    if data:
                        event = json.loads(data)
                        self.heard.append(f"{event['sequence']}.{event['index']}")
                        data = ""


class Writer:
    """Appends to the log of a site as an agent does, whatever happens to its server."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.bus = ""
        self._head = 0

    async def write(self, commits: int) -> int:
        """So many commits, each of a lease and its end; the sequence of the last."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while commits:
            try:
                log = await jetstream.connect(self.bus, self.site.name, token=self.site.bus_token)
                try:
                    while commits:
                        self._head = await append(log, self._subject, codec.encode(self._commit()), expected=self._head)
                        commits -= 1
                finally:
                    await log.close()
            except LogError:
                assert asyncio.get_running_loop().time() < deadline, "the bus does not come back"
                await asyncio.sleep(0.05)
        return self._head

    @property
    def _subject(self) -> str:
        return f"dnms.{self.site.name}.ledger.lan"

    def _commit(self) -> Commit:
        address = parse_address("2001:db8::1")
        given = AddressAllocated(
            address=address, client=ALICE, iaid=1, pool="six", valid_until=1 << 50, horizon=1 << 51
        )
        ended = AddressReleased(address=address, client=ALICE, iaid=1)
        return Commit(id=os.urandom(16), time=1, predecessor=self._head, actor="agent/east", events=(given, ended))


@asynccontextmanager
async def serving(directory: Path, port: int) -> AsyncIterator[tuple[str, int]]:
    """Serve a site; where its bus is, and the process, which may be killed meanwhile."""
    log = directory.with_name("serve.stderr")
    with log.open("ab") as stderr:
        ports = ["--listen", f"127.0.0.1:{port}", "--bus-listen", "127.0.0.1:0"]
        process = await asyncio.create_subprocess_exec(
            DNMS, "serve", "--site", directory, *ports, "-o", "json", stdout=asyncio.subprocess.PIPE, stderr=stderr
        )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            said = await process.stdout.readline()
        assert said, log.read_text()
        yield json.loads(said)["bus"], process.pid
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        await process.wait()


def bus_of(serve: int) -> int:
    """The nats-server that a `dnms serve` has started."""
    for task in Path(f"/proc/{serve}/task").iterdir():
        for child in (task / "children").read_text().split():
            if Path(f"/proc/{child}/exe").resolve().name == "nats-server":
                return int(child)
    raise AssertionError("no nats-server")


async def until(condition: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)


async def test_a_reader_misses_nothing_and_sees_nothing_twice_through_restarts(tmp_path: Path) -> None:
    directory, port = tmp_path / "site", free_port()
    subprocess.run([DNMS, "init", SITE, "--site", directory], stdout=subprocess.DEVNULL, check=True)  # noqa: ASYNC221
    site = Site.load(directory)
    reader, writer = Reader(f"http://127.0.0.1:{port}", site.api_token, kind="address.allocated"), Writer(site)
    reading = asyncio.create_task(reader.run())
    try:
        async with serving(directory, port) as (writer.bus, _):
            await until(reader.connected.is_set)
            assert not reader.heard
            reader.gate.clear()
        # It has heard of nothing yet, and is away while the first events come.
        async with serving(directory, port) as (writer.bus, serve):
            last = await writer.write(5)
            reader.gate.set()
            await until(lambda: f"{last}.0" in reader.heard)
            os.kill(bus_of(serve), signal.SIGKILL)
            last = await writer.write(5)
            await until(lambda: f"{last}.0" in reader.heard)
            await writer.write(20)
            os.kill(serve, signal.SIGKILL)  # perhaps between two events that are under way
        async with serving(directory, port) as (writer.bus, _):
            last = await writer.write(5)
            await until(lambda: f"{last}.0" in reader.heard)
        assert reader.heard == [f"{sequence}.0" for sequence in range(1, last + 1)]
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_who_was_in_another_log_hears_so(served: Served) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=PATIENCE, trust_env=False) as client:
        async with client.stream("GET", "/events/stream", params={"after": "3"}) as answer:
            lines = answer.aiter_lines()
            first = await anext(lines)
        log_id, _, position = first.removeprefix("id: ").partition(":")
        assert (log_id, position) == (served.log.log_id, "3")
        for path, headers in (("/events/stream", {"Last-Event-ID": "other:3"}), ("/events?after=other:3", {})):
            refused = await client.get(path, headers=headers)
            assert (refused.status_code, refused.json()["why"]) == (409, "another-log")
        own = await client.get("/events", params={"after": f"{log_id}:3.0", "limit": 1})
        assert [(one["sequence"], one["index"]) > (3, 0) for one in own.json()["items"]] == [True]


async def test_a_slow_reader_costs_no_memory(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not sent is not read either: at most a batch, beside what the sockets hold."""
    addresses = tuple(
        InterfaceAddress(interface=2, address=bytes([n]) * 16, prefix_length=64, origin="slaac") for n in range(200)
    )
    large = ConfigurationRegistered(client=ALICE, digest=bytes(32), snapshot=Snapshot(addresses=addresses))
    begin, commits = len(served.log.records), 16
    for _ in range(commits):
        await write(served.log, happened("seen.lab.slow", 1, *[large] * 50))
    whole = commits * 50
    assert await served.views.reached(begin + commits, within=PATIENCE)
    read = 0
    select = queries.events

    async def counted(*of: Any, **wanted: Any) -> list[queries.EventRow]:
        nonlocal read
        rows = await select(*of, **wanted)
        read += len(rows)
        return rows

    monkeypatch.setattr(queries, "events", counted)
    monkeypatch.setattr(api_events, "BATCH", 20)
    url = httpx.URL(served.url)
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, (url.host, url.port))
        lines = (f"GET {url.path}/events/stream?after={begin} HTTP/1.1", "Host: dnms", f"Authorization: Bearer {TOKEN}")
        await loop.sock_sendall(slow, "".join(f"{line}\r\n" for line in (*lines, "")).encode())
        seen, since = -1, loop.time()
        async with asyncio.timeout(PATIENCE):
            while loop.time() - since < 2.0:  # it stands still
                if read != seen:
                    seen, since = read, loop.time()
                await asyncio.sleep(0.05)
        assert 0 < read < whole / 2
        # It is all there once it is wanted.
        await write(served.log, happened("seen.lab.slow", 1, SessionOpened(client=ALICE, peer=bytes(16))))
        heard, end = 0, b""
        async with asyncio.timeout(PATIENCE):
            while b"session.opened" not in end:
                came = await loop.sock_recv(slow, 1 << 20)
                assert came
                heard += (end[-6:] + came).count(b"\ndata: ")
                end = (end + came)[-1_000:]
        assert heard == whole + 1
