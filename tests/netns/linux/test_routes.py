"""Our routes in the kernel: read and changed together, each refusal names its route, and others' are never touched."""

from __future__ import annotations

import asyncio

import pytest

from dnms.domain.routes import Route, delegated, on_link, unreachable
from dnms.events.ip import Prefix, parse_address, parse_prefix
from dnms.linux import rtnetlink
from dnms.linux.errors import KernelError
from dnms.linux.netlink import Netlink
from dnms.linux.routes import RouteTable, links_changed
from tests.netns.linux.conftest import Node, Switch

MANY = 10_000
HOP, OTHER_HOP = parse_address("fe80::a"), parse_address("fe80::b")


def many(next_hop: bytes = HOP) -> list[Route]:
    """A route to each of many /64s."""
    first = parse_prefix("2001:db8:1000::/64").first
    prefixes = [Prefix((first + (number << 64)).to_bytes(16), 64) for number in range(MANY)]
    return [delegated(prefix, next_hop, "eth0") for prefix in prefixes]


def to(prefix: str, next_hop: bytes = HOP, interface: str = "eth0") -> Route:
    return delegated(parse_prefix(prefix), next_hop, interface)


def shown(node: Node, *words: str) -> list[str]:
    return [line.strip() for line in node.show("-6", "route", "show", *words).splitlines()]


async def change(node: Node, *, add: list[Route] | None = None, delete: list[Route] | None = None) -> dict[Route, str]:
    """What was refused, by why."""

    async def work(_: Netlink) -> dict[Route, str]:
        with RouteTable() as table:
            refused = await table.change(add=add or [], delete=delete or [])
            assert all(str(route) in error.text for route, error in refused.items())
            return {route: error.why for route, error in refused.items()}

    return await node.inside(work)


async def ours(node: Node) -> frozenset[Route]:
    async def work(_: Netlink) -> frozenset[Route]:
        with RouteTable() as table:
            return await table.read()

    return await node.inside(work)


async def test_each_kind_of_route_is_as_iproute2_shows_it_and_reads_it_back(switch: Switch) -> None:
    node = switch.node("node")
    routes = [
        to("2001:db8:1:10::/60"),
        on_link(parse_prefix("2001:db8:1::/64"), "eth0"),
        unreachable(parse_prefix("2001:db8:1::/56")),
        delegated(parse_prefix("2001:db8:2::/64"), parse_address("2001:db8:1::5"), "eth0"),
    ]
    assert await change(node, add=routes) == {}
    assert await ours(node) == set(routes)
    assert sorted(line.split(" pref ")[0] for line in shown(node, "proto", "199")) == [
        "2001:db8:1:10::/60 via fe80::a dev eth0 metric 1025",
        "2001:db8:1::/64 dev eth0 metric 1025",
        "2001:db8:2::/64 via 2001:db8:1::5 dev eth0 metric 1025",
        "unreachable 2001:db8:1::/56 dev lo metric 4096",
    ]
    assert await change(node, add=routes) == {}  # there already
    assert await change(node, delete=routes) == {}
    assert await change(node, delete=routes) == {}  # gone already
    assert await ours(node) == frozenset()


async def test_many_go_to_the_kernel_in_few_messages(switch: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    node = switch.node("node")
    sent: list[int] = []
    packed = rtnetlink.BatchSocket._packed

    def counting(self: rtnetlink.BatchSocket, changes: list[rtnetlink.Asked], at: int) -> tuple[dict[int, bytes], int]:
        data, until = packed(self, changes, at)
        sent.append(len(data))
        return data, until

    monkeypatch.setattr(rtnetlink.BatchSocket, "_packed", counting)
    assert await change(node, add=many()) == {}
    assert sum(sent) == MANY
    assert len(sent) <= 20
    assert await ours(node) == set(many())
    assert await change(node, add=many(OTHER_HOP), delete=many()) == {}
    assert await ours(node) == set(many(OTHER_HOP))
    assert await change(node, delete=many(OTHER_HOP)) == {}
    assert await ours(node) == frozenset()


async def test_every_refusal_of_many_names_its_route_and_the_rest_is_made(switch: Switch) -> None:
    node = switch.node("node")
    routes = many()
    taken = routes[::2]
    node.ip(*(f"route add {each.destination} dev eth0 metric {each.metric} proto static" for each in taken))
    missing = to("2001:db8:f::/64", interface="eth9")
    assert await change(node, add=[*routes, missing]) == {missing: "no-interface"} | dict.fromkeys(taken, "exists")
    assert await ours(node) == set(routes) - set(taken)
    assert len(shown(node, "proto", "static")) == len(taken)


async def test_a_room_for_answers_that_the_system_keeps_small_makes_the_batches_smaller(
    switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a user namespace, where a socket's buffer is what the system allows."""
    node = switch.node("node")
    monkeypatch.setattr(rtnetlink, "FOR_ANSWERS", 100_000)
    routes = many()[:2_000]
    node.ip(*(f"route add {each.destination} dev eth0 metric {each.metric} proto static" for each in routes))
    assert await change(node, add=routes) == dict.fromkeys(routes, "exists")
    assert await ours(node) == frozenset()


async def test_a_route_of_another_protocol_is_never_touched(switch: Switch) -> None:
    node = switch.node("node")
    route = to("2001:db8:1:10::/60")
    node.ip(
        f"route add {route.destination} via fe80::9 dev eth0 metric {route.metric} proto bird",
        "route add 2001:db8:1:20::/60 via fe80::9 dev eth0 proto static",
        "route add 2001:db8:1:30::/60 via fe80::9 dev eth0 metric 1025 proto 198",
        "route add unreachable 2001:db8:1::/56 metric 4096 proto static",
    )
    before = [line for line in shown(node) if " proto 199 " not in line]
    added = [route, to("2001:db8:1:20::/60"), unreachable(parse_prefix("2001:db8:1::/56"))]
    refused = await change(node, add=added, delete=[to("2001:db8:1:30::/60", parse_address("fe80::9"))])
    assert refused == {added[0]: "exists", added[2]: "exists"}
    assert await ours(node) == {added[1]}
    assert await change(node, delete=added) == {}
    assert [line for line in shown(node) if " proto 199 " not in line] == before


async def test_a_link_that_is_down_takes_no_route_and_its_coming_up_is_heard(switch: Switch) -> None:
    node = switch.node("node", up=False)
    assert await change(node, add=[to("2001:db8:1:10::/60")]) == {to("2001:db8:1:10::/60"): "interface-down"}

    async def work(_: Netlink) -> frozenset[str]:
        heard = links_changed()
        try:
            with RouteTable() as table:
                following = asyncio.ensure_future(anext(heard))
                await asyncio.sleep(0)  # it listens
                assert "eth0" not in await table.up()
                node.namespace.set_up("eth0")
                await following
                return await table.up()
        finally:
            await heard.aclose()

    assert "eth0" in await node.inside(work)
    assert await change(node, add=[to("2001:db8:1:10::/60")]) == {}


async def test_what_the_kernel_does_not_allow_is_said(switch: Switch) -> None:
    node = switch.node("node")
    wrong = Route(parse_prefix("2001:db8:1:10::/60"), 1_025, "eth0", parse_address("2001:db8:77::1"))

    async def work(_: Netlink) -> None:
        with RouteTable() as table:
            [(route, error)] = (await table.change(add=[wrong])).items()
            assert route == wrong
            assert isinstance(error, KernelError)
            assert error.why == "unreachable"
            assert str(error).startswith(f"cannot add route {wrong}: ")

    await node.inside(work)
