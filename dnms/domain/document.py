"""A plan as people write it (TOML, or JSON of the same shape) and as the log has it. Errors name the place."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec

from dnms.domain import delegation_table, dhcp_table, reservation_table, rollout_table, rule_table
from dnms.domain.delegation_table import AdvertiseTable, DelegationTable, RouteTable, UplinkTable
from dnms.domain.dhcp_table import BootTable, DhcpError, DhcpTable, OptionTable
from dnms.domain.policy import PolicyTable, choice_of, table_of
from dnms.domain.reservation_table import ReservationError, ReservationTable
from dnms.domain.rollout_table import RolloutTable
from dnms.domain.rule_table import RuleError, RuleTable
from dnms.domain.written import AddressText, PrefixText, RangeText, Table, choices
from dnms.events.configuration import AssignedRoute
from dnms.events.ip import Prefix, format_address
from dnms.events.plan import (
    Dhcp,
    Downlink,
    Group,
    Name,
    PolicyChoice,
    Pool,
    Realm,
    Reservation,
    Seconds,
    Stateless,
    Subnet,
)
from dnms.events.requests import ApplyPlan
from dnms.events.rule import Rule

_CLIENT = re.compile(r"[0-9a-f]{32}")

LEVEL = 1
"""The highest level of a site that this release decides at."""

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
Domain = Annotated[str, msgspec.Meta(pattern=rf"^({_LABEL}\.)*{_LABEL}\.?\Z", max_length=254)]
"""A domain to search names in (RFC 1035, 2.3.1; with RFC 2782's underscore)."""

MAX_DOCUMENT = 4 << 20
"""Bytes of a plan, as TOML or JSON: it has to fit into one commit, and no site has a tenth of it."""

T = TypeVar("T")


class DocumentError(ValueError):
    """The text is no plan: the place, and what was expected there."""


def client_in_hex(text: str) -> bytes:
    """The client whose id this is; ValueError."""
    if not _CLIENT.fullmatch(text):
        raise ValueError(f"{text!r} is no client id, of 32 hex digits")
    return bytes.fromhex(text)


_EXAMPLES: dict[type, str] = {
    AddressText: "2001:db8::1",
    PrefixText: "2001:db8::/64",
    RangeText: "192.0.2.10-192.0.2.99",
}


class _Site(Table, kw_only=True):
    name: Name
    level: Annotated[int, msgspec.Meta(ge=1)] = 1
    strict: bool = False


_Mtu = Annotated[int, msgspec.Meta(ge=1280, le=65535)]


class _Realm(Table, kw_only=True):
    name: Name


class _Group(Table, kw_only=True):
    name: Name
    number: Annotated[int, msgspec.Meta(ge=1, lt=1 << 16)] | None = None
    nodes: list[str] = []
    ranges: list[PrefixText] = []
    dns: list[AddressText] | None = None  # empty: none, whatever a subnet has
    search: list[Domain] | None = None
    ntp: list[AddressText] | None = None
    mtu: _Mtu | None = None
    policy: PolicyTable = msgspec.field(default_factory=PolicyTable)
    dhcp: DhcpTable = msgspec.field(default_factory=DhcpTable)


class _Route(Table, kw_only=True):
    destination: PrefixText
    gateway: AddressText
    metric: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0


class _OfGroup(Table, kw_only=True):
    """What the members of a group are told on one link."""

    name: Name
    gateways: list[AddressText] | None = None
    routes: list[_Route] | None = None
    dns: list[AddressText] | None = None
    search: list[Domain] | None = None
    ntp: list[AddressText] | None = None
    mtu: _Mtu | None = None
    policy: PolicyTable = msgspec.field(default_factory=PolicyTable)
    dhcp: DhcpTable = msgspec.field(default_factory=DhcpTable)


class _Subnet(Table, kw_only=True):
    name: Name
    realm: Name = "default"
    prefixes: list[PrefixText] = []
    gateways: list[AddressText] = []
    routes: list[_Route] = []
    dns: list[AddressText] = []
    search: list[Domain] = []
    ntp: list[AddressText] = []
    mtu: _Mtu | None = None
    policy: PolicyTable = msgspec.field(default_factory=PolicyTable)
    dhcp: DhcpTable = msgspec.field(default_factory=DhcpTable)
    learn_gateways: bool = False
    rollout: RolloutTable | None = None
    strict: bool = False
    uplink: Name | None = None
    nth: Annotated[int, msgspec.Meta(ge=0, lt=65_536)] = 0
    routers: list[Name] = []
    advertise: AdvertiseTable | None = None
    dhcp_servers: list[AddressText] = []
    group: list[_OfGroup] = []


class _Pool(Table, kw_only=True):
    name: Name
    subnet: Name
    range: RangeText
    strategy: str = "hash"
    preferred: Seconds = 2_700
    valid: Seconds = 3_600
    quarantine: Seconds = 86_400
    drain: Seconds = 3_600
    prefix_per_host: bool = False
    outage: bool = True


class _Document(Table, kw_only=True):
    site: _Site
    realm: list[_Realm] = []
    group: list[_Group] = []
    subnet: list[_Subnet] = []
    pool: list[_Pool] = []
    reservation: list[ReservationTable] = []
    uplink: list[UplinkTable] = []
    delegation: list[DelegationTable] = []
    rule: list[RuleTable] = []


def from_toml(text: str) -> ApplyPlan:
    """The plan in a TOML document; DocumentError."""
    try:
        return from_builtins(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise DocumentError(f"not TOML: {error}") from error
    except RecursionError as error:
        raise DocumentError("Nested too deeply for a plan - at `$`") from error


def from_builtins(document: Any, *, client_of: Callable[[str], bytes] = client_in_hex) -> ApplyPlan:
    """The plan in dicts and lists, as TOML or JSON gave them; DocumentError. A plan without realms has `default`.

    `client_of`: the client that a reservation is for, by its name, its client id or its DUID; ValueError.
    """
    try:
        parsed = msgspec.convert(document, _Document, dec_hook=_parse)
    except msgspec.ValidationError as error:
        raise DocumentError(_explained(str(error))) from error
    except RecursionError as error:
        raise DocumentError("Nested too deeply for a plan - at `$`") from error
    return ApplyPlan(
        site=parsed.site.name,
        level=parsed.site.level,
        strict=parsed.site.strict,
        realms=tuple(Realm(name=realm.name) for realm in parsed.realm) or (Realm(name="default"),),
        groups=tuple(
            Group(
                name=group.name,
                number=group.number or 0,
                nodes=tuple(group.nodes),
                ranges=tuple(prefix.value for prefix in group.ranges),
                stateless=_stateless(group, f"$.group[{index}]"),
            )
            for index, group in enumerate(parsed.group)
        ),
        subnets=tuple(_subnet(subnet, f"$.subnet[{index}]") for index, subnet in enumerate(parsed.subnet)),
        pools=tuple(
            Pool(
                name=pool.name,
                subnet=pool.subnet,
                first=pool.range.first,
                last=pool.range.last,
                strategy=pool.strategy,
                preferred=pool.preferred,
                valid=pool.valid,
                quarantine=pool.quarantine,
                drain=pool.drain,
                prefix_per_host=pool.prefix_per_host,
                outage=pool.outage,
            )
            for pool in parsed.pool
        ),
        reservations=tuple(
            _reservation(each, f"$.reservation[{index}]", parsed.subnet, client_of)
            for index, each in enumerate(parsed.reservation)
        ),
        uplinks=tuple(map(delegation_table.uplink_of, parsed.uplink)),
        delegations=tuple(map(delegation_table.delegation_of, parsed.delegation)),
        rules=tuple(_rule(each, f"$.rule[{index}]") for index, each in enumerate(parsed.rule)),
    )


def json_schema(reference: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of each table of a document, by its name; the whole is `Document`.

    `reference` is how one refers to another, with `{name}` in it.
    """

    def as_text(kind: type) -> dict[str, Any]:
        return {"type": "string", "examples": [_EXAMPLES[kind]]}

    _, found = msgspec.json.schema_components([_Document], schema_hook=as_text, ref_template=reference)
    # Python's end of a text is `$` to JSON Schema's regular expressions (ECMA-262).
    text = msgspec.json.encode(found).decode().replace(r"\\Z", "$")
    written: dict[str, Any] = msgspec.json.decode(re.sub(r'_([A-Z][A-Za-z]*")', r"\1", text))
    return written


def to_builtins(plan: ApplyPlan) -> dict[str, Any]:
    """The document of a plan, in dicts and lists; `from_builtins` gives the plan back."""
    return {
        "site": {"name": plan.site, "level": plan.level} | ({"strict": True} if plan.strict else {}),
        "realm": [{"name": realm.name} for realm in plan.realms],
        "group": [
            {"name": group.name, "number": group.number, "nodes": list(group.nodes)}
            | ({"ranges": [str(prefix) for prefix in group.ranges]} if group.ranges else {})
            | _stateless_table(group.stateless)
            for group in plan.groups
        ],
        "subnet": [
            {
                "name": subnet.name,
                "realm": subnet.realm,
                "prefixes": [str(prefix) for prefix in subnet.prefixes],
            }
            | _stateless_table(subnet)
            | ({"strict": True} if subnet.strict else {})
            | ({"learn_gateways": True} if subnet.learn_gateways else {})
            | delegation_table.downlink_table(subnet.downlink)
            | ({"rollout": rollout_table.table_of(subnet.rollout)} if subnet.rollout is not None else {})
            | (
                {"group": [{"name": name} | _stateless_table(told) for name, told in subnet.groups.items()]}
                if subnet.groups
                else {}
            )
            for subnet in plan.subnets
        ],
        "pool": [
            {
                "name": pool.name,
                "subnet": pool.subnet,
                "range": range_text(pool),
                "strategy": pool.strategy,
                "preferred": pool.preferred,
                "valid": pool.valid,
                "quarantine": pool.quarantine,
                "drain": pool.drain,
            }
            | ({"prefix_per_host": True} if pool.prefix_per_host else {})
            | ({} if pool.outage else {"outage": False})
            for pool in plan.pools
        ],
        "reservation": list(map(reservation_table.table_of, plan.reservations)),
        "uplink": list(map(delegation_table.uplink_table, plan.uplinks)),
        "delegation": list(map(delegation_table.delegation_table, plan.delegations)),
        "rule": list(map(rule_table.table_of, plan.rules)),
    }


def range_text(pool: Pool) -> str:
    """A pool's range as people write it: a prefix where it is one."""
    first, last = int.from_bytes(pool.first), int.from_bytes(pool.last)
    size = last - first + 1
    if size & (size - 1) == 0 and first % size == 0:
        return str(Prefix(pool.first, 129 - size.bit_length()))
    return f"{format_address(pool.first)}-{format_address(pool.last)}"


def _stateless_table(told: Stateless | Subnet) -> dict[str, Any]:
    """What is said of each item; what nothing is said of is left out."""
    table: dict[str, Any] = {}
    if told.gateways is not None:
        table["gateways"] = [format_address(address) for address in told.gateways]
    if told.routes is not None:
        table["routes"] = [
            {"destination": str(r.destination), "gateway": format_address(r.gateway), "metric": r.metric}
            for r in told.routes
        ]
    if told.dns is not None:
        table["dns"] = [format_address(address) for address in told.dns]
    if told.search is not None:
        table["search"] = list(told.search)
    if told.ntp is not None:
        table["ntp"] = [format_address(address) for address in told.ntp]
    if told.mtu:
        table["mtu"] = told.mtu
    if told.policy != PolicyChoice():
        table["policy"] = table_of(told.policy)
    if isinstance(told, Stateless) and told.dhcp != Dhcp():
        table["dhcp"] = dhcp_table.table_of(told.dhcp)
    return table


def _stateless(told: _Group | _OfGroup, place: str) -> Stateless:
    gateways, routes = (told.gateways, told.routes) if isinstance(told, _OfGroup) else (None, None)
    return Stateless(
        gateways=None if gateways is None else _addresses(gateways),
        routes=None if routes is None else _routes(routes),
        dns=None if told.dns is None else _addresses(told.dns),
        search=None if told.search is None else tuple(told.search),
        ntp=None if told.ntp is None else _addresses(told.ntp),
        mtu=told.mtu or 0,
        policy=choice_of(told.policy),
        dhcp=_dhcp(told.dhcp, place),
    )


def _dhcp(table: DhcpTable, place: str) -> Dhcp:
    try:
        return dhcp_table.dhcp_of(table)
    except DhcpError as error:
        raise DocumentError(f"{error} - at `{place}.dhcp.{error.field}`") from error


def _addresses(addresses: list[AddressText]) -> tuple[bytes, ...]:
    return tuple(address.value for address in addresses)


def _routes(routes: list[_Route]) -> tuple[AssignedRoute, ...]:
    return tuple(
        AssignedRoute(destination=r.destination.value, gateway=r.gateway.value, metric=r.metric) for r in routes
    )


def _subnet(subnet: _Subnet, place: str) -> Subnet:
    groups: dict[str, Stateless] = {}
    for index, told in enumerate(subnet.group):
        if told.name in groups:
            raise DocumentError(f"{told.name!r} stands here twice; names are unique - at `{place}.group[{index}].name`")
        groups[told.name] = _stateless(told, f"{place}.group[{index}]")
    try:
        rollout = rollout_table.rollout_of(subnet.rollout)
    except ValueError as error:
        raise DocumentError(f"{error} - at `{place}.rollout.waves`") from error
    return Subnet(
        name=subnet.name,
        realm=subnet.realm,
        prefixes=tuple(prefix.value for prefix in subnet.prefixes),
        gateways=_addresses(subnet.gateways),
        routes=_routes(subnet.routes),
        dns=_addresses(subnet.dns),
        search=tuple(subnet.search),
        ntp=_addresses(subnet.ntp),
        mtu=subnet.mtu or 0,
        policy=choice_of(subnet.policy),
        strict=subnet.strict,
        groups=groups,
        learn_gateways=subnet.learn_gateways,
        rollout=rollout,
        downlink=Downlink(
            uplink=subnet.uplink or "",
            nth=subnet.nth,
            routers=tuple(subnet.routers),
            advertise=delegation_table.advertise_of(subnet.advertise),
            dhcp=_dhcp(subnet.dhcp, place),
            dhcp_servers=_addresses(subnet.dhcp_servers),
        ),
    )


def _rule(table: RuleTable, place: str) -> Rule:
    try:
        return rule_table.rule_of(table)
    except RuleError as error:
        raise DocumentError(f"{error} - at `{place}.{error.field}`") from error


def _reservation(
    each: ReservationTable, place: str, subnets: list[_Subnet], client_of: Callable[[str], bytes]
) -> Reservation:
    address, subnet = each.address.value, each.subnet
    if subnet is None:
        found = [one.name for one in subnets if any(address in prefix.value for prefix in one.prefixes)]
        if len(found) != 1:
            text = f"{len(found) or 'no'} subnets have {format_address(address)}; name one - at `{place}.subnet`"
            raise DocumentError(text)
        [subnet] = found
    try:
        return reservation_table.reservation_of(each, subnet, client_of)
    except ReservationError as error:
        raise DocumentError(f"{error} - at `{place}.{error.field}`") from error


_EXPECTED = {
    AddressText: "an IPv4 or IPv6 address",
    PrefixText: "a prefix such as 2001:db8::/64",
    RangeText: "a prefix, or first-last",
}


def _parse(kind: type[T], value: object) -> T:
    expected = _EXPECTED[kind]
    if not isinstance(value, str):
        raise ValueError(f"Expected {expected} as a string")
    try:
        return kind(value)  # type: ignore[call-arg]  # every kind in _EXPECTED takes a text
    except ValueError as error:
        raise ValueError(f"Expected {expected}: {error}") from error


_TABLES: dict[str, type[Table]] = {
    "": _Document,
    "site": _Site,
    "realm": _Realm,
    "group": _Group,
    "group.policy": PolicyTable,
    "subnet": _Subnet,
    "subnet.policy": PolicyTable,
    "subnet.rollout": RolloutTable,
    "subnet.routes": _Route,
    "subnet.group": _OfGroup,
    "subnet.group.policy": PolicyTable,
    "subnet.group.routes": _Route,
    "pool": _Pool,
    "reservation": ReservationTable,
    "subnet.advertise": AdvertiseTable,
    "subnet.advertise.routes": RouteTable,
    **{f"{of}.dhcp": DhcpTable for of in ("subnet", "group", "subnet.group")},
    **{f"{of}.dhcp.boot": BootTable for of in ("subnet", "group", "subnet.group")},
    **{f"{of}.dhcp.option": OptionTable for of in ("subnet", "group", "subnet.group")},
    "uplink": UplinkTable,
    "delegation": DelegationTable,
    "rule": RuleTable,
}
"""By the words of a place."""


_TEXTS = {
    "search": "a domain such as home.example",
    "hex": "bytes in hex, such as 0a0b0c",
    **dict.fromkeys(("file", "url", "parameters"), "printable ASCII without blanks"),
}
"""What is expected that is no name, by the last word of its place."""


def _explained(text: str) -> str:
    """msgspec's complaint, with what a person needs to put it right; it leaves the place out at the document's top."""
    what, _, place = text.partition(" - at `")
    place = place.removesuffix("`") or "$"
    words = re.findall(r"\.(\w+)", place)
    if "unknown field" in what and (table := _TABLES.get(".".join(words))):
        what += f"; known are {', '.join(table.__struct_encode_fields__)}"
    elif what.startswith("Invalid enum value") and (table := _TABLES.get(".".join(words[:-1]))):
        what += f"; expected one of {choices(table, words[-1])}"
    elif what == "Object missing required field `site`":
        what = 'Expected a [site] table with the name of the site, such as name = "home"'
    elif what.startswith("Expected `str` matching regex"):
        name = "a name: at most 63 lower-case letters, digits and hyphens, with no hyphen at its ends"
        what = f"Expected {_TEXTS.get(words[-1], name)}"
    return f"{what} - at `{place}`"
