"""What is read is what iproute2 shows; what is changed is ours; and notifications survive a flood."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dnms.events.configuration import Route
from dnms.events.ip import parse_address, parse_prefix
from dnms.events.recorded import Personal
from dnms.linux import rtnetlink
from dnms.linux.changes import AddressChanged, LinkChanged, Resync, RouteChanged
from dnms.linux.errors import KernelError
from dnms.linux.netlink import Netlink
from tests.netns.linux.conftest import Switch

OURS = parse_address("2001:db8:5::77")
SUBNET = parse_prefix("2001:db8:5::/64")
ANYWHERE = parse_prefix("::/0")


async def test_a_snapshot_tells_links_addresses_routes_resolver_and_settings(switch: Switch, tmp_path: Path) -> None:
    node = switch.node("node")
    node.ip(
        "address add 192.0.2.9/24 dev eth0 valid_lft 300 preferred_lft 200",
        "address add 2001:db8:7::1/48 dev eth0 nodad",
        "route add 10.0.0.0/8 via 192.0.2.1 metric 7",
        "route add 10.1.0.0/16 nexthop via 192.0.2.1 nexthop via 192.0.2.2",
        "route add 10.2.0.0/16 via inet6 fe80::1 dev eth0",
        "route add unreachable 10.9.0.0/16",
        "route add 10.3.0.0/16 via 192.0.2.1 table 99",
        "route add ::/0 via fe80::1 dev eth0 proto static",
        "route add 10.4.0.0/16 via 192.0.2.1 proto bird",
        "route add 2001:db8:9::/48 via fe80::1 dev eth0 proto bgp",
        "link add lan.7 type bridge",
    )
    node.namespace.set_sysctls({"ipv6.conf.eth0.accept_ra": 0})
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("# hello\nsearch example.net lab\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\n")

    snapshot = await node.inside(lambda netlink: netlink.snapshot(resolv_conf))

    links = {link.name: link for link in snapshot.links}
    eth0 = links["eth0"]
    assert links.keys() == {"lo", "eth0", "lan.7"}
    assert (eth0.kind, eth0.mtu, eth0.up, eth0.carrier) == ("veth", 1500, True, True)
    assert eth0.hardware is not None
    assert eth0.hardware.text in node.show("link", "show", "eth0")
    assert isinstance(eth0.hardware, Personal)
    assert (links["lo"].hardware, links["lan.7"].up, links["lan.7"].kind) == (None, False, "bridge")

    addresses = {each.address: each for each in snapshot.addresses if each.interface == eth0.index}
    ipv4 = addresses[parse_address("192.0.2.9")]
    assert (ipv4.prefix_length, ipv4.origin) == (120, "dhcp")  # it ends
    assert ipv4.preferred is not None
    assert ipv4.valid is not None
    assert 190 < ipv4.preferred <= 200
    assert 290 < ipv4.valid <= 300
    static = addresses[parse_address("2001:db8:7::1")]
    assert (static.prefix_length, static.origin, static.preferred, static.valid) == (48, "other", None, None)
    assert [each.origin for each in addresses.values()].count("link-local") == 1
    assert {each.origin for each in snapshot.addresses if each.interface == 1} == {"loopback"}

    routes = {(str(each.destination), each.gateway): each for each in snapshot.routes}
    assert routes["10.0.0.0/8", parse_address("192.0.2.1")].metric == 7
    assert routes["::/0", parse_address("fe80::1")].protocol == 4
    assert ("10.1.0.0/16", parse_address("192.0.2.1")) in routes
    assert ("10.1.0.0/16", parse_address("192.0.2.2")) in routes
    assert ("10.2.0.0/16", parse_address("fe80::1")) in routes
    assert ("192.0.2.0/24", None) in routes
    assert not {"10.9.0.0/16", "10.3.0.0/16", "10.4.0.0/16", "2001:db8:9::/48", "ff00::/8"} & {key for key, _ in routes}
    assert snapshot.routes_not_listed == 2

    assert snapshot.resolver.servers == (parse_address("192.0.2.53"),)
    assert snapshot.resolver.search == ("example.net", "lab")
    assert snapshot.sysctls["net/ipv6/conf/eth0/accept_ra"] == "0"
    assert snapshot.sysctls["net/ipv6/conf/default/accept_ra"] == "1"
    assert "net/ipv6/conf/eth0/autoconf" not in snapshot.sysctls  # as the default
    assert snapshot.kernel


async def test_ours_is_added_refreshed_and_deleted_any_number_of_times(switch: Switch) -> None:
    node = switch.node("node")

    async def work(netlink: Netlink) -> None:
        index = (await netlink.link("eth0")).index
        for valid in (100, 5_000, None):
            for address, length in ((OURS, 64), (parse_address("192.0.2.9"), 120)):
                await netlink.add_address(index, address, length, preferred=valid, valid=valid)
                held = [each for each in await netlink.addresses(index) if each.address == address]
                assert [(each.prefix_length, each.origin) for each in held] == [(length, "managed")]
                left = held[0].valid
                assert left is valid if valid is None else left is not None and valid - 2 <= left <= valid
        for destination in (SUBNET, parse_prefix("192.0.2.0/24")):
            await netlink.add_route(destination, index, metric=512)
            with pytest.raises(KernelError, match="exists"):
                await netlink.add_route(destination, index, metric=512)
            await netlink.add_route(destination, index, metric=512, replace=True)
        await netlink.add_route(ANYWHERE, index, gateway=parse_address("fe80::1"), metric=512)
        await netlink.add_route(parse_prefix("0.0.0.0/0"), index, gateway=parse_address("192.0.2.1"), metric=512)
        ours = [each for each in (await netlink.routes())[0] if each.protocol == 200]
        assert {str(each.destination) for each in ours} == {"2001:db8:5::/64", "192.0.2.0/24", "::/0", "0.0.0.0/0"}
        for route in ours:
            assert await netlink.delete_route(route)
            assert not await netlink.delete_route(route)
        for address, length in ((OURS, 64), (parse_address("192.0.2.9"), 120)):
            assert await netlink.delete_address(index, address, length)
            assert not await netlink.delete_address(index, address, length)
        assert not [each for each in (await netlink.routes())[0] if each.protocol == 200]

    await node.inside(work)
    assert "noprefixroute" not in node.show("address")


async def test_a_route_of_another_protocol_is_not_deleted(switch: Switch) -> None:
    node = switch.node("node")
    node.ip("route add 2001:db8:8::/48 via fe80::1 dev eth0 metric 512 proto static")

    async def work(netlink: Netlink) -> bool:
        index = (await netlink.link("eth0")).index
        gateway = parse_address("fe80::1")
        return await netlink.delete_route(
            Route(
                destination=parse_prefix("2001:db8:8::/48"), interface=index, gateway=gateway, metric=512, protocol=200
            )
        )

    assert not await node.inside(work)
    assert "2001:db8:8::/48 via fe80::1" in node.show("-6", "route")


async def test_what_the_kernel_refuses_has_a_stable_word_and_its_own_explanation(switch: Switch) -> None:
    node = switch.node("node")
    node.namespace.set_sysctls({"ipv6.conf.lo.disable_ipv6": 1})

    async def work(netlink: Netlink) -> list[str]:
        index = (await netlink.link("eth0")).index
        nowhere = parse_address("2001:db8:99::1")
        attempts = (
            netlink.link("eth9"),
            netlink.add_address(99, OURS, 64, preferred=None, valid=None),
            netlink.add_address(1, OURS, 64, preferred=None, valid=None),
            netlink.add_route(ANYWHERE, index, gateway=nowhere),
            netlink.set_mtu(index, 3),
        )
        words = []
        for attempt in attempts:
            with pytest.raises(KernelError) as refusal:
                await attempt
            words.append(refusal.value.why)
        assert "less than" in str(refusal.value)  # as the kernel says it
        return words

    assert await node.inside(work) == ["no-interface", "no-interface", "not-permitted", "unreachable", "invalid"]


async def test_mtu_and_state_of_a_link(switch: Switch) -> None:
    node = switch.node("node", up=False)

    async def work(netlink: Netlink) -> None:
        index = (await netlink.link("eth0")).index
        await netlink.set_mtu(index, 1400)
        await netlink.set_up(index)
        link = await netlink.link("eth0")
        assert (link.mtu, link.up) == (1400, True)
        await netlink.set_up(index, up=False)
        assert not (await netlink.link("eth0")).up

    await node.inside(work)


async def test_changes_are_told_in_order_from_the_moment_they_are_asked_for(switch: Switch) -> None:
    node = switch.node("node")

    async def work(netlink: Netlink) -> None:
        index = (await netlink.link("eth0")).index
        changes = netlink.changes()
        await netlink.add_address(index, parse_address("192.0.2.9"), 120, preferred=60, valid=60)
        await netlink.add_route(parse_prefix("10.0.0.0/8"), index, gateway=None, metric=3)
        await netlink.set_mtu(index, 1400)
        node.ip("route add 10.7.0.0/16 dev eth0 proto bird")
        await netlink.delete_address(index, parse_address("192.0.2.9"), 120)
        seen = []
        async for change in changes:
            match change:
                case AddressChanged(address=held, gone=gone) if held.address == parse_address("192.0.2.9"):
                    seen.append(f"address {'gone' if gone else 'new'}")
                    if gone:
                        changes.close()
                case RouteChanged(route=route) if route.destination.family == 4:
                    seen.append(str(route.destination))
                case LinkChanged(link=link) if link.mtu == 1400:
                    seen.append("mtu")
        assert list(dict.fromkeys(seen)) == ["address new", "10.0.0.0/8", "mtu", "address gone"]

    await node.inside(work)


async def test_closing_ends_an_iteration_that_waits(switch: Switch) -> None:
    async def work(netlink: Netlink) -> list[object]:
        changes = netlink.changes()

        async def follow() -> list[object]:
            return [change async for change in changes]

        following = asyncio.create_task(follow())
        await netlink.links()
        netlink.close()
        return await following

    await switch.node("node", up=False).inside(work)


async def test_a_flood_of_notifications_is_survived(switch: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtnetlink, "MONITOR_BUFFER", 4096)  # so that hundreds are a flood
    node = switch.node("node")
    flood = [f"route add 10.{n >> 8}.{n & 255}.0/24 dev eth0" for n in range(2_000)]

    async def work(netlink: Netlink) -> None:
        index = (await netlink.link("eth0")).index
        with netlink.changes() as changes:
            await asyncio.to_thread(node.ip, *flood)
            change = await anext(changes)
            while not isinstance(change, Resync):
                change = await anext(changes)
            # It hears again, and what it missed can be read.
            await netlink.add_address(index, OURS, 64, preferred=None, valid=None)
            while not (isinstance(change, AddressChanged) and change.address.address == OURS):
                change = await anext(changes)
        assert sum(route.metric == 0 for route in (await netlink.routes())[0]) >= len(flood)

    await node.inside(work)


async def test_a_cancelled_request_does_not_disturb_the_next(switch: Switch) -> None:
    node = switch.node("node")
    node.ip(*(f"route add 10.{n >> 8}.{n & 255}.0/24 dev eth0" for n in range(3_000)))

    async def work(netlink: Netlink) -> None:
        for _ in range(3):
            reading = asyncio.create_task(netlink.routes())
            await asyncio.sleep(0)
            reading.cancel()
            assert [link.name for link in await netlink.links()] == ["lo", "eth0"]

    await node.inside(work)


def test_the_sockets_stay_in_the_namespace_where_they_were_made(switch: Switch) -> None:
    node = switch.node("node", up=False)
    with node.namespace.entered():
        netlink = Netlink()
    assert [link.name for link in asyncio.run(netlink.links())] == ["lo", "eth0"]
    netlink.close()
