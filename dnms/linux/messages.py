"""rtnetlink's messages as typed values of `dnms.events.configuration`."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Any

from dnms.events.configuration import InterfaceAddress, Link, Route
from dnms.events.ip import MAPPED, MAPPED_BITS, Prefix, is_link_local, parse_address
from dnms.events.recorded import Personal

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_DELROUTE = 25
RTM_GETROUTE = 26

IFF_UP = 0x1
IFF_LOOPBACK = 0x8
IFF_NOARP = 0x80
IFF_LOWER_UP = 0x10000

IFA_F_TEMPORARY = 0x01  # of IPv6; the same bit says "secondary" in IPv4
IFA_F_OPTIMISTIC = 0x04
IFA_F_DADFAILED = 0x08
IFA_F_TENTATIVE = 0x40
IFA_F_MANAGETEMPADDR = 0x100
IFA_F_NOPREFIXROUTE = 0x200
IFAPROT_LOOPBACK = 1
IFAPROT_RA = 2

MANAGED = 200
"""The protocol number by which addresses (kernel 5.18 and later) and routes are known as ours."""

RT_TABLE_MAIN = 254
RTN_UNICAST = 1
RTM_F_CLONED = 0x200
RTPROT_KERNEL = 2
RTPROT_RA = 9
RTPROT_DHCP = 16

DAEMONS = frozenset({8, 10, 11, 12, 13, 14, 15, 17, 42, 84, 99}) | frozenset(range(186, 256)) - {MANAGED}
"""RTPROT_* of routing daemons: gated, mrt, zebra, bird, dnrouted, xorp, ntk, mrouted, babel, ovn, openr, and from 186
on BGP, IS-IS, OSPF, RIP and those of FRR. Their routes may be a million, and are not the node's configuration."""

FOR_EVER = 0xFFFF_FFFF

_RTMSG = struct.Struct("=8BI")  # family, lengths, tos, table, protocol, scope, type, flags


def link(message: Any) -> Link:
    """A link, from RTM_NEWLINK or RTM_DELLINK."""
    information = message.get_attr("IFLA_LINKINFO")
    flags = message["flags"]
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME") or "",
        kind=(information.get_attr("IFLA_INFO_KIND") or "") if information else "",
        hardware=_hardware(message.get_attr("IFLA_ADDRESS")),
        mtu=message.get_attr("IFLA_MTU") or 0,
        up=bool(flags & IFF_UP),
        carrier=bool(flags & IFF_LOWER_UP),
        master=message.get_attr("IFLA_MASTER") or 0,
    )


def _hardware(text: str | None) -> Personal | None:
    """A hardware address; None for a link that has none, or zeros as the loopback."""
    raw = bytes.fromhex((text or "").replace(":", ""))
    return Personal(raw) if any(raw) else None


def interface_address(message: Any) -> InterfaceAddress:
    """An address, from RTM_NEWADDR or RTM_DELADDR."""
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    address = parse_address(text)
    ipv4 = message["family"] == socket.AF_INET
    flags = message.get_attr("IFA_FLAGS")
    if flags is None:
        flags = message["flags"]
    lifetimes = message.get_attr("IFA_CACHEINFO")
    return InterfaceAddress(
        interface=message["index"],
        address=address,
        prefix_length=message["prefixlen"] + (MAPPED_BITS if ipv4 else 0),
        origin=_origin(address, flags, message.get_attr("IFA_PROTO"), ipv4=ipv4),
        flags=flags,
        preferred=_seconds(lifetimes["ifa_preferred"]) if lifetimes else None,
        valid=_seconds(lifetimes["ifa_valid"]) if lifetimes else None,
    )


def _seconds(lifetime: int) -> int | None:
    return None if lifetime == FOR_EVER else lifetime


def _origin(address: bytes, flags: int, protocol: int | None, *, ipv4: bool) -> str:
    parsed = ipaddress.ip_address(address[12:] if ipv4 else address)
    says = {
        "managed": protocol == MANAGED,
        "loopback": parsed.is_loopback,
        "link-local": is_link_local(address),
        "temporary": not ipv4 and flags & IFA_F_TEMPORARY,
        "slaac": not ipv4 and (protocol == IFAPROT_RA or flags & IFA_F_MANAGETEMPADDR),
    }
    return next((origin for origin, true in says.items() if true), "other")


def routes(message: Any) -> tuple[Route, ...]:
    """The routes of one RTM_NEWROUTE or RTM_DELROUTE: one for each next hop."""
    destination = _destination(message)
    metric = message.get_attr("RTA_PRIORITY") or 0
    protocol = message["proto"]
    hops = message.get_attr("RTA_MULTIPATH")
    if hops:
        return tuple(
            Route(
                destination=destination,
                interface=hop["oif"],
                gateway=_gateway(hop),
                metric=metric,
                protocol=protocol,
            )
            for hop in hops
        )
    return (
        Route(
            destination=destination,
            interface=message.get_attr("RTA_OIF") or 0,
            gateway=_gateway(message),
            metric=metric,
            protocol=protocol,
        ),
    )


def _destination(message: Any) -> Prefix:
    text = message.get_attr("RTA_DST")
    if message["family"] == socket.AF_INET:
        return Prefix(parse_address(text or "0.0.0.0"), message["dst_len"] + MAPPED_BITS)
    return Prefix(parse_address(text or "::"), message["dst_len"])


def _gateway(message: Any) -> bytes | None:
    text = message.get_attr("RTA_GATEWAY")
    if text is None:
        via = message.get_attr("RTA_VIA")  # an IPv4 route over an IPv6 gateway
        text = via["addr"] if via else None
    return parse_address(text) if text else None


def is_main_unicast(data: bytes, payload: int) -> bool:
    """Whether a raw route message is a unicast route of table main, and no entry of the cache."""
    _, _, _, _, table, _, _, kind, flags = _RTMSG.unpack_from(data, payload)
    return bool(kind == RTN_UNICAST and table == RT_TABLE_MAIN and not flags & RTM_F_CLONED)


def is_daemons(data: bytes, payload: int) -> bool:
    """Whether a raw route message is of a routing daemon."""
    return data[payload + 5] in DAEMONS


def plain(address: bytes) -> str:
    """An address as text, as pyroute2 takes it."""
    if address.startswith(MAPPED):
        return socket.inet_ntop(socket.AF_INET, address[12:])
    return socket.inet_ntop(socket.AF_INET6, address)
