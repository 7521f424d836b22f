"""What a relay does with connections: which agent has them, byte by byte, and within which bounds; TLS is real."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dnms.agents import door, tls
from dnms.agents.door import Door
from dnms.agents.relay import passing as passed_on
from dnms.agents.relay import upstream
from dnms.agents.relay.passing import NodeListener, Passing
from dnms.agents.relay.upstream import Agents
from dnms.disk.relay_credentials import RelayCredentials
from dnms.disk.site import Site
from dnms.events.ip import parse_address
from dnms.wire import relaying
from dnms.wire.errors import Code
from dnms.wire.messages import AGENT_NAME, Endpoint
from dnms.wire.relaying import Here, Relayed, Said
from tests.system.agents.test_door import until
from tests.system.agents.test_porch import Tls, credentials, opened, rest

LOOPBACK = parse_address("127.0.0.1")


@pytest.fixture
def relay(site: Site, tmp_path: Path) -> RelayCredentials:
    return credentials(site, tmp_path)


class Link(NodeListener):
    """Loopback, with the address of a link."""

    peer = "fe80::5%lan"

    async def accept(self) -> passed_on.NodeKnock:
        knock = await super().accept()
        knock.peer = self.peer
        return knock


class Relaying:
    """A relay, and what it has passed on."""

    def __init__(self, agents: Agents, made: Door[Passing], port: int) -> None:
        self.agents = agents
        self.door = made
        self.port = port

    async def node(self, site: Site) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A node that has got through TLS. OSError, ssl.SSLError."""
        context = tls.trusting(site.root_certificate)
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=AGENT_NAME)

    async def raw(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        return reader, writer


@asynccontextmanager
async def relaying_to(
    own: RelayCredentials, listener: socket.socket, *ports: int, peer: str = Link.peer
) -> AsyncIterator[Relaying]:
    def say(said: Said) -> bytes:
        return relaying.encode_said(said, certificate=own.certificate, sign=own.key.sign)

    agents = Agents([Endpoint(address=LOOPBACK, port=port) for port in ports], "branch", say)

    async def open_(node: bytes, record: bytes) -> tuple[socket.socket, bytes]:
        hello = relaying.digest(record)
        return await agents.open(Relayed(subnet="branch", node=node, interface="lan", hello=hello), record)

    guests: set[asyncio.Task[object]] = set()

    async def serve(passing: Passing) -> None:
        task = asyncio.current_task()
        assert task is not None
        guests.add(task)
        await passing.ended()

    made: Door[Passing] = Door(serve, each=2)
    link = Link(listener, open_)
    link.peer = peer
    running = [asyncio.create_task(agents.run()), asyncio.create_task(made.serve([link]))]
    try:
        yield Relaying(agents, made, listener.getsockname()[1])
    finally:
        for task in (*running, *guests):
            task.cancel()
            await asyncio.wait((task,))
        await until(lambda: not made._guests and not made._handshakes)


def known(made: Relaying) -> int:
    return sum(agent.here is not None for agent in made.agents._agents)


async def leave(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    await asyncio.sleep(0)


async def test_all_bytes_come_through_both_ways_and_both_ends_are_told_of_the_end(
    site: Site,
    relay: RelayCredentials,
    listener: socket.socket,
    descriptors: Callable[[], int],
) -> None:
    async with opened(site) as agent, relaying_to(relay, listener, agent.port) as made:
        await until(lambda: known(made) == 1)
        reader, writer = await made.node(site)
        sent = bytes(range(256)) * 8_000
        writing = asyncio.create_task(_write(writer, sent))
        assert await reader.readexactly(len(sent)) == sent  # far more than any buffer on the way
        await writing
        assert agent.guests == [("fe80::5", "edge")]
        writer.close()
        with contextlib.suppress(ssl.SSLError):
            await writer.wait_closed()
        await until(lambda: not agent.nodes._guests and not made.door._guests)
        assert made.door.dropped == {}
    await until(lambda: descriptors() <= 1)  # but the listener


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def test_the_agent_of_higher_preference_and_else_of_fewer_nodes_is_taken(
    site: Site, relay: RelayCredentials, listener: socket.socket
) -> None:
    async with (
        opened(site) as low,
        opened(site) as one,
        opened(site) as two,
        relaying_to(relay, listener, low.port, one.port, two.port) as made,
    ):
        one.porch.here = lambda: _here(load=2)
        two.porch.here = lambda: _here(load=1)
        low.porch.here = lambda: _here(preference=0)
        await until(lambda: known(made) == 3)
        for agent in made.agents._agents:
            agent._ask.set()
        await until(lambda: [agent.here and agent.here.load for agent in made.agents._agents] == [0, 2, 1])
        best = made.agents.best
        assert best is not None
        assert best.load == 1
        writers = [(await made.node(site))[1] for _ in range(3)]
        await until(lambda: (len(low.guests), len(one.guests), len(two.guests)) == (0, 1, 2))
        for writer in writers:
            await leave(writer)


def _here(*, load: int = 0, preference: int = 5) -> Here:
    return Here(site="s", subnet="branch", agent="a", load=load, preference=preference)


EXPECTED: dict[str, set[str]] = {
    "gone": {"not-reached"},
    "refuses": {Code.NOT_AUTHORISED},
    "silent": {"not-reached"},
    "ends": {"not-reached", Code.TRUNCATED},  # by a reset or not
    "talks nonsense": {Code.VERSION},
}


@pytest.mark.parametrize("first", EXPECTED)
async def test_where_one_agent_does_not_take_a_node_the_next_one_does(
    first: str,
    site: Site,
    relay: RelayCredentials,
    listener: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was there when it was asked; of that the node notices nothing."""
    for limit in ("ANSWER_WITHIN", "ASK_WITHIN"):
        monkeypatch.setattr(upstream, limit, 0.3)
    hold = asyncio.Event()

    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match first:
            case "refuses":
                writer.write(relaying.encode_answer(relaying.Refused(code="not-authorised", text="no")))
            case "silent":
                await hold.wait()
            case "talks nonsense":
                writer.write(b"DNMS\xff\xff\xff\xff")
        writer.close()

    server = await asyncio.start_server(broken, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    if first == "gone":
        server.close()
        await server.wait_closed()
    with capture_logs() as lines:
        async with opened(site) as agent, relaying_to(relay, listener, port, agent.port) as made:
            await until(lambda: known(made) == 1)
            broken_one = made.agents._agents[0]
            broken_one.here = _here(preference=9)  # as it said once
            reader, writer = await made.node(site)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            await until(lambda: broken_one.here is None)
            await leave(writer)
    hold.set()
    server.close()
    await server.wait_closed()
    said = {line["why"] for line in lines if line["event"] == "agent does not take nodes"}
    assert said & EXPECTED[first]


async def test_a_node_whose_connections_an_agent_ends_makes_it_no_agent_that_is_not_there(
    site: Site, relay: RelayCredentials, listener: socket.socket
) -> None:
    async with opened(site) as agent, relaying_to(relay, listener, agent.port) as made:
        await until(lambda: known(made) == 1)
        agent.nodes._most = 0  # as if it had as many as it may have
        with pytest.raises((OSError, ssl.SSLError)):
            await made.node(site)
        await until(lambda: made.door.dropped == {Code.NO_AGENT: 1})
        assert agent.nodes.dropped["too-many-of-a-peer"] == 1
        assert known(made) == 1
        agent.nodes._most = 1
        _, writer = await made.node(site)
        await leave(writer)


async def test_an_agent_to_which_one_connection_failed_is_asked_at_once_whether_it_is_there(
    site: Site, relay: RelayCredentials, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "ASK_EVERY", 3_600.0)
    monkeypatch.setattr(upstream, "ASK_AGAIN", 3_600.0)
    async with opened(site) as agent, relaying_to(relay, listener, agent.port) as made:
        await until(lambda: known(made) == 1)
        (one,) = made.agents._agents
        connected, times = one._connected, iter((True,))

        async def lost_once() -> socket.socket:
            if next(times, False):
                raise TimeoutError
            return await connected()

        monkeypatch.setattr(one, "_connected", lost_once)
        with pytest.raises((OSError, ssl.SSLError)):
            await made.node(site)
        await until(lambda: one.here is not None)
        _, writer = await made.node(site)
        await leave(writer)


async def test_where_no_agent_is_a_node_is_not_kept_waiting(
    site: Site, relay: RelayCredentials, listener: socket.socket
) -> None:
    async with relaying_to(relay, listener) as made:
        assert made.agents.best is None
        reader, writer = await made.raw(Tls(site).hello)
        assert await rest(reader) == b""
        await leave(writer)
        await until(lambda: made.door.dropped == {Code.NO_AGENT: 1})


async def test_what_is_no_tls_or_not_of_the_link_is_not_passed_on(
    site: Site, relay: RelayCredentials, listener: socket.socket
) -> None:
    async with opened(site) as agent, relaying_to(relay, listener, agent.port) as made:
        await until(lambda: known(made) == 1)
        hello = Tls(site).hello
        for data in (b"GET / HTTP/1.1\r\n\r\n", hello[:5] + b"\x02" + hello[6:]):
            reader, writer = await made.raw(data)
            assert await rest(reader) == b""
            await leave(writer)
        for length in (1, 8, 9, len(hello) - 1):
            reader, writer = await made.raw(hello[:length])
            writer.write_eof()
            assert await rest(reader) == b""
            await leave(writer)
        await until(lambda: made.door.dropped == {Code.NO_HELLO: 2, Code.TRUNCATED: 4})
    routed = socket.socket()
    with routed:
        routed.setblocking(False)
        routed.bind(("127.0.0.1", 0))
        routed.listen()
        async with opened(site) as agent, relaying_to(relay, routed, agent.port, peer="2001:db8::5") as made:
            await until(lambda: known(made) == 1)
            reader, writer = await made.raw(hello)
            assert await rest(reader) == b""
            await leave(writer)
            await until(lambda: made.door.dropped == {Code.NOT_ON_LINK: 1})
            assert not agent.guests


async def test_who_begins_tls_and_says_no_more_gives_way_and_is_given_up(
    site: Site,
    relay: RelayCredentials,
    listener: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door, "MAX_HANDSHAKES", 4)
    async with opened(site) as agent, relaying_to(relay, listener, agent.port) as made:
        await until(lambda: known(made) == 1)
        silent = [await made.raw(Tls(site).hello) for _ in range(6)]
        await until(lambda: made.door.dropped["too-many-handshakes"] == 2)
        for _, writer in silent[2:]:
            writer.write(b"\x14")  # as a record begins
            await writer.drain()
        await until(lambda: len(agent.nodes._handshakes) == 4)
        assert not made.door._guests  # none has proven anything, whatever the agent has answered
        for reader, writer in silent[:2]:
            await rest(reader)  # they have been ended
            await leave(writer)
        reader, writer = await made.node(site)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        for each in (writer, *(writer for _, writer in silent[2:])):
            await leave(each)
        await until(lambda: not made.door._peers)


async def test_a_node_that_takes_nothing_is_cut_off(
    site: Site,
    relay: RelayCredentials,
    listener: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    descriptors: Callable[[], int],
) -> None:
    monkeypatch.setattr(passed_on, "STALLED", 0.2)
    monkeypatch.setattr(passed_on, "LINGER", 0.2)
    async with opened(site) as agent, relaying_to(relay, listener, agent.port) as made:
        await until(lambda: known(made) == 1)
        reader, writer = await made.node(site)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # it reads too
        writer.write(bytes(16 << 20))  # all of it comes back
        await until(lambda: not made.door._guests)
        await leave(writer)
        await until(lambda: not agent.nodes._guests)
    await until(lambda: descriptors() <= 1)


async def test_whom_an_agent_refuses_is_asked_about_again_and_offered_when_it_does_not(
    site: Site,
    relay: RelayCredentials,
    listener: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upstream, "ASK_AGAIN", 0.06)
    monkeypatch.setattr(upstream, "ASK_AT_MOST", 0.05)
    with capture_logs() as lines:
        async with opened(site, "another") as agent, relaying_to(relay, listener, agent.port) as made:
            await until(lambda: made.agents._agents[0]._why == Code.NOT_AUTHORISED)
            assert made.agents.best is None
            made.agents.changed.clear()
            agent.porch.trust._names = frozenset({"edge"})
            await until(made.agents.changed.is_set)
            assert made.agents.best is not None
    refused = [line for line in lines if line["event"] == "agent does not take nodes"]
    assert len(refused) == 1  # however often it was asked
    assert "--relay edge" in refused[0]["text"]
