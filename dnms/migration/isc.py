"""The configuration of ISC dhcpd, for DHCPv4 or DHCPv6, in the terms of DNMS (`dhcpd.conf(5)`, `dhcp-options(5)`).

Subnets of one shared network are one link, and so are those that name one `interface`. A file for each family can name
both alike.
"""

from __future__ import annotations

import copy
import ipaddress
from collections.abc import Callable

import msgspec

from dnms.domain.identity import duid_of_hardware, identity_of, parse_duid, parse_hardware
from dnms.events.ip import Prefix, family, format_address, parse_address, parse_prefix
from dnms.migration import raw_options
from dnms.migration.isc_text import Statement, parse
from dnms.migration.model import (
    LONGEST,
    Blocks,
    Configuration,
    Left,
    Lifetimes,
    Link,
    MigrationError,
    Place,
    Range,
    Read,
    Reservation,
    Told,
    addresses,
    domain,
    octets,
)
from dnms.migration.plan import label

VALID = 43_200
"""Seconds of a lease, where nothing says otherwise."""

PREFERRED = 5 / 8
"""Of it, by DHCPv6, where nothing says otherwise."""

_MEANINGLESS = frozenset(
    {
        "abandon-lease-time",
        "authoritative",
        "ddns-update-style",
        "dhcpv6-lease-file-name",
        "dhcpv6-pid-file-name",
        "lease-file-name",
        "local-port",
        "log-facility",
        "not",
        "omapi-key",
        "omapi-port",
        "one-lease-per-client",
        "pid-file-name",
        "ping-check",
        "ping-timeout",
        "server-identifier",
        "server-name",
        "update-conflict-detection",
    }
)
"""How dhcpd works, and nothing of what clients are given."""

_GROUPS = "make a [[group]] of its nodes, with what they are told"

_WHY = {
    "class": _GROUPS,
    "subclass": _GROUPS,
    "allow": _GROUPS,
    "deny": _GROUPS,
    "if": "conditions are not carried",
    "failover": "agents of one subnet need none: start several",
    "max-lease-time": "everybody has the default lease time",
    "min-lease-time": "everybody has the default lease time",
    "zone": "DNMS writes no names into a DNS of another",
    "key": "DNMS writes no names into a DNS of another",
}

_BOOT = {"next-server": "server", "filename": "file"}

_TIMES = ("default-lease-time", "preferred-lifetime")


class _Scope(msgspec.Struct, frozen=True):
    """What holds for everything in a block, unless that says otherwise."""

    told: dict[int, Told]
    times: dict[str, int]
    network: str = ""


def configuration(files: list[tuple[str, str]], read: Read) -> Configuration:
    """What the files, name and text of each, say together; `read` reads what they include. MigrationError."""
    reader = _Reader()
    hosts: list[Statement] = []
    for file, text in files:
        top = _Scope({4: Told(), 6: Told()}, {})
        reader.block(parse(file, text, read), top, hosts)
    for host in hosts:  # which may stand before the subnet of its address
        reader.host(host)
    reader.found.links = list(reader.links.values())
    return reader.found


class _Reader:
    def __init__(self) -> None:
        self.links: dict[str, Link] = {}
        self.found = Configuration()

    def block(
        self, statements: list[Statement], above: _Scope, hosts: list[Statement], link: Link | None = None
    ) -> None:
        """The statements of a block, `link` if they are those of a subnet. MigrationError."""
        scope = self._narrowed(statements, above)
        for each in statements:
            match each.text(0):
                case "shared-network":
                    inner = msgspec.structs.replace(scope, network=each.text(1))
                    self.block(each.block or [], inner, hosts)
                case "group":
                    self._of_a_group(each)
                    self.block(each.block or [], scope, hosts)
                case "subnet" | "subnet6":
                    self._subnet(each, scope, hosts)
                case "pool" | "pool6":
                    self._pool(each, scope, hosts, link)
                case "host":
                    hosts.append(each)
                case "range" | "range6" | "prefix6" if link is not None:
                    self._given(each, scope, link)
                case "option" | "interface" | "next-server" | "filename":
                    pass
                case name if name in _TIMES or name in _MEANINGLESS or name.startswith("ddns-"):
                    pass
                case name:
                    self._left(each.place, " ".join(each.values(0)[:3]), _WHY.get(name, "it has no place in a plan"))

    def _of_a_group(self, each: Statement) -> None:
        """What is told to the hosts of a group, and not to a subnet in it."""
        block = each.block or []
        if any(one.text(0) in ("subnet", "subnet6", "shared-network") for one in block):
            return
        for one in block:
            if one.text(0) == "option" or one.text(0) in _BOOT:
                self._left(one.place, f"{' '.join(one.values(0)[:2])} of a group", _GROUPS)

    def _narrowed(self, statements: list[Statement], above: _Scope) -> _Scope:
        told = {kind: copy.copy(each) for kind, each in above.told.items()}
        times = dict(above.times)
        for each in statements:
            if each.text(0) in _TIMES and each.text(1).isdecimal():
                times[each.text(0)] = int(each.text(1))
            elif each.text(0) in _BOOT:
                self._boot(each, told[4])
            elif each.text(0) == "option" and each.block is None:
                self._option(each, told, times)
        return msgspec.structs.replace(above, told=told, times=times)

    def _boot(self, each: Statement, told: Told) -> None:
        text = each.text(1)
        if each.begins("next-server"):
            try:
                parse_address(text)
            except ValueError:
                self._left(each.place, f"next-server {text}", "it is a name; write its address")
                return
        told.boot = told.boot | {_BOOT[each.text(0)]: text}

    def _option(self, each: Statement, told: dict[int, Told], times: dict[str, int]) -> None:
        name, values = each.text(1), each.values(2)
        if name in ("dhcp-renewal-time", "dhcp-rebinding-time") and values[:1] and values[0].isdecimal():
            times[name] = int(values[0])
            return
        if name in _OF_THE_LINK:
            return
        family6 = name.startswith("dhcp6.")
        code = raw_options.code_of(6 if family6 else 4, name.removeprefix("dhcp6."))
        if name not in _TAKES and code is None:
            self._left(each.place, f"option {name}", "it has no place in a plan, but as hex in dhcp.option")
            return
        try:
            if code is not None:
                raw_options.take(told[6 if family6 else 4], 6 if family6 else 4, code, values)
            else:
                kind, take = _TAKES[name]
                take(told[kind], values)
        except ValueError as error:
            self._left(each.place, f"option {name}", f"{error}" or "it is not understood")

    # -- subnets

    def _subnet(self, each: Statement, scope: _Scope, hosts: list[Statement]) -> None:
        prefix = _prefix(each)
        if prefix.family == 6 and prefix.length > 64:
            self._left(each.place, f"subnet {prefix}", "it is smaller than a /64, the smallest that is managed")
            return
        block = each.block or []
        interface = next((one.text(1) for one in block if one.begins("interface")), "")
        key = scope.network or interface or str(prefix)
        name = label(scope.network or interface or f"net-{format_address(prefix.network)}", "net")
        link = self.links.setdefault(key, Link(name=name, place=each.place))
        if prefix not in link.prefixes:
            link.prefixes.append(prefix)
        inner = self._narrowed(block, scope)
        link.lifetimes.setdefault(prefix.family, self._lifetimes(each.place, inner, prefix.family))
        self._tell(each.place, link, inner.told[prefix.family], prefix.family)
        self.block(block, scope, hosts, link)

    def _pool(self, each: Statement, scope: _Scope, hosts: list[Statement], link: Link | None) -> None:
        block = each.block or []
        if any(one.begins("option") for one in block):
            self._left(each.place, "options of a pool", _GROUPS)
        ranges = [one for one in block if one.text(0) in ("range", "range6", "prefix6")]
        if link is None:
            link = next((one for one in self.links.values() if _lies_in(ranges, one)), None)
        if link is None:
            self._left(each.place, "pool", "its subnet stands behind it; write it into the subnet")
            return
        self.block([one for one in block if not one.begins("option")], scope, hosts, link)

    def _given(self, each: Statement, scope: _Scope, link: Link) -> None:
        values = [value for value in each.values(1) if value not in ("dynamic-bootp", "temporary")]
        if "temporary" in each.values(1):
            self._left(each.place, " ".join(each.values(0)), "temporary addresses (IA_TA) are not given")
            return
        kind = 4 if each.text(0) == "range" else 6
        lifetimes = self._lifetimes(each.place, scope, kind)
        try:
            if each.text(0) == "prefix6":
                self._blocks(each, values, link, lifetimes)
                return
            if "/" in values[0]:
                prefix = parse_prefix(values[0])
                first, last = prefix.network, prefix.last.to_bytes(16)
            else:
                first, last = parse_address(values[0]), parse_address(values[-1])
        except (ValueError, IndexError) as error:
            raise MigrationError(f"{each.place}: {error}") from error
        link.ranges.append(Range(first=first, last=last, lifetimes=lifetimes, place=each.place))

    def _blocks(self, each: Statement, values: list[str], link: Link, lifetimes: Lifetimes) -> None:
        """Of all between two blocks, the prefixes that are as many together. ValueError, IndexError."""
        length = int(values[2].lstrip("/"))
        first, last = (int(ipaddress.IPv6Address(value)) for value in values[:2])
        end = last | ((1 << (128 - length)) - 1)
        whole = ipaddress.summarize_address_range(ipaddress.IPv6Address(first), ipaddress.IPv6Address(end))
        link.blocks += [
            Blocks(prefix=parse_prefix(str(one)), length=length, exclude=False, lifetimes=lifetimes, place=each.place)
            for one in whole
        ]

    def _lifetimes(self, place: Place, scope: _Scope, kind: int) -> Lifetimes:
        valid, times = scope.times.get("default-lease-time", VALID), scope.times
        if valid > LONGEST:
            self._left(place, f"default-lease-time {valid}", f"it is {LONGEST} s, a year, which ends")
            valid = LONGEST
        renewal = times.get("dhcp-renewal-time")
        preferred = (
            (2 * renewal if renewal else valid)
            if kind == 4
            else times.get("preferred-lifetime", int(valid * PREFERRED))
        )
        preferred = max(1, min(valid, preferred))
        rebinding = times.get("dhcp-rebinding-time")
        if rebinding and rebinding != int(0.8 * preferred):
            self._left(place, f"dhcp-rebinding-time {rebinding}", f"clients rebind after {int(0.8 * preferred)} s")
        return Lifetimes(preferred=preferred, valid=max(1, valid))

    def _tell(self, place: Place, link: Link, told: Told, kind: int) -> None:
        for name in ("gateways", "dns", "ntp", "search"):
            there, new = getattr(link.told, name) or [], getattr(told, name) or []
            of_family = there if name == "search" else [each for each in there if family(each) == kind]
            if new and of_family and of_family != new:
                self._left(
                    place, name, "other subnets of this link say otherwise; clients of a link are told all of it"
                )
            setattr(link.told, name, [*there, *(each for each in new if each not in there)] or None)
        link.told.domain = link.told.domain or told.domain
        link.told.mtu = told.mtu or link.told.mtu
        link.told.boot = told.boot or link.told.boot
        link.told.options = link.told.options | told.options

    # -- hosts

    def host(self, each: Statement) -> None:
        """A machine, and what is reserved for it."""
        block, name = each.block or [], each.text(1)
        duid = hardware = b""
        fixed: list[str] = []
        for one in block:
            try:
                if one.begins("hardware", "ethernet"):
                    hardware = parse_hardware(":".join(part.zfill(2) for part in one.text(2).split(":")))
                elif one.begins("host-identifier", "option", "dhcp6.client-id"):
                    duid = parse_duid(octets(one.text(3)).hex(":"))
                elif one.begins("option", "dhcp-client-identifier") or one.begins("uid"):
                    word = one.words[-1]
                    duid = identity_of(word.octets if word.octets is not None else octets(word.text), bytes(6))[0]
                elif one.text(0) in ("fixed-address", "fixed-address6"):
                    fixed += one.values(1)
                elif one.text(0) == "option" or one.text(0) in _WHY or one.text(0) in _BOOT:
                    self._left(one.place, f"{' '.join(one.values(0)[:2])} of host {name}", _GROUPS)
                elif one.text(0) == "fixed-prefix6":
                    self._left(one.place, f"fixed-prefix6 of host {name}", "prefixes are not reserved")
            except ValueError as error:
                self._left(one.place, f"host {name}", str(error))
        if not fixed:
            return
        if duid or hardware:
            self._reserve(each, fixed, duid or duid_of_hardware(hardware), b"" if duid else hardware)
        else:
            self._left(each.place, f"host {name}", "it says neither a hardware address nor a DUID")

    def _reserve(self, each: Statement, fixed: list[str], duid: bytes, hardware: bytes) -> None:
        name = each.text(1)
        for text in fixed:
            try:
                address = parse_address(text)
            except ValueError:
                self._left(each.place, f"host {name}", f"{text} is a name; write its address")
                continue
            if not any(link.has(address) for link in self.links.values()):
                self._left(each.place, f"host {name}", f"{text} is in no subnet")
                continue
            reserved = Reservation(address=address, duid=duid, hardware=hardware, place=each.place)
            self.found.reservations.append(reserved)

    def _left(self, place: Place, what: str, why: str) -> None:
        left = Left(place, what, why)
        if left not in self.found.left:
            self.found.left.append(left)


def _prefix(each: Statement) -> Prefix:
    text = each.text(1) if each.begins("subnet6") else f"{each.text(1)}/{each.text(3)}"
    try:
        return parse_prefix(text)
    except ValueError as error:
        raise MigrationError(f"{each.place}: {error}") from error


def _lies_in(ranges: list[Statement], link: Link) -> bool:
    try:
        texts = [value for each in ranges for value in each.values(1) if value[:1].isdigit() or ":" in value]
        return bool(texts) and all(link.has(parse_address(text.partition("/")[0])) for text in texts)
    except ValueError:
        return False


def _to(name: str, kind: int) -> Callable[[Told, list[str]], None]:
    def take(told: Told, values: list[str]) -> None:
        setattr(told, name, addresses(values, kind))

    return take


def _name(told: Told, values: list[str]) -> None:
    [told.domain] = map(domain, values)


def _search(told: Told, values: list[str]) -> None:
    told.search = [domain(each) for value in values for each in value.split()]


def _mtu(told: Told, values: list[str]) -> None:
    [told.mtu] = map(int, values)
    if not 1280 <= told.mtu <= 65535:
        told.mtu = 0
        raise ValueError("a plan has an MTU of 1280 to 65535")


_OF_THE_LINK = frozenset({"subnet-mask", "broadcast-address", "dhcp-lease-time"})

_TAKES: dict[str, tuple[int, Callable[[Told, list[str]], None]]] = {
    "routers": (4, _to("gateways", 4)),
    "domain-name-servers": (4, _to("dns", 4)),
    "ntp-servers": (4, _to("ntp", 4)),
    "domain-name": (4, _name),
    "domain-search": (4, _search),
    "interface-mtu": (4, _mtu),
    "dhcp6.name-servers": (6, _to("dns", 6)),
    "dhcp6.domain-search": (6, _search),
    "dhcp6.sntp-servers": (6, _to("ntp", 6)),
}
"""By the name of an option: its family, and how it is read."""
