"""What `bench.alloc` measures without a bus, with small ranges, and how it shows what it found."""

from __future__ import annotations

import msgspec
import pytest

from bench import alloc, slash8
from bench.alloc import Report
from bench.decisions import Rate
from bench.full_ledger import Full
from bench.leases import Leases, Single
from bench.processes import Memory
from bench.rivals import Agent, Crowd, Rivals
from bench.slash8 import Search, Slash8
from bench.starts import Agent as Started
from bench.starts import Start

MIB = 1 << 20


def start(seconds: float, mib: int) -> Start:
    return Start(seconds, seconds, Memory(mib * MIB, mib * MIB, mib * MIB), mib * MIB)


def crowd(agents: int, p99: float) -> Crowd:
    each = Agent(share=1 / agents, p50_ms=1.0, p99_ms=p99, failed=0, lost_races=3, commits=4, cpu_us=50.0)
    return Crowd([each] * agents, 5_000.0, 5_000.0, 1.0, p99, 10.0)


REPORT = Report(
    load=0.5,
    cores=2,
    full=Full(
        leases=1_000,
        log_bytes=200 * MIB,
        fill_seconds=1.0,
        agent=Started(start(9.0, 180), 1.0, start(0.9, 170), 80 * MIB),
        kea=start(10.0, 616),
        decisions=[Rate("allocate", 1_000, 50_000.0, 20.0, 20_000.0, 50.0)],
    ),
    slash8=Slash8(1 << 24, 2 * MIB, 3 * MIB, Search(1.0, 1.5), Search(1.0, 2.5), Search(1.0, 1.0)),
    group_commit=[Leases("address.allocate", 35_000.0, 300_000.0, 0.1, 5.0, 9.0, 25.0, 200.0)],
    single=Single(1.0, 2.0, 0.5, 1.0),
    rivals=Rivals(crowd(1, 10.0), crowd(2, 20.0), 2.0, 3.5, 1.0, 0),
    seconds=1.0,
)


def test_a_small_range_is_measured_as_a_slash_8_is() -> None:
    found = slash8.measure("198.18.0.0/16")
    assert found.addresses == 1 << 16
    assert found.empty_bytes == found.full_bytes < 10_000
    assert min(found.index.full_us, found.choose.full_us, found.settled.full_us) > 0
    assert found.choose.ratio == found.choose.full_us / found.choose.empty_us


def lines_of(report: Report, capsys: pytest.CaptureFixture[str]) -> list[str]:
    alloc.show(report)
    return capsys.readouterr().out.splitlines()


def test_what_misses_its_aim_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(REPORT, capsys)

    def line(begin: str) -> str:
        return next(each for each in lines if begin in each)

    assert "90% ✗" in line("agent, the log")
    assert "29%" in line("agent, the log")
    assert "9%" in line("agent, snapshot")
    assert "✗" not in line("agent, snapshot")
    assert "✗" in line("choose")
    assert "✗" not in line("the index alone")
    assert "3.00 ✗ MiB full" in line("its index")
    assert "✗" not in line("35,000")
    assert "p99 2.0 times one agent's, the slowest of them 3.5 ✗ times" in " ".join(" ".join(lines).split())


def test_without_a_peer_it_says_how_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    agent = msgspec.structs.replace(REPORT.full.agent, kept=0)
    full = msgspec.structs.replace(REPORT.full, kea=None, agent=agent)
    text = " ".join(" ".join(lines_of(msgspec.structs.replace(REPORT, full=full), capsys)).split())
    assert "apt-get install kea-dhcp6-server" in text
    assert "memfile" not in text
    assert "no snapshot was kept" in text
