"""What a run came to, as people read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dnms.kit.tables import Fitted
from dnms.lab.path import Step
from dnms.lab.report import Count, Report, Times
from dnms.projections.events.queries import EventRow
from dnms.projections.nodes.configured import summary
from dnms.projections.nodes.queries import NodeRow
from dnms.projections.pools.queries import PoolRow
from dnms.projections.text import instant

_NOT_SHOWN = {"client", "duid", "hardware", "digest", "kernel", "snapshot", "change", "iaid"}
"""Fields of events that are the same in all of a node's events, or too long for a line."""


class Machine(msgspec.Struct, frozen=True):
    """A node as its kernel has it."""

    name: str
    configured: bool
    ipv6: str
    ipv4: str
    seconds: float | None  # from the agent's start until its IPv6 address could be used
    beyond_dad: float | None = None  # seconds of it that were not the kernel's DAD
    first: bytes | None = None  # the IPv6 address that it could use first


class Shown(msgspec.Struct, frozen=True):
    """What the views say, while all agents run."""

    nodes: Sequence[NodeRow]
    pools: Sequence[PoolRow]
    node: str  # one of them
    events: Sequence[EventRow]  # of that one


def tables(
    report: Report, machines: Sequence[Machine], shown: Shown, way: Sequence[Step]
) -> tuple[RenderableType, ...]:
    """Nodes with their addresses, the pools, the events of one node, where the time went, and the times."""
    return (_nodes(machines, shown), _pools(shown), _events(shown), *_way(way), _summary(report))


def addresses(found: Mapping[str, Mapping[str, Sequence[str]]]) -> RenderableType:
    """Machines with all their addresses, and which sources have each."""
    rows = (
        (machine, address, ", ".join(sources))
        for machine, listed in found.items()
        for address, sources in listed.items()
    )
    return _table("All addresses", ("machine", "address", "by"), rows)


def _nodes(machines: Sequence[Machine], shown: Shown) -> Fitted:
    agents = {node.name: node.agent for node in shown.nodes}
    rows = (
        (
            machine.name,
            machine.ipv6,
            machine.ipv4,
            agents.get(machine.name) or "-",
            "-" if machine.seconds is None else f"{machine.seconds:.2f} s",
        )
        for machine in machines
    )
    return _table("Nodes", ("node", "IPv6", "IPv4", "agent", "usable"), rows, right=["usable"])


def _pools(shown: Shown) -> Fitted:
    columns = ("pool", "range", "strategy", "size", "held", "resting")
    rows = (
        (
            pool.pool,
            pool.range,
            pool.strategy,
            f"2^{pool.size.bit_length() - 1}" if pool.size > 1 << 32 else str(pool.size),
            str(pool.held),
            str(pool.resting),
        )
        for pool in shown.pools
    )
    return _table("Pools", columns, rows, right=["size", "held", "resting"])


def _events(shown: Shown) -> Fitted:
    rows = ((event.position, _clock(event.time), event.name, _what(event.fields)) for event in shown.events)
    return _table(f"Events of {shown.node}", ("position", "time", "event", "what"), rows)


def _way(way: Sequence[Step]) -> Iterator[Fitted]:
    if way:
        rows = ((step.name, f"{step.median:.3f} s", f"{step.longest:.3f} s") for step in way)
        yield _table("Where the time to a usable address went", ("until it is", "median", "longest"), rows)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> Fitted:
    return Fitted(columns, [tuple(map(Text, row)) for row in rows], title=f"\n{title}", right=right)


def _clock(time: datetime) -> str:
    return time.strftime("%H:%M:%S.%f")[:-3]


def _what(fields: dict[str, Any]) -> str:
    """With a space between name and value, where a narrow terminal may break the line, and not in an address."""
    parts = [f"{name} {_short(name, value)}" for name, value in fields.items() if name not in _NOT_SHOWN]
    if "snapshot" in fields:
        origins = Counter(one["origin"] for one in fields["snapshot"].get("addresses", ()))
        parts += [f"{count} {origin}" for origin, count in sorted(origins.items()) if origin != "loopback"]
    if "change" in fields and isinstance(fields["change"], dict):
        parts.append(summary(fields["change"]))
    return ", ".join(parts)


def _short(name: str, value: Any) -> str:
    if name in ("valid_until", "horizon") and isinstance(value, int):
        return instant(value).strftime("%H:%M:%S")
    if isinstance(value, list):
        return ", ".join(_short("", one) for one in value)
    if isinstance(value, dict):
        return " ".join(str(one) for one in value.values())
    return str(value)


def _summary(report: Report) -> RenderableType:
    table = Table.grid(padding=(0, 2))

    def seconds(milliseconds: float | None) -> str:
        return "-" if milliseconds is None else f"{milliseconds / 1_000:.2f} s"

    def spread(times: Times) -> str:
        return f"median {seconds(times.p50)}, 99 % {seconds(times.p99)}, longest {seconds(times.max)}"

    table.add_row("Nodes configured", f"{report.configured} of {report.nodes}")
    table.add_row("Time to a usable address", spread(report.time_to_configured_ms))
    table.add_row("Of it beyond the kernel's DAD", spread(report.time_beyond_dad_ms))
    table.add_row("Addresses held twice", str(report.duplicates))
    table.add_row("Events in the log", str(report.events))
    table.add_row("Views equal the log", "yes" if report.views_equal_log else "NO")
    table.add_row("The whole run", f"{report.seconds} s")
    return Padding(table, (1, 0, 0, 0), expand=False)


def more(counts: Mapping[str, Count]) -> RenderableType:
    """What one scenario alone counts, by the keys of its JSON."""
    table = Table.grid(padding=(0, 2))
    for name, count in counts.items():
        table.add_row(name.replace("_", " ").capitalize(), str(count))
    return Padding(table, (1, 0, 0, 0), expand=False)
