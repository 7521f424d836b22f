from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, RenderableType

from dnms.kit.tables import WIDE
from dnms.lab.tables import Machine, Shown, _events, _nodes, more
from dnms.projections.events.queries import EventRow

ADDRESS = "2001:db8:1ab::8b73:f43b:9a61"
AT = datetime(2026, 3, 1, 12, 30, 5, 250_000, tzinfo=UTC)


def event(name: str, fields: dict[str, Any]) -> EventRow:
    return EventRow(
        sequence=58, index=0, time=AT, subject="s", name=name, actor="a", client=None, node="node-1", fields=fields
    )


SHOWN = Shown(
    nodes=[],
    pools=[],
    node="node-1",
    events=[
        event("address.allocated", {"address": ADDRESS, "pool": "lab-v6", "valid_until": 0}),
        event("configuration.registered", {"snapshot": {"addresses": [{"origin": "managed"}] * 2}}),
    ],
)


def printed(table: RenderableType, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue().splitlines()


def test_a_terminal_of_80_columns_gets_addresses_whole() -> None:
    machine = Machine(name="node-1", configured=True, ipv6=ADDRESS, ipv4="192.0.2.166", seconds=1.19)
    for table in (_nodes([machine], SHOWN), _events(SHOWN)):
        lines = printed(table, 80)
        assert max(map(len, lines)) <= 80
        assert any(ADDRESS in line.replace(",", " ").split() for line in lines)


def test_without_a_terminal_an_event_is_one_line() -> None:
    (allocated, registered) = [line for line in printed(_events(SHOWN), WIDE) if line.startswith("58.0")]
    assert " ".join(allocated.split()).endswith(
        f" address.allocated address {ADDRESS}, pool lab-v6, valid_until 00:00:00"
    )
    assert registered.rstrip().endswith("2 managed")


def test_what_a_scenario_counts_is_named_as_in_its_json() -> None:
    lines = printed(more({"double_held_ms": 25_480, "moved": 1}), 80)
    assert [line.split() for line in lines if line.strip()] == [["Double", "held", "ms", "25480"], ["Moved", "1"]]
