"""In which parts two plans differ, in the terms of the document that people write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from dnms.domain.document import to_builtins
from dnms.events.requests import ApplyPlan

PARTS = ("realm", "group", "uplink", "subnet", "pool", "delegation", "reservation", "rule")


class PartChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan changes of one part. Of one that is new or withdrawn every field is named that it has or had."""

    part: str  # site, or one of PARTS
    name: str  # of a reservation its address, and the subnet
    change: Literal["new", "changed", "withdrawn"]
    fields: dict[str, list[Any]] = {}  # by key of the document: what it was and what it will be; None: nothing


def differences(before: ApplyPlan, after: ApplyPlan) -> tuple[PartChange, ...]:
    """What leads from one plan to the other. A group's number that is still to be drawn is None."""
    old, new = to_builtins(before), to_builtins(after)
    return (*_site(old["site"], new["site"]), *_parts(old, new))


def _site(old: dict[str, Any], new: dict[str, Any]) -> Iterator[PartChange]:
    if not old["name"]:
        yield PartChange(part="site", name=new["name"], change="new", fields=_fields({}, new))
    elif old != new:
        yield PartChange(part="site", name=new["name"], change="changed", fields=_fields(old, new))


def _parts(old: dict[str, Any], new: dict[str, Any]) -> Iterator[PartChange]:
    for part in PARTS:
        was, will = ({_name(entry): entry for entry in document[part]} for document in (old, new))
        for name in was.keys() - will.keys():
            yield PartChange(part=part, name=name, change="withdrawn", fields=_fields(was[name], {}))
        for name, entry in will.items():
            if part == "group" and not entry["number"]:
                entry["number"] = was[name]["number"] if name in was else None
            if name not in was:
                yield PartChange(part=part, name=name, change="new", fields=_fields({}, entry))
            elif entry != was[name]:
                yield PartChange(part=part, name=name, change="changed", fields=_fields(was[name], entry))


def _name(entry: dict[str, Any]) -> str:
    return entry["name"] if "name" in entry else f"{entry['address']} in {entry['subnet']}"


def _fields(old: dict[str, Any], new: dict[str, Any]) -> dict[str, list[Any]]:
    keys = [key for key in {**old, **new} if key != "name"]
    pairs = {key: [old.get(key), new.get(key)] for key in keys}
    if old and new:
        return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
    return {key: pair for key, pair in pairs.items() if pair[0] or pair[1]}
