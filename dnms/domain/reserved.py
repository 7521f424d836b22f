"""Addresses that are never given, whatever a pool's range says."""

from __future__ import annotations

from collections.abc import Iterator

from dnms.events.ip import MAPPED_BITS, Prefix
from dnms.events.plan import Subnet

_IDENTIFIER = (1 << 64) - 1

RESERVED_GROUPS = frozenset({0x0000, 0x0200, 0xFDFF, 0xFFFF})
"""Numbers that mean "no group", or under which the identifiers of `RESERVED_IDENTIFIERS` lie."""

RESERVED_IDENTIFIERS = (
    (0, 0),  # subnet-router anycast, RFC 4291, 2.6.1
    (0x0200_5EFF_FE00_0000, 0x0200_5EFF_FEFF_FFFF),  # IANA's block of Ethernet addresses, RFC 5453
    (0xFDFF_FFFF_FFFF_FF80, 0xFDFF_FFFF_FFFF_FFFF),  # subnet anycast, RFC 2526
)
"""First and last of the interface identifiers that RFC 5453 and its registry reserve."""


def is_reserved(address: bytes, subnet: Subnet) -> bool:
    """Whether nobody may be given this address of the subnet: a reserved identifier, an end of a network, a gateway."""
    if address in subnet.gateways or (subnet.groups and address in _gateways(subnet)):
        return True
    prefix = prefix_in(subnet, address)
    if prefix is None:
        return True
    number = int.from_bytes(address)
    if prefix.family == 6:
        identifier = number & _IDENTIFIER
        return any(first <= identifier <= last for first, last in RESERVED_IDENTIFIERS)
    return number in _ends(prefix)


def fixed_addresses(subnet: Subnet | None) -> frozenset[bytes]:
    """Of the reserved addresses those that a plan may reserve after they were given: gateways, ends of networks."""
    if subnet is None:
        return frozenset()
    ends = (end.to_bytes(16) for prefix in subnet.prefixes if prefix.family == 4 for end in _ends(prefix))
    return frozenset((*_gateways(subnet), *ends))


def _gateways(subnet: Subnet) -> Iterator[bytes]:
    """Those of everybody, and those of groups."""
    yield from subnet.gateways
    for told in subnet.groups.values():
        yield from told.gateways or ()


def _ends(prefix: Prefix) -> tuple[int, ...]:
    """Network and broadcast address of an IPv4 prefix; a /31 and a /32 have none (RFC 3021)."""
    return (prefix.first, prefix.last) if prefix.length < MAPPED_BITS + 31 else ()


def prefix_in(subnet: Subnet, address: bytes) -> Prefix | None:
    """The subnet's prefix that the address lies in."""
    for prefix in subnet.prefixes:  # a loop is half of the cost of `next` here, twice an allocation
        if address in prefix:
            return prefix
    return None
