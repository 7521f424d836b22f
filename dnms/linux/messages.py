"""rtnetlink's messages as typed values of `dnms.events.configuration`.

They are read with structs (rtnetlink(7)): pyroute2 makes an object of each attribute, and a link has 50 of them.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from dnms.events.configuration import InterfaceAddress, Link, Route, Router
from dnms.events.ip import MAPPED, MAPPED_BITS, Prefix, is_link_local
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
RTM_DELNEIGH = 29
RTM_GETNEIGH = 30

NTF_ROUTER = 0x80
NUD_SET = 0x40 | 0x80
"""NUD_NOARP, NUD_PERMANENT: a neighbour that was not learned."""

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
RTN_UNREACHABLE = 7
RTM_F_CLONED = 0x200
RTPROT_KERNEL = 2
RTPROT_RA = 9
RTPROT_DHCP = 16

DAEMONS = frozenset({8, 10, 11, 12, 13, 14, 15, 17, 42, 84, 99}) | frozenset(range(186, 256)) - {MANAGED}
"""RTPROT_* of routing daemons: gated, mrt, zebra, bird, dnrouted, xorp, ntk, mrouted, babel, ovn, openr, and from 186
on BGP, IS-IS, OSPF, RIP and those of FRR. Their routes may be a million, and are not the node's configuration."""

FOR_EVER = 0xFFFF_FFFF

LOOPBACK6 = bytes(15) + b"\x01"
LOOPBACK4 = 127  # the first byte

_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=8BI")  # family, lengths, tos, table, protocol, scope, type, flags
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
_HOP = struct.Struct("=HBBi")  # length, flags, hops, index
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_LIFETIMES = struct.Struct("=II")  # preferred, valid; then when it was made and changed
_U32 = struct.Struct("=I")

_TYPE = 0x3FFF  # of an attribute, without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_OPERSTATE, _IFLA_LINKINFO = 1, 3, 4, 10, 16, 18
_IFLA_CARRIER_CHANGES = 35
_STATES = ("", "not-present", "down", "lower-layer-down", "testing", "dormant", "up")
"""Of a link, by the kernel's numbers (RFC 2863, 3.1.14); it knows nothing of it where it is 0."""
_NDA_DST = 1
_IFLA_INFO_KIND = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS, _IFA_PROTO = 1, 2, 6, 8, 11
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_MULTIPATH, _RTA_VIA = 1, 4, 5, 6, 9, 18

Attributes = dict[int, bytes]


def _attributes(data: bytes, offset: int = 0) -> Attributes:
    """The attributes that stand from there on, by type; of several of one type the first."""
    found: Attributes = {}
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            break
        found.setdefault(kind & _TYPE, data[offset + _ATTRIBUTE.size : offset + length])
        offset += length + 3 & ~3
    return found


def _number(attributes: Attributes, kind: int) -> int:
    """A number of 32 bits; 0 if it is not there."""
    value = attributes.get(kind)
    return 0 if value is None else int(_U32.unpack(value)[0])


def _text(attributes: Attributes, kind: int) -> str:
    return attributes.get(kind, b"").partition(b"\0")[0].decode(errors="replace")


def _address(raw: bytes) -> bytes:
    """16 bytes; IPv4 is mapped."""
    return MAPPED + raw if len(raw) == 4 else raw


def carrier_changes(data: bytes) -> int:
    """How often the carrier of a link has come or gone, from the payload of RTM_NEWLINK."""
    return _number(_attributes(data, _LINK.size), _IFLA_CARRIER_CHANGES)


def link(data: bytes) -> Link:
    """A link, from the payload of RTM_NEWLINK or RTM_DELLINK."""
    _, _, index, flags, _ = _LINK.unpack_from(data)
    attributes = _attributes(data, _LINK.size)
    hardware = attributes.get(_IFLA_ADDRESS, b"")
    return Link(
        index=index,
        name=_text(attributes, _IFLA_IFNAME),
        kind=_text(_attributes(attributes.get(_IFLA_LINKINFO, b"")), _IFLA_INFO_KIND),
        # A link may have none, or zeros as the loopback.
        hardware=Personal(hardware) if any(hardware) else None,
        mtu=_number(attributes, _IFLA_MTU),
        up=bool(flags & IFF_UP),
        carrier=bool(flags & IFF_LOWER_UP),
        master=_number(attributes, _IFLA_MASTER),
        state=_STATES[state] if (state := attributes.get(_IFLA_OPERSTATE, b"\0")[0]) < len(_STATES) else "",
    )


def interface_address(data: bytes) -> InterfaceAddress:
    """An address, from the payload of RTM_NEWADDR or RTM_DELADDR."""
    kind, length, flags, _, index = _ADDRESS.unpack_from(data)
    attributes = _attributes(data, _ADDRESS.size)
    address = _address(attributes.get(_IFA_LOCAL) or attributes[_IFA_ADDRESS])
    ipv4 = kind == socket.AF_INET
    if _IFA_FLAGS in attributes:
        flags = _number(attributes, _IFA_FLAGS)
    lifetimes = attributes.get(_IFA_CACHEINFO)
    preferred, valid = (FOR_EVER, FOR_EVER) if lifetimes is None else _LIFETIMES.unpack_from(lifetimes)
    protocol = attributes.get(_IFA_PROTO, b"\0")[0]
    return InterfaceAddress(
        interface=index,
        address=address,
        prefix_length=length + (MAPPED_BITS if ipv4 else 0),
        origin=_origin(address, flags, protocol, ipv4=ipv4, leased=valid != FOR_EVER and (ipv4 or length == 128)),
        flags=flags,
        preferred=_seconds(preferred),
        valid=_seconds(valid),
    )


def _seconds(lifetime: int) -> int | None:
    return None if lifetime == FOR_EVER else lifetime


def _origin(address: bytes, flags: int, protocol: int, *, ipv4: bool, leased: bool) -> str:
    """Where it comes from, as far as the kernel can tell; `leased`: it ends, and brings no prefix of IPv6 with it, as
    those that DHCP clients set and hardly any of those that people do.
    """
    says = {
        "managed": protocol == MANAGED,
        "loopback": address[12] == LOOPBACK4 if ipv4 else address == LOOPBACK6,
        "link-local": is_link_local(address),
        "temporary": not ipv4 and flags & IFA_F_TEMPORARY,
        "slaac": not ipv4 and (protocol == IFAPROT_RA or flags & IFA_F_MANAGETEMPADDR),
        "dhcp": leased,
    }
    return next((origin for origin, true in says.items() if true), "other")


def router(data: bytes) -> Router | None:
    """A neighbour that is a router, from the payload of RTM_NEWNEIGH; None if it is none."""
    _, index, _, flags, _ = _NEIGHBOUR.unpack_from(data)
    address = _attributes(data, _NEIGHBOUR.size).get(_NDA_DST, b"")
    return Router(interface=index, address=_address(address)) if flags & NTF_ROUTER and address else None


def learned_neighbour(data: bytes) -> tuple[int, bytes] | None:
    """The interface and address of a neighbour, from the payload of RTM_NEWNEIGH; None if somebody has set it."""
    _, index, state, _, _ = _NEIGHBOUR.unpack_from(data)
    address = _attributes(data, _NEIGHBOUR.size).get(_NDA_DST, b"")
    return None if state & NUD_SET or not address else (index, _address(address))


def routes(data: bytes) -> tuple[Route, ...]:
    """The routes of the payload of one RTM_NEWROUTE or RTM_DELROUTE: one for each next hop."""
    kind, length, _, _, _, protocol, _, _, _ = _ROUTE.unpack_from(data)
    attributes = _attributes(data, _ROUTE.size)
    ipv4 = kind == socket.AF_INET
    network = _address(attributes.get(_RTA_DST, bytes(4 if ipv4 else 16)))
    destination = Prefix(network, length + (MAPPED_BITS if ipv4 else 0))
    metric = _number(attributes, _RTA_PRIORITY)
    if hops := attributes.get(_RTA_MULTIPATH):
        via = list(_hops(hops))
    else:
        via = [(_number(attributes, _RTA_OIF), _gateway(attributes))]
    return tuple(
        Route(destination=destination, interface=interface, gateway=gateway, metric=metric, protocol=protocol)
        for interface, gateway in via
    )


def _hops(data: bytes) -> Iterator[tuple[int, bytes | None]]:
    """The interface and the gateway of each next hop."""
    offset = 0
    while offset + _HOP.size <= len(data):
        length, _, _, interface = _HOP.unpack_from(data, offset)
        if length < _HOP.size:
            break
        yield interface, _gateway(_attributes(data[offset : offset + length], _HOP.size))
        offset += length + 3 & ~3


def _gateway(attributes: Attributes) -> bytes | None:
    if gateway := attributes.get(_RTA_GATEWAY):
        return _address(gateway)
    via = attributes.get(_RTA_VIA)  # an IPv4 route over an IPv6 gateway: the family, and its address
    return _address(via[2:]) if via else None


def is_main_unicast(data: bytes, payload: int) -> bool:
    """Whether a raw route message is a unicast route of table main, and no entry of the cache."""
    _, _, _, _, table, _, _, kind, flags = _ROUTE.unpack_from(data, payload)
    return bool(kind == RTN_UNICAST and table == RT_TABLE_MAIN and not flags & RTM_F_CLONED)


def route_kind(data: bytes, payload: int) -> tuple[int, int, int]:
    """Of a raw route message: the table, the protocol (RTPROT_*) and the type (RTN_*)."""
    return data[payload + 4], data[payload + 5], data[payload + 7]


def is_daemons(data: bytes, payload: int) -> bool:
    """Whether a raw route message is of a routing daemon."""
    return data[payload + 5] in DAEMONS


def plain(address: bytes) -> str:
    """An address as text, an IPv4 one as such."""
    if address.startswith(MAPPED):
        return socket.inet_ntop(socket.AF_INET, address[12:])
    return socket.inet_ntop(socket.AF_INET6, address)
