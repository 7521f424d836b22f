"""The log's speed beside bare loops in the same run: append, read back, group commit. `python -m bench.log [-o json]`.

Every side does its work in short turns, one after the other, so that what else the machine does meets all alike;
printed are the medians of the turns, and their ratios. The server is the embedded one, which syncs before each
acknowledgement, and the loop is uvloop, as in `dnms serve`.

Append and read back: the commits are those of a ledger. `bare` publishes prepared bytes with nats-py, and reads them
with a push consumer whose callback does nothing. `port` moves the same bytes through `dnms.bus.port`, with expected
sequences, gaps and silence watched. `commits` encodes what it appends, and decodes and checks what it reads.

Group commit: clients ask one ledger for leases, each for its next one when it is answered, and what is answered is in
the log. `bare` publishes prepared commits of the same size, one in flight, with nothing decided.
"""

from __future__ import annotations

import os

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from bench import leases, streams
from bench.command import main
from bench.leases import Leases
from bench.sides import Stopwatch, embedded
from bench.streams import Batch, Rates

GOAL_RATIO = 0.5  # of the port to the bare loop
GOAL_LEASES = 30_000  # a second


class Report(msgspec.Struct, frozen=True):
    """All that was measured."""

    load: float  # of the machine in the minute before
    cores: int
    in_flight: int
    clients: int
    batches: list[Batch]
    group_commit: list[Leases]
    seconds: float


async def measure() -> Report:
    """Everything, on a server of its own."""
    load, watch = os.getloadavg()[0], Stopwatch()
    async with embedded() as server:
        batches = [await streams.measure(server, events) for events in streams.COMMITS]
        group_commit = await leases.measure(server)
    return Report(
        load=load,
        cores=os.cpu_count() or 0,
        in_flight=streams.IN_FLIGHT,
        clients=leases.CLIENTS,
        batches=batches,
        group_commit=group_commit,
        seconds=watch.seconds(),
    )


def show(report: Report) -> None:
    """Print it for people."""
    console = Console()
    console.print(f"{report.cores} cores, load {report.load:.1f} before; medians; {report.seconds:.0f} s")
    for name in ("append", "read"):
        title = f"{name}, events/s, {report.in_flight} commits in flight" if name == "append" else "read back, events/s"
        table = Table(title=title, title_justify="left")
        for column in ("events a commit", "bare", "port", "of bare", "commits", "of bare "):
            table.add_column(column, justify="right")
        for batch in report.batches:
            rates: Rates = getattr(batch, name)
            table.add_row(
                f"{batch.events:,}",
                f"{rates.bare:,.0f}",
                f"{rates.port:,.0f}",
                _mark(f"{rates.port_to_bare:.0%}", good=rates.port_to_bare >= GOAL_RATIO),
                f"{rates.commits:,.0f}",
                f"{rates.commits_to_bare:.0%}",
            )
        console.print(table)
    table = Table(title=f"group commit, {report.clients} clients of one ledger, durable leases", title_justify="left")
    table.add_column("request", no_wrap=True)
    for column in ("leases/s", "p50 ms", "p99 ms", "CPU µs", "a commit", "bare", "of bare"):
        table.add_column(column, justify="right")
    for each in report.group_commit:
        table.add_row(
            each.request,
            _mark(f"{each.per_second:,.0f}", good=each.per_second >= GOAL_LEASES),
            f"{each.p50_ms:.1f}",
            f"{each.p99_ms:.1f}",
            f"{each.cpu_us:.1f}",
            f"{each.per_commit:.0f}",
            f"{each.bare_per_second:,.0f}",
            f"{each.ratio:.0%}",
        )
    console.print(table)


def _mark(text: str, *, good: bool) -> str:
    """Whether a goal is met."""
    return f"[green]{text}[/green]" if good else f"[red]{text} ✗[/red]"


if __name__ == "__main__":
    main("log", "The log's speed beside bare loops.", measure, show, loop=uvloop.new_event_loop)
