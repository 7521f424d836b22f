"""What the lab reads from kernels, and how it judges by it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from dnms.events.ip import parse_address, parse_prefix
from dnms.lab import kernel
from dnms.lab.doubled import doubled
from dnms.lab.judge import held_twice, missing, promised, stranded, unresolved
from dnms.lab.kernel import Kernel
from dnms.lab.network import Addressing
from dnms.lab.observatory import Observatory
from dnms.linux.namespaces import Bridge, Namespace
from dnms.linux.netlink import Netlink
from dnms.projections.naive import Naive

DEADLINE = 10.0
SHORT = 3.0  # where the deadline is what is tested
KERNEL_LL = 3  # IFAPROT_KERNEL_LL
ADDRESSING = Addressing.for_nodes(2)
OURS6, OURS4 = parse_address("2001:db8:1ab::a"), parse_address("192.0.2.10")


class Node:
    """A namespace on a switch, and a way to change it."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        with namespace.entered():
            self.netlink = Netlink()
            self.index = socket.if_nametoindex("eth0")

    async def add(self, address: bytes, *, protocol: int = kernel.OURS) -> None:
        length = 120 if address.startswith(OURS4[:12]) else 64
        await self.netlink.add_address(
            self.index, address, length, preferred=None, valid=None, protocol=protocol, prefix_route=True
        )

    async def configure(self) -> None:
        """As a Node Agent would."""
        await self.add(OURS6)
        await self.add(OURS4)
        for prefix, gateway in (("::/0", ADDRESSING.gateway6), ("0.0.0.0/0", ADDRESSING.gateway4)):
            await self.netlink.add_route(parse_prefix(prefix), self.index, gateway=gateway)

    def read(self) -> Kernel:
        return kernel.read(self.namespace)

    def missing(self) -> list[str]:
        return list(missing(self.read(), ADDRESSING))


@pytest.fixture
async def nodes() -> AsyncIterator[list[Node]]:
    with Namespace.create("switch") as switch, Namespace.create("one") as one, Namespace.create("two") as two:
        spaces = [one, two]
        Bridge.create(switch, "link").plug(spaces, "eth0")
        for space in spaces:
            space.set_sysctls({"ipv6.neigh.eth0.retrans_time_ms": 100, "ipv6.conf.eth0.dad_transmits": 3})
            space.set_up("eth0")
        nodes = [Node(space) for space in spaces]
        yield nodes
        for node in nodes:
            node.netlink.close()


async def until(node: Node, done: Callable[[int, Kernel], bool]) -> None:
    observatory = Observatory([node.namespace])
    try:
        late = await observatory.wait(done, deadline=DEADLINE, reached=lambda _: None, check=lambda: None)
        assert not late, node.read()
    finally:
        observatory.close()


def usable(address: bytes) -> Callable[[int, Kernel], bool]:
    return lambda _, found: any(held.address == address and held.usable for held in found.addresses)


async def test_a_node_that_has_all_lacks_nothing(nodes: list[Node]) -> None:
    node = nodes[0]
    assert node.missing() == [
        "no managed IPv6 address",
        "no default route of ours over fe80::1",
        "no managed IPv4 address",
        "no default route of ours over 192.0.2.1",
    ]
    await node.configure()
    assert node.missing() == ["2001:db8:1ab::a is not usable yet, or is a duplicate"]
    await until(node, usable(OURS6))
    assert node.missing() == []


@pytest.mark.parametrize(
    ("address", "protocol", "complaint"),
    [
        ("2001:db8:1ab::b", 2, "2001:db8:1ab::b is there and was not assigned"),
        ("192.0.2.11", 0, "192.0.2.11 is there and was not assigned"),
        ("2001:db8:2::b", kernel.OURS, "2001:db8:2::b is in no pool"),
        ("192.0.2.9", kernel.OURS, "192.0.2.9 is in no pool"),
    ],
)
async def test_what_should_not_be_there_is_seen(nodes: list[Node], address: str, protocol: int, complaint: str) -> None:
    await nodes[0].configure()
    await nodes[0].add(parse_address(address), protocol=protocol)
    assert complaint in nodes[0].missing()


async def test_a_default_route_that_is_not_ours_is_seen(nodes: list[Node]) -> None:
    node = nodes[0]
    await node.configure()
    await node.netlink.add_route(parse_prefix("::/0"), node.index, gateway=ADDRESSING.gateway6, metric=9, protocol=9)
    assert "a default route of protocol 9 is there" in node.missing()


async def test_the_moment_is_when_dad_has_ended(nodes: list[Node]) -> None:
    await until(nodes[1], lambda _, found: any(held.protocol == KERNEL_LL and held.usable for held in found.addresses))
    observatory = Observatory([node.namespace for node in nodes])
    reached: list[int] = []
    try:
        before = time.monotonic()
        await nodes[1].add(OURS6)
        late = await observatory.wait(usable(OURS6), deadline=SHORT, reached=reached.append, check=lambda: None)
    finally:
        observatory.close()
    assert late == [0]
    assert reached[0] == 0
    assert reached[-1] == 1
    moment = observatory.usable_at(1, OURS6)
    assert observatory.usable_at(0, OURS6) is None
    assert (observatory.used(0), observatory.used(1)) == ({}, {OURS6: moment})
    assert moment is not None
    assert 0.2 < moment - before < DEADLINE, "three probes, 0.1 s apart"
    probed = observatory.probed(1, OURS6, since=before)
    assert observatory.probed(0, OURS6, since=before) is None
    assert probed is not None
    assert probed[0] == 0, "fe80:: could be used before"
    assert 0.2 < probed[1] <= moment - before


async def test_dad_of_a_link_that_comes_up_counts_too(nodes: list[Node]) -> None:
    node = nodes[0]
    await until(node, lambda _, found: any(held.protocol == KERNEL_LL and held.usable for held in found.addresses))
    observatory = Observatory([node.namespace])
    try:
        since = time.monotonic()
        node.namespace.ip(["link set dev eth0 down", "link set dev eth0 up"])
        await until(node, lambda _, found: any(held.protocol == KERNEL_LL and held.usable for held in found.addresses))
        await node.add(OURS6)
        await node.netlink.delete_address(node.index, OURS6, 64)
        again = time.monotonic()
        await node.add(OURS6)
        await observatory.wait(usable(OURS6), deadline=DEADLINE, reached=lambda _: None, check=lambda: None)
        probed, moment = observatory.probed(0, OURS6, since=since), observatory.usable_at(0, OURS6)
    finally:
        observatory.close()
    assert probed is not None
    assert moment is not None
    assert 0.2 < probed[0] <= moment - since
    assert 0.2 < probed[1] <= moment - again, "what was added and removed before does not count"
    assert sum(probed) <= moment - since


async def test_an_address_on_two_machines_is_held_twice(nodes: list[Node]) -> None:
    for node in nodes:
        await node.add(OURS4)  # the kernel does not probe for IPv4
    assert held_twice([node.read() for node in nodes]) == {"192.0.2.10"}
    assert held_twice([nodes[0].read()]) == set()


def test_what_the_log_gave_to_another_or_too_late_is_seen() -> None:
    log = Naive(names={"aa": "one", "bb": "two"})
    stored = {("bb", "192.0.2.10"): 5.0}
    assert list(promised("one", {OURS4: 6.0}, log, stored)) == ["it used 192.0.2.10, which the log has not given to it"]
    [late] = promised("two", {OURS4: 4.75}, log, stored)
    assert late == "it used 192.0.2.10 0.250 s before that was in the log"
    assert list(promised("two", {OURS4: 6.0}, log, stored)) == []


async def test_who_changes_addresses_is_stranded_only_without_one(nodes: list[Node]) -> None:
    node = nodes[0]
    await node.configure()
    await until(node, usable(OURS6))
    assert list(stranded(node.read(), ADDRESSING)) == []
    another = parse_address("198.51.100.9")  # of a pool that the plan no longer has
    await node.add(another)
    await node.netlink.delete_address(node.index, OURS4, 120)
    assert list(stranded(node.read(), ADDRESSING)) == []
    await node.netlink.delete_address(node.index, another, 120)
    assert "no usable managed IPv4 address" in stranded(node.read(), ADDRESSING)


def test_dns_servers_are_those_of_the_plan() -> None:
    first, second = ADDRESSING.dns
    assert list(unresolved(f"search lab\nnameserver {first}\nnameserver {second}\n", ADDRESSING)) == []
    for other in ("", f"nameserver {first}\n", f"nameserver {second}\nnameserver {first}\n", "nameserver\n"):
        assert len(list(unresolved(other, ADDRESSING))) == 1


async def test_a_vigil_sees_what_lasts_for_a_moment(nodes: list[Node]) -> None:
    await nodes[0].add(OURS6)
    observatory = Observatory([node.namespace for node in nodes])

    def gone(place: int, found: Kernel) -> Iterator[str]:
        if place == 0 and OURS6 not in found.ours:
            yield "it is gone"

    try:
        async with observatory.vigil(gone) as vigil:
            await until(nodes[0], usable(OURS6))
            assert vigil.complaints() == []
            assert observatory.removed(0) == frozenset()
            await nodes[0].netlink.delete_address(nodes[0].index, OURS6, 64)
            async with asyncio.timeout(DEADLINE):
                while not vigil.complaints():  # noqa: ASYNC110  # it is the kernel that is waited for
                    await asyncio.sleep(0.005)
            await nodes[0].add(OURS6)
            await until(nodes[0], usable(OURS6))
        [complaint] = vigil.complaints()
    finally:
        observatory.close()
    assert complaint.startswith("one: it is gone (seen ")
    assert observatory.removed(0) == {OURS6}
    assert observatory.removed(1) == frozenset()


async def test_it_is_known_when_an_address_could_be_used(nodes: list[Node]) -> None:
    observatory = Observatory([node.namespace for node in nodes])
    try:
        for node in nodes:
            await node.add(OURS6)
            await until(node, usable(OURS6))
            await node.netlink.delete_address(node.index, OURS6, 64)
        await nodes[0].add(OURS6)
        await until(nodes[0], usable(OURS6))
        holdings = sorted(observatory.holdings(), key=lambda each: each.since)
        moment = time.monotonic()
        assert observatory.deaf() == []
    finally:
        observatory.close()
    assert [each.machine for each in holdings] == ["one", "two", "one"]
    assert {each.address for each in holdings} == {OURS6}
    assert list(doubled(holdings)) == []
    ends = [moment for each in holdings for moment in (each.since, each.until)]
    assert ends == sorted(ends)
    assert moment - DEADLINE < holdings[-1].until <= moment, "the last one is still there"


async def test_a_check_that_fails_ends_the_wait(nodes: list[Node]) -> None:
    observatory = Observatory([nodes[0].namespace])

    def check() -> None:
        raise RuntimeError("pointless")

    try:
        with pytest.raises(RuntimeError, match="pointless"):
            await observatory.wait(usable(OURS6), deadline=DEADLINE, reached=lambda _: None, check=check)
    finally:
        observatory.close()


async def test_who_listens_is_seen(nodes: list[Node]) -> None:
    with nodes[0].namespace.entered():
        listener = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with listener:
        listener.bind(("::", 0))
        port = listener.getsockname()[1]
        assert kernel.listens(nodes[0].namespace, port)
        assert not kernel.listens(nodes[1].namespace, port)
    assert not kernel.listens(nodes[0].namespace, port)


def test_a_big_lab_has_room_for_every_node() -> None:
    addressing = Addressing.for_nodes(900)
    assert addressing.in_pool(parse_address("198.18.3.200"))
    assert not addressing.in_pool(addressing.gateway4)
    assert not Addressing.for_nodes(120).in_pool(parse_address("198.18.3.200"))
