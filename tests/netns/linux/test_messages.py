"""What is read with structs is what pyroute2, whose reading is another one, makes of the same messages."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from dnms.events.ip import MAPPED_BITS, parse_address
from dnms.linux import messages, requests
from dnms.linux.namespaces import Namespace
from dnms.linux.netlink import Netlink
from dnms.linux.rtnetlink import HEADER, RequestSocket

LINES = (
    "link add name br0 type bridge",
    "link add name one type veth peer name two",
    "link set one master br0 mtu 1400",
    "link set br0 up",
    "link set one up",
    "link set two up",
    "address add 192.0.2.1/24 dev two",
    "address add 192.0.2.9/24 peer 192.0.2.10/32 dev br0",
    "address add 2001:db8::1/64 dev two valid_lft 600 preferred_lft 300",
    "address add 2001:db8:1::1/64 dev br0 nodad",
    "route add 198.51.100.0/24 via 192.0.2.2 metric 7 proto 200",
    "route add default via inet6 fe80::1 dev two",
    "route add 203.0.113.0/24 nexthop via 192.0.2.2 dev two nexthop dev br0",
    "route add ::/0 via fe80::1 dev two metric 512",
    "route add 2001:db8:7::/48 nexthop via fe80::1 dev two nexthop via fe80::2 dev br0",
)


@pytest.fixture
async def namespace() -> AsyncIterator[Namespace]:
    with Namespace.create("varied") as space:
        space.ip(LINES)
        with space.entered():
            netlink = Netlink()
        link = await netlink.link("two")
        await netlink.add_address(link.index, parse_address("2001:db8::a"), 64, preferred=None, valid=None)
        netlink.close()
        yield space


async def dump(namespace: Namespace, kind: int, request: bytes) -> list[bytes]:
    with namespace.entered():
        asking = RequestSocket()
    try:
        return await asking.dump(kind, request, doing="list")
    finally:
        asking.close()


def decoded(kind: type[Any], payload: bytes) -> Any:
    message = kind(HEADER.pack(HEADER.size + len(payload), 0, 0, 0, 0) + payload)
    message.decode()
    return message


async def test_links(namespace: Namespace) -> None:
    payloads = await dump(namespace, messages.RTM_GETLINK, requests.links())
    kinds = set()
    for payload in payloads:
        ours, theirs = messages.link(payload), decoded(ifinfmsg, payload)
        information = theirs.get_attr("IFLA_LINKINFO")
        assert (ours.index, ours.name, ours.mtu) == (
            theirs["index"],
            theirs.get_attr("IFLA_IFNAME"),
            theirs.get_attr("IFLA_MTU"),
        )
        assert ours.master == (theirs.get_attr("IFLA_MASTER") or 0)
        assert ours.kind == (information.get_attr("IFLA_INFO_KIND") if information else "")
        assert ours.up == bool(theirs["flags"] & messages.IFF_UP)
        assert ours.carrier == bool(theirs["flags"] & messages.IFF_LOWER_UP)
        if ours.hardware is not None and len(ours.hardware.payload) == 6:
            assert ours.hardware.payload.hex(":") == theirs.get_attr("IFLA_ADDRESS")
        kinds.add(ours.kind)
    assert kinds >= {"", "bridge", "veth"}


async def test_addresses(namespace: Namespace) -> None:
    payloads = await dump(namespace, messages.RTM_GETADDR, requests.addresses(0))
    for payload in payloads:
        ours, theirs = messages.interface_address(payload), decoded(ifaddrmsg, payload)
        lifetimes = theirs.get_attr("IFA_CACHEINFO")
        assert ours.address == parse_address(theirs.get_attr("IFA_LOCAL") or theirs.get_attr("IFA_ADDRESS"))
        assert ours.interface == theirs["index"]
        assert ours.flags == theirs.get_attr("IFA_FLAGS")
        assert ours.prefix_length == theirs["prefixlen"] + MAPPED_BITS * (theirs["family"] == socket.AF_INET)
        for seconds, name in ((ours.preferred, "ifa_preferred"), (ours.valid, "ifa_valid")):
            assert (messages.FOR_EVER if seconds is None else seconds) == lifetimes[name]
        assert (ours.origin == "managed") == (theirs.get_attr("IFA_PROTO") == messages.MANAGED)
    assert {each.origin for each in map(messages.interface_address, payloads)} >= {"managed", "link-local", "other"}


@pytest.mark.parametrize("kind", [socket.AF_INET, socket.AF_INET6])
async def test_routes(namespace: Namespace, kind: int) -> None:
    payloads = [
        payload
        for payload in await dump(namespace, messages.RTM_GETROUTE, requests.routes(kind))
        if messages.is_main_unicast(payload, 0)
    ]
    hops = []
    for payload in payloads:
        theirs = decoded(rtmsg, payload)
        several = theirs.get_attr("RTA_MULTIPATH")
        expected = several or [theirs]
        ours = messages.routes(payload)
        hops.append(len(ours))
        for one, other in zip(ours, expected, strict=True):
            assert one.interface == (other["oif"] if several else other.get_attr("RTA_OIF"))
            via = other.get_attr("RTA_VIA")
            gateway = other.get_attr("RTA_GATEWAY") or (via["addr"] if via else None)
            assert one.gateway == (parse_address(gateway) if gateway else None)
            assert one.metric == (theirs.get_attr("RTA_PRIORITY") or 0)
            assert one.protocol == theirs["proto"]
            unset = "0.0.0.0" if kind == socket.AF_INET else "::"
            assert one.destination.network == parse_address(theirs.get_attr("RTA_DST") or unset)
            assert one.destination.length == theirs["dst_len"] + MAPPED_BITS * (kind == socket.AF_INET)
    assert max(hops) == 2


async def test_many_messages_of_one_datagram(namespace: Namespace) -> None:
    """Each is cut out where it stands."""
    namespace.ip([f"link add name many{number} type bridge" for number in range(100)])
    payloads = await dump(namespace, messages.RTM_GETLINK, requests.links())
    names = [messages.link(payload).name for payload in payloads]
    assert len(names) == len(set(names))
    assert {f"many{number}" for number in range(100)} <= set(names)
