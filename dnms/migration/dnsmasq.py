"""What dnsmasq is told of DHCP, in the terms of DNMS (`dnsmasq(8)`). What it does as a DNS server it may go on doing.

Ranges with one tag (`set:`), or of one interface, or with none, are one link.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from dnms.domain.identity import duid_of_hardware, identity_of, parse_hardware
from dnms.events.ip import Prefix, family, format_address, parse_address, parse_prefix
from dnms.migration import raw_options
from dnms.migration.model import (
    DAY,
    LONGEST,
    Configuration,
    Left,
    Lifetimes,
    Link,
    MigrationError,
    Place,
    Range,
    Read,
    Reservation,
    addresses,
    domain,
    duid,
    octets,
)
from dnms.migration.plan import label

VALID = {4: 3_600, 6: DAY}
"""Seconds of a lease by family, where a range says none."""

LAN = "lan"
"""How a link is called that nothing names."""

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": DAY, "w": 7 * DAY}
_TIME = re.compile(r"(\d+)([smhdw]?)|infinite|deprecated")
_MODES = frozenset({"static", "proxy", "ra-only", "ra-names", "ra-stateless", "ra-advrouter", "slaac", "off-link"})
_SHORT = {
    "F": "dhcp-range",
    "G": "dhcp-host",
    "O": "dhcp-option",
    "s": "domain",
    "C": "conf-file",
    "7": "conf-dir",
}
_ABOUT_DHCP = ("dhcp-", "ra-", "pxe-", "tftp-", "bootp-")
_MEANINGLESS = frozenset(
    {
        "dhcp-authoritative",
        "dhcp-lease-max",
        "dhcp-leasefile",
        "dhcp-no-override",
        "dhcp-rapid-commit",
        "dhcp-reply-delay",
        "dhcp-script",
        "dhcp-sequential-ip",
        "dhcp-ttl",
        "dhcp-duid",
        "dhcp-fqdn",
    }
)
"""How it works, and nothing of what clients are given; its script is a subscriber's work in DNMS."""

_WHY = {
    "conf-dir": "name each of its files on the command line",
    "dhcp-hostsdir": "name each of its files on the command line, as lines dhcp-host=…",
    "dhcp-hostsfile": "name its lines as dhcp-host=… in a file on the command line",
    "dhcp-ignore": "make a [[group]] of its nodes, with a policy",
    "dhcp-mac": "make a [[group]] of its nodes",
    "dhcp-match": "make a [[group]] of its nodes",
    "dhcp-optsfile": "name its lines as dhcp-option=… in a file on the command line",
    "dhcp-relay": "an agent answers relays of others",
    "dhcp-userclass": "make a [[group]] of its nodes",
    "dhcp-vendorclass": "make a [[group]] of its nodes",
}

_OPTIONS4 = {
    "3": "router",
    "6": "dns-server",
    "15": "domain-name",
    "26": "mtu",
    "42": "ntp-server",
    "119": "domain-search",
}
_OPTIONS6 = {"23": "dns-server", "24": "domain-search", "31": "sntp-server", "56": "ntp-server"}
_FIELDS = {"router": "gateways", "dns-server": "dns", "ntp-server": "ntp", "sntp-server": "ntp"}


class _Line(msgspec.Struct, frozen=True):
    key: str
    value: str
    place: Place


def configuration(files: list[tuple[str, str]], read: Read) -> Configuration:
    """What the files, name and text of each, say together; `read` reads what they include. MigrationError."""
    lines = [line for file, text in files for line in _lines(file, text, read, 0)]
    return _Reader(lines).read()


def _lines(file: str, text: str, read: Read, included: int) -> Iterator[_Line]:
    for number, raw in enumerate(text.splitlines(), start=1):
        line = re.sub(r"(^|\s)#.*", "", raw).strip()
        if not line:
            continue
        key, _, value = (part.strip().strip('"') for part in line.partition("="))
        found = _Line(_SHORT.get(key, key), value, Place(file, number))
        if found.key != "conf-file" or not value:
            yield found
            continue
        if included:
            raise MigrationError(f"{found.place}: files include each other in turn")
        try:
            inner = read(value)
        except (OSError, UnicodeDecodeError) as error:
            raise MigrationError(f"{found.place}: cannot read {value}: {error}") from error
        yield from _lines(value, inner, read, included + 1)


class _Reader:
    def __init__(self, lines: list[_Line]) -> None:
        self._lines = lines
        self._links: dict[str, Link] = {}
        self._found = Configuration()

    def read(self) -> Configuration:
        """MigrationError."""
        found, dns = self._found, [each for each in self._lines if not _is_about_dhcp(each.key)]
        self._each("dhcp-range", self._range)
        for each in self._lines:
            match each.key:
                case "dhcp-range" | "dhcp-host":
                    pass
                case "dhcp-option" | "dhcp-option-force":
                    self._option(each)
                case "domain":
                    self._domain(each)
                case "dhcp-boot":
                    self._boot(each)
                case "enable-ra":
                    self._advertise()
                case key if _is_about_dhcp(key) and key not in _MEANINGLESS:
                    self._left(each.place, key, _WHY.get(key, "it has no place in a plan"))
        self._each("dhcp-host", self._host)
        for link in self._links.values():
            if not link.told.gateways and any(each.family == 4 for each in link.prefixes):
                text = "dnsmasq tells its own address on the link; put it into the plan, and the servers of names"
                self._left(link.place, "no dhcp-option of the router", text)
        if dns:
            text = "DNMS is no DNS server; dnsmasq may go on as one, without its dhcp-range"
            self._left(dns[0].place, f"{len(dns)} settings that are not of DHCP", text)
        found.links = list(self._links.values())
        return found

    def _each(self, key: str, take: Callable[[_Line], None]) -> None:
        for each in self._lines:
            if each.key == key:
                try:
                    take(each)
                except ValueError as error:
                    if isinstance(error, MigrationError):
                        raise
                    self._left(each.place, f"{key}={each.value}", str(error))

    def _range(self, line: _Line) -> None:
        """ValueError."""
        parts = [part.strip() for part in line.value.split(",")]
        tag = next((part.partition(":")[2] for part in parts if part.startswith(("set:", "interface:"))), "")
        if any(part.startswith("tag:") for part in parts):
            self._left(line.place, f"condition of dhcp-range={line.value}", "make a [[group]] with ranges of its own")
        rest = [part for part in parts if not part.startswith(("set:", "tag:", "interface:"))]
        if any(part.startswith("constructor:") for part in rest):
            raise ValueError("the prefix is that of an interface: write it, such as 2001:db8:1:1::100")
        if not rest:
            raise ValueError("it has no address")
        first = parse_address(rest[0])
        modes = {part for part in rest[1:] if part in _MODES}
        if "proxy" in modes:
            raise ValueError("a DHCP proxy gives no addresses")
        others = [part for part in rest[1:] if part not in _MODES]
        last = first
        if others and _is_address(others[0]) and (family(first) == 6 or not others[0].startswith("255.")):
            last = parse_address(others.pop(0))
        prefix = self._prefix(line, first, others)
        valid = _seconds(others.pop(0)) if others and _TIME.fullmatch(others[0]) else VALID[family(first)]
        if valid > LONGEST:
            self._left(line.place, f"lease time of dhcp-range={line.value}", f"it is {LONGEST} s, a year, which ends")
        lifetimes = Lifetimes(preferred=min(valid, LONGEST), valid=min(valid, LONGEST))
        link = self._links.setdefault(tag, Link(name=label(tag, LAN), place=line.place))
        if prefix not in link.prefixes:
            link.prefixes.append(prefix)
        link.lifetimes.setdefault(prefix.family, lifetimes)
        if not modes & {"static", "ra-only", "ra-stateless"} and last != first:
            link.ranges.append(Range(first=first, last=last, lifetimes=lifetimes, place=line.place))
        if modes & {"ra-only", "ra-names", "ra-stateless", "slaac"}:
            managed = last != first and not modes & {"ra-only", "ra-stateless"}
            self._advertised(link, autonomous=True, managed=managed)

    def _prefix(self, line: _Line, first: bytes, others: list[str]) -> Prefix:
        """That of a range, whose length or mask stands next in `others`. ValueError."""
        if family(first) == 6:
            length = int(others.pop(0)) if others and others[0].isdecimal() and int(others[0]) <= 128 else 64
            if length > 64:
                raise ValueError("it is smaller than a /64, the smallest that is managed")
            return parse_prefix(str(ipaddress.ip_network(f"{format_address(first)}/{length}", strict=False)))
        mask = "255.255.255.0"
        if others and others[0].startswith("255."):
            mask = others.pop(0)
            if others and _is_address(others[0]):
                others.pop(0)  # the broadcast address
        else:
            text = "dnsmasq takes the mask of its interface; a /24 is assumed: write the mask into the line"
            self._left(line.place, f"mask of dhcp-range={line.value}", text)
        return parse_prefix(str(ipaddress.ip_network(f"{format_address(first)}/{mask}", strict=False)))

    def _option(self, line: _Line) -> None:
        parts = [part.strip() for part in line.value.split(",")]
        tags = [part for part in parts if part.startswith("tag:")]
        what, *values = [part for part in parts if not part.startswith("tag:")] or [""]
        kind = 6 if what.startswith("option6:") else 4
        name = what.removeprefix("option6:").removeprefix("option:")
        name = (_OPTIONS6 if kind == 6 else _OPTIONS4).get(name, name)
        shown = f"{line.key}={line.value}"
        links = [self._links[tag[4:]] for tag in tags if tag[4:] in self._links] if tags else [*self._links.values()]
        if not links and tags:
            self._left(line.place, shown, "make a [[group]] of its nodes, with what they are told")
            return
        try:
            for link in links:
                self._tell(link, kind, name, values)
        except ValueError as error:
            self._left(line.place, shown, str(error))

    def _tell(self, link: Link, kind: int, name: str, values: list[str]) -> None:
        """ValueError."""
        told = link.told
        if any(value.strip("[]") in ("0.0.0.0", "::") for value in values):
            raise ValueError("it stands for the address of dnsmasq itself; write that")
        if name in _FIELDS:
            field = _FIELDS[name]
            there = [each for each in getattr(told, field) or [] if family(each) != kind]
            setattr(told, field, there + addresses((value.strip("[]") for value in values), kind))
        elif name == "domain-name":
            [told.domain] = map(domain, values)
        elif name == "domain-search":
            told.search = list(map(domain, values))
        elif name == "mtu" and values and 1280 <= int(values[0]) <= 65535:
            told.mtu = int(values[0])
        else:
            code = int(name) if name.isdecimal() else raw_options.code_of(kind, name)
            if code is None or not values:
                raise ValueError("it has no place in a plan, but as hex in dhcp.option")
            raw_options.put(told, kind, code, _value(kind, values))

    def _boot(self, line: _Line) -> None:
        file, _, rest = line.value.partition(",")
        address = rest.rpartition(",")[2]
        if line.value.startswith("tag:") or not _is_address(address or "0.0.0.0"):
            self._left(line.place, f"dhcp-boot={line.value}", "write it as dhcp.boot of a [[group]], or of the subnet")
            return
        for link in self._links.values():
            link.told.boot = {"file": file} | ({"server": address} if address else {})

    def _domain(self, line: _Line) -> None:
        name, _, where = line.value.partition(",")
        if where:
            self._left(line.place, f"domain={line.value}", "a domain of some addresses; write it to their subnet")
            return
        for link in self._links.values():
            link.told.domain = link.told.domain or domain(name)

    def _advertise(self) -> None:
        for link in self._links.values():
            if any(each.family == 6 for each in link.prefixes) and link.advertise is None:
                self._advertised(link, autonomous=False, managed=True)

    def _advertised(self, link: Link, *, autonomous: bool, managed: bool) -> None:
        link.advertise = {"autonomous": autonomous, "managed": managed, "other": True}

    def _host(self, line: _Line) -> None:
        """ValueError."""
        hardware: list[bytes] = []
        who = b""
        fixed: list[bytes] = []
        for part in (part.strip() for part in line.value.split(",")):
            if part.startswith("id:") and part != "id:*":
                text = part[3:]
                who = duid(text) if re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2})+", text) else text.encode()
            elif _is_address(part.strip("[]")):
                fixed.append(parse_address(part.strip("[]")))
            elif re.fullmatch(r"([0-9a-fA-F]{1,2}:){5}[0-9a-fA-F]{1,2}", part):
                hardware.append(parse_hardware(octets(part).hex(":")))
            elif part == "ignore" or part.startswith(("set:", "tag:")):
                self._left(line.place, f"{part} of dhcp-host={line.value}", "make a [[group]] of its nodes")
        if not fixed:
            return
        if not who and len(hardware) != 1:
            raise ValueError("it has to be for one hardware address, or for an id")
        for address in fixed:
            if not any(link.has(address) for link in self._links.values()):
                raise ValueError(f"{format_address(address)} is in no dhcp-range")
            if who:
                known = who if family(address) == 6 else identity_of(who, bytes(6))[0]
                reserved = Reservation(address=address, duid=known, place=line.place)
            else:
                of = duid_of_hardware(hardware[0])
                reserved = Reservation(address=address, duid=of, hardware=hardware[0], place=line.place)
            self._found.reservations.append(reserved)

    def _left(self, place: Place, what: str, why: str) -> None:
        self._found.left.append(Left(place, what, why))


def _is_about_dhcp(key: str) -> bool:
    return key.startswith(_ABOUT_DHCP) or key in ("enable-ra", "conf-dir", "domain", "enable-tftp")


def _is_address(text: str) -> bool:
    try:
        parse_address(text)
    except ValueError:
        return False
    return True


def _value(kind: int, values: list[str]) -> dict[str, Any]:
    """As a plan has it. dnsmasq takes for addresses what can be some, and for bytes what has colons. ValueError."""
    texts = [value.strip("[]") for value in values]
    if all(map(_is_address, texts)):
        return {"addresses": [format_address(each) for each in addresses(texts, kind)]}
    if len(values) == 1 and re.fullmatch(r"([0-9a-fA-F]{2}:)+[0-9a-fA-F]{2}", values[0]):
        return {"hex": octets(values[0]).hex()}
    return {"text": ",".join(values)}


def _seconds(text: str) -> int:
    found = _TIME.fullmatch(text)
    if found is None or found[1] is None:
        return LONGEST + 1
    return max(120, int(found[1]) * _UNITS[found[2]])
