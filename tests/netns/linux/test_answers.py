"""Who answers for an address on the link: a machine that has it, whatever DNMS gave to whom."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from dnms.events.ip import parse_address
from dnms.linux import arp, neighbours
from dnms.linux.asking import MAX_ANSWERS, Answers
from dnms.linux.dad import DadWatch, link_local_ready
from dnms.linux.errors import KernelError
from dnms.linux.netlink import Netlink
from dnms.linux.readiness import BURST
from tests.netns.linux.conftest import Node, Switch

TAKEN, FREE = parse_address("2001:db8:5::77"), parse_address("2001:db8:5::78")
TAKEN4, FREE4 = parse_address("192.0.2.77"), parse_address("192.0.2.78")
AGENT4 = parse_address("192.0.2.2")


def hardware(node: Node) -> bytes:
    return bytes.fromhex(
        node.show("-o", "link", "show", "dev", "eth0").split("link/ether ")[1].split()[0].replace(":", "")
    )


async def test_the_hardware_of_all_that_have_it(switch: Switch) -> None:
    agent, one, other = (switch.node(name) for name in ("agent", "one", "other"))
    agent.ip("address add 192.0.2.2/24 dev eth0")
    for node in (one, other):
        node.ip("address add 2001:db8:5::77/64 dev eth0 nodad", "address add 192.0.2.77/24 dev eth0")

    async def work(netlink: Netlink) -> tuple[dict[bytes, frozenset[bytes]], ...]:
        await link_local_ready(netlink, "eth0")
        return (
            await neighbours.answers("eth0", [TAKEN, FREE]),
            await arp.answers("eth0", {TAKEN4: AGENT4, FREE4: AGENT4}),
            await arp.answers("eth0", {TAKEN4: arp.NOBODY}),
        )

    both = frozenset({hardware(one), hardware(other)})
    assert len(both) == 2
    assert await agent.inside(work) == ({TAKEN: both}, {TAKEN4: both}, {TAKEN4: both})


async def test_ones_own_is_not_told(switch: Switch) -> None:
    agent = switch.node("agent")
    agent.ip("address add 2001:db8:5::77/64 dev eth0 nodad", "address add 192.0.2.77/24 dev eth0")

    async def work(netlink: Netlink) -> tuple[dict[bytes, frozenset[bytes]], ...]:
        await link_local_ready(netlink, "eth0")
        return (
            await neighbours.answers("eth0", [TAKEN]),
            await arp.answers("eth0", {TAKEN4: arp.NOBODY}),
            await arp.answers("eth0", {}),
        )

    assert await agent.inside(work) == ({}, {}, {})


async def test_a_question_ends_no_duplicate_address_detection(switch: Switch) -> None:
    """Who is still probing for the address is to get it: it is asked as address resolution asks."""
    agent, node = switch.node("agent"), switch.node("node", fast=False)
    done = asyncio.Event()

    async def ask(netlink: Netlink) -> int:
        await link_local_ready(netlink, "eth0")
        asked = 0
        while not done.is_set():
            await neighbours.answers("eth0", [TAKEN])
            await arp.answers("eth0", {TAKEN4: AGENT4})
            asked += 1
        return asked

    async def claim(netlink: Netlink) -> tuple[str, frozenset[bytes]]:
        await link_local_ready(netlink, "eth0")
        index = (await netlink.link("eth0")).index
        with DadWatch(netlink, index) as watch:
            await netlink.add_address(index, TAKEN, 64, preferred=600, valid=600)
            outcomes, conflicts = await asyncio.gather(watch.outcomes([TAKEN]), arp.conflicts("eth0", [TAKEN4]))
        done.set()
        return outcomes[TAKEN], conflicts

    asked, (outcome, conflicts) = await asyncio.gather(agent.inside(ask), node.inside(claim))
    assert asked
    assert (outcome, conflicts) == ("usable", frozenset())


async def test_an_interface_that_is_not_there_or_down_is_an_error(switch: Switch) -> None:
    agent = switch.node("agent", up=False)

    async def work(_: Netlink) -> None:
        with pytest.raises(KernelError):
            await neighbours.answers("eth9", [TAKEN])
        with pytest.raises(KernelError):
            await arp.answers("eth9", {TAKEN4: arp.NOBODY})
        with pytest.raises(KernelError):
            await neighbours.answers("eth0", [TAKEN])

    await agent.inside(work)


async def test_where_there_is_no_ethernet_nobody_answers(switch: Switch) -> None:
    agent = switch.node("agent")

    async def work(_: Netlink) -> None:
        assert await neighbours.answers("lo", [TAKEN]) == {}
        assert await arp.answers("lo", {TAKEN4: arp.NOBODY}) == {}

    await agent.inside(work)


@pytest.mark.parametrize(
    "listen",
    [
        lambda sock: arp._listen(sock, lambda packet: None),
        lambda sock: neighbours._listen(sock, bytes(6), frozenset(), Answers()),
    ],
)
async def test_a_flood_stops_nothing_else(listen: Callable[[socket.socket], Awaitable[None]]) -> None:
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as flooded,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as stranger,
    ):
        flooded.bind(("::1", 0))
        flooded.setblocking(False)
        for _ in range(2 * BURST):
            stranger.sendto(b"noise", flooded.getsockname())
        listening = asyncio.ensure_future(listen(flooded))
        await asyncio.sleep(0)
        assert flooded.recv(16) == b"noise", "all of it was read in one turn of the loop"
        listening.cancel()
        await asyncio.wait((listening,))


def test_no_more_answers_are_kept_than_there_can_be() -> None:
    found = Answers()
    for number in range(100):
        found.note(TAKEN, number.to_bytes(6))
    assert len(found.all()[TAKEN]) == MAX_ANSWERS
