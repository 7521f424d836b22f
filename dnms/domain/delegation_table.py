"""Uplinks, delegations and Router Advertisements, as people write them in a plan."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from dnms.domain import dhcp_table
from dnms.domain.written import PrefixText, Table
from dnms.events.ip import format_address
from dnms.events.plan import Advertise, Delegation, Dhcp, Downlink, MoreSpecific, Name, Seconds, Uplink

MAX_ROUTES: Final = 16
"""That a router advertises beside being one: a message has 1 500 bytes, and hosts keep few (RFC 4191, 3.1)."""
MAX_NAT64: Final = 4

_Length = Annotated[int, msgspec.Meta(ge=1, le=64)]


class UplinkTable(Table, kw_only=True):
    """`[[uplink]]`."""

    name: Name
    protocol: Literal["dnms", "dhcpv6"] = "dnms"
    length: _Length | None = None


class DelegationTable(Table, kw_only=True):
    """`[[delegation]]`."""

    name: Name
    subnet: Name
    prefix: PrefixText | None = None
    length: _Length
    shortest: _Length | None = None
    longest: _Length = 64
    keep: Annotated[int, msgspec.Meta(ge=0, le=65_536)] = 1
    exclude: bool = False
    strategy: str = "hash"
    preferred: Seconds = 2_700
    valid: Seconds = 3_600
    drain: Seconds = 3_600


_Preference = Literal["low", "medium", "high"]
_PREFERENCES: Final[dict[_Preference, int]] = {"low": -1, "medium": 0, "high": 1}
_Seconds32 = Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)]


class RouteTable(Table, kw_only=True):
    """`[[subnet.advertise.routes]]`."""

    destination: PrefixText
    preference: _Preference = "medium"
    lifetime: _Seconds32 = 1_800


class AdvertiseTable(Table, kw_only=True):
    """`[subnet.advertise]`."""

    lifetime: Annotated[int, msgspec.Meta(ge=0, le=9_000)] = 1_800
    autonomous: bool = True
    managed: bool = False
    other: bool = False
    preferred: Seconds = 2_700
    valid: Seconds = 3_600
    preference: _Preference = "medium"
    delegated: bool = False
    routes: Annotated[list[RouteTable], msgspec.Meta(max_length=MAX_ROUTES)] = []
    nat64: Annotated[list[PrefixText], msgspec.Meta(max_length=MAX_NAT64)] = []


def uplink_of(table: UplinkTable) -> Uplink:
    """As the plan has it."""
    return Uplink(name=table.name, protocol=table.protocol, length=table.length or 0)


def delegation_of(table: DelegationTable) -> Delegation:
    """As the plan has it."""
    return Delegation(
        name=table.name,
        subnet=table.subnet,
        prefix=None if table.prefix is None else table.prefix.value,
        length=table.length,
        shortest=table.shortest or 0,
        longest=table.longest,
        keep=table.keep,
        exclude=table.exclude,
        strategy=table.strategy,
        preferred=table.preferred,
        valid=table.valid,
        drain=table.drain,
    )


def advertise_of(table: AdvertiseTable | None) -> Advertise | None:
    """As the plan has it."""
    if table is None:
        return None
    return Advertise(
        lifetime=table.lifetime,
        autonomous=table.autonomous,
        managed=table.managed,
        other=table.other,
        preferred=table.preferred,
        valid=table.valid,
        preference=_PREFERENCES[table.preference],
        delegated=table.delegated,
        routes=tuple(
            MoreSpecific(
                destination=each.destination.value,
                preference=_PREFERENCES[each.preference],
                lifetime=each.lifetime,
            )
            for each in table.routes
        ),
        nat64=tuple(each.value for each in table.nat64),
    )


def _advertise_table(advertise: Advertise) -> dict[str, Any]:
    words = {number: word for word, number in _PREFERENCES.items()}
    said = ("lifetime", "autonomous", "managed", "other", "preferred", "valid")
    return (
        {name: getattr(advertise, name) for name in said}
        | ({"preference": words[advertise.preference]} if advertise.preference else {})
        | ({"delegated": True} if advertise.delegated else {})
        | (
            {
                "routes": [
                    {"destination": str(r.destination), "preference": words[r.preference], "lifetime": r.lifetime}
                    for r in advertise.routes
                ]
            }
            if advertise.routes
            else {}
        )
        | ({"nat64": [str(prefix) for prefix in advertise.nat64]} if advertise.nat64 else {})
    )


def uplink_table(uplink: Uplink) -> dict[str, Any]:
    """As it is written."""
    return {"name": uplink.name, "protocol": uplink.protocol} | ({"length": uplink.length} if uplink.length else {})


def delegation_table(delegation: Delegation) -> dict[str, Any]:
    """As it is written."""
    return (
        {"name": delegation.name, "subnet": delegation.subnet}
        | ({} if delegation.prefix is None else {"prefix": str(delegation.prefix)})
        | {"length": delegation.length}
        | ({"shortest": delegation.shortest} if delegation.shortest else {})
        | {
            "longest": delegation.longest,
            "keep": delegation.keep,
            "exclude": delegation.exclude,
            "strategy": delegation.strategy,
            "preferred": delegation.preferred,
            "valid": delegation.valid,
            "drain": delegation.drain,
        }
    )


def downlink_table(downlink: Downlink) -> dict[str, Any]:
    """As it is written in the table of its subnet; what nothing is said of is left out."""
    advertise = downlink.advertise
    return (
        ({"uplink": downlink.uplink} if downlink.uplink else {})
        | ({"nth": downlink.nth} if downlink.nth else {})
        | ({"routers": list(downlink.routers)} if downlink.routers else {})
        | ({"dhcp_servers": list(map(format_address, downlink.dhcp_servers))} if downlink.dhcp_servers else {})
        | ({} if advertise is None else {"advertise": _advertise_table(advertise)})
        | ({"dhcp": dhcp_table.table_of(downlink.dhcp)} if downlink.dhcp != Dhcp() else {})
    )
