"""What DHCPv4 messages carry (RFC 2132, and the RFCs that each option names), as bytes and as values.

A reader takes what it knows of a message and leaves the rest out. An option that stands there several times is one long
one (RFC 3396). What is cut off, or has a length that its option cannot have, makes the whole message void, since nobody
can say what was meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from dnms.events.ip import Address
from dnms.wire.dhcp4.codes import Option
from dnms.wire.dhcp4.values import (
    Route,
    addresses,
    malformed,
    mask,
    number,
    numbers,
    option,
    packed,
    read_mask,
    read_names,
    read_routes,
    text,
    walk,
    write_routes,
)
from dnms.wire.dhcp6.values import shorts, write_names

MAX_NAME = 255  # bytes of a name that a client says (RFC 1035, 2.3.4)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one message. What is None, False or empty is not there."""

    client_id: bytes = b""
    server_id: Address | None = None
    requested_address: Address | None = None
    requested: tuple[int, ...] = ()  # codes of options, the most wanted first (RFC 2132, 9.8)
    max_size: int | None = None  # bytes of the largest IP datagram that the client takes
    lease_time: int | None = None  # seconds
    t1: int | None = None  # seconds
    t2: int | None = None
    mask: int | None = None  # the prefix length, of 128
    routers: tuple[Address, ...] = ()
    dns: tuple[Address, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    ntp: tuple[Address, ...] = ()
    mtu: int | None = None
    routes: tuple[Route, ...] = ()
    host_name: str = ""
    fqdn: bytes = b""  # RFC 4702, as it is
    agent: bytes = b""  # of a relay (RFC 3046), as it is
    rapid_commit: bool = False
    message: str = ""
    vendor_class: bytes = b""
    architectures: tuple[int, ...] = ()  # of a client that boots (RFC 4578, 2.1)
    ipv6_only: int | None = None  # seconds without DHCPv4 (RFC 8925)
    boot_server: str = ""
    boot_file: str = ""
    others: tuple[tuple[int, bytes], ...] = ()  # to be written: codes that are not read here, and their values


NONE = Options()


def gather(*fields: bytes | memoryview) -> dict[int, bytes]:
    """By code what is said in these fields, one behind the other (RFC 3396, 5). PeerError."""
    found: dict[int, bytes] = {}
    for field in fields:
        for code, value in walk(field):
            found[code] = found[code] + value if code in found else value
    return found


def kind(found: dict[int, bytes]) -> int:
    """The type of the message. PeerError if it has none: BOOTP is not spoken here."""
    if Option.KIND not in found:
        raise malformed("a message without a type")
    return number(Option.KIND, found[Option.KIND], 1)


def read(found: dict[int, bytes]) -> Options:  # noqa: PLR0912, PLR0915  # one case an option
    """The options of a message. PeerError."""
    said: dict[str, Any] = {}
    for code, value in found.items():
        match code:
            case Option.CLIENT_ID:
                if len(value) < 2:
                    raise malformed("a client id without anything in it")  # RFC 2132, 9.14
                said["client_id"] = value
            case Option.SERVER_ID:
                said["server_id"] = _one(code, value)
            case Option.REQUESTED_ADDRESS:
                said["requested_address"] = _one(code, value)
            case Option.REQUESTED:
                said["requested"] = tuple(value)
            case Option.MAX_SIZE:
                said["max_size"] = number(code, value, 2)
            case Option.LEASE_TIME:
                said["lease_time"] = number(code, value, 4)
            case Option.T1:
                said["t1"] = number(code, value, 4)
            case Option.T2:
                said["t2"] = number(code, value, 4)
            case Option.MASK:
                said["mask"] = read_mask(code, value)
            case Option.ROUTERS:
                said["routers"] = addresses(code, value)
            case Option.DNS_SERVERS:
                said["dns"] = addresses(code, value)
            case Option.DOMAIN:
                said["domain"] = text(value)
            case Option.SEARCH:
                said["search"] = read_names(value)
            case Option.NTP_SERVERS:
                said["ntp"] = addresses(code, value)
            case Option.MTU:
                said["mtu"] = number(code, value, 2)
            case Option.ROUTES:
                said["routes"] = read_routes(value)
            case Option.HOST_NAME:
                said["host_name"] = text(value[:MAX_NAME])
            case Option.FQDN:
                said["fqdn"] = value
            case Option.AGENT:
                said["agent"] = value
            case Option.RAPID_COMMIT:
                if value:
                    raise malformed("rapid commit has a value")
                said["rapid_commit"] = True
            case Option.MESSAGE:
                said["message"] = text(value)
            case Option.VENDOR_CLASS:
                said["vendor_class"] = value
            case Option.ARCHITECTURES:
                said["architectures"] = numbers(code, value)
            case Option.IPV6_ONLY:
                said["ipv6_only"] = number(code, value, 4)
            case Option.BOOT_SERVER:
                said["boot_server"] = text(value)
            case Option.BOOT_FILE:
                said["boot_file"] = text(value)
    return Options(**said)


def write(kind: int, options: Options, room: int, wanted: Iterable[int]) -> bytes:
    """The options of a message, in `room` bytes. What it cannot do without comes first, then what the client has in
    `wanted`, in that order; what does not fit is left out. ValueError if even that which cannot be left out does not.
    """
    told = bytearray(option(Option.KIND, bytes((kind,))))
    agent = option(Option.AGENT, options.agent) if options.agent else b""  # the last one (RFC 3046, 2.1)
    for code in _ALWAYS:
        told += _written(code, options)
    if len(told) + len(agent) + 1 > room:
        raise ValueError(f"the options of a message do not fit in {room} bytes")
    others = dict(options.others)
    known = (*_OTHERS, *others)
    for code in dict.fromkeys((*(each for each in wanted if each in known), *known)):
        written = option(code, others[code]) if code in others else _written(code, options)
        if len(told) + len(written) + len(agent) + 1 <= room:
            told += written
    return bytes(told) + agent + bytes((Option.END,))


def _short(value: int) -> bytes:
    return value.to_bytes(2)


def _long(value: int) -> bytes:
    return value.to_bytes(4)


def _none(_: bool) -> bytes:
    return b""


def _packed(address: bytes) -> bytes:
    return packed((address,))


_ALWAYS: dict[int, tuple[str, Callable[[Any], bytes]]] = {
    Option.SERVER_ID: ("server_id", _packed),
    Option.LEASE_TIME: ("lease_time", _long),
    Option.T1: ("t1", _long),
    Option.T2: ("t2", _long),
    Option.REQUESTED_ADDRESS: ("requested_address", _packed),
    Option.MAX_SIZE: ("max_size", _short),
    Option.RAPID_COMMIT: ("rapid_commit", _none),
    Option.MASK: ("mask", mask),  # before the routers (RFC 2132, 3.3)
    Option.CLIENT_ID: ("client_id", bytes),  # RFC 6842
}
_OTHERS: dict[int, tuple[str, Callable[[Any], bytes]]] = {
    Option.BOOT_FILE: ("boot_file", str.encode),
    Option.BOOT_SERVER: ("boot_server", str.encode),
    Option.VENDOR_CLASS: ("vendor_class", bytes),
    Option.ARCHITECTURES: ("architectures", shorts),
    Option.IPV6_ONLY: ("ipv6_only", _long),
    Option.ROUTES: ("routes", write_routes),
    Option.ROUTERS: ("routers", packed),
    Option.DNS_SERVERS: ("dns", packed),
    Option.DOMAIN: ("domain", str.encode),
    Option.SEARCH: ("search", write_names),
    Option.NTP_SERVERS: ("ntp", packed),
    Option.MTU: ("mtu", _short),
    Option.HOST_NAME: ("host_name", str.encode),
    Option.FQDN: ("fqdn", bytes),
    Option.MESSAGE: ("message", str.encode),
    Option.REQUESTED: ("requested", bytes),
}


def _written(code: int, options: Options) -> bytes:
    """One option; nothing if it is not there. ValueError."""
    name, write = _ALWAYS[code] if code in _ALWAYS else _OTHERS[code]
    value = getattr(options, name)
    is_there = value or type(value) is int  # of all that is empty, a number alone says something
    return option(code, write(value)) if is_there else b""


def _one(code: int, value: bytes) -> bytes:
    if len(value) != 4:
        raise malformed(f"option {code} has {len(value)} bytes")
    return addresses(code, value)[0]
