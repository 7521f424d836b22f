"""The plan of a configuration, as a document that `dnms plan apply` takes."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from dnms.domain.aggregate import Refused
from dnms.domain.document import DocumentError, from_builtins
from dnms.domain.holding import MAX_HOLDS
from dnms.domain.plan import PlanState
from dnms.events.ip import Address, family, format_address, prefix_of
from dnms.migration.model import Configuration, Left, Link, MigrationError, Range, Reservation

WHOLE = 64
"""Bits of the IPv6 prefix that a pool of addresses lies in."""

LABEL = 63

_NO_LABEL = re.compile(r"[^a-z0-9]+")


def label(text: str, other: str) -> str:
    """A name as a plan has it, of one that people have given; `other` if nothing of that is left."""
    return _NO_LABEL.sub("-", text.lower()).strip("-")[: LABEL - 8].rstrip("-") or other


def document(configuration: Configuration, site: str) -> dict[str, Any]:
    """The plan, and what it has no place for is put to what is left. MigrationError if it would be refused."""
    made: dict[str, Any] = {"site": {"name": site}, "subnet": [], "pool": [], "reservation": [], "delegation": []}
    used: Counter[str] = Counter()
    for link in configuration.links:
        used[link.name] += 1
        name = link.name if used[link.name] == 1 else f"{link.name}-{used[link.name]}"
        made["subnet"].append(_subnet(link, name))
        ranges = list(_fitting(link, configuration.left))
        reserved = list(_reserved(link, configuration))
        made["pool"] += _pools(link, name, ranges, reserved)
        made["reservation"] += [_reservation(each, name) for each in reserved]
        made["delegation"] += _delegations(link, name)
    found = {key: value for key, value in made.items() if value}
    try:
        PlanState().decide(from_builtins(found, client_of=_client), at=0, entropy=bytes(32))
    except (DocumentError, Refused) as error:
        text = str(error).removeprefix("invalid-plan: ")
        raise MigrationError(f"the configuration makes no plan: {text}") from error
    return found


def _subnet(link: Link, name: str) -> dict[str, Any]:
    told = link.told
    table: dict[str, Any] = {"name": name, "prefixes": [str(prefix) for prefix in link.prefixes]}
    for key, values in (("gateways", told.gateways), ("dns", told.dns), ("ntp", told.ntp)):
        if values:
            table[key] = [format_address(each) for each in values]
    if told.searched:
        table["search"] = told.searched
    if told.routes:
        table["routes"] = [
            {"destination": str(each.destination), "gateway": format_address(each.gateway)} for each in told.routes
        ]
    if told.mtu:
        table["mtu"] = told.mtu
    dhcp: dict[str, Any] = {"boot": [told.boot]} if told.boot else {}
    if told.options:
        dhcp["option"] = [{"family": kind, "code": code} | value for (kind, code), value in told.options.items()]
    if dhcp:
        table["dhcp"] = dhcp
    if link.advertise is not None:
        table["advertise"] = link.advertise
    return table


def _client(who: str) -> bytes:
    """Another one for each, since who they are is not known here."""
    return hashlib.blake2b(who.encode(), digest_size=16).digest()


def _reserved(link: Link, configuration: Configuration) -> Iterator[Reservation]:
    """Those of a link that a plan can have."""
    seen: set[Address] = set()
    kept: Counter[tuple[bytes, int]] = Counter()
    for each in configuration.reservations:
        if not link.has(each.address):
            continue
        what, whose = f"reservation of {format_address(each.address)}", (each.duid, family(each.address))
        if each.address in seen:
            configuration.left.append(Left(each.place, what, "the address is reserved for another one already"))
        elif each.address in (link.told.gateways or ()):
            configuration.left.append(Left(each.place, what, "it is a gateway of the link, and given to nobody"))
        elif not each.duid or each.duid[0]:
            configuration.left.append(Left(each.place, what, f"{each.duid.hex(':')} is no DUID (RFC 8415, 11)"))
        elif kept[whose] >= MAX_HOLDS:
            configuration.left.append(Left(each.place, what, f"more than {MAX_HOLDS} for one client"))
        else:
            seen.add(each.address)
            kept[whose] += 1
            yield each


def _reservation(each: Reservation, name: str) -> dict[str, Any]:
    table: dict[str, Any] = {"address": format_address(each.address), "subnet": name}
    if each.hardware:
        return table | {"hardware": each.hardware.hex(":")}
    return table | {"duid": each.duid.hex(":")}


def _fitting(link: Link, left: list[Left]) -> Iterator[Range]:
    """The ranges that a pool can have, in the order of their addresses."""
    last = -1
    for each in sorted(link.ranges, key=lambda one: (one.first, one.last)):
        text = f"{format_address(each.first)}-{format_address(each.last)}"
        if each.first > each.last:
            left.append(Left(each.place, f"pool {text}", "it has its last address before its first"))
        elif not any(each.first in prefix and each.last in prefix for prefix in link.prefixes):
            left.append(Left(each.place, f"pool {text}", "it is in no prefix of its link that is carried"))
        elif int.from_bytes(each.first) <= last:
            left.append(Left(each.place, f"pool {text}", "it overlaps another pool"))
        elif family(each.first) == 6 and each.first[:8] != each.last[:8]:
            left.append(Left(each.place, f"pool {text}", "a pool of addresses lies within one /64"))
        else:
            last = int.from_bytes(each.last)
            yield each


def _pools(link: Link, name: str, ranges: list[Range], reserved: list[Reservation]) -> Iterator[dict[str, Any]]:
    numbers: Counter[int] = Counter()
    for each in ranges:
        kind = family(each.first)
        numbers[kind] += 1
        nth = f"-{numbers[kind]}" if numbers[kind] > 1 else ""
        pool: dict[str, Any] = {
            "name": f"{name}-v{kind}{nth}",
            "subnet": name,
            "range": f"{format_address(each.first)}-{format_address(each.last)}",
            "preferred": each.lifetimes.preferred,
            "valid": each.lifetimes.valid,
        }
        if kind == 4:
            pool["strategy"] = "sequential"  # the link is asked before an address is offered: machines are there
        if link.quarantine:
            pool["quarantine"] = link.quarantine
        yield pool
    for number, (first, last) in enumerate(_gaps(link, ranges, reserved), start=1):
        pool = {
            "name": f"{name}-reserved-{number}",
            "subnet": name,
            "range": f"{format_address(first)}-{format_address(last)}",
            "strategy": "reserved",
        }
        if (lifetimes := link.lifetimes.get(family(first))) is not None:
            pool |= {"preferred": lifetimes.preferred, "valid": lifetimes.valid}
        yield pool


def _gaps(link: Link, ranges: list[Range], reserved: Iterable[Reservation]) -> Iterator[tuple[Address, Address]]:
    """Where addresses lie that are reserved and in no range: as much between two ranges as has some of them."""
    outside = sorted(
        {each.address for each in reserved if not any(one.first <= each.address <= one.last for one in ranges)}
    )
    done = -1
    for address in outside:
        number = int.from_bytes(address)
        if number <= done:
            continue
        prefix = next(each for each in link.prefixes if address in each)
        whole = prefix if family(address) == 4 or prefix.length >= WHOLE else prefix_of(address, WHOLE)
        first, last = whole.first, whole.last
        for one in ranges:
            begins, ends = int.from_bytes(one.first), int.from_bytes(one.last)
            if ends < number:
                first = max(first, ends + 1)
            elif begins > number:
                last = min(last, begins - 1)
        done = last
        yield first.to_bytes(16), last.to_bytes(16)


def _delegations(link: Link, name: str) -> Iterator[dict[str, Any]]:
    for number, each in enumerate(link.blocks, start=1):
        table: dict[str, Any] = {
            "name": f"{name}-pd" + (f"-{number}" if number > 1 else ""),
            "subnet": name,
            "prefix": str(each.prefix),
            "length": each.length,
            "preferred": each.lifetimes.preferred,
            "valid": each.lifetimes.valid,
        }
        yield table | ({"exclude": True} if each.exclude else {})
