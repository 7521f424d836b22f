"""The sockets of a DHCPv6 server on a real link."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from dnms.events.ip import format_address
from dnms.linux import multicast
from dnms.linux.dad import link_local_ready
from dnms.linux.dhcp6_server import Dhcp6ServerSockets
from dnms.linux.errors import KernelError
from dnms.linux.multicast import DatagramReader
from dnms.linux.netlink import Netlink
from dnms.wire.dhcp6.codes import ALL_SERVERS_AND_RELAYS, CLIENT_PORT, SERVER_PORT
from tests.netns.linux.conftest import Switch

MANY = 1_500  # messages: the kernel has room for some 270 by default


async def test_the_group_is_heard_and_answered_from_port_547_and_unicast_is_not(switch: Switch) -> None:
    server, client = switch.node("server"), switch.node("client")
    address: asyncio.Queue[bytes] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def serve(netlink: Netlink) -> tuple[int, int]:
        own = await link_local_ready(netlink, "eth0")
        answered = 0

        def answer(data: bytes, peer: multicast.Peer, hops: int) -> None:
            nonlocal answered
            answered += sockets.send(b"answer to " + data, peer)

        sockets = Dhcp6ServerSockets((await netlink.link("eth0")).index, own, answer)
        try:
            loop.call_soon_threadsafe(address.put_nowait, own)
            while not (answered and sockets.dropped["unicast"]):  # noqa: ASYNC110  # what comes from another namespace
                await asyncio.sleep(0.02)
            sockets.rejoin()
            return answered, sockets.dropped["unicast"]
        finally:
            sockets.close()

    async def ask(netlink: Netlink) -> tuple[bytes, bytes, int]:
        await link_local_ready(netlink, "eth0")
        index = (await netlink.link("eth0")).index
        own = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(address.get(), loop))
        heard: asyncio.Queue[tuple[bytes, multicast.Peer]] = asyncio.Queue()
        sock = multicast.group_socket(index, CLIENT_PORT, ())
        reader = DatagramReader(sock, lambda data, peer, _: heard.put_nowait((data, peer)))
        try:
            multicast.send(sock, b"unicast", (format_address(own), SERVER_PORT), interface=index)
            multicast.send(sock, b"multicast", (ALL_SERVERS_AND_RELAYS, SERVER_PORT), interface=index)
            data, peer = await heard.get()
            return own, data, peer[1] if peer[0].partition("%")[0] == format_address(own) else 0
        finally:
            reader.close()

    counted, (_, data, port) = await asyncio.gather(server.inside(serve), client.inside(ask))
    assert counted == (1, 1)
    assert (data, port) == (b"answer to multicast", SERVER_PORT)


async def test_what_comes_at_once_waits(switch: Switch) -> None:
    """All clients of a link come back together, while the agent is busy for a moment."""
    server, client = switch.node("server"), switch.node("client")
    loop = asyncio.get_running_loop()
    is_heard, is_sent = asyncio.Event(), threading.Event()

    async def serve(netlink: Netlink) -> int:
        heard = 0

        def hear(data: bytes, peer: multicast.Peer, hops: int) -> None:
            nonlocal heard
            heard += 1

        own = await link_local_ready(netlink, "eth0")
        sockets = Dhcp6ServerSockets((await netlink.link("eth0")).index, own, hear)
        try:
            loop.call_soon_threadsafe(is_heard.set)
            is_sent.wait(10)  # and this loop does nothing else
            while heard < MANY:  # noqa: ASYNC110  # what comes from another namespace
                await asyncio.sleep(0.02)
            return heard
        finally:
            sockets.close()

    async def ask(netlink: Netlink) -> None:
        await link_local_ready(netlink, "eth0")
        index = (await netlink.link("eth0")).index
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(is_heard.wait(), loop))
        with multicast.group_socket(index, CLIENT_PORT, ()) as sock:
            for _ in range(MANY):
                assert multicast.send(sock, bytes(100), (ALL_SERVERS_AND_RELAYS, SERVER_PORT), interface=index)
        is_sent.set()

    counted, _ = await asyncio.gather(server.inside(serve), client.inside(ask))
    assert counted == MANY


async def test_where_another_server_runs_it_says_so(switch: Switch) -> None:
    node = switch.node("node")

    async def serve(netlink: Netlink) -> None:
        own = await link_local_ready(netlink, "eth0")
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
            other.bind(("::", SERVER_PORT))
            with pytest.raises(KernelError, match="another DHCPv6 server has port 547 of this link"):
                Dhcp6ServerSockets((await netlink.link("eth0")).index, own, lambda data, peer, hops: None)

    await node.inside(serve)
