"""What agents hold in memory. `python -m bench.memory [-o json]`.

A real Node Agent, `python -m dnms.agents.node`, in a network namespace that is made for it, with a session and nothing
to do. A Subnet Agent, its real shell on loopback as in `bench.join`: when it has just started on a log in which no node
is, when so many nodes have sessions with it, and when it was started again on that log and none has come back yet. So
what a session holds can be told from what a node holds that is in the log.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bench import idle_node
from bench.command import main
from bench.joins import agent_of, nodes_of, served
from bench.loopback import Times
from bench.processes import Memory, established, memory

SESSIONS = 1_000
AT_ONCE = 100
IDLE = 2.0  # seconds


class Report(msgspec.Struct, frozen=True):
    """All that was measured, in bytes."""

    node_agent: Memory
    subnet_agent: Memory  # no node is in the log
    sessions: int
    with_sessions: Memory
    with_nodes: Memory  # as many are in the log, and none has a session
    rss_a_session: float
    rss_a_node: float  # in the log: two leases, and who it is


async def measure() -> Report:
    """Everything."""
    with tempfile.TemporaryDirectory(prefix="dnms-bench-") as directory:
        folder = Path(directory)
        async with served(folder) as (site, server, _):
            async with agent_of(site, server, folder) as (agent, at):
                await asyncio.sleep(IDLE)
                empty = memory(agent.pid)
                async with nodes_of(site, folder) as nodes:
                    for _ in range(SESSIONS // AT_ONCE):
                        await nodes.tell("prepare", nodes=AT_ONCE, discovery=at.discovery)
                        await nodes.ask("join", list[Times])
                    await asyncio.sleep(IDLE)
                    sessions = established(at.sessions)
                    full = memory(agent.pid)
            async with agent_of(site, server, folder) as (agent, _):
                await asyncio.sleep(IDLE)
                known = memory(agent.pid)
    return Report(
        node_agent=(await asyncio.to_thread(idle_node.isolated)).memory,
        subnet_agent=empty,
        sessions=sessions,
        with_sessions=full,
        with_nodes=known,
        rss_a_session=(full.rss - known.rss) / sessions,
        rss_a_node=(known.rss - empty.rss) / sessions,
    )


def show(report: Report) -> None:
    """Print it for people."""
    console, table = Console(), Table(title="memory, MiB", title_justify="left")
    for column in ("process", "RSS", "PSS", "USS"):
        table.add_column(column, justify="left" if column == "process" else "right")
    for name, found in (
        ("Node Agent, with a session, idle", report.node_agent),
        ("Subnet Agent, no node in the log", report.subnet_agent),
        (f"  {report.sessions:,} sessions", report.with_sessions),
        (f"  {report.sessions:,} nodes in the log, no session", report.with_nodes),
    ):
        table.add_row(name, *(f"{size / (1 << 20):.1f}" for size in (found.rss, found.pss, found.uss)))
    console.print(table)
    console.print(
        f"a session {report.rss_a_session / 1024:.1f} KiB, a node in the log {report.rss_a_node / 1024:.1f} KiB"
    )


if __name__ == "__main__":
    main("memory", "What agents hold in memory.", measure, show)
