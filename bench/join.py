"""What a join costs, beside bare TLS and bare commits in the same run. `python -m bench.join [-o json]`.

Real Node Agents join a real Subnet Agent over UDP and TLS 1.3 on ::1, with the embedded server that syncs before each
acknowledgement. Nodes, agent and server are processes of their own. What is left out is the kernel: the nodes'
interfaces are made up, every address can be used at once, and their state directories keep no assignment.

`alone`: one node at a time. `crowd`: so many at once. Beside a crowd, in turns with it: as many `bare` TLS clients of
the same certificate that exchange one message, and the crowd's own commits published once more, bytes for bytes, by
nats-py, each subject in its order. Printed are medians of the rounds; parts of CPU are shares of all their samples.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from bench.command import main
from bench.joins import BareRound, Network, Round, commits_a_subject, median, network, percentile, shares
from bench.loopback import Times
from bench.sampling import TLS_HANDSHAKE, TLS_RECORDS
from bench.sides import Stopwatch

CROWD = 200
ROUNDS = 7
ALONE = 10  # joins


class Span(msgspec.Struct, frozen=True):
    """Milliseconds."""

    p50: float
    p99: float


class Cpu(msgspec.Struct, frozen=True):
    """Milliseconds of CPU a join."""

    node: float
    agent: float
    server: float


class Joins(msgspec.Struct, frozen=True):
    """What one kind of rounds came to."""

    nodes: int  # at once
    per_second: float  # from the first hello to the last assigned
    from_datagram: Span  # to assigned; of all nodes of all rounds
    from_connect: Span
    offered: Span  # from the first datagram until the node has chosen an agent
    connected: Span  # TCP and TLS
    assigned: Span  # from the hello to the assignment
    cpu: Cpu
    commits: dict[str, float]  # a join, by what they are of
    commit_bytes: float  # a join
    datagrams: float  # a join
    connects: float  # a join


class Bare(msgspec.Struct, frozen=True):
    """What sockets, TLS and the log allow."""

    tls_per_second: float
    tls_p50: float  # milliseconds, from the connect to the answer
    tls_cpu_client: float  # milliseconds
    tls_cpu_server: float
    commits_joins_per_second: float  # if a join were its commits alone


class Report(msgspec.Struct, frozen=True):
    """All that was measured."""

    load: float  # of the machine in the minute before
    cores: int
    rounds: int
    alone: Joins
    crowd: Joins
    bare: Bare
    to_bare_tls: float  # of joins a second to bare TLS connections a second
    to_bare_commits: float
    agent_parts: dict[str, float]  # shares of its CPU, in crowds
    node_parts: dict[str, float]
    tls_of_agent: float  # share of TLS in its CPU
    tls_of_node: float
    tls_of_all: float  # of agent, node and server together
    seconds: float


async def measure() -> Report:
    """Everything, on a site of its own."""
    load, watch = os.getloadavg()[0], Stopwatch()
    crowds: list[Round] = []
    tls: list[BareRound] = []
    commits: list[float] = []
    async with network() as lan:
        await _warm(lan)
        alone = [await lan.join(1) for _ in range(ALONE)]
        for _ in range(ROUNDS):
            crowds.append(await lan.join(CROWD))
            tls.append(await lan.bare_tls(CROWD))
            commits.append(await lan.bare_commits(crowds[-1].commits))
    crowd = _joins(crowds)
    bare = Bare(
        tls_per_second=median([CROWD / each.took.all for each in tls]),
        tls_p50=median([percentile(each.took.each, 50) for each in tls]) * 1_000,
        tls_cpu_client=median([each.nodes.cpu for each in tls]) / CROWD * 1_000,
        tls_cpu_server=median([each.agent.cpu for each in tls]) / CROWD * 1_000,
        commits_joins_per_second=median([CROWD / seconds for seconds in commits]),
    )
    agent_parts, node_parts = (shares([each.agent for each in crowds]), shares([each.nodes for each in crowds]))
    tls_of_agent, tls_of_node = map(_tls, (agent_parts, node_parts))
    cpu = crowd.cpu
    return Report(
        load=load,
        cores=os.cpu_count() or 0,
        rounds=ROUNDS,
        alone=_joins(alone),
        crowd=crowd,
        bare=bare,
        to_bare_tls=crowd.per_second / bare.tls_per_second,
        to_bare_commits=crowd.per_second / bare.commits_joins_per_second,
        agent_parts=agent_parts,
        node_parts=node_parts,
        tls_of_agent=tls_of_agent,
        tls_of_node=tls_of_node,
        tls_of_all=(tls_of_agent * cpu.agent + tls_of_node * cpu.node) / (cpu.agent + cpu.node + cpu.server),
        seconds=watch.seconds(),
    )


async def _warm(lan: Network) -> None:
    """What is done once in a process is no part of a join."""
    await lan.join(CROWD // 10)
    await lan.bare_tls(CROWD // 10)


def _joins(rounds: Sequence[Round]) -> Joins:
    nodes = len(rounds[0].times)
    times = [each for one in rounds for each in one.times]
    commits = [record for one in rounds for record in one.commits]

    def span(seconds: Callable[[Times], float]) -> Span:
        found = [seconds(each) * 1_000 for each in times]
        return Span(percentile(found, 50), percentile(found, 99))

    return Joins(
        nodes=nodes,
        per_second=median([nodes / one.seconds for one in rounds]),
        from_datagram=span(lambda each: each.assigned - each.asked),
        from_connect=span(lambda each: each.assigned - each.offered),
        offered=span(lambda each: each.offered - each.asked),
        connected=span(lambda each: each.connected - each.offered),
        assigned=span(lambda each: each.assigned - each.connected),
        cpu=Cpu(
            node=median([one.nodes.cpu for one in rounds]) / nodes * 1_000,
            agent=median([one.agent.cpu for one in rounds]) / nodes * 1_000,
            # Its clock has steps of 10 ms, so it is the mean of all rounds.
            server=sum(one.server for one in rounds) / len(times) * 1_000,
        ),
        commits={family: count / len(times) for family, count in commits_a_subject(commits).items()},
        commit_bytes=sum(len(record.data) for record in commits) / len(times),
        datagrams=sum(each.datagrams for each in times) / len(times),
        connects=sum(each.connects for each in times) / len(times),
    )


def _tls(parts: dict[str, float]) -> float:
    return parts.get(TLS_HANDSHAKE, 0.0) + parts.get(TLS_RECORDS, 0.0)


def show(report: Report) -> None:
    """Print it for people."""
    console, bare = Console(), report.bare
    console.print(f"{report.cores} cores, load {report.load:.1f} before; medians; {report.seconds:.0f} s")
    table = _table(
        "joins", "at once", "joins/s", "datagram to assigned", "connect to assigned", "offer", "TLS", "assigned"
    )
    for one in (report.alone, report.crowd):
        spans = one.from_datagram, one.from_connect, one.offered, one.connected, one.assigned
        table.add_row(str(one.nodes), f"{one.per_second:,.0f}", *(f"{each.p50:.1f} / {each.p99:.1f}" for each in spans))
    table.caption = "p50 / p99 in ms"
    console.print(table)
    table = _table("CPU a join, ms", "at once", "node", "agent", "server", "commits", "bytes")
    for one in (report.alone, report.crowd):
        commits = ", ".join(f"{family} {count:.2f}" for family, count in one.commits.items())
        cpu = (f"{each:.2f}" for each in (one.cpu.node, one.cpu.agent, one.cpu.server))
        table.add_row(str(one.nodes), *cpu, commits, f"{one.commit_bytes:,.0f}")
    console.print(table)
    table = _table("bare", "what", "a second", "joins to it", "p50 ms", "CPU client", "CPU server")
    table.add_row(
        "TLS, one message",
        f"{bare.tls_per_second:,.0f}",
        f"{report.to_bare_tls:.0%}",
        f"{bare.tls_p50:.1f}",
        f"{bare.tls_cpu_client:.2f}",
        f"{bare.tls_cpu_server:.2f}",
    )
    table.add_row("the commits", f"{bare.commits_joins_per_second:,.0f}", f"{report.to_bare_commits:.0%}")
    console.print(table)
    table = _table(f"CPU by part, {CROWD} at once", "part", "agent", "node")
    for part in dict.fromkeys([*report.agent_parts, *report.node_parts]):
        table.add_row(part, f"{report.agent_parts.get(part, 0):.0%}", f"{report.node_parts.get(part, 0):.0%}")
    console.print(table)
    console.print(
        f"TLS: {report.tls_of_agent:.0%} of the agent's CPU, {report.tls_of_node:.0%} of a node's, "
        f"{report.tls_of_all:.0%} of all"
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in ("what", "part", "commits") else "right")
    return table


if __name__ == "__main__":
    main("join", "What a join costs.", measure, show, loop=uvloop.new_event_loop)
