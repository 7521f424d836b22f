from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dnms.agents import tls
from dnms.agents.node import connecting
from dnms.agents.node.connecting import MAX_ENDPOINTS_TRIED, Connecting, Connection, in_order
from dnms.agents.node.linux import Trust
from dnms.disk.site import Site
from dnms.events.ip import parse_address
from dnms.linux.multicast import Peer
from dnms.wire.discovery import Candidate
from dnms.wire.messages import Endpoint, Offer

LOOPBACK = parse_address("127.0.0.1")


def candidate(agent: str, *endpoints: Endpoint) -> Candidate[Peer]:
    offer = Offer(nonce=bytes(16), site="s", subnet="office", agent=agent, endpoints=endpoints)
    return Candidate(offer, ("fe80::1", 1, 0, 2))


def at(sock: socket.socket) -> Endpoint:
    return Endpoint(address=LOOPBACK, port=sock.getsockname()[1])


@pytest.fixture
def black_hole() -> Iterable[socket.socket]:
    """Takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def closed() -> Endpoint:
    """Nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return at(sock)


@asynccontextmanager
async def agent(site: Site, listener: socket.socket) -> AsyncIterator[list[str]]:
    guests: list[str] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        guests.append("came")
        await reader.read()
        writer.close()

    context = tls.serving(site.agent_certificate, site.agent_key)
    server = await asyncio.start_server(greet, sock=listener, ssl=context)
    try:
        yield guests
    finally:
        server.close()
        await server.wait_closed()


async def leave(connection: Connection | None) -> None:
    assert connection is not None
    connection.writer.close()
    await connection.writer.wait_closed()


async def test_who_says_nothing_does_not_hold_the_others_up(
    site: Site, listener: socket.socket, black_hole: socket.socket, descriptors: Callable[[], int]
) -> None:
    attempts = in_order([*(candidate(f"bad-{nth}", at(black_hole)) for nth in range(4)), candidate("a1", at(listener))])
    async with agent(site, listener), asyncio.timeout(connecting.CONNECT_WITHIN):
        connection = await Connecting(Trust("lo", site.root_certificate).connect).first(attempts)
        assert connection is not None
        assert connection.attempt.candidate.offer.agent == "a1"
        assert [each.candidate.offer.agent for each in attempts] == [f"bad-{nth}" for nth in range(4)]
        await leave(connection)
    assert descriptors() <= 0


async def test_the_next_one_is_tried_at_once_when_one_refuses(
    site: Site, listener: socket.socket, closed: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "STAGGER", 60.0)
    attempts = in_order([candidate("gone", closed), candidate("a1", at(listener))])
    async with agent(site, listener), asyncio.timeout(10):
        await leave(await Connecting(Trust("lo", site.root_certificate).connect).first(attempts))
    assert not attempts


async def test_an_agent_of_another_site_is_passed_over(site: Site, listener: socket.socket, tmp_path: Path) -> None:
    other = Site.create(tmp_path / "other", "s")
    with socket.socket() as second:
        second.bind(("127.0.0.1", 0))
        second.listen()
        second.setblocking(False)
        attempts = in_order([candidate("other", at(second)), candidate("a1", at(listener))])
        async with agent(other, second) as strangers, agent(site, listener):
            connection = await Connecting(Trust("lo", site.root_certificate).connect).first(attempts)
            assert connection is not None
            assert connection.attempt.candidate.offer.agent == "a1"
            await leave(connection)
            assert not attempts
            assert len(strangers) <= 1


async def test_none_if_nobody_can_be_reached(
    site: Site, closed: Endpoint, black_hole: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "CONNECT_WITHIN", 0.1)
    attempts = in_order([candidate("gone", closed, at(black_hole))])
    assert await Connecting(Trust("lo", site.root_certificate).connect).first(attempts) is None
    assert not attempts
    assert await Connecting(Trust("lo", site.root_certificate).connect).first(attempts) is None


async def test_who_stops_waiting_leaves_nothing_open(
    site: Site, black_hole: socket.socket, descriptors: Callable[[], int]
) -> None:
    attempts = in_order([candidate("bad", at(black_hole))])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await Connecting(Trust("lo", site.root_certificate).connect).first(attempts)
    await asyncio.sleep(0)  # the transport closes its socket in the next turn of the loop
    assert descriptors() <= 0


def test_the_best_endpoint_of_each_comes_before_the_next_of_any() -> None:
    near, far = (Endpoint(address=parse_address(text), port=1) for text in ("fe80::1", "2001:db8::1"))
    one, two = candidate("one", far, near), candidate("two", *[far] * 32)
    order = [(each.candidate.offer.agent, each.endpoint) for each in in_order([one, two])]
    assert order == [("one", near), ("two", far), ("one", far), *[("two", far)] * (MAX_ENDPOINTS_TRIED - 1)]
