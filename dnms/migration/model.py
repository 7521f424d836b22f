"""What is read of another server, in the terms of DNMS. Addresses are 16 bytes, IPv4 mapped; times are in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from dnms.domain.document import Domain
from dnms.domain.identity import MAX_DUID
from dnms.events.ip import Address, Prefix, family, parse_address

Read = Callable[[str], str]
"""The text of another file that a configuration includes; OSError."""

FOREVER = 0xFFFF_FFFF
"""Of a lifetime: infinity (RFC 2131, 3.3; RFC 8415, 7.7)."""

DAY = 86_400
LONGEST = 365 * DAY
"""Of what is put in the place of a lifetime without an end: a plan has none."""


class MigrationError(ValueError):
    """A file that cannot be read as what it should be; the text begins with its place."""


class Place(msgspec.Struct, frozen=True, order=True):
    """Where something stands."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Left(msgspec.Struct, frozen=True, order=True):
    """What is not carried, or not as it was."""

    place: Place
    what: str
    why: str


class Lifetimes(msgspec.Struct, frozen=True, kw_only=True):
    """Of what is given, in seconds."""

    preferred: int
    valid: int


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses that are given to whoever comes."""

    first: Address
    last: Address
    lifetimes: Lifetimes
    place: Place


class Blocks(msgspec.Struct, frozen=True, kw_only=True):
    """Prefixes that are delegated."""

    prefix: Prefix
    length: int
    exclude: bool
    lifetimes: Lifetimes
    place: Place


class Route(msgspec.Struct, frozen=True):
    """A route that clients are told."""

    destination: Prefix
    gateway: Address


class Told(msgspec.Struct, kw_only=True):
    """What clients of a link are told; a list is None where nothing is said."""

    gateways: list[Address] | None = None
    dns: list[Address] | None = None
    ntp: list[Address] | None = None
    domain: str = ""  # of the clients themselves; also the first to search
    search: list[str] | None = None
    routes: list[Route] | None = None
    mtu: int = 0
    boot: dict[str, str] = {}  # `server` and `file`
    options: dict[tuple[int, int], dict[str, Any]] = {}  # others, by family and code, as a plan has their values

    @property
    def searched(self) -> list[str]:
        """The domains to search, the clients' own before the others."""
        own = [self.domain] if self.domain else []
        return [*own, *(each for each in self.search or () if each not in own)]


class Link(msgspec.Struct, kw_only=True):
    """One link, and what is given there."""

    name: str
    place: Place
    prefixes: list[Prefix] = []
    told: Told = msgspec.field(default_factory=Told)
    ranges: list[Range] = []
    blocks: list[Blocks] = []
    lifetimes: dict[int, Lifetimes] = {}  # by family, of what is reserved
    advertise: dict[str, int | bool] | None = None
    quarantine: int = 0  # 0: as DNMS has it

    def has(self, address: Address) -> bool:
        """Whether it is in one of its prefixes."""
        return any(address in prefix for prefix in self.prefixes)


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """What a client has."""

    address: Address | Prefix
    duid: bytes  # of a DHCPv4 client the one that DNMS knows it by
    iaid: int
    hardware: bytes = b""
    name: str
    valid_until: int  # seconds since 1970-01-01 UTC
    place: Place


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """An address that is one client's, whether it is there or not."""

    address: Address
    duid: bytes
    hardware: bytes = b""  # by which it is known instead; its DUID is made of that
    place: Place


class Configuration(msgspec.Struct, kw_only=True):
    """All that a server is told."""

    links: list[Link] = []
    reservations: list[Reservation] = []
    left: list[Left] = []


def domain(text: str) -> str:
    """A domain as a plan has it; ValueError."""
    try:
        return msgspec.convert(text.strip().rstrip("."), Domain)
    except msgspec.ValidationError:
        raise ValueError(f"{text!r} is no domain") from None


def addresses(texts: Iterable[str], kind: int) -> list[Address]:
    """Those of one family; ValueError."""
    found = [parse_address(text.strip()) for text in texts]
    if any(family(each) != kind for each in found):
        raise ValueError(f"expected IPv{kind} addresses")
    return found


def octets(text: str) -> bytes:
    """Bytes in hex, with colons or hyphens between them, where one may have one digit, or without any; ValueError."""
    parts = text.strip().replace("-", ":").split(":")
    if len(parts) > 1:
        if any(len(part) > 2 for part in parts):
            raise ValueError(f"{text!r} is not in hex")
        return bytes(int(part, 16) for part in parts)
    return bytes.fromhex(text.strip().removeprefix("0x"))


def duid(text: str) -> bytes:
    """A DUID in hex, whatever its type: a server took it from a client as it came; ValueError."""
    found = octets(text)
    if not 3 <= len(found) <= MAX_DUID:
        raise ValueError(f"{text!r} is no DUID, of 3 to {MAX_DUID} bytes in hex")
    return found
