"""Discovery's sockets on a real link, on both event loops."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

import pytest
import uvloop

from dnms.events.ip import format_address, parse_address
from dnms.linux import multicast, sysctl
from dnms.linux.dad import link_local_ready
from dnms.linux.errors import KernelError
from dnms.linux.multicast import DatagramReader, Peer
from dnms.linux.netlink import Netlink
from tests.netns.linux.conftest import Node, Switch

GROUP, PORT = "ff12::8d4e:4d53", 61047
Heard = tuple[bytes, Peer, int]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    factory: Callable[[], asyncio.AbstractEventLoop] = request.param
    return factory


class Ear:
    """Keeps what a socket hears."""

    def __init__(self, sock: socket.socket) -> None:
        self.heard: asyncio.Queue[Heard] = asyncio.Queue()
        self.sock = sock
        self.reader = DatagramReader(sock, lambda *heard: self.heard.put_nowait(heard))


async def test_a_question_to_the_group_and_its_answer(
    switch: Switch, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    agent, node = switch.node("agent"), switch.node("node")
    listening = asyncio.Event()
    here = asyncio.get_running_loop()

    async def serve(netlink: Netlink) -> None:
        await link_local_ready(netlink, "eth0")
        index = (await netlink.link("eth0")).index
        # Two agents on one host: both hear the group, and each answers from a socket of its own.
        ears = [Ear(multicast.group_socket(index, PORT, [GROUP, "ff02::1"])) for _ in range(2)]
        answering = multicast.unicast_socket(index)
        multicast.rejoin(ears[0].sock, index, [GROUP])
        here.call_soon_threadsafe(listening.set)
        for expected in (b"to the group", b"to all nodes"):
            for ear in ears:
                data, peer, hops = await ear.heard.get()
                assert (data, hops, peer[3]) == (expected, 255, index)
                assert peer[0].startswith("fe80::")
                assert multicast.send(answering, b"answer to " + data, peer, interface=index)
        for ear in ears:
            ear.reader.close()
            ear.reader.close()
            assert ear.sock.fileno() == -1
        answering.close()

    async def ask(netlink: Netlink) -> None:
        await link_local_ready(netlink, "eth0")
        index = (await netlink.link("eth0")).index
        ear = Ear(multicast.unicast_socket(index))
        for group, question in ((GROUP, b"to the group"), ("ff02::1", b"to all nodes")):
            assert multicast.send(ear.sock, question, (group, PORT), interface=index)
            for _ in range(2):
                data, peer, hops = await ear.heard.get()
                assert (data, hops) == (b"answer to " + question, 255)
                assert peer[1] != PORT
        ear.reader.close()

    serving = asyncio.ensure_future(agent.inside(serve, loop_factory=loop_factory))
    await listening.wait()
    await node.inside(ask, loop_factory=loop_factory)
    await serving


async def test_nothing_is_heard_of_another_interface_and_nothing_too_large(switch: Switch) -> None:
    agent, node = switch.node("agent"), switch.node("node")
    switch.bridge.plug([agent.namespace], "eth1")
    agent.namespace.set_up("eth1")
    listening = asyncio.Event()
    here = asyncio.get_running_loop()

    async def serve(netlink: Netlink) -> None:
        indices = [(await netlink.link(name)).index for name in ("eth0", "eth1")]
        for name in ("eth0", "eth1"):
            await link_local_ready(netlink, name)
        ears = [Ear(multicast.group_socket(indices[0], PORT, [GROUP]))]
        other = multicast.group_socket(indices[1], PORT + 1, [GROUP])  # makes the kernel take it on eth1 too
        here.call_soon_threadsafe(listening.set)
        data, peer, _ = await ears[0].heard.get()
        assert (data, peer[3]) == (b"small", indices[0])
        assert ears[0].heard.empty()
        assert ears[0].reader.dropped == {"oversized": 1}
        other.close()
        ears[0].reader.close()

    async def ask(netlink: Netlink) -> None:
        await link_local_ready(netlink, "eth0")
        index = (await netlink.link("eth0")).index
        with multicast.unicast_socket(index) as sock:
            assert multicast.send(sock, bytes(multicast.MAX_DATAGRAM + 1), (GROUP, PORT), interface=index)
            assert multicast.send(sock, b"small", (GROUP, PORT), interface=index)

    serving = asyncio.ensure_future(agent.inside(serve))
    await listening.wait()
    await node.inside(ask)
    await serving


async def _without_link_local(switch: Switch, work: Callable[[Netlink, int], None]) -> None:
    node: Node = switch.node("node", up=False)

    async def inside(netlink: Netlink) -> None:
        sysctl.write("net/ipv6/conf/eth0/addr_gen_mode", "1")
        index = (await netlink.link("eth0")).index
        await netlink.set_up(index)
        work(netlink, index)

    await node.inside(inside)


async def test_a_link_that_is_not_ready_refuses_for_now(switch: Switch) -> None:
    def work(_: Netlink, index: int) -> None:
        with multicast.unicast_socket(index) as sock, multicast.group_socket(index, PORT, [GROUP]):
            assert not multicast.send(sock, b"?", (GROUP, PORT), interface=index)
        with pytest.raises(KernelError, match="not-there"):
            multicast.listener(parse_address("fe80::99"), 0, interface=index)

    await _without_link_local(switch, work)


class _TableFull(socket.socket):
    """A socket while the machine's table of neighbours is full: to fill the real one would hurt everybody here."""

    def sendto(self, *_: object) -> int:
        raise OSError(errno.EINVAL, "as ip6_finish_output2 says it")


def test_a_full_table_of_neighbours_refuses_a_group_for_now_and_a_peer_by_a_word() -> None:
    with _TableFull(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        assert not multicast.send(sock, b"?", (GROUP, PORT), interface=1)
        with pytest.raises(KernelError, match="invalid"):  # or it is nobody's, as one with port 0
            multicast.send(sock, b"?", ("fe80::99", PORT), interface=1)


async def test_what_cannot_be_opened_is_refused_by_a_word(switch: Switch) -> None:
    async def work(_: Netlink) -> None:
        with pytest.raises(KernelError, match="no-interface"):
            multicast.group_socket(99, PORT, [GROUP])
        with multicast.listener(parse_address("127.0.0.1"), 0, interface=0) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(KernelError, match="in-use"):
                multicast.listener(parse_address("127.0.0.1"), port, interface=0)

    await switch.node("node", up=False).inside(work)


async def test_of_two_who_hear_unicast_on_one_port_the_second_is_refused(switch: Switch) -> None:
    """As two DHCPv6 clients on one link do: the first would never hear an answer again, and not know why."""

    async def work(netlink: Netlink) -> None:
        eth0, lo = [(await netlink.link(name)).index for name in ("eth0", "lo")]
        with (
            multicast.group_socket(eth0, PORT, ()),
            multicast.group_socket(lo, PORT, ()),
            pytest.raises(KernelError, match="in-use"),
        ):
            multicast.group_socket(eth0, PORT, ())
        with multicast.group_socket(eth0, PORT, [GROUP]), multicast.group_socket(eth0, PORT, [GROUP]):
            pass  # who hears a group hears all of it

    await switch.node("node").inside(work)


async def test_tcp_over_the_link_local_and_a_global_address(
    switch: Switch, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    agent, node = switch.node("agent"), switch.node("node")
    agent.ip("address add 2001:db8:5::9/64 dev eth0 nodad", "address add 192.0.2.9/24 dev eth0")
    node.ip("address add 2001:db8:5::8/64 dev eth0 nodad", "address add 192.0.2.8/24 dev eth0")
    here = asyncio.get_running_loop()
    endpoints: asyncio.Future[list[tuple[str, int]]] = here.create_future()
    done = 0

    async def serve(netlink: Netlink) -> None:
        nonlocal done
        index = (await netlink.link("eth0")).index
        own = await link_local_ready(netlink, "eth0")
        all_done = asyncio.Event()
        found, servers = [], []

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal done
            writer.write(b"welcome")
            await writer.drain()
            writer.close()
            done += 1
            if done == 3:
                all_done.set()

        for address in (own, parse_address("2001:db8:5::9"), parse_address("192.0.2.9")):
            sock = multicast.listener(address, 0, interface=index)
            scope = "%eth0" if address == own else ""
            found.append((format_address(address) + scope, sock.getsockname()[1]))
            servers.append(await asyncio.start_server(answer, sock=sock))
        here.call_soon_threadsafe(endpoints.set_result, found)
        await all_done.wait()
        for server in servers:
            server.close()
            await server.wait_closed()

    serving = asyncio.ensure_future(agent.inside(serve, loop_factory=loop_factory))
    found = await endpoints

    async def ask(netlink: Netlink) -> None:
        await link_local_ready(netlink, "eth0")
        for host, port in found:
            reader, writer = await asyncio.open_connection(host, port)
            assert await reader.read() == b"welcome"
            writer.close()
            await writer.wait_closed()

    await node.inside(ask, loop_factory=loop_factory)
    await serving
