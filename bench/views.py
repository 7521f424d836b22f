"""Views at size: a log of half a year is folded, asked and followed. `python -m bench.views [--events N] [-o json]`.

- The log is made by the real decisions (`bench.visits`), seeded: 10 000 000 events, 50 000 nodes in 1 000 subnets.
- Rebuild of all views, by parts: decoding, the folds without SQLite, SQLite's `executemany` of the same rows.
- `dnms serve` with that log: its first views, its memory, how closely it follows 2 000 events a second.
- Who had an address, in process and over REST; beside them PostgreSQL and grep over Kea's legal log.
- A page of nodes as of a time.

It writes to the directory for temporary files (`TMPDIR`), several KB an event. `docs/performance.md` says
how to read it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from bench import view_folds, view_log, view_peers, view_questions, view_serve
from bench.sides import Stopwatch
from bench.view_folds import Folds
from bench.view_log import Generated
from bench.view_peers import GET_POSTGRESQL, Legal, PostgreSQL
from bench.view_questions import Times
from bench.view_serve import Served
from dnms.archive.segments import Archive
from dnms.projections import files
from dnms.projections.views import Views

EVENTS = 10_000_000

GOAL_REBUILD = 50_000  # events a second, on one core
GOAL_IN_PROCESS = 1.0  # ms, p99
GOAL_REST = 5.0
GOAL_PAGE = 20.0
GOAL_MEMORY = 300  # MiB


class Report(msgspec.Struct, frozen=True):
    """All that was measured."""

    load: float  # of the machine in the minute before
    cores: int
    log: Generated
    folds: Folds
    who_had: Times
    page: Times
    postgresql: PostgreSQL | None  # None: not installed
    legal: Legal
    served: Served
    seconds: float


async def measure(events: int) -> Report:
    """Everything."""
    load, watch = os.getloadavg()[0], Stopwatch()
    with tempfile.TemporaryDirectory(prefix="dnms-bench-") as directory:
        folder = Path(directory)
        log, more = view_log.generate(folder / "archive", events)
        records = Archive.open(folder / "archive").all()
        folds = view_folds.measure(folder, view_log.LOG_ID, records, log.events / log.commits)
        file, path = folder / view_folds.FILE, folder / "views.db"
        asked = view_questions.questions(file)
        files.publish(path, file)
        views = Views(path)
        who_had, page = await view_questions.in_process(views, asked), await view_questions.pages(views, asked)
        await views.close()
        return Report(
            load=load,
            cores=os.cpu_count() or 0,
            log=log,
            folds=folds,
            who_had=who_had,
            page=page,
            legal=view_peers.legal(folder, file, asked),
            postgresql=view_peers.postgresql(folder, file, asked),
            served=await view_serve.measure(folder, view_log.source(folder / "archive"), more, asked),
            seconds=watch.seconds(),
        )


def show(report: Report) -> None:
    """Print it for people."""
    console, log, folds, served = Console(), report.log, report.folds, report.served
    console.print(
        f"{report.cores} cores, load {report.load:.1f} before; {report.seconds:.0f} s\n"
        f"log: {log.events:,} events in {log.commits:,} commits, {log.nodes:,} nodes, {log.subnets:,} subnets, "
        f"{log.days} days, {log.bytes_an_event:.0f} bytes an event; made in {log.seconds:.0f} s"
    )
    table = Table(title="rebuild, of one core", title_justify="left")
    for column in ("part", "µs an event", "events/s", "slowest tenth"):
        table.add_column(column, justify="right")
    for name in ("decode", "views", "fold", "sqlite"):
        part: view_folds.Part = getattr(folds, name)
        table.add_row(name, f"{part.cpu_us:.1f}", f"{part.per_second:,.0f}", f"{part.slowest:,.0f}")
    table.add_row("sorting at the end", f"{folds.finish_us:.1f}", "", "")
    table.add_row("rebuild", "", _mark(f"{folds.rebuild:,.0f}", good=folds.rebuild >= GOAL_REBUILD), "")
    console.print(table)
    by_view = ", ".join(f"{name} {spent:.1f}" for name, spent in folds.by_view.items())
    console.print(f"fold by view, µs an event: {by_view}")
    console.print(f"{folds.rows_an_event:.1f} rows and {folds.bytes_an_event:.0f} bytes of the file an event")
    table = Table(title="answers, ms", title_justify="left")
    for column in ("question", "p50", "p99"):
        table.add_column(column, justify="right")
    for name, found, goal in (
        ("who had it, in process", report.who_had, GOAL_IN_PROCESS),
        ("who had it, REST", served.who_had, GOAL_REST),
        ("100 nodes as of a time, in process", report.page, GOAL_PAGE),
        ("100 nodes as of a time, REST", served.page, GOAL_PAGE),
    ):
        table.add_row(name, f"{found.p50_ms:.2f}", _mark(f"{found.p99_ms:.2f}", good=found.p99_ms < goal))
    if (peer := report.postgresql) is not None:
        table.add_row("who had it, PostgreSQL", f"{peer.question.p50_ms:.2f}", f"{peer.question.p99_ms:.2f}")
    grep = report.legal.question
    table.add_row("who had it, grep over Kea's legal log", f"{grep.p50_ms:.2f}", f"{grep.p99_ms:.2f}")
    console.print(table)
    rss = served.memory.rss / (1 << 20)
    console.print(
        f"dnms serve: first views in {served.first_views_seconds:.1f} s and {served.first_views_cpu:.1f} s of CPU, "
        f"{_mark(f'{rss:.0f} MiB', good=rss < GOAL_MEMORY)}; behind {served.sent:,.0f} events/s by "
        f"{served.lag.p50_ms:.1f} ms, p99 {served.lag.p99_ms:.1f} ms"
    )
    if peer is None:
        console.print(GET_POSTGRESQL)


def _mark(text: str, *, good: bool) -> str:
    """Whether a goal is met."""
    return f"[green]{text}[/green]" if good else f"[red]{text} ✗[/red]"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.views", description="Views of a long log.")
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(given.events))
    if given.output == "json":
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")
    else:
        show(found)
    if found.postgresql is None:
        sys.exit(3)
