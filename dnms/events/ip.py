"""Addresses and prefixes as the log and the wire carry them: 16 bytes, IPv4 mapped (RFC 4291, 2.5.5.2)."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import msgspec

Address = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
"""16 bytes in network order; IPv4 is mapped."""

MAPPED = bytes(10) + b"\xff\xff"
"""The first twelve bytes of an IPv4 address."""

MAPPED_BITS = 96


class Prefix(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """A network and how many of its 128 bits are set; an IPv4 /24 has length 120."""

    network: Address
    length: Annotated[int, msgspec.Meta(ge=0, le=128)]

    @property
    def family(self) -> int:
        """4 or 6."""
        return 4 if self.length >= MAPPED_BITS and self.network.startswith(MAPPED) else 6

    @property
    def first(self) -> int:
        """The lowest address, as a number of 128 bits."""
        return int.from_bytes(self.network)

    @property
    def last(self) -> int:
        """The highest address, as a number of 128 bits."""
        return self.first | ((1 << (128 - self.length)) - 1)

    def __contains__(self, address: bytes) -> bool:
        first = int.from_bytes(self.network)  # and not `first` and `last`: every allocation looks here
        return first <= int.from_bytes(address) <= first | ((1 << (128 - self.length)) - 1)

    def covers(self, other: Prefix) -> bool:
        """Whether every address of `other` is one of ours."""
        return self.length <= other.length and other.network in self

    def overlaps(self, other: Prefix) -> bool:
        """Whether some address is in both."""
        return self.covers(other) or other.covers(self)

    def __str__(self) -> str:
        length = self.length - MAPPED_BITS if self.family == 4 else self.length
        return f"{format_address(self.network)}/{length}"


def family(address: bytes) -> int:
    """4 for a mapped IPv4 address, else 6."""
    return 4 if address.startswith(MAPPED) else 6


def parse_address(text: str) -> bytes:
    """An address as people write it, without a scope; ValueError with a text for people otherwise."""
    parsed = ipaddress.ip_address(text)
    if parsed.version == 6 and parsed.scope_id:
        raise ValueError(f"{text!r} has a scope; give the address alone")
    return MAPPED + parsed.packed if parsed.version == 4 else parsed.packed


def parse_prefix(text: str) -> Prefix:
    """A prefix as people write it, host bits zero; ValueError with a text for people otherwise."""
    parsed = ipaddress.ip_network(text)
    network = parsed.network_address.packed
    if parsed.version == 4:
        return Prefix(MAPPED + network, parsed.prefixlen + MAPPED_BITS)
    return Prefix(network, parsed.prefixlen)


def format_address(address: bytes) -> str:
    """As people write it: RFC 5952 for IPv6, dotted for IPv4."""
    if address.startswith(MAPPED):
        return str(ipaddress.IPv4Address(address[12:]))
    return str(ipaddress.IPv6Address(address))


def prefix_of(address: bytes, length: int) -> Prefix:
    """The prefix of `length` (of 128) bits that `address` lies in."""
    shift = 128 - length
    return Prefix((int.from_bytes(address) >> shift << shift).to_bytes(16), length)


def is_link_local(address: bytes) -> bool:
    """Whether it is in fe80::/10 (RFC 4291, 2.5.6)."""
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80
