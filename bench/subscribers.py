"""Delegation over levels, routes and sets. `python -m bench.subscribers [--runs N] [--seconds S] [-o json]`.

- `dnms lab run delegation`, some times: from the ISP's grant to the first answered ping of the innermost container,
  from another prefix of the ISP's until the last level has it, and the pings that are lost (`bench.renumberings`).
- Event to kernel at steady rates, for a route and for an element of a set, with nothing there and with a full table
  (`bench.route_changes`, `bench.firewall_elements`); beside it the same change without log and subscriber.
- All of it from nothing, and found again by a second start: seconds and memory, beside a bare netlink batch and
  `ip -6 -batch`, or `nft -f`.

It needs root or user namespaces, and sends packets in namespaces of its own alone. `docs/performance.md` says how to
read it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from bench import renumberings
from bench.renumberings import Renumberings, Spread
from bench.sides import Stopwatch
from bench.subscribed import Part, measured
from dnms.lab.streams import EVERY
from dnms.linux.namespaces import search_path

RATES = (1, 100, 1_000)  # events a second
SECONDS = 20.0  # of each
ROUTES = 10_000
ELEMENTS = 100_000
LACKS = 3
"""The exit code where a program is not installed, and all else was measured."""

GOAL_LOST = 1.0  # seconds without an answer, while both prefixes are routed

MB = 1e6


class Report(msgspec.Struct, frozen=True):
    """All that was measured; None where a program is missing, or it was not asked for."""

    load: float  # of the machine in the minute before
    cores: int
    renumberings: Renumberings | None
    routes: Part
    elements: Part | None
    missing: list[str]  # Debian packages
    seconds: float


def measure(
    *, runs: int, seconds: float, routes: int = ROUTES, elements: int = ELEMENTS, rates: Sequence[float] = RATES
) -> Report:
    """Everything, one after the other. RuntimeError."""
    load, watch = os.getloadavg()[0], Stopwatch()
    isp = renumberings.missing() if runs else []
    nft = [] if shutil.which("nft", path=search_path()) else ["nftables"]
    return Report(
        load=load,
        cores=os.cpu_count() or 0,
        renumberings=renumberings.measure(runs) if runs and not isp else None,
        routes=measured("bench.route_changes", items=routes, rates=rates, seconds=seconds),
        elements=None if nft else measured("bench.firewall_elements", items=elements, rates=rates, seconds=seconds),
        missing=isp + nft,
        seconds=watch.seconds(),
    )


def show(report: Report) -> None:
    """Print it for people."""
    console = Console()
    console.print(f"{report.cores} cores, load {report.load:.1f} before; {report.seconds:.0f} s")
    if report.renumberings is not None:
        console.print(_renumberings(report.renumberings))
        for why in report.renumberings.failed:
            console.print(f"a run has not passed: {why}", markup=False)
    parts = [("routes", report.routes)] + ([("elements", report.elements)] if report.elements is not None else [])
    for name, part in parts:
        console.print(_latencies(name, part))
    console.print(_filled(parts))
    if report.missing:
        console.print(
            "some of it was not measured, as programs are not installed; Debian has them: "
            f"apt-get install {' '.join(report.missing)}"
        )


def _renumberings(found: Renumberings) -> Table:
    table = _table(
        f"dnms lab run delegation, {found.runs} times, {len(found.failed)} not passed", "what", "median", "most"
    )
    lost = found.lost_at_renumber
    for name, spread, goal in (
        ("ISP's grant to first answered ping, ms", found.reach_ms, None),
        ("another prefix to the last level, ms", found.renumber_ms, None),
        ("pings lost, both prefixes routed", lost, GOAL_LOST / EVERY),
        ("pings lost, the old one cut", found.lost_at_cut, None),
        ("without an answer then, ms", found.away_at_cut_ms, None),
    ):
        table.add_row(name, *_cells(spread, goal))
    return table


def _cells(spread: Spread | None, goal: float | None) -> list[str]:
    if spread is None:
        return ["-", "-"]
    return [
        f"{value:,.0f}" if goal is None else _mark(f"{value:,.0f}", good=value < goal)
        for value in (spread.median, spread.most)
    ]


def _latencies(name: str, part: Part) -> Table:
    columns = ("events/s", "p50", "p99", "most", "changes", "bare", "p99 ", "state")
    table = _table(f"event to kernel, {name}, ms", "there before", *columns)
    for each in part.latencies:
        table.add_row(
            *(f"{each.before:,}", f"{each.rate:,g}", *(f"{figure:.1f}" for figure in (each.p50, each.p99, each.most))),
            *(f"{each.transactions:,}", f"{each.bare_p50:.1f}", f"{each.bare_p99:.1f}", f"{each.state_p50:.1f}"),
        )
    table.caption = "bare: one, without log and subscriber; state: written before each change"
    return table


def _filled(parts: Sequence[tuple[str, Part]]) -> Table:
    columns = ("first", "again", "bare", "iproute2", "RSS", "new", "kernel")
    table = _table("all from nothing, seconds; memory, MB", "what", *columns)
    for name, part in parts:
        filled = part.filled
        seconds = (filled.from_nothing, filled.found_again, filled.bare, filled.peer)
        sizes = (filled.holding.rss, filled.holding.rss - filled.before.rss, filled.kernel_bytes)
        table.add_row(
            f"{filled.items:,} {name}",
            *("" if each is None else f"{each:.2f}" for each in seconds),
            *(f"{size / MB:.0f}" for size in sizes),
        )
    table.caption = "new: of RSS, what came after the log was made"
    return table


def _mark(text: str, *, good: bool) -> str:
    """Whether a goal is met."""
    return f"[green]{text}[/green]" if good else f"[red]{text} ✗[/red]"


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def main() -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.subscribers", description="Delegation, routes and sets.")
    parser.add_argument("--runs", type=int, default=renumberings.RUNS, metavar="N", help="of the lab; 0: none")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, metavar="S", help="of each rate (default: %(default)s)"
    )
    parser.add_argument(
        "--routes", type=int, default=ROUTES, metavar="N", help="of a full table (default: %(default)s)"
    )
    parser.add_argument(
        "--elements", type=int, default=ELEMENTS, metavar="N", help="of a full set (default: %(default)s)"
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    given = parser.parse_args()
    report = measure(runs=given.runs, seconds=given.seconds, routes=given.routes, elements=given.elements)
    if given.output == "json":
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n")
    else:
        show(report)
    return LACKS if report.missing else 0


if __name__ == "__main__":
    sys.exit(main())
