"""The options that Kea tells clients, as far as a plan has them (its manual, "Standard DHCPv4 Options", and DHCPv6)."""

from __future__ import annotations

from collections.abc import Callable

from dnms.events.ip import parse_address, parse_prefix
from dnms.migration import raw_options
from dnms.migration.kea_json import Value
from dnms.migration.model import Left, MigrationError, Place, Route, Told, addresses, domain, octets

SPACES = {4: "dhcp4", 6: "dhcp6"}

NAMES: dict[int, dict[int, str]] = {
    4: {
        1: "subnet-mask",
        3: "routers",
        6: "domain-name-servers",
        15: "domain-name",
        26: "interface-mtu",
        28: "broadcast-address",
        42: "ntp-servers",
        119: "domain-search",
        121: "classless-static-route",
    },
    6: {23: "dns-servers", 24: "domain-search", 31: "sntp-servers"},
}
"""Those of a family that are understood, by their codes."""

_OF_THE_LINK = frozenset({"subnet-mask", "broadcast-address"})
"""What a subnet's prefix says."""


def read(options: Value | None, kind: int, told: Told, left: list[Left]) -> None:
    """Take what a list of options says into `told`; what it says of an item takes the place of what is there."""
    if options is None:
        return
    if not isinstance(options.value, list):
        raise MigrationError(f"{options.place}: expected a list of options")
    for option in options.value:
        _read(option, kind, told, left)


def _read(option: Value, kind: int, told: Told, left: list[Left]) -> None:
    said = option.value if isinstance(option.value, dict) else {}
    code, name = _plain(said, "code"), _plain(said, "name")
    known = NAMES[kind].get(code) if isinstance(code, int) else name
    what = f"option {name or code}"
    space = _plain(said, "space")
    if space not in (None, SPACES[kind]):
        left.append(Left(option.place, f"{what} of space {space}", "no such options are told"))
        return
    if known not in NAMES[kind].values() or _plain(said, "csv-format") is False:
        _raw(option.place, kind, said, told, left)
        return
    if known not in _OF_THE_LINK:
        try:
            _take(str(known), str(_plain(said, "data") or ""), told)
        except ValueError as error:
            left.append(Left(option.place, what, str(error)))
            return
    if known == "sntp-servers":
        left.append(Left(option.place, what, "it is told as NTP servers (option 56, RFC 5908)"))
    conditions = [key for key in ("always-send", "never-send", "client-classes") if _plain(said, key)]
    left.extend(Left(option.place, f"{key} of {what}", "it is told to whoever asks for it") for key in conditions)


def _raw(place: Place, kind: int, said: dict[str, Value], told: Told, left: list[Left]) -> None:
    """An option that a plan has as it is, if it can have it."""
    code, name, data = _plain(said, "code"), str(_plain(said, "name") or ""), str(_plain(said, "data") or "")
    number = code if isinstance(code, int) else raw_options.code_of(kind, name)
    what = f"option {name or code}"
    try:
        if number is None:
            raise ValueError("it has no place in a plan")
        if _plain(said, "csv-format") is False:
            raw_options.put(told, kind, number, {"hex": octets(data).hex()})
        elif number in (*raw_options.ADDRESSES[kind].values(), *raw_options.TEXTS[kind].values()):
            raw_options.take(told, kind, number, [part.strip() for part in data.split(",")])
        else:
            raise ValueError("it has no place in a plan, but as hex in dhcp.option")
    except ValueError as error:
        left.append(Left(place, what, str(error)))


def _plain(said: dict[str, Value], key: str) -> object:
    return said[key].plain() if key in said else None


def _take(name: str, text: str, told: Told) -> None:
    """ValueError."""
    _TAKES[name](told, [part.strip() for part in text.split(",") if part.strip()])


def _routers(told: Told, parts: list[str]) -> None:
    told.gateways = addresses(parts, 4)


def _dns4(told: Told, parts: list[str]) -> None:
    told.dns = addresses(parts, 4)


def _dns6(told: Told, parts: list[str]) -> None:
    told.dns = addresses(parts, 6)


def _ntp4(told: Told, parts: list[str]) -> None:
    told.ntp = addresses(parts, 4)


def _ntp6(told: Told, parts: list[str]) -> None:
    told.ntp = addresses(parts, 6)


def _name(told: Told, parts: list[str]) -> None:
    [told.domain] = map(domain, parts)


def _search(told: Told, parts: list[str]) -> None:
    told.search = list(map(domain, parts))


def _mtu(told: Told, parts: list[str]) -> None:
    [number] = map(int, parts)
    if not 1280 <= number <= 65535:
        raise ValueError(f"an MTU of {number}: a plan has one of 1280 to 65535")
    told.mtu = number


def _routes(told: Told, parts: list[str]) -> None:
    routes = []
    for part in parts:
        destination, _, gateway = part.partition("-")
        routes.append(Route(parse_prefix(destination.strip()), parse_address(gateway.strip())))
    told.routes = routes


_TAKES: dict[str, Callable[[Told, list[str]], None]] = {
    "routers": _routers,
    "domain-name-servers": _dns4,
    "domain-name": _name,
    "interface-mtu": _mtu,
    "ntp-servers": _ntp4,
    "domain-search": _search,
    "classless-static-route": _routes,
    "dns-servers": _dns6,
    "sntp-servers": _ntp6,
}
