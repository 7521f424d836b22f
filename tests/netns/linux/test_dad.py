"""What becomes of an address: by the kernel's DAD in IPv6, by our own probes in IPv4."""

from __future__ import annotations

import asyncio
import time

import pytest
from structlog.testing import capture_logs

from dnms.events.ip import is_link_local, parse_address
from dnms.linux import arp, sysctl
from dnms.linux.dad import DadWatch, link_local_ready
from dnms.linux.errors import KernelError
from dnms.linux.netlink import Netlink
from tests.netns.linux.conftest import Node, Switch

TAKEN = parse_address("2001:db8:5::77")
FREE = parse_address("2001:db8:5::78")
TAKEN4 = parse_address("192.0.2.77")
FREE4 = parse_address("192.0.2.78")


async def test_both_forms_of_a_duplicate_are_seen(switch: Switch) -> None:
    node = switch.node("node")
    switch.node("holder").ip("address add 2001:db8:5::77/64 dev eth0 nodad")

    async def outcomes(netlink: Netlink, *, valid: int | None) -> dict[bytes, str]:
        index = (await netlink.link("eth0")).index
        with DadWatch(netlink, index) as watch:
            for address in (TAKEN, FREE):
                await netlink.add_address(index, address, 64, preferred=valid, valid=valid)
            result = await watch.outcomes([TAKEN, FREE])
        held = {each.address for each in await netlink.addresses(index)}
        assert (TAKEN in held) == (valid is None)  # for ever: it stays and is marked; with lifetimes: it is deleted
        for address in (TAKEN, FREE):
            await netlink.delete_address(index, address, 64)
        return result

    async def work(netlink: Netlink) -> None:
        await link_local_ready(netlink, "eth0")
        for valid in (None, 600):
            assert await outcomes(netlink, valid=valid) == {TAKEN: "duplicate", FREE: "usable"}

    await node.inside(work)


async def test_of_two_that_claim_an_address_at_once_one_gets_it(switch: Switch) -> None:
    nodes = [switch.node(name, fast=False) for name in ("a", "b")]

    async def claim(netlink: Netlink) -> str:
        await link_local_ready(netlink, "eth0")
        index = (await netlink.link("eth0")).index
        with DadWatch(netlink, index) as watch:
            await netlink.add_address(index, FREE, 64, preferred=600, valid=600)
            return (await watch.outcomes([FREE]))[FREE]

    assert "duplicate" in await asyncio.gather(*(node.inside(claim) for node in nodes))
    held = [node for node in nodes if "2001:db8:5::78" in node.show("address")]
    assert len(held) <= 1


async def test_an_address_that_somebody_deletes_is_no_duplicate_and_one_without_carrier_times_out(
    switch: Switch,
) -> None:
    node = switch.node("node", fast=False)

    async def work(netlink: Netlink) -> None:
        await link_local_ready(netlink, "eth0")
        index = (await netlink.link("eth0")).index
        with DadWatch(netlink, index) as watch:
            await netlink.add_address(index, FREE, 64, preferred=600, valid=600)
            await netlink.delete_address(index, FREE, 64)
            assert await watch.outcomes([FREE], timeout=5) == {FREE: "removed"}
            switch.namespace.ip(["link set net-1 down"])
            await netlink.add_address(index, FREE, 64, preferred=600, valid=600)
            assert await watch.outcomes([FREE], timeout=0.2) == {FREE: "timeout"}

    await node.inside(work)


async def test_the_link_local_address_is_waited_for(switch: Switch) -> None:
    node = switch.node("node", up=False)

    async def work(netlink: Netlink) -> bytes:
        with pytest.raises(KernelError, match="timeout"):
            await link_local_ready(netlink, "eth0", timeout=0.05)
        waiting = asyncio.create_task(link_local_ready(netlink, "eth0"))
        await netlink.links()
        assert not waiting.done()
        await netlink.set_up((await netlink.link("eth0")).index)
        return await waiting

    with capture_logs() as lines:
        assert is_link_local(await node.inside(work))
    said = {"interface": "eth0", "because": "it is down: `ip link set dev eth0 up`"}
    assert lines
    assert all(said.items() <= line.items() for line in lines)


@pytest.mark.parametrize(
    ("taken", "given", "said"),
    [
        ("link set net-1 down", "link set net-1 up", "it has no carrier: look at the cable"),
        ("", "", "IPv6 is off there: `sysctl -w net.ipv6.conf.eth0.disable_ipv6=0`"),
    ],
)
async def test_what_a_link_local_address_lacks_is_said_once(switch: Switch, taken: str, given: str, said: str) -> None:
    node = switch.node("node", up=False)

    def change(line: str, off: str) -> None:
        if line:
            switch.namespace.ip([line])
        else:
            sysctl.write("net/ipv6/conf/eth0/disable_ipv6", off)

    async def work(netlink: Netlink) -> bytes:
        change(taken, "1")
        await netlink.set_up((await netlink.link("eth0")).index)
        waiting = asyncio.create_task(link_local_ready(netlink, "eth0", timeout=20))
        while not lines:  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.01)
        change(given, "0")
        return await waiting

    with capture_logs() as lines:
        assert is_link_local(await node.inside(work))
    assert [line["because"].startswith(said) for line in lines] == [True]


async def test_the_loopback_interface_is_no_link(switch: Switch) -> None:
    async def work(netlink: Netlink) -> None:
        with pytest.raises(KernelError, match="name an interface that is on a link"):
            await link_local_ready(netlink, "lo")

    await switch.node("node").inside(work)


@pytest.mark.parametrize("mode", ["0", "1"])
async def test_a_lost_link_local_address_comes_back(switch: Switch, mode: str) -> None:
    node = switch.node("node")

    async def work(netlink: Netlink) -> None:
        first = await link_local_ready(netlink, "eth0")
        sysctl.write("net/ipv6/conf/eth0/addr_gen_mode", mode)  # 1: as dhcpcd leaves it
        await netlink.delete_address((await netlink.link("eth0")).index, first, 64)
        assert await link_local_ready(netlink, "eth0", timeout=10) == first
        assert sysctl.read("net/ipv6/conf/eth0/addr_gen_mode") == "0"

    await node.inside(work)


def holding(switch: Switch) -> Node:
    node = switch.node("holder")
    node.ip("address add 192.0.2.77/24 dev eth0")
    return node


async def test_an_ipv4_address_in_use_is_found_and_a_free_one_is_not(switch: Switch) -> None:
    holding(switch)

    async def work(_: Netlink) -> float:
        before = time.monotonic()
        assert await arp.conflicts("eth0", [TAKEN4, FREE4]) == {TAKEN4}
        full = time.monotonic() - before
        assert await arp.conflicts("eth0", [TAKEN4]) == {TAKEN4}
        assert await arp.conflicts("eth0", []) == frozenset()
        assert await arp.conflicts("lo", [FREE4]) == frozenset()  # has no ARP
        with pytest.raises(KernelError, match="no-interface"):
            await arp.conflicts("eth9", [FREE4])
        return full

    assert await switch.node("node").inside(work) < 2


async def test_of_two_that_probe_for_one_address_at_most_one_gets_it(switch: Switch) -> None:
    nodes = [switch.node(name) for name in ("a", "b")]
    found = await asyncio.gather(*(node.inside(lambda _: arp.conflicts("eth0", [FREE4])) for node in nodes))
    assert {FREE4} in found  # who hears the other before its own first probe is silent, and the other has it


async def test_a_link_that_goes_down_while_it_is_probed_is_an_error_of_the_kernel(switch: Switch) -> None:
    node = switch.node("node")

    async def work(_: Netlink) -> None:
        probing = asyncio.ensure_future(arp.conflicts("eth0", [FREE4]))
        await asyncio.sleep(0)  # the socket is open
        node.ip("link set dev eth0 down")
        with pytest.raises(KernelError, match="interface-down"):
            await probing

    await node.inside(work)


async def test_an_announcement_changes_what_others_know(switch: Switch) -> None:
    other, node = holding(switch), switch.node("node")
    other.ip("neighbour add 192.0.2.78 lladdr 02:00:00:00:00:99 dev eth0 nud stale")
    await node.inside(lambda _: arp.announce("eth0", [FREE4]))
    own = node.namespace.run("ip", "-brief", "link", "show", "eth0").split()[2]
    assert own in other.show("neighbour", "show", "192.0.2.78")
