"""What a node costs, and how soon it is there. `python -m bench.node [--runs N] [--nodes N] [--idle S] [-o json]`.

- From a link that comes up to an address that can be used, by parts: DNMS with and without optimistic DAD, and in turns
  with it, on the same link, dhcpcd with Kea and SLAAC with radvd (`bench.link_up`).
- A new DNS server in the plan, until the last of 200 nodes has it (`bench.pushes`).
- A Node Agent that has nothing to do: what it holds, what of that are its imports, and its CPU (`bench.idle_node`).

It needs root or user namespaces, and sends packets in namespaces of its own alone. `docs/performance.md` says how to
read it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from rich.console import Console
from rich.table import Table

from bench import idle_node, link_up, pushes
from bench.idle_node import Idle
from bench.joins import median
from bench.link_up import DHCP, DHCP_ROUTER, DNMS, OPTIMISTIC, PARTS, LinkUp, Measured, Spread
from bench.pushes import Push, Pushes
from bench.sides import Stopwatch

IDLE = 600.0  # seconds
IMPORTS = 5  # times
LACKS = 3
"""The exit code where a peer is not installed, and all else was measured."""

GOAL_BEYOND_DAD = 50.0  # ms
GOAL_RSS = 40  # MiB
GOAL_CPU = 0.1  # percent

MIB = 1 << 20


class Imported(msgspec.Struct, frozen=True, array_like=True):
    """One step of the imports, as `bench.imports` prints it."""

    name: str
    seconds: float
    rss: int  # bytes, after it
    pss: int


class Report(msgspec.Struct, frozen=True):
    """All that was measured."""

    loads: list[float]  # of the machine in the minutes before the agent was idle, the links came up, the plan changed
    cores: int
    link_up: LinkUp
    pushes: Pushes
    idle: Idle
    imports: list[Imported]
    seconds: float


def measure(*, runs: int, nodes: int, idle: float) -> Report:
    """Everything, one after the other. RuntimeError."""
    watch, loads = Stopwatch(), [os.getloadavg()[0]]
    with compiled():
        imported = imports()
        idle_node.isolated()  # it compiles what is taken in later
        idle_found = idle_node.isolated(idle)
    loads.append(os.getloadavg()[0])
    up = link_up.isolated(runs)
    loads.append(os.getloadavg()[0])
    pushed = pushes.isolated(nodes)
    return Report(
        loads=loads,
        cores=os.cpu_count() or 0,
        link_up=up,
        pushes=pushed,
        idle=idle_found,
        imports=imported,
        seconds=watch.seconds(),
    )


@contextmanager
def compiled() -> Iterator[None]:
    """Python keeps what it compiles, and finds it again, as where a package is installed.

    Else each start compiles anew, which takes longer than to import, and memory that is never given back.
    """
    before = {name: os.environ.get(name) for name in ("PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE")}
    with tempfile.TemporaryDirectory(prefix="dnms-bench-") as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        try:
            yield
        finally:
            os.environ.pop("PYTHONPYCACHEPREFIX", None)
            os.environ.update({name: value for name, value in before.items() if value is not None})


def imports() -> list[Imported]:
    """What each step takes; medians of some processes. The first compiles, and is none of them."""
    command = (sys.executable, "-m", "bench.imports")
    subprocess.run(command, capture_output=True, check=True)
    found = [
        msgspec.json.decode(subprocess.run(command, capture_output=True, check=True).stdout, type=list[Imported])
        for _ in range(IMPORTS)
    ]
    return [
        Imported(
            steps[0].name,
            median([each.seconds for each in steps]),
            int(median([each.rss for each in steps])),
            int(median([each.pss for each in steps])),
        )
        for steps in zip(*found, strict=True)
    ]


def show(report: Report) -> None:
    """Print it for people."""
    console = Console()
    loads = ", ".join(f"{load:.1f}" for load in report.loads)
    console.print(f"{report.cores} cores, load {loads} before the parts; {report.seconds:.0f} s")
    sides = report.link_up.sides
    console.print(_sides(sides))
    console.print(_parts(sides))
    console.print(_pushes(report.pushes))
    console.print(_idle(report))
    if report.link_up.missing:
        console.print(
            "some sides were not measured, as their programs are not installed; Debian has them: "
            f"apt-get install {' '.join(report.link_up.missing)}"
        )


def _sides(sides: list[Measured]) -> Table:
    table = _table("from link up to a usable address, ms", "side", "runs", *_spread("", "beyond DAD "))
    rivals = [side.usable for side in sides if side.side in (DHCP.name, DHCP_ROUTER.name) and side.usable]
    for side in sides:
        ours = side.side in (DNMS.name, OPTIMISTIC.name)
        cells = []
        for name in ("p50", "p90", "max"):
            best = min((getattr(rival, name) for rival in rivals), default=float("inf"))
            cells.append(_cell(side.usable, name, below=best if ours else None))
        cells += [
            _cell(side.beyond_dad, name, below=GOAL_BEYOND_DAD if ours else None) for name in ("p50", "p90", "max")
        ]
        table.add_row(side.side, f"{side.runs - side.missed} of {side.runs}", *cells)
    return table


def _parts(sides: list[Measured]) -> Table:
    table = _table("where that goes, ms", "part", *(side.side for side in sides))
    for part in PARTS:
        spreads = [side.parts.get(part) for side in sides]
        if any(spreads):
            table.add_row(part, *("" if each is None else f"{each.p50:,.0f} / {each.max:,.0f}" for each in spreads))
    table.caption = "p50 / max"
    return table


def _pushes(found: Pushes) -> Table:
    title = f"a new DNS server to {found.nodes} nodes, ms; medians of {len(found.pushes)} changes"
    table = _table(title, "until", "p50", "last")
    table.add_row("the plan is in the log", "", f"{median([each.committed for each in found.pushes]):,.0f}")
    written, applied = [each.written for each in found.pushes], [each.applied for each in found.pushes]
    for name, spreads in (("nodes have written it", written), ("the log knows that", applied)):
        table.add_row(name, *(f"{median([getattr(each, key) for each in spreads]):,.0f}" for key in ("p50", "max")))
    table.caption = _spent(found.pushes, found.nodes)
    return table


def _spent(changes: list[Push], nodes: int) -> str:
    agent, node = (median([getattr(each, name) for each in changes]) / nodes for name in ("agent_cpu", "nodes_cpu"))
    return f"CPU a node: {node:.1f} ms of its own, {agent:.1f} ms of the Subnet Agent's"


def _idle(report: Report) -> Table:
    idle = report.idle
    percent = 100 * idle.cpu / idle.seconds if idle.seconds else 0.0
    table = _table("a Node Agent with a session, idle", "what", "RSS MiB", "PSS MiB", "seconds")
    for step in report.imports:
        table.add_row(f"import: {step.name}", f"{step.rss / MIB:.1f}", f"{step.pss / MIB:.1f}", f"{step.seconds:.3f}")
    rss = _mark(f"{idle.memory.rss / MIB:.1f}", good=idle.memory.rss < GOAL_RSS * MIB)
    table.add_row("idle", rss, f"{idle.memory.pss / MIB:.1f}", "")
    table.caption = (
        f"CPU {_mark(f'{percent:.3f} %', good=percent < GOAL_CPU)} of a core over {idle.seconds:.0f} s, "
        f"woken {idle.switches / max(1.0, idle.seconds):.1f} times a second"
    )
    return table


def _spread(*prefixes: str) -> list[str]:
    return [f"{prefix}{name}" for prefix in prefixes for name in ("p50", "p90", "max")]


def _cell(spread: Spread | None, name: str, *, below: float | None) -> str:
    if spread is None:
        return "-"
    value: float = getattr(spread, name)
    text = f"{value:,.0f}"
    return text if below is None else _mark(text, good=value < below)


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
    parser = argparse.ArgumentParser(prog="python -m bench.node", description="What a node costs.")
    parser.add_argument("--runs", type=int, default=link_up.RUNS, help="of each side (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=pushes.NODES, help="that a plan reaches (default: %(default)s)")
    parser.add_argument("--idle", type=float, default=IDLE, metavar="SECONDS", help="(default: %(default)s)")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    given = parser.parse_args()
    report = measure(runs=given.runs, nodes=given.nodes, idle=given.idle)
    if given.output == "json":
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n")
    else:
        show(report)
    return LACKS if report.link_up.missing else 0


if __name__ == "__main__":
    sys.exit(main())
