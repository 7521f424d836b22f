"""Which parts of the plan an event is about, in which subnet they are, and which addresses they hold."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from dnms.events.ip import Prefix, format_address
from dnms.events.plan import (
    GroupDefined,
    GroupWithdrawn,
    PoolDefined,
    PoolWithdrawn,
    ReservationDefined,
    ReservationWithdrawn,
    SubnetDefined,
    SubnetWithdrawn,
)
from dnms.events.recorded import Event
from dnms.events.rule import RuleDefined, RuleWithdrawn

ABOUT = frozenset(
    {
        SubnetDefined,
        SubnetWithdrawn,
        PoolDefined,
        PoolWithdrawn,
        GroupDefined,
        GroupWithdrawn,
        ReservationDefined,
        ReservationWithdrawn,
        RuleDefined,
        RuleWithdrawn,
    }
)
"""Types of the events that are about a part of the plan: few of those in a log are."""

SCHEMA = """
CREATE TABLE event_part (         -- what the plan's events are about; a part that holds no addresses has no range
    part TEXT NOT NULL,           -- subnet/NAME, pool/NAME, group/NAME, rule/NAME, reservation/SUBNET/ADDRESS
    position INTEGER NOT NULL,
    number INTEGER NOT NULL,      -- of its ranges
    subnet TEXT NOT NULL,
    first BLOB,
    last BLOB,
    PRIMARY KEY (part, position, number)
) WITHOUT ROWID;
CREATE INDEX event_part_subnet ON event_part (subnet);
"""

_Range = tuple[bytes | None, bytes | None]
_About = tuple[str, Sequence[_Range]]
"""The subnet, and the ranges."""


class Parts:
    """The parts of the plan that a batch is about."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self._defined: dict[str, _About] = {}  # as the batch has it last
        self._rows: list[tuple[str, int, int, str, bytes | None, bytes | None]] = []

    def take(self, event: Event, position: int) -> None:
        """Take in an event, whatever it is."""
        match event:
            case SubnetDefined(subnet=subnet):
                self._define(f"subnet/{subnet.name}", (subnet.name, _ranges(subnet.prefixes)), position)
            case PoolDefined(pool=pool):
                self._define(f"pool/{pool.name}", (pool.subnet, [(pool.first, pool.last)]), position)
            case GroupDefined(group=group):
                self._define(f"group/{group.name}", ("", _ranges(group.ranges)), position)
            case RuleDefined(rule=rule):
                self._define(f"rule/{rule.name}", ("", []), position)
            case ReservationDefined(reservation=one):
                part = f"reservation/{one.subnet}/{format_address(one.address)}"
                self._define(part, (one.subnet, [(one.address, one.address)]), position)
            case ReservationWithdrawn():
                part = f"reservation/{event.subnet}/{format_address(event.address)}"
                self._define(part, (event.subnet, [(event.address, event.address)]), position)
            case SubnetWithdrawn() | PoolWithdrawn() | GroupWithdrawn() | RuleWithdrawn():
                part = f"{event.NAME.partition('.')[0]}/{event.name}"
                self._define(part, self._defined.get(part) or self._load(part), position)
            case _:
                pass

    def write(self) -> None:
        """Write it all down."""
        self._cursor.executemany("INSERT OR REPLACE INTO event_part VALUES (?, ?, ?, ?, ?, ?)", self._rows)

    def _define(self, part: str, about: _About, position: int) -> None:
        self._defined[part] = about
        subnet, ranges = about
        for number, (first, last) in enumerate(ranges or [(None, None)]):
            self._rows.append((part, position, number, subnet, first, last))

    def _load(self, part: str) -> _About:
        rows = self._cursor.execute(
            "SELECT subnet, first, last FROM event_part WHERE part = :part AND position ="
            " (SELECT max(position) FROM event_part WHERE part = :part) ORDER BY number",
            {"part": part},
        ).fetchall()
        own = part.partition("/")[2] if part.startswith("subnet/") else ""
        return (rows[0][0] if rows else own, [(first, last) for _, first, last in rows if first is not None])


def _ranges(prefixes: Sequence[Prefix]) -> Sequence[_Range]:
    return [(prefix.first.to_bytes(16), prefix.last.to_bytes(16)) for prefix in prefixes]
