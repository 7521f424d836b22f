"""Router Advertisements and Solicitations (RFC 4861, 4.1 and 4.2), as bytes and as values.

What comes from a link anybody on it can have sent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TypeVar

import msgspec

from dnms.events.ip import Prefix, prefix_of
from dnms.wire.dhcp6.values import write_names
from dnms.wire.errors import Code, PeerError

SOLICITATION, ADVERTISEMENT = 133, 134
"""ICMPv6 types of a Router Solicitation and of a Router Advertisement."""

HOPS = 255
"""The hop limit of what has not crossed a router; anything else is not believed (RFC 4861, 6.1.2)."""

INFINITE = 0xFFFFFFFF
"""Seconds of a lifetime that never ends."""

_FIXED = struct.Struct("!BBHBBHII")  # type, code, checksum, hop limit, flags, router lifetime, reachable, retrans
_PREFIX = struct.Struct("!BBBBIII16s")  # type, length, prefix length, flags, valid, preferred, reserved, prefix
_LIFETIME = struct.Struct("!4xI")  # of RDNSS and DNSSL

_LINK_LAYER, _PREFIX_INFORMATION, _MTU, _ROUTE, _RDNSS, _DNSSL, _PREF64 = 1, 3, 5, 24, 25, 31, 38
_MANAGED, _OTHER, _PREFERENCE = 0x80, 0x40, 0x18
_ON_LINK, _AUTONOMOUS, _DELEGATED = 0x80, 0x40, 0x10
_PREF64_LENGTHS = (96, 64, 56, 48, 40, 32)  # by their code (RFC 8781, 4)
_LABEL, _NAME = 63, 253  # bytes at most (RFC 1035, 2.3.4)


T = TypeVar("T")


class PrefixInformation(msgspec.Struct, frozen=True, kw_only=True):
    """A prefix of the link (RFC 4861, 4.6.2)."""

    prefix: Prefix
    on_link: bool
    autonomous: bool  # nodes make themselves addresses in it
    delegated: bool = False  # nodes had better ask for a prefix of their own (RFC 9762)
    valid: int  # seconds
    preferred: int


class RouteInformation(msgspec.Struct, frozen=True, kw_only=True):
    """A route that the router has (RFC 4191, 2.3)."""

    prefix: Prefix
    preference: int  # -1 low, 0 medium, 1 high
    lifetime: int  # seconds


class RouterAdvertisement(msgspec.Struct, frozen=True, kw_only=True):
    """What a router says of itself and of its link."""

    managed: bool = False  # M: addresses by DHCPv6
    other: bool = False  # O: other things by DHCPv6
    preference: int = 0  # of this router: -1 low, 0 medium, 1 high (RFC 4191, 2.2)
    lifetime: int = 0  # seconds for which it is a default router; 0: it is none
    hop_limit: int = 0  # 0: not said
    hardware: bytes = b""  # of the router's interface; empty: not said
    mtu: int = 0  # 0: not said
    prefixes: tuple[PrefixInformation, ...] = ()
    routes: tuple[RouteInformation, ...] = ()
    dns: tuple[tuple[bytes, int], ...] = ()  # servers, each with its seconds (RFC 8106, 5.1)
    search: tuple[tuple[str, int], ...] = ()  # domains, each with its seconds (RFC 8106, 5.2)
    pref64: tuple[tuple[Prefix, int], ...] = ()  # of NAT64, each with its seconds (RFC 8781)


def router_advertisement(packet: bytes) -> RouterAdvertisement:
    """The advertisement in an ICMPv6 packet, whose checksum the kernel has seen to. Unknown options are left out.

    PeerError `malformed` for what is none. Whether the hop limit was `HOPS` and its source link-local is the caller's
    to see.
    """
    if len(packet) < _FIXED.size:
        raise PeerError(Code.MALFORMED, "a Router Advertisement is cut off")
    kind, code, _, hop_limit, flags, lifetime, _, _ = _FIXED.unpack_from(packet)
    if (kind, code) != (ADVERTISEMENT, 0):
        raise PeerError(Code.MALFORMED, "not a Router Advertisement")
    found: dict[int, list[bytes]] = {}
    for option in _options(packet[_FIXED.size :]):
        found.setdefault(option[0], []).append(option)
    return RouterAdvertisement(
        managed=bool(flags & _MANAGED),
        other=bool(flags & _OTHER),
        preference=_preference(flags),
        lifetime=lifetime,
        hop_limit=hop_limit,
        hardware=next((option[2:8] for option in found.get(_LINK_LAYER, ()) if len(option) == 8), b""),
        mtu=next((int.from_bytes(option[4:8]) for option in found.get(_MTU, ()) if len(option) == 8), 0),
        prefixes=tuple(each for option in found.get(_PREFIX_INFORMATION, ()) for each in _prefixes(option)),
        routes=tuple(each for option in found.get(_ROUTE, ()) for each in _routes(option)),
        dns=tuple(each for option in found.get(_RDNSS, ()) for each in _servers(option)),
        search=tuple(each for option in found.get(_DNSSL, ()) for each in _domains(option)),
        pref64=tuple(each for option in found.get(_PREF64, ()) for each in _nat64(option)),
    )


def check_solicitation(packet: bytes, *, nameless: bool) -> None:
    """See that an ICMPv6 packet is a Router Solicitation (RFC 4861, 6.1.1). PeerError `malformed` otherwise.

    `nameless`: it came from `::`. Its hop limit is the caller's to see.
    """
    if len(packet) < 8 or (packet[0], packet[1]) != (SOLICITATION, 0):
        raise PeerError(Code.MALFORMED, "not a Router Solicitation")
    if any(option[0] == _LINK_LAYER for option in _options(packet[8:])) and nameless:
        raise PeerError(Code.MALFORMED, "a Router Solicitation of nobody, with a hardware address")


def encode_advertisement(said: RouterAdvertisement) -> bytes:
    """The ICMPv6 packet; its checksum is 0, which the kernel fills in. ValueError for what cannot be said."""
    flags = (_MANAGED if said.managed else 0) | (_OTHER if said.other else 0) | _write_preference(said.preference)
    fixed = _FIXED.pack(ADVERTISEMENT, 0, 0, said.hop_limit, flags, said.lifetime, 0, 0)
    return fixed + b"".join(_written(said))


def _written(said: RouterAdvertisement) -> Iterator[bytes]:
    if said.hardware:
        yield _option(_LINK_LAYER, said.hardware)
    if said.mtu:
        yield _option(_MTU, struct.pack("!2xI", said.mtu))
    for each in said.prefixes:
        bits = (_ON_LINK, each.on_link), (_AUTONOMOUS, each.autonomous), (_DELEGATED, each.delegated)
        flags = sum(flag for flag, is_set in bits if is_set)
        network = each.prefix.network
        yield _PREFIX.pack(_PREFIX_INFORMATION, 4, each.prefix.length, flags, each.valid, each.preferred, 0, network)
    for route in said.routes:
        network = route.prefix.network[: 8 * ((route.prefix.length + 63) // 64)]
        flags = _write_preference(route.preference)
        yield _option(_ROUTE, struct.pack("!BBI", route.prefix.length, flags, route.lifetime) + network)
    for lifetime, servers in _by_lifetime(said.dns):
        yield _option(_RDNSS, struct.pack("!2xI", lifetime) + b"".join(servers))
    for lifetime, names in _by_lifetime(said.search):
        yield _option(_DNSSL, struct.pack("!2xI", lifetime) + write_names(names))
    for prefix, lifetime in said.pref64:
        scaled = lifetime & ~7 | _PREF64_LENGTHS.index(prefix.length)
        yield _option(_PREF64, struct.pack("!H", scaled) + prefix.network[:12])


def _option(kind: int, value: bytes) -> bytes:
    """With its length in units of 8 bytes. ValueError if it is over 255 of them."""
    units = (2 + len(value) + 7) // 8
    if units > 255:
        raise ValueError(
            f"option {kind} of a Router Advertisement takes {8 * units} bytes, and at most 2040 can be said"
        )
    return (bytes([kind, units]) + value).ljust(8 * units, b"\0")


def _by_lifetime(several: Iterable[tuple[T, int]]) -> Iterator[tuple[int, list[T]]]:
    """Those that stand one after the other and have the same seconds, together."""
    for lifetime, same in groupby(several, key=lambda each: each[1]):
        yield lifetime, [each for each, _ in same]


def _write_preference(preference: int) -> int:
    return {1: 0b01, -1: 0b11}.get(preference, 0) << 3


def _options(data: bytes) -> list[bytes]:
    """Each with its type and length. One of no length, or cut off, makes the packet void (RFC 4861, 6.1.2)."""
    options = []
    while data:
        size = 8 * data[1] if len(data) >= 2 else 0
        if not size or size > len(data):
            raise PeerError(Code.MALFORMED, "an option of a Router Advertisement is cut off")
        options.append(data[:size])
        data = data[size:]
    return options


def _preference(flags: int) -> int:
    """RFC 4191, 2.1: two bits with a sign, of which 10 is reserved and means medium."""
    return {0b01: 1, 0b11: -1}.get((flags & _PREFERENCE) >> 3, 0)


def _prefixes(option: bytes) -> list[PrefixInformation]:
    if len(option) != _PREFIX.size:
        return []
    _, _, length, flags, valid, preferred, _, network = _PREFIX.unpack(option)
    if length > 128 or preferred > valid:
        return []
    return [
        PrefixInformation(
            prefix=prefix_of(network, length),
            on_link=bool(flags & _ON_LINK),
            autonomous=bool(flags & _AUTONOMOUS),
            delegated=bool(flags & _DELEGATED),
            valid=valid,
            preferred=preferred,
        )
    ]


def _routes(option: bytes) -> list[RouteInformation]:
    length = option[2]
    if length > 128 or len(option) not in (8, 16, 24) or length > (len(option) - 8) * 8:
        return []
    network = option[8:].ljust(16, b"\0")
    return [
        RouteInformation(
            prefix=prefix_of(network, length),
            preference=_preference(option[3]),
            lifetime=int.from_bytes(option[4:8]),
        )
    ]


def _servers(option: bytes) -> list[tuple[bytes, int]]:
    (lifetime,) = _LIFETIME.unpack_from(option)
    whole = len(option) - (len(option) - 8) % 16
    return [(option[at : at + 16], lifetime) for at in range(8, whole, 16)]


def _domains(option: bytes) -> list[tuple[str, int]]:
    """RFC 1035, 3.1, without compression, each ended by a root, and the rest zero. What is broken is left out."""
    (lifetime,) = _LIFETIME.unpack_from(option)
    domains: list[tuple[str, int]] = []
    labels: list[str] = []
    at = 8
    while at < len(option):
        size = option[at]
        label = option[at + 1 : at + 1 + size]
        at += 1 + size
        if not size:
            name = ".".join(labels)
            if 0 < len(name) <= _NAME:
                domains.append((name, lifetime))
            labels = []
        elif size > _LABEL or len(label) < size or not label.isascii() or not _is_plain(label):
            return domains
        else:
            labels.append(label.decode())
    return domains


def _is_plain(label: bytes) -> bool:
    return all(chr(each).isalnum() or each in b"-_" for each in label)


def _nat64(option: bytes) -> list[tuple[Prefix, int]]:
    scaled = int.from_bytes(option[2:4])
    if len(option) != 16 or scaled & 7 >= len(_PREF64_LENGTHS):
        return []
    network = option[4:16].ljust(16, b"\0")
    return [(prefix_of(network, _PREF64_LENGTHS[scaled & 7]), scaled & ~7)]
