"""What `dnms plan diff` prints: what a plan would change, and what it would do to leases, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec
from rich.console import RenderableType
from rich.text import Text

from dnms.cli.rendering import cell, table
from dnms.domain.forecast import SubnetForecast
from dnms.domain.plan_difference import PartChange

MARKS = {"new": "+", "changed": "~", "withdrawn": "-"}


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """The form of `dnms.api.answers.DiffAnswer`; that module takes half a second to import."""

    position: int
    changes: list[PartChange]
    subnets: list[SubnetForecast]


def tables(diff: Diff, file: str) -> Iterator[RenderableType]:
    """The difference for people."""
    if not diff.changes:
        yield Text(f"The plan is so already, at position {diff.position}.")
        return
    yield table(
        ("", "Part", "Name", "What"), ((MARKS[one.change], one.part, one.name, _what(one)) for one in diff.changes)
    )
    for line in _consequences(diff.subnets):
        yield Text(line)
    yield Text(f"Compared with the plan at position {diff.position}; nothing was changed. To have it so, if the plan")
    yield Text(f"is still that one: dnms plan apply {file} --if-position {diff.position}")


def _what(one: PartChange) -> str:
    if one.change == "changed":
        return "; ".join(f"{key}: {_value(key, was)} → {_value(key, will)}" for key, (was, will) in one.fields.items())
    shown = {key: pair[one.change == "new"] for key, pair in one.fields.items()}
    return f"{one.change}: " + (", ".join(f"{key} {_value(key, value)}" for key, value in shown.items()) or "-")


def _value(key: str, value: Any) -> str:
    if key == "number":
        return f"{value:#06x}" if value else "drawn"
    if key == "group" and isinstance(value, list):
        return "; ".join(f"for {one['name']} {_told(one)}" for one in value) or "-"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ", ".join(" ".join(map(str, one.values())) for one in value)
    return cell(value).plain


def _told(one: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_value(key, value)}" for key, value in one.items() if key != "name") or "-"


def _consequences(subnets: Iterable[SubnetForecast]) -> Iterator[str]:
    told = [line for subnet in subnets for line in _of_subnet(subnet)]
    yield from told or ["No lease would be touched."]


def _of_subnet(found: SubnetForecast) -> Iterator[str]:
    where = f"subnet {found.subnet}"
    if found.withdrawn:
        yield f"{where}: {found.withdrawn} of {_leases(found.leases)} would be withdrawn at once."
    if found.moved:
        yield (
            f"{where}: {_count(found.moved, 'node')} would move to another address, of another pool or group; "
            "both can be used until the old one is drained."
        )
    if found.kept:
        named = ", ".join(found.kept_first) + (", …" if found.kept > len(found.kept_first) else "")
        yield (
            f"{where}: {_count(found.kept, 'reserved address')} would stay, whatever the group of the node: {named}; "
            "to have the node move, release it first: dnms address release."
        )
    if found.without:
        yield f"{where}: for {found.without} of those there would be no other address."
    if found.undecided:
        yield f"{where}: {found.undecided} more would need another address; for these nobody has looked."
    if found.unplaced:
        yield (
            f"{where}: {_count(found.unplaced, 'reserved address')} would be in no pool, and given to nobody; "
            "`dnms node add` again keeps others for its nodes."
        )
    for pool in found.pools:
        if pool.too_small:
            yield f"{where}: pool {pool.pool} would have room for {pool.size}, fewer than the {pool.held_before} held."
        if pool.runs_out:
            yield f"{where}: pool {pool.pool} would run out: {pool.held} of {pool.size} held."


def _leases(number: int) -> str:
    return _count(number, "lease")


def _count(number: int, what: Literal["lease", "node", "reserved address"]) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}{'es' if what.endswith('s') else 's'}"
