"""Allocation at size: a million leases, an IPv4 /8, five agents on one ledger. `python -m bench.alloc [-o json]`.

- A million leases in one /64, and no nodes, as a DHCP server has none in its lease file: what a real Subnet Agent
  holds, and how long its start takes, from the log and from a snapshot; Kea with as many leases beside it.
- An IPv4 /8: its index, and the next free address of it, empty and 99.99 % full.
- Decisions of the pure core on that ledger, and on one with hardly any leases.
- Durable leases: many clients at once beside bare commits as large, and one at a time.
- Agents of one ledger at a load that does not wait for them, and one agent at the same load, by turns.

Needs root, or user namespaces. `docs/performance.md` says how to read it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from bench import decisions, full_ledger, leases, rivals, slash8
from bench.command import main
from bench.decisions import Rate
from bench.full_ledger import Full
from bench.leases import Leases, Single
from bench.rivals import Rivals
from bench.sides import Stopwatch, embedded
from bench.slash8 import Slash8

MILLION = 1_000_000
GET_KEA = "Kea is not installed, so nothing stands beside it; Debian has it: apt-get install kea-dhcp6-server"

GOAL_MEMORY = 0.5  # of Kea's
GOAL_FROM_LOG = 0.5  # of Kea's time
GOAL_FROM_SNAPSHOT = 0.1
GOAL_INDEX = 2.2  # MiB
GOAL_FULL = 2.0  # times the time of an empty range
GOAL_LEASES = 20_000  # a second, durable
GOAL_RIVALS = 3.0  # times one agent's p99


class Report(msgspec.Struct, frozen=True):
    """All that was measured."""

    load: float  # of the machine in the minute before
    cores: int
    full: Full
    slash8: Slash8
    group_commit: list[Leases]
    single: Single
    rivals: Rivals
    seconds: float


async def measure() -> Report:
    """Everything."""
    load, watch = os.getloadavg()[0], Stopwatch()
    index = slash8.measure()
    with tempfile.TemporaryDirectory(prefix="dnms-bench-") as folder:
        async with embedded() as server:
            group_commit = await leases.measure(server)
            single = await leases.single(server)
        async with embedded() as server:
            crowd = await rivals.measure(server, Path(folder))
    return Report(
        load=load,
        cores=os.cpu_count() or 0,
        full=await asyncio.to_thread(full_ledger.isolated, MILLION),
        slash8=index,
        group_commit=group_commit,
        single=single,
        rivals=crowd,
        seconds=watch.seconds(),
    )


def show(report: Report) -> None:
    """Print it for people."""
    console = Console()
    console.print(f"{report.cores} cores, load {report.load:.1f} before; {report.seconds:.0f} s")
    _show_full(console, report.full)
    _show_slash8(console, report.slash8)
    _show_decisions(console, report.full.decisions)
    _show_leases(console, report.group_commit, report.single)
    _show_rivals(console, report.rivals)


def _show_full(console: Console, full: Full) -> None:
    agent, kea = full.agent, full.kea
    columns = ("server", "ready s", "of Kea", "CPU s", "RSS", "of Kea ", "PSS", "USS")
    table = _table(f"{full.leases:,} leases in one /64, no nodes; memory in MiB", *columns)
    later = "agent, snapshot" if agent.kept else "agent, once more"
    rows = [("agent, the log", agent.from_log, GOAL_FROM_LOG), (later, agent.again, GOAL_FROM_SNAPSHOT)]
    for name, start, goal in [*rows, ("Kea, memfile", kea, 0.0)]:
        if start is None:
            continue
        beside = kea if kea is not start else None
        table.add_row(
            *(
                name,
                f"{start.seconds:.1f}",
                _of(start.seconds, beside.seconds if beside else None, goal),
                f"{start.cpu:.1f}",
            ),
            f"{start.memory.rss / (1 << 20):.0f}",
            _of(start.memory.rss, beside.memory.rss if beside else None, GOAL_MEMORY),
            *(f"{size / (1 << 20):.0f}" for size in (start.memory.pss, start.memory.uss)),
        )
    console.print(table)
    kept = f"the snapshot {agent.kept / (1 << 20):.0f} MiB" if agent.kept else "no snapshot was kept"
    log, again = agent.from_log.peak / (1 << 20), agent.again.peak / (1 << 20)
    console.print(
        f"the log {full.log_bytes / (1 << 20):.0f} MiB, {kept}; an agent's clean end {agent.stop_seconds:.1f} s; "
        f"resident at most: {log:.0f} MiB from the log, {again:.0f} MiB after it"
    )
    if kea is None:
        console.print(GET_KEA)


def _show_slash8(console: Console, found: Slash8) -> None:
    table = _table(f"next free address of {found.addresses:,}, CPU µs", "by", "empty", "99.99 % full", "times")
    for name, search in (
        ("the index alone", found.index),
        ("one request, choose", found.choose),
        (f"a commit of {slash8.REQUESTS}, each", found.settled),
    ):
        times = _mark(f"{search.ratio:.2f}", good=search.ratio <= GOAL_FULL)
        table.add_row(name, f"{search.empty_us:.2f}", f"{search.full_us:.2f}", times)
    console.print(table)
    sizes = [size / (1 << 20) for size in (found.empty_bytes, found.full_bytes)]
    text = " MiB empty, ".join(_mark(f"{size:.2f}", good=size <= GOAL_INDEX) for size in sizes)
    console.print(f"its index {text} MiB full")


def _show_decisions(console: Console, rates: list[Rate]) -> None:
    title = f"decisions of the pure core, one core, one pool; in commits of {decisions.TOGETHER}, and alone"
    table = _table(title, "request", "leases", "a second", "CPU µs", "alone", "CPU µs ")
    for rate in rates:
        table.add_row(
            *(rate.request, f"{rate.leases:,}", f"{rate.per_second:,.0f}", f"{rate.cpu_us:.1f}"),
            *(f"{rate.alone_per_second:,.0f}", f"{rate.alone_cpu_us:.1f}"),
        )
    console.print(table)


def _show_leases(console: Console, all_leases: list[Leases], single: Single) -> None:
    title = f"durable leases, {leases.CLIENTS} clients at once, and one"
    table = _table(title, "request", "clients", "leases/s", "p50 ms", "p99 ms", "bare /s")
    for each in all_leases:
        table.add_row(
            *(each.request.removeprefix("address."), str(leases.CLIENTS)),
            _mark(f"{each.per_second:,.0f}", good=each.per_second >= GOAL_LEASES),
            *(f"{each.p50_ms:.1f}", f"{each.p99_ms:.1f}", f"{each.bare_per_second:,.0f}"),
        )
    one, bare = 1_000 / single.p50_ms, 1_000 / single.bare_p50_ms
    spans = f"{single.p50_ms:.2f}", f"{single.p99_ms:.2f}"
    table.add_row("allocate", "1", f"{one:,.0f}", *spans, f"{bare:,.0f}")
    console.print(table)
    console.print(
        f"one bare commit of one lease at a time: p50 {single.bare_p50_ms:.2f} ms, p99 {single.bare_p99_ms:.2f} ms"
    )


def _show_rivals(console: Console, found: Rivals) -> None:
    columns = ("agents", "leases/s", "share", "p50 ms", "p99 ms", "commits", "lost", "CPU µs")
    table = _table(f"agents of one ledger, {rivals.OFFERED:,} leases/s offered", *columns)
    for crowd in (found.alone, found.together):
        table.add_row(
            *(str(len(crowd.agents)), f"{crowd.per_second:,.0f}", "", f"{crowd.p50_ms:.1f}", f"{crowd.p99_ms:.1f}"),
            *(f"{sum(each.commits for each in crowd.agents):,}", f"{sum(each.lost_races for each in crowd.agents):,}"),
            f"{sum(each.cpu_us * each.share for each in crowd.agents):.0f}",
        )
    for each in found.together.agents:
        table.add_row(
            *("of them", "", f"{each.share:.1%}", f"{each.p50_ms:.1f}", f"{each.p99_ms:.1f}"),
            *(f"{each.commits:,}", f"{each.lost_races:,}", f"{each.cpu_us:.0f}"),
        )
    console.print(table)
    p99 = _mark(f"{found.p99_ratio:.1f}", good=found.p99_ratio <= GOAL_RIVALS)
    slowest = _mark(f"{found.slowest_p99_ratio:.1f}", good=found.slowest_p99_ratio <= GOAL_RIVALS)
    wrong = _mark(str(found.wrong), good=found.wrong == 0)
    failed = sum(each.failed for each in (*found.alone.agents, *found.together.agents))
    console.print(
        f"p99 {p99} times one agent's, the slowest of them {slowest} times; the smallest share is "
        f"{found.smallest_share:.0%} of a fair one; told that there is no answer: {failed}; answers that the log does "
        f"not bear out: {wrong}"
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in ("server", "by", "request", "agents") else "right")
    return table


def _of(value: float, peer: float | None, goal: float) -> str:
    return "" if peer is None else _mark(f"{value / peer:.0%}", good=value <= goal * peer)


def _mark(text: str, *, good: bool) -> str:
    """Whether a goal is met."""
    return f"[green]{text}[/green]" if good else f"[red]{text} ✗[/red]"


if __name__ == "__main__":
    main("alloc", "Allocation at size.", measure, show, loop=uvloop.new_event_loop)
