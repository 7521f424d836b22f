"""A node is taken over while a router advertises: nothing strays back, nothing of others is touched."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from dnms.domain.node_plan import plan_node
from dnms.events.configuration import AssignedAddress, Assignment, Generation, InterfaceAddress, Resolver, Snapshot
from dnms.events.ip import family, is_link_local, parse_address
from dnms.linux import sysctl
from dnms.linux.apply import apply
from dnms.linux.dad import link_local_ready
from dnms.linux.errors import KernelError
from dnms.linux.give_back import give_back
from dnms.linux.netlink import Netlink
from dnms.linux.settle import settle
from tests.netns.linux.conftest import RADVD, Node, Switch
from tests.netns.programs import radvd

OURS6 = parse_address("2001:db8:5::77")
OURS4 = parse_address("192.0.2.77")
GATEWAYS = (parse_address("fe80::1"), parse_address("192.0.2.1"))
SERVER = parse_address("2001:db8:5::53")


def assignment(*addresses: bytes, valid: int = 600, mtu: int = 0) -> Assignment:
    return Assignment(
        generation=Generation(),
        addresses=tuple(
            AssignedAddress(
                address=address,
                prefix_length=120 if address[:12] == OURS4[:12] else 64,
                iaid=1,
                preferred=valid,
                valid=valid,
            )
            for address in addresses
        ),
        gateways=GATEWAYS,
        resolver=Resolver(servers=(SERVER,), search=("lab",)),
        mtu=mtu,
    )


class Place:
    """Where an agent would keep what it keeps."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.resolv_conf = directory / "resolv.conf"
        self.resolv_conf.write_text("nameserver 192.0.2.99\n")

    async def snapshot(self, netlink: Netlink) -> Snapshot:
        return await netlink.snapshot(self.resolv_conf)

    async def apply(self, netlink: Netlink, wanted: Assignment, *, dad_timeout: float = 8) -> dict[bytes, str]:
        """And settle it, as a Node Agent does with the families of which something can be used."""
        index = (await netlink.link("eth0")).index
        plan = plan_node(await self.snapshot(netlink), index, wanted)
        outcomes = await apply(
            netlink,
            plan,
            interface="eth0",
            state=self.state,
            resolv_conf=self.resolv_conf,
            dad_timeout=dad_timeout,
        )
        usable = {family(address) for address, outcome in outcomes.items() if outcome == "usable"}
        plan = plan_node(await self.snapshot(netlink), index, wanted)
        left = msgspec.structs.replace(
            plan,
            leave_addresses=tuple(each for each in plan.leave_addresses if family(each.address) in usable),
            leave_routes=tuple(each for each in plan.leave_routes if each.destination.family in usable),
        )
        await settle(netlink, left, interface="eth0", state=self.state, drain=300)
        return outcomes


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def on_eth0(netlink: Netlink) -> dict[bytes, InterfaceAddress]:
    return {each.address: each for each in await netlink.addresses((await netlink.link("eth0")).index)}


async def routes_on_eth0(netlink: Netlink) -> set[tuple[str, bytes | None, int, int]]:
    index = (await netlink.link("eth0")).index
    return {
        (str(each.destination), each.gateway, each.metric, each.protocol)
        for each in (await netlink.routes())[0]
        if each.interface == index
    }


OUR_ROUTES = {
    ("2001:db8:5::/64", None, 512, 200),
    ("::/0", GATEWAYS[0], 512, 200),
    ("192.0.2.0/24", None, 512, 200),
    ("0.0.0.0/0", GATEWAYS[1], 512, 200),
    ("fe80::/64", None, 256, 2),
}


async def has_slaac(netlink: Netlink) -> None:
    """Wait until the kernel has configured itself, temporary address and all."""
    with netlink.changes() as changes:
        while not {"slaac", "temporary"} <= {each.origin for each in (await on_eth0(netlink)).values()}:
            await anext(changes)


def advertisements(node: Node) -> int:
    """How many Router Advertisements have come in, as the kernel counts them."""
    with node.namespace.entered():
        lines = Path("/proc/thread-self/net/snmp6").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Icmp6InRouterAdvertisements"))


async def test_a_node_is_taken_over_from_slaac_and_dhcp_and_given_back(
    switch: Switch, place: Place, tmp_path: Path
) -> None:
    node = switch.node("node", up=False)
    node.namespace.set_sysctls({"ipv6.conf.eth0.use_tempaddr": 2})
    node.ip("link set eth0 up", "address add 2001:db8:6::6/64 dev eth0 nodad")
    node.ip("address add 192.0.2.200/24 dev eth0 valid_lft 300 preferred_lft 300")  # as a DHCP client leaves them
    node.ip("route add default via 192.0.2.1 proto dhcp", "route add 10.0.0.0/8 via 192.0.2.1 proto static")

    async def work(netlink: Netlink) -> None:
        await has_slaac(netlink)
        before = await on_eth0(netlink)
        good: list[bool] = []

        async def watch() -> None:
            """At every moment there is a usable global address of each family, and a way out."""
            while True:
                held = await on_eth0(netlink)
                usable = [each for each in held.values() if not each.flags & 0x48 and not is_link_local(each.address)]
                ways = {destination for destination, *_ in await routes_on_eth0(netlink)}
                good.append(len({each.prefix_length > 96 for each in usable}) == 2 and {"::/0", "0.0.0.0/0"} <= ways)
                await asyncio.sleep(0.005)

        watching = asyncio.create_task(watch())
        started = time.monotonic()
        outcomes = await place.apply(netlink, assignment(OURS6, OURS4, mtu=1400))
        took = time.monotonic() - started
        assert outcomes == {OURS6: "usable", OURS4: "usable"}
        assert took < 4

        until = advertisements(node) + 2
        while advertisements(node) < until:  # noqa: ASYNC110  # the kernel tells nobody when one comes
            await asyncio.sleep(0.1)
        watching.cancel()
        assert len(good) > 50
        assert all(good)
        held = await on_eth0(netlink)
        assert {each for each in held if not is_link_local(each)} == {OURS6, OURS4}
        assert {held[each].origin for each in (OURS6, OURS4)} == {"managed"}
        assert await routes_on_eth0(netlink) == OUR_ROUTES | {("10.0.0.0/8", GATEWAYS[1], 0, 4)}
        assert (await netlink.link("eth0")).mtu == 1400
        assert "nameserver 2001:db8:5::53" in place.resolv_conf.read_text()
        assert sum(is_link_local(each) for each in held) == 1  # and discovery goes on
        assert "ff00::/8" in node.show("-6", "route", "show", "table", "local")

        await give_back(netlink, interface="eth0", state=place.state, resolv_conf=place.resolv_conf)
        await has_slaac(netlink)
        held = await on_eth0(netlink)
        assert not {OURS6, OURS4} & held.keys()
        assert {each for each, old in before.items() if old.origin in ("slaac", "other") and old.valid is None} <= set(
            held
        )
        assert not {each for each in await routes_on_eth0(netlink) if each[3] == 200}
        assert place.resolv_conf.read_text() == "nameserver 192.0.2.99\n"
        assert sysctl.read("net/ipv6/conf/eth0/use_tempaddr") == "2"
        assert sysctl.read("net/ipv6/conf/eth0/accept_ra") == "1"

    with radvd(switch.namespace, tmp_path, RADVD):
        await node.inside(work)


async def test_applying_twice_is_applying_once_but_for_the_lifetimes(switch: Switch, place: Place) -> None:
    async def work(netlink: Netlink) -> None:
        await link_local_ready(netlink, "eth0")
        assert set((await place.apply(netlink, assignment(OURS6, OURS4))).values()) == {"usable"}
        first = (await on_eth0(netlink), await routes_on_eth0(netlink), sysctl.snapshot(["eth0"]))
        with netlink.changes() as changes:
            started = time.monotonic()
            assert set((await place.apply(netlink, assignment(OURS6, OURS4, valid=5_000))).values()) == {"usable"}
            assert time.monotonic() - started < 0.5  # nothing is probed for again
            held = await on_eth0(netlink)
            assert all(each.valid is not None and each.valid > 4_990 for each in map(held.__getitem__, (OURS6, OURS4)))
            assert held.keys() == first[0].keys()
            assert (await routes_on_eth0(netlink), sysctl.snapshot(["eth0"])) == first[1:]
            await netlink.set_mtu((await netlink.link("eth0")).index, 1400)
            async for change in changes:  # the end of what the second time has done
                assert not getattr(change, "gone", False)
                if getattr(getattr(change, "link", None), "mtu", 0) == 1400:
                    break
        assert await routes_on_eth0(netlink) == OUR_ROUTES

    await switch.node("node").inside(work)


async def test_what_was_assigned_before_goes_when_it_is_replaced(switch: Switch, place: Place) -> None:
    async def work(netlink: Netlink) -> None:
        await link_local_ready(netlink, "eth0")
        await place.apply(netlink, assignment(parse_address("2001:db8:6::1"), parse_address("198.51.100.7")))
        await place.apply(netlink, assignment(OURS6, OURS4))
        assert {each for each in await on_eth0(netlink) if not is_link_local(each)} == {OURS6, OURS4}
        assert await routes_on_eth0(netlink) == OUR_ROUTES

    await switch.node("node").inside(work)


@pytest.mark.parametrize("valid", ["for ever", "with lifetimes"])
async def test_a_duplicate_is_told_and_removed_and_the_node_keeps_what_it_had(
    switch: Switch, place: Place, valid: str
) -> None:
    holder, node = switch.node("holder"), switch.node("node")
    holder.ip("address add 2001:db8:5::77/64 dev eth0 nodad", "address add 192.0.2.77/24 dev eth0")
    node.ip("address add 2001:db8:5::99/64 dev eth0 nodad", "address add 192.0.2.99/24 dev eth0")
    node.ip("route add ::/0 via fe80::1 dev eth0 proto ra", "route add default via 192.0.2.1 proto dhcp")

    async def work(netlink: Netlink) -> None:
        await link_local_ready(netlink, "eth0")
        before = await routes_on_eth0(netlink)
        lifetime = 0xFFFF_FFFF if valid == "for ever" else 600
        outcomes = await place.apply(netlink, assignment(OURS6, OURS4, valid=lifetime))
        assert outcomes == {OURS6: "duplicate", OURS4: "duplicate"}
        held = {each for each in await on_eth0(netlink) if not is_link_local(each)}
        assert held == {parse_address("2001:db8:5::99"), parse_address("192.0.2.99")}
        assert before <= await routes_on_eth0(netlink)
        assert place.resolv_conf.read_text() == "nameserver 192.0.2.99\n"
        # The next addresses are free, and then the old ones go.
        others = parse_address("2001:db8:5::78"), parse_address("192.0.2.78")
        assert set((await place.apply(netlink, assignment(*others))).values()) == {"usable"}
        assert {each for each in await on_eth0(netlink) if not is_link_local(each)} == set(others)

    await node.inside(work)


async def test_families_do_not_wait_for_each_other_and_one_is_left_alone(switch: Switch, place: Place) -> None:
    switch.node("holder").ip("address add 192.0.2.77/24 dev eth0")
    node = switch.node("node")
    node.ip("address add 2001:db8:5::99/64 dev eth0 nodad", "address add 192.0.2.99/24 dev eth0")

    async def work(netlink: Netlink) -> None:
        await link_local_ready(netlink, "eth0")
        outcomes = await place.apply(netlink, assignment(OURS6, OURS4))
        assert outcomes == {OURS6: "usable", OURS4: "duplicate"}
        held = {each for each in await on_eth0(netlink) if not is_link_local(each)}
        assert held == {OURS6, parse_address("192.0.2.99")}

    await node.inside(work)


async def test_only_ipv4_assigned_leaves_ipv6_and_its_settings_alone(switch: Switch, place: Place) -> None:
    node = switch.node("node")
    node.ip("address add 2001:db8:5::99/64 dev eth0 nodad")

    async def work(netlink: Netlink) -> None:
        assert await place.apply(netlink, assignment(OURS4)) == {OURS4: "usable"}
        assert parse_address("2001:db8:5::99") in await on_eth0(netlink)
        assert sysctl.read("net/ipv6/conf/eth0/accept_ra") == "1"

    await node.inside(work)


async def test_a_route_of_another_with_our_destination_and_metric_stays(switch: Switch, place: Place) -> None:
    node = switch.node("node")
    switch.bridge.plug([node.namespace], "eth1")
    node.namespace.set_up("eth1")
    node.ip(
        "address add 2001:db8:1::1/64 dev eth1 nodad",
        "address add 198.51.100.1/24 dev eth1",
        "route add ::/0 via fe80::1 dev eth1 metric 512 proto static",
        "route add default via 198.51.100.2 metric 512 proto static",
        "route add 10.0.0.0/8 via 198.51.100.2 proto bird",
        "route add 2001:db8:9::/48 via fe80::1 dev eth0 proto bird",
    )

    async def work(netlink: Netlink) -> None:
        index = (await netlink.link("eth1")).index
        await link_local_ready(netlink, "eth0")
        await link_local_ready(netlink, "eth1")
        before = {each for each in (await netlink.routes())[0] if each.interface == index}
        daemons = (await netlink.routes())[1]
        assert set((await place.apply(netlink, assignment(OURS6, OURS4))).values()) == {"usable"}
        assert {each for each in (await netlink.routes())[0] if each.interface == index} == before
        assert (await netlink.routes())[1] == daemons == 2
        assert {each.address for each in await netlink.addresses(index)} >= {
            parse_address("2001:db8:1::1"),
            parse_address("198.51.100.1"),
        }
        ours = {each for each in OUR_ROUTES if "/0" not in each[0]}
        assert {
            each for each in await routes_on_eth0(netlink) if each[0] in {"2001:db8:5::/64", "192.0.2.0/24"}
        } <= ours

    await node.inside(work)


async def test_ours_are_secondary_of_what_goes_and_stay(switch: Switch, place: Place) -> None:
    """In IPv4 the kernel deletes the other addresses of a prefix with its first one, unless it is told not to."""
    node = switch.node("node")
    node.ip("address add 192.0.2.200/24 dev eth0", "address add 192.0.2.201/24 dev eth0")
    assert "secondary" in node.show("address")

    async def work(netlink: Netlink) -> set[bytes]:
        await place.apply(netlink, assignment(OURS4))
        return {each for each in await on_eth0(netlink) if each[:12] == OURS4[:12]}

    assert await node.inside(work) == {OURS4}


async def test_an_address_with_another_prefix_length_is_changed(switch: Switch, place: Place) -> None:
    node = switch.node("node")
    node.ip("address add 2001:db8:5::77/128 dev eth0 nodad", "address add 192.0.2.77/32 dev eth0")

    async def work(netlink: Netlink) -> dict[bytes, int]:
        await link_local_ready(netlink, "eth0")
        await place.apply(netlink, assignment(OURS6, OURS4))
        return {
            each.address: each.prefix_length for each in (await on_eth0(netlink)).values() if each.origin == "managed"
        }

    assert await node.inside(work) == {OURS6: 64, OURS4: 120}


async def test_what_the_kernel_refuses_is_refused_and_not_left(switch: Switch, place: Place) -> None:
    node = switch.node("node", fast=False)

    async def work(netlink: Netlink) -> None:
        await link_local_ready(netlink, "eth0")
        with pytest.raises(KernelError, match="no-interface"):
            await apply(
                netlink,
                plan_node(await place.snapshot(netlink), 2, assignment(OURS6)),
                interface="eth9",
                state=place.state,
                resolv_conf=place.resolv_conf,
            )
        multicast = parse_address("ff0e::1")
        assert await place.apply(netlink, assignment(multicast)) == {multicast: "refused"}
        switch.namespace.ip(["link set net-1 down"])
        assert await place.apply(netlink, assignment(OURS6), dad_timeout=0.2) == {OURS6: "refused"}
        assert OURS6 not in await on_eth0(netlink)

    await node.inside(work)
