"""DHCP servers beside each other: DNMS, Kea, dnsmasq, ISC dhcpd. `python -m bench.dhcp [-o json]`.

- The highest rate at which less than 1 % of the exchanges is lost: DHCPv6 four-way, Rapid Commit, IA_PD and renew,
  DHCPv4 four-way and renew. perfdhcp loads them, and `bench.dhcp_client` where perfdhcp has no mode for it.
- Beside it the CPU of a thousand exchanges, latency at half of that rate, memory and disk of a client.
- An avalanche: 10 000 clients at once, and the time until the last one is served.

DNMS has its log on a server that syncs before it acknowledges, and answers after that. Kea's memfile does not sync, nor
does ISC dhcpd for DHCPv6. Server and clients are in namespaces of their own. `docs/performance.md` has how to read it.
"""

from __future__ import annotations

import argparse
import os
import sys

import msgspec
from rich.console import Console
from rich.table import Table

from bench.dhcp_load import LOADS
from bench.dhcp_servers import DNMS, SERVERS
from bench.dhcp_trials import CLIENTS, Avalanche, Found, Measured
from bench.processes import in_namespace
from bench.sides import Stopwatch

LACKS = 3
"""The exit code where a peer is not installed or did not work, and all else was measured."""

GOAL_DURABLE = 10.0  # times each that syncs too
GOAL_KEA = 1.0  # times Kea with a memfile, which does not


class Report(msgspec.Struct, frozen=True):
    """All that was measured."""

    cores: int
    found: Found
    seconds: float


def measure(loads: list[str], servers: list[str], clients: int) -> Report:
    """All of it. RuntimeError."""
    watch = Stopwatch()
    arguments = ("--loads", "+".join(loads), "--servers", "+".join(servers), "--clients", str(clients))
    found = in_namespace("bench.dhcp_trials", Found, *arguments)
    return Report(cores=os.cpu_count() or 0, found=found, seconds=watch.seconds())


def show(report: Report) -> None:
    """Print it for people."""
    console = Console()
    console.print(f"{report.cores} cores; {report.seconds:.0f} s")
    for load in dict.fromkeys(each.load for each in report.found.measured):
        console.print(_table(load, [each for each in report.found.measured if each.load == load]))
    if report.found.avalanches:
        console.print(_avalanches(report.found.avalanches))
    for each in report.found.failed:
        console.print(f"not measured: {each}")
    if report.found.missing:
        console.print(
            "some servers were not measured, as their programs are not installed; Debian has them: "
            f"apt-get install {' '.join(report.found.missing)}"
        )


def _table(load: str, measured: list[Measured]) -> Table:
    table = Table(title=load, title_justify="left", caption_justify="left")
    table.add_column("server")
    for column in (
        "syncs",
        "/s",
        "DNMS is",
        "CPU s/1 000",
        "p50 ms",
        "p99 ms",
        "B memory",
        "B disk",
        "quiet after s",
        "load",
    ):
        table.add_column(column, justify="right")
    ours = next((each.rate for each in measured if each.server == DNMS.name), None)
    for each in measured:
        ratio = "" if ours is None or each.server == DNMS.name else _ratio(ours / each.rate, durable=each.durable)
        table.add_row(
            each.server,
            "yes" if each.durable else "no",
            f"{each.rate:,.0f}",
            ratio,
            f"{each.cpu:.3f}",
            f"{each.p50:.2f}",
            f"{each.p99:.2f}",
            f"{each.memory:,.0f}",
            f"{each.disk:,.0f}",
            f"{each.recorded:.1f}",
            f"{each.busy:.1f}",
        )
    return table


def _ratio(ratio: float, *, durable: bool) -> str:
    text = f"{ratio:.2f} times"
    return f"[green]{text}[/green]" if ratio >= (GOAL_DURABLE if durable else GOAL_KEA) else f"[red]{text} ✗[/red]"


def _avalanches(avalanches: list[Avalanche]) -> Table:
    table = Table(title="an avalanche, seconds until the last is served", title_justify="left")
    table.add_column("server")
    for family in (6, 4):
        table.add_column(f"DHCPv{family}", justify="right")
    for server in dict.fromkeys(each.server for each in avalanches):
        took = {each.family: f"{each.seconds:.1f}" for each in avalanches if each.server == server}
        table.add_row(server, took.get(6, "-"), took.get(4, "-"))
    return table


def main() -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.dhcp", description="DHCP servers beside each other.")
    parser.add_argument("--load", action="append", choices=[each.name for each in LOADS], default=[], help="(all)")
    parser.add_argument("--server", action="append", choices=[each.name for each in SERVERS], default=[], help="(all)")
    parser.add_argument("--clients", type=int, default=CLIENTS, help="of an avalanche; 0: none (default: %(default)s)")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    given = parser.parse_args()
    report = measure(given.load, given.server, given.clients)
    if given.output == "json":
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n")
    else:
        show(report)
    return LACKS if report.found.missing or report.found.failed else 0


if __name__ == "__main__":
    sys.exit(main())
