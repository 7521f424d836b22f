"""What clients of DHCP are told that no Node Agent needs, as people write it in a plan: what to boot, options that are
not known here, and that IPv6 alone will do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from dnms.domain.written import AddressText, Table
from dnms.events.ip import family, format_address
from dnms.events.plan import Boot, Dhcp, RawOption
from dnms.events.requests import ApplyPlan

SERVED: Final = {
    4: frozenset({1, 3, 6, 12, 15, 26, 42, *range(50, 60), 60, 61, 66, 67, 80, 81, 82, 93, 108, 119, 121}),
    6: frozenset({*range(1, 10), *range(11, 17), *range(18, 21), *range(23, 27), 37, 39, 56, 59, 60, 61, 67, 79, 148}),
}
"""Codes of options that the servers say themselves, by family."""

_LONGEST: Final = {4: 255, 6: 1_024}  # bytes of an option
_MOST: Final = {4: 254, 6: 65_535}  # the highest code
MAX_FILE: Final = 255  # bytes: of one DHCPv4 option
MIN_IPV6_ONLY: Final = 300  # seconds: MIN_V6ONLY_WAIT (RFC 8925, 3.4)
MAX_BOOTS, MAX_OPTIONS = 16, 32  # of one table: a message has 1 500 bytes

_Text = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]+\Z", max_length=MAX_FILE)]


class BootTable(Table, kw_only=True):
    """`[[subnet.dhcp.boot]]`."""

    architectures: list[Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]] = []
    server: AddressText | None = None
    file: _Text | None = None
    url: _Text | None = None
    parameters: list[_Text] = []


class OptionTable(Table, kw_only=True):
    """`[[subnet.dhcp.option]]`."""

    family: Literal[4, 6]
    code: Annotated[int, msgspec.Meta(ge=1, lt=1 << 16)]
    hex: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-fA-F]{2})*\Z")] | None = None
    text: str | None = None
    addresses: list[AddressText] | None = None


class DhcpTable(Table, kw_only=True):
    """`[subnet.dhcp]`, `[group.dhcp]`. What is left out is as it is for everybody there."""

    ipv6_only: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] | None = None
    boot: Annotated[list[BootTable], msgspec.Meta(max_length=MAX_BOOTS)] | None = None
    option: Annotated[list[OptionTable], msgspec.Meta(max_length=MAX_OPTIONS)] | None = None


class DhcpError(ValueError):
    """What is wrong, and at which key."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


def dhcp_of(table: DhcpTable) -> Dhcp:
    """As the plan has it; DhcpError."""
    return Dhcp(
        ipv6_only=table.ipv6_only,
        boot=None if table.boot is None else tuple(map(_boot_of, table.boot)),
        options=None
        if table.option is None
        else tuple(_option_of(each, f"option[{index}]") for index, each in enumerate(table.option)),
    )


def table_of(dhcp: Dhcp) -> dict[str, Any]:
    """As it is written; what nothing is said of is left out."""
    table: dict[str, Any] = {} if dhcp.ipv6_only is None else {"ipv6_only": dhcp.ipv6_only}
    if dhcp.boot is not None:
        table["boot"] = [_boot_table(each) for each in dhcp.boot]
    if dhcp.options is not None:
        table["option"] = [{"family": e.family, "code": e.code, "hex": e.value.hex()} for e in dhcp.options]
    return table


def narrowest(said: Sequence[Dhcp]) -> Dhcp:
    """Of each item what the first says that says something of it."""
    return Dhcp(
        **{
            name: next((value for each in said if (value := getattr(each, name)) is not None), None)
            for name in Dhcp.__struct_fields__
        }
    )


def boot_of(dhcp: Dhcp, kind: Literal[4, 6], architectures: Sequence[int]) -> Boot | None:
    """What a client boots by DHCP of a family that says these architectures (RFC 4578, 2.1; RFC 5970, 3.3): by the
    first that is for one of them, or for any; None: nothing.
    """
    for each in dhcp.boot or ():
        is_for_family = each.url if kind == 6 else each.file or each.server is not None
        if is_for_family and (not each.architectures or not set(each.architectures).isdisjoint(architectures)):
            return each
    return None


def problems(request: ApplyPlan) -> Iterator[str]:
    """What of it cannot be told."""
    for index, subnet in enumerate(request.subnets):
        yield from _problems(f"$.subnet[{index}].dhcp", subnet.downlink.dhcp)
        for nth, told in enumerate(subnet.groups.values()):
            yield from _problems(f"$.subnet[{index}].group[{nth}].dhcp", told.dhcp)
    for index, group in enumerate(request.groups):
        yield from _problems(f"$.group[{index}].dhcp", group.stateless.dhcp)


def _problems(place: str, dhcp: Dhcp) -> Iterator[str]:
    if dhcp.ipv6_only and dhcp.ipv6_only < MIN_IPV6_ONLY:
        yield f"{place}.ipv6_only: expected 0 (not told) or at least {MIN_IPV6_ONLY} seconds (RFC 8925)"
    for index, boot in enumerate(dhcp.boot or ()):
        if boot.server is not None and family(boot.server) != 4:
            yield f"{place}.boot[{index}].server: expected an IPv4 address; DHCPv6 clients are told a `url`"
        if not (boot.file or boot.url or boot.server is not None):
            yield f"{place}.boot[{index}]: expected a `file` (DHCPv4), a `url` (DHCPv6), or both"
    seen: set[tuple[int, int]] = set()
    for index, each in enumerate(dhcp.options or ()):
        if each.code in SERVED[each.family]:
            yield f"{place}.option[{index}].code: {each.code} is said by DNMS itself, by other keys of the plan"
        if not 0 < each.code <= _MOST[each.family]:
            yield f"{place}.option[{index}].code: expected 1 to {_MOST[each.family]}"
        if len(each.value) > _LONGEST[each.family]:
            yield f"{place}.option[{index}]: {len(each.value)} bytes; expected at most {_LONGEST[each.family]}"
        if (each.family, each.code) in seen:
            yield f"{place}.option[{index}].code: {each.code} stands here twice"
        seen.add((each.family, each.code))


def _boot_of(table: BootTable) -> Boot:
    return Boot(
        architectures=tuple(table.architectures),
        server=None if table.server is None else table.server.value,
        file=table.file or "",
        url=table.url or "",
        parameters=tuple(table.parameters),
    )


def _boot_table(boot: Boot) -> dict[str, Any]:
    return (
        ({"architectures": list(boot.architectures)} if boot.architectures else {})
        | ({} if boot.server is None else {"server": format_address(boot.server)})
        | ({"file": boot.file} if boot.file else {})
        | ({"url": boot.url} if boot.url else {})
        | ({"parameters": list(boot.parameters)} if boot.parameters else {})
    )


def _option_of(table: OptionTable, place: str) -> RawOption:
    said = [key for key in ("hex", "text", "addresses") if getattr(table, key) is not None]
    if len(said) != 1:
        raise DhcpError(place, f"expected one of hex, text, addresses; found {' and '.join(said) or 'none'}")
    addresses = [each.value for each in table.addresses or ()]
    if any((4 if family(each) == 4 else 6) != table.family for each in addresses):
        raise DhcpError(f"{place}.addresses", f"expected IPv{table.family} addresses")
    packed = b"".join(each[12:] if table.family == 4 else each for each in addresses)
    value = bytes.fromhex(table.hex or "") or (table.text or "").encode() or packed
    return RawOption(family=table.family, code=table.code, value=value)
