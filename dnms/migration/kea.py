"""Kea's configuration (`kea-dhcp4.conf`, `kea-dhcp6.conf`) in the terms of DNMS.

Which subnets are one link: those of a shared network, and those of one `interface`. Where the server listens on one
interface alone, the one subnet that names none and has no relay is there; of several, the one with the address that it
listens on, as the others are for relays. So a file for each family makes subnets with both.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import msgspec

from dnms.domain.identity import duid_of_hardware, identity_of, parse_duid, parse_hardware
from dnms.events.ip import Prefix, family, format_address, parse_address, parse_prefix
from dnms.migration import kea_options
from dnms.migration.kea_json import Value, parse
from dnms.migration.kea_keys import CARRIED, MEANINGLESS, WHY
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
    octets,
)
from dnms.migration.plan import label

VALID, PREFERRED = 7_200, 3_600
"""Lifetimes, where Kea is not told any."""

_NOBODY = "0.0.0.0"

T2 = 0.8
"""Of the preferred lifetime, when clients of DNMS rebind."""


def configuration(files: list[tuple[str, str]], read: Read) -> Configuration:
    """What the files, name and text of each, say together; `read` reads what they include. MigrationError."""
    found = Configuration()
    links: dict[str, Link] = {}
    for file, text in files:
        whole = parse(file, text, read)
        servers = [key for key in ("Dhcp4", "Dhcp6") if isinstance(whole.value, dict) and key in whole.value]
        if not servers:
            raise MigrationError(f"{whole.place}: expected the configuration of Kea, with Dhcp4 or Dhcp6 in it")
        for key in servers:
            _Server(int(key[-1]), whole.value[key], links, found).read()
    found.links = list(links.values())
    return found


class _Scope(msgspec.Struct, frozen=True):
    """What holds for everything in a part of the configuration, unless that says otherwise."""

    told: Told
    said: dict[str, Value]  # numbers that a narrower part inherits

    def number(self, key: str) -> int | None:
        """One of them, in seconds."""
        value = self.said[key].value if key in self.said else None
        return value if isinstance(value, int) and not isinstance(value, bool) else None


_INHERITED = ("valid-lifetime", "preferred-lifetime", "renew-timer", "rebind-timer", "interface")


class _Server:
    """One of the two servers."""

    def __init__(self, kind: int, whole: Value, links: dict[str, Link], found: Configuration) -> None:
        self._kind = kind
        self._whole = whole
        self._links = links
        self._found = found
        self._only = ""  # the interface that it listens on, if that is one
        self._near = ""  # the subnet that is there

    def read(self) -> None:
        """Read all of it. MigrationError."""
        said = _object(self._whole)
        self._listens(said)
        top = self._narrowed(_Scope(Told(), {}), said)
        self._report(said, "global")
        subnets = f"subnet{self._kind}"
        for each in _items(said.get("client-classes")):
            name = _text(_object(each), "name")
            self._left(each.place, f"client class {name}", "make a [[group]] of its nodes, with what they are told")
        for network in _items(said.get("shared-networks")):
            of_network = _object(network)
            self._report(of_network, "network")
            scope = self._narrowed(top, of_network)
            for subnet in _items(of_network.get(subnets)):
                self._subnet(subnet, scope, _text(of_network, "name"), relay="relay" in of_network)
        for subnet in _items(said.get(subnets)):
            self._subnet(subnet, top, "", relay=False)
        for each in _items(said.get("reservations")):
            self._reservation(each)

    def _listens(self, said: dict[str, Value]) -> None:
        """See on which interface it listens, and which of the subnets may be there."""
        names = [str(each.value) for each in _items(_object(said.get("interfaces-config")).get("interfaces"))]
        if len(names) != 1 or names[0] == "*":
            return
        self._only, _, address = names[0].partition("/")
        subnets = [_object(each) for each in _items(said.get(f"subnet{self._kind}"))]
        near = [each for each in subnets if "relay" not in each and "interface" not in each]
        if address:
            near = [each for each in near if parse_address(address) in parse_prefix(_text(each, "subnet"))]
        self._near = _text(near[0], "subnet") if len(near) == 1 else ""

    # -- subnets

    def _subnet(self, subnet: Value, above: _Scope, network: str, *, relay: bool) -> None:
        said = _object(subnet)
        self._report(said, "subnet")
        prefix = self._prefix(subnet, _text(said, "subnet"))
        scope = self._narrowed(above, said)
        if prefix.family == 6 and prefix.length > 64:
            self._left(subnet.place, f"subnet {prefix}", "it is smaller than a /64, the smallest that is managed")
            return
        link = self._link(subnet, said, scope, network, relay=relay or "relay" in said)
        if prefix not in link.prefixes:
            link.prefixes.append(prefix)
        lifetimes = self._lifetimes(subnet, scope)
        link.lifetimes.setdefault(prefix.family, lifetimes)
        self._tell(subnet, link, scope.told)
        for pool in _items(said.get("pools")):
            self._pool(pool, link, lifetimes)
        for pool in _items(said.get("pd-pools")):
            self._blocks(pool, link, lifetimes)
        for each in _items(said.get("reservations")):
            self._reservation(each)

    def _link(self, subnet: Value, said: dict[str, Value], scope: _Scope, network: str, *, relay: bool) -> Link:
        interface = scope.said["interface"].value if "interface" in scope.said else ""
        if not interface and not relay and _text(said, "subnet") == self._near:
            interface = self._only
        identifier = said["id"].value if "id" in said else ""
        key = f"network {network}" if network else f"interface {interface}" if interface and not relay else ""
        key = key or f"subnet {self._kind} {identifier} {subnet.place}"
        other = f"subnet-{identifier}" if identifier else f"subnet{self._kind}"
        name = label(network or (str(interface) if not relay else "") or other, other)
        quarantine = _object(self._whole).get("decline-probation-period")
        if interface and network and f"interface {interface}" in self._links:
            key = f"interface {interface}"
        link = self._links.setdefault(key, Link(name=name, place=subnet.place))
        if interface and not relay:
            self._links.setdefault(f"interface {interface}", link)
        if quarantine is not None and isinstance(quarantine.value, int):
            link.quarantine = quarantine.value
        return link

    def _tell(self, subnet: Value, link: Link, told: Told) -> None:
        """Have the link's clients be told this, beside what others of its subnets say."""
        for name in ("gateways", "dns", "ntp", "search", "routes"):
            there, new = getattr(link.told, name), getattr(told, name)
            if not new:
                continue
            of_family = there if name in ("search", "routes") else [x for x in there or () if family(x) == self._kind]
            if of_family and of_family != new:
                text = "other subnets of this link say otherwise; in DNMS clients of a link are told all of it"
                self._left(subnet.place, name, text)
            setattr(link.told, name, [*(there or ()), *(each for each in new if each not in (there or ()))])
        link.told.domain = link.told.domain or told.domain
        link.told.mtu = told.mtu or link.told.mtu
        link.told.boot = told.boot or link.told.boot
        link.told.options = link.told.options | told.options

    def _lifetimes(self, subnet: Value, scope: _Scope) -> Lifetimes:
        """Clients renew at half of `preferred`: by DHCPv4, where nothing else is made of it, it is twice T1."""
        valid = self._end(subnet, scope.number("valid-lifetime") or VALID)
        renew, rebind = scope.number("renew-timer"), scope.number("rebind-timer")
        if self._kind == 4:
            preferred = min(valid, 2 * renew) if renew else valid
        else:
            preferred = min(valid, scope.number("preferred-lifetime") or PREFERRED)
        if renew and renew != preferred // 2:
            place = scope.said["renew-timer"].place
            self._left(place, f"renew-timer {renew}", f"clients renew after {preferred // 2} s, half of preferred")
        if rebind and rebind != int(T2 * preferred):
            place = scope.said["rebind-timer"].place
            self._left(place, f"rebind-timer {rebind}", f"clients rebind after {int(T2 * preferred)} s")
        return Lifetimes(preferred=max(1, preferred), valid=max(1, valid))

    def _end(self, subnet: Value, valid: int) -> int:
        if valid <= LONGEST:
            return valid
        self._left(subnet.place, f"valid-lifetime {valid}", f"it is {LONGEST} s, a year, which ends")
        return LONGEST

    def _pool(self, pool: Value, link: Link, lifetimes: Lifetimes) -> None:
        said = _object(pool)
        self._report(said, "pool")
        text = _text(said, "pool")
        try:
            if "-" in text:
                first, last = (parse_address(part.strip()) for part in text.split("-", 1))
            else:
                prefix = parse_prefix(text.replace(" ", ""))
                first, last = prefix.network, prefix.last.to_bytes(16)
        except ValueError as error:
            raise MigrationError(f"{pool.place}: {error}") from error
        link.ranges.append(Range(first=first, last=last, lifetimes=lifetimes, place=pool.place))

    def _blocks(self, pool: Value, link: Link, lifetimes: Lifetimes) -> None:
        said = _object(pool)
        self._report(said, "pd-pool")
        prefix = self._prefix(pool, f"{_text(said, 'prefix')}/{_number(said, 'prefix-len')}")
        link.blocks.append(
            Blocks(
                prefix=prefix,
                length=_number(said, "delegated-len"),
                exclude="excluded-prefix" in said,
                lifetimes=lifetimes,
                place=pool.place,
            )
        )
        if "excluded-prefix" in said:
            text = "DNMS excludes the link's own /64 (RFC 6603) of a block that has it, and nothing else"
            self._left(said["excluded-prefix"].place, "excluded-prefix", text)

    # -- reservations

    def _reservation(self, each: Value) -> None:
        said = _object(each)
        self._report(said, "reservation")
        try:
            duid, hardware = _whose(said)
            texts = [_text(said, "ip-address")] if "ip-address" in said else []
            texts += [str(one.value) for one in _items(said.get("ip-addresses"))]
            addresses = [parse_address(text) for text in texts]
        except ValueError as error:
            self._left(each.place, "reservation", str(error))
            return
        for prefix in _items(said.get("prefixes")):
            self._left(each.place, f"reservation of {prefix.value}", "prefixes are not reserved")
        if "hostname" in said:
            self._left(each.place, f"name {_text(said, 'hostname')}", "a machine says its name itself when it comes")
        for address in addresses:
            if any(link.has(address) for link in self._links.values()):
                reserved = Reservation(address=address, duid=duid, hardware=hardware, place=each.place)
                self._found.reservations.append(reserved)
            else:
                self._left(each.place, f"reservation of {format_address(address)}", "it is in no subnet")

    # -- parts

    def _narrowed(self, scope: _Scope, said: dict[str, Value]) -> _Scope:
        told = copy.copy(scope.told)
        kea_options.read(said.get("option-data"), self._kind, told, self._found.left)
        for key, name in (("next-server", "server"), ("boot-file-name", "file")):
            text = _text(said, key)
            if text and text != _NOBODY:
                told.boot = told.boot | {name: text}
        return _Scope(told, scope.said | {key: said[key] for key in _INHERITED if key in said})

    def _prefix(self, value: Value, text: str) -> Prefix:
        try:
            prefix = parse_prefix(text)
        except ValueError as error:
            raise MigrationError(f"{value.place}: {error}") from error
        if prefix.family != self._kind:
            raise MigrationError(f"{value.place}: {text} in the configuration of DHCPv{self._kind}")
        return prefix

    def _report(self, said: dict[str, Value], where: str) -> None:
        """Put what a part says and a plan has no place for to what is left."""
        for key, value in said.items():
            if key in CARRIED[where] or key in MEANINGLESS or value.value in ("", None, False, [], {}):
                continue
            self._left(value.place, f"{key} ({where})", WHY.get(key, "it has no place in a plan"))
        if where in ("pool", "pd-pool", "reservation"):
            for option in _items(said.get("option-data")):
                self._left(
                    option.place,
                    f"option {_text(_object(option), 'name')} ({where})",
                    "make a [[group]] of its nodes, with what they are told",
                )

    def _left(self, place: Place, what: str, why: str) -> None:
        left = Left(place, what, why)
        if left not in self._found.left:
            self._found.left.append(left)


def _whose(said: dict[str, Value]) -> tuple[bytes, bytes]:
    """The DUID of whom a reservation is for, and its hardware address if it is by that. ValueError."""
    if "duid" in said:
        return parse_duid(_text(said, "duid")), b""
    if "hw-address" in said:
        hardware = parse_hardware(_text(said, "hw-address"))
        return duid_of_hardware(hardware), hardware
    if "client-id" in said:
        return identity_of(octets(_text(said, "client-id")), bytes(6))[0], b""
    raise ValueError("it is by what a relay or a class says: write it by the machine's hardware address or DUID")


def _object(value: Value | None) -> dict[str, Value]:
    if value is None:
        return {}
    if not isinstance(value.value, dict):
        raise MigrationError(f"{value.place}: expected an object")
    return value.value


def _items(value: Value | None) -> Iterator[Value]:
    if value is None:
        return iter(())
    if not isinstance(value.value, list):
        raise MigrationError(f"{value.place}: expected a list")
    return iter(value.value)


def _text(said: dict[str, Value], key: str) -> str:
    value: Any = said[key].value if key in said else ""
    return value if isinstance(value, str) else str(value)


def _number(said: dict[str, Value], key: str) -> int:
    value = said[key].value if key in said else None
    if not isinstance(value, int):
        place = next((each.place for each in said.values()), Place("", 0))
        raise MigrationError(f"{place}: expected a number as {key!r}")
    return value
