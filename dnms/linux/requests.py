"""rtnetlink's requests (rtnetlink(7)), made with structs: what follows the header of a message.

pyroute2 makes them too, but importing any of it imports all of it, which is 11 MB and a tenth of a second on every
managed machine. The tests compare what is made here with what it makes.
"""

from __future__ import annotations

import socket
import struct

from dnms.events.ip import MAPPED, MAPPED_BITS, Prefix, family
from dnms.linux.messages import FOR_EVER, IFF_UP, RT_TABLE_MAIN, RTN_UNICAST, RTN_UNREACHABLE

RT_SCOPE_UNIVERSE = 0
RT_SCOPE_LINK = 253
RT_SCOPE_NOWHERE = 255
RTEXT_FILTER_SKIP_STATS = 8

_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=8BI")  # family, lengths, tos, table, protocol, scope, type, flags
_NDA_DST = 1
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_U8, _U16, _U32 = struct.Struct("=B"), struct.Struct("=H"), struct.Struct("=I")
_LIFETIMES = struct.Struct("=IIII")  # preferred, valid, and two times that the kernel keeps

_IFLA_MTU, _IFLA_EXT_MASK = 4, 29
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_CACHEINFO, _IFA_FLAGS, _IFA_PROTO = 1, 2, 4, 6, 8, 11
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE, _RTA_VIA = 1, 4, 5, 6, 7, 15, 18


def links() -> bytes:
    """All links, without their counters."""
    return _LINK.pack(0, 0, 0, 0, 0) + _attribute(_IFLA_EXT_MASK, _U32.pack(RTEXT_FILTER_SKIP_STATS))


def mtu(interface: int, size: int) -> bytes:
    """A link's MTU, in bytes."""
    return _LINK.pack(0, 0, interface, 0, 0) + _attribute(_IFLA_MTU, _U32.pack(size))


def up(interface: int, *, is_up: bool) -> bytes:
    """A link up or down."""
    return _LINK.pack(0, 0, interface, IFF_UP if is_up else 0, IFF_UP)


def addresses(interface: int) -> bytes:
    """The addresses of one interface; 0: of all."""
    return _ADDRESS.pack(0, 0, 0, 0, interface)


def address(interface: int, which: bytes, prefix_length: int) -> bytes:
    """One address (16 bytes) with its prefix length of 128 bits, to be deleted."""
    kind, length = _family(which, prefix_length)
    raw = _raw(which)
    header = _ADDRESS.pack(kind, length, 0, 0, interface)
    return header + _attribute(_IFA_LOCAL, raw) + _attribute(_IFA_ADDRESS, raw)


def new_address(
    interface: int,
    which: bytes,
    prefix_length: int,
    *,
    preferred: int | None,
    valid: int | None,
    protocol: int,
    flags: int,
) -> bytes:
    """One address with its lifetimes in seconds (None: for ever) and IFA_F_* flags."""
    lifetimes = _LIFETIMES.pack(_lifetime(preferred), _lifetime(valid), 0, 0)
    parts = [
        address(interface, which, prefix_length),
        _attribute(_IFA_FLAGS, _U32.pack(flags)),
        _attribute(_IFA_PROTO, _U8.pack(protocol)),
        _attribute(_IFA_CACHEINFO, lifetimes),
    ]
    if family(which) == 4 and prefix_length < 127:
        host = (1 << (128 - prefix_length)) - 1
        parts.append(_attribute(_IFA_BROADCAST, _raw((int.from_bytes(which) | host).to_bytes(16))))
    return b"".join(parts)


def routes(kind: int, *, protocol: int = 0) -> bytes:
    """The routes of a family (AF_*) in table main, of one protocol (RTPROT_*) or of all."""
    return _ROUTE.pack(kind, 0, 0, 0, 0, protocol, 0, 0, 0) + _attribute(_RTA_TABLE, _U32.pack(RT_TABLE_MAIN))


def route(
    destination: Prefix,
    interface: int,
    *,
    gateway: bytes | None,
    metric: int,
    protocol: int,
    scope: int = RT_SCOPE_UNIVERSE,
    source: bytes | None = None,
) -> bytes:
    """One route of table main; an IPv4 route may have an IPv6 gateway (RFC 5549).

    Without an interface (0) its destination is unreachable. `source` is the address that is taken where a socket has
    chosen none.
    """
    kind, length = _family(destination.network, destination.length)
    leads = RTN_UNICAST if interface else RTN_UNREACHABLE
    parts = [_ROUTE.pack(kind, length, 0, 0, RT_TABLE_MAIN, protocol, scope, leads, 0)]
    if interface:
        parts.append(_attribute(_RTA_OIF, _U32.pack(interface)))
    if length:
        parts.append(_attribute(_RTA_DST, _raw(destination.network)))
    if metric:
        parts.append(_attribute(_RTA_PRIORITY, _U32.pack(metric)))
    if source is not None:
        parts.append(_attribute(_RTA_PREFSRC, _raw(source)))
    if gateway is not None:
        if kind == socket.AF_INET and family(gateway) == 6:
            parts.append(_attribute(_RTA_VIA, _U16.pack(socket.AF_INET6) + gateway))
        else:
            parts.append(_attribute(_RTA_GATEWAY, _raw(gateway)))
    return b"".join(parts)


def neighbours(kind: int) -> bytes:
    """The neighbours of a family (AF_*)."""
    return _NEIGHBOUR.pack(kind, 0, 0, 0, 0)


def neighbour(interface: int, address: bytes) -> bytes:
    """One neighbour, to be deleted."""
    kind = socket.AF_INET if family(address) == 4 else socket.AF_INET6
    return _NEIGHBOUR.pack(kind, interface, 0, 0, 0) + _attribute(_NDA_DST, _raw(address))


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _family(which: bytes, length: int) -> tuple[int, int]:
    if family(which) == 4:
        return socket.AF_INET, length - MAPPED_BITS
    return socket.AF_INET6, length


def _raw(which: bytes) -> bytes:
    return which.removeprefix(MAPPED)


def _lifetime(seconds: int | None) -> int:
    return FOR_EVER if seconds is None else max(0, min(seconds, FOR_EVER))
