"""What is asked of the kernel is, to the last attribute, what pyroute2 makes of the same request."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from dnms.events.ip import MAPPED_BITS, Prefix, parse_address, parse_prefix
from dnms.linux import messages, requests
from dnms.linux.rtnetlink import HEADER


def theirs(message: Any, fields: dict[str, Any], attributes: list[tuple[str, Any]]) -> bytes:
    """What pyroute2 makes of it, without the header."""
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attributes
    message.reset()
    message.encode()
    return bytes(message.data)[HEADER.size :]


def test_links() -> None:
    assert requests.links() == theirs(ifinfmsg(), {}, [("IFLA_EXT_MASK", 8)])
    assert requests.mtu(7, 1400) == theirs(ifinfmsg(), {"index": 7}, [("IFLA_MTU", 1400)])
    assert requests.up(7, is_up=True) == theirs(ifinfmsg(), {"index": 7, "flags": 1, "change": 1}, [])
    assert requests.up(7, is_up=False) == theirs(ifinfmsg(), {"index": 7, "flags": 0, "change": 1}, [])


@pytest.mark.parametrize(
    ("held", "broadcast"),
    [("2001:db8::5/64", None), ("192.0.2.5/24", "192.0.2.255"), ("192.0.2.5/31", None), ("192.0.2.5/32", None)],
)
@pytest.mark.parametrize(("preferred", "valid"), [(30, 60), (None, None)])
def test_addresses(held: str, broadcast: str | None, preferred: int | None, valid: int | None) -> None:
    text, _, bits = held.partition("/")
    length = int(bits)
    ipv4 = "." in text
    whole = length + MAPPED_BITS if ipv4 else length
    fields = {"family": socket.AF_INET if ipv4 else socket.AF_INET6, "prefixlen": length, "index": 3}
    both: list[tuple[str, Any]] = [("IFA_LOCAL", text), ("IFA_ADDRESS", text)]
    assert requests.addresses(3) == theirs(ifaddrmsg(), {"index": 3}, [])
    assert requests.address(3, parse_address(text), whole) == theirs(ifaddrmsg(), fields, both)
    made = requests.new_address(
        3, parse_address(text), whole, preferred=preferred, valid=valid, protocol=200, flags=messages.IFA_F_OPTIMISTIC
    )
    more: list[tuple[str, Any]] = [
        ("IFA_FLAGS", 4),
        ("IFA_PROTO", 200),
        ("IFA_CACHEINFO", {"ifa_preferred": preferred or messages.FOR_EVER, "ifa_valid": valid or messages.FOR_EVER}),
    ]
    if broadcast:
        more.append(("IFA_BROADCAST", broadcast))
    assert made == theirs(ifaddrmsg(), fields, both + more)


@pytest.mark.parametrize(
    ("destination", "gateway", "metric"),
    [
        ("::/0", "fe80::1", 512),
        ("2001:db8::/64", None, 512),
        ("0.0.0.0/0", "192.0.2.1", 0),
        ("198.51.100.0/24", "fe80::1", 7),
        ("192.0.2.0/24", None, 512),
    ],
)
def test_routes(destination: str, gateway: str | None, metric: int) -> None:
    prefix: Prefix = parse_prefix(destination)
    ipv4 = prefix.family == 4
    made = requests.route(
        prefix, 3, gateway=parse_address(gateway) if gateway else None, metric=metric, protocol=200, scope=253
    )
    attributes: list[tuple[str, Any]] = [("RTA_OIF", 3)]
    network, _, length = destination.partition("/")
    if int(length):
        attributes.append(("RTA_DST", network))
    if metric:
        attributes.append(("RTA_PRIORITY", metric))
    if gateway and ipv4 and ":" in gateway:
        attributes.append(("RTA_VIA", {"family": socket.AF_INET6, "addr": gateway}))
    elif gateway:
        attributes.append(("RTA_GATEWAY", gateway))
    fields = {
        "family": socket.AF_INET if ipv4 else socket.AF_INET6,
        "dst_len": int(length),
        "table": 254,
        "proto": 200,
        "scope": 253,
        "type": 1,
    }
    assert made == theirs(rtmsg(), fields, attributes)


def test_an_unreachable_route() -> None:
    made = requests.route(parse_prefix("2001:db8:1::/56"), 0, gateway=None, metric=4_096, protocol=197)
    fields = {"family": socket.AF_INET6, "dst_len": 56, "table": 254, "proto": 197, "type": 7}
    assert made == theirs(rtmsg(), fields, [("RTA_DST", "2001:db8:1::"), ("RTA_PRIORITY", 4_096)])


@pytest.mark.parametrize("kind", [socket.AF_INET, socket.AF_INET6])
def test_the_routes_of_table_main(kind: int) -> None:
    assert requests.routes(kind) == theirs(rtmsg(), {"family": kind}, [("RTA_TABLE", 254)])
    of_one = theirs(rtmsg(), {"family": kind, "proto": 197}, [("RTA_TABLE", 254)])
    assert requests.routes(kind, protocol=197) == of_one
