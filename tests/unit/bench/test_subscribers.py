"""How `bench.subscribers` sums up runs of the lab, what it does without a program, and what it marks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import pytest

from bench import renumberings, subscribers
from bench.processes import Memory
from bench.renumberings import Renumberings, Spread, summary
from bench.subscribed import Filled, Latency, Part
from bench.subscribers import Report
from dnms.lab.report import DelegationReport

MIB = 1 << 20


def lab(reach: float, lost: int) -> DelegationReport:
    return DelegationReport(
        scenario="delegation",
        levels=3,
        reachable_both_ways=True,
        routes=8,
        routes_left_after_release=0,
        rules=2,
        rules_left_after_release=0,
        pings=100,
        lost_pings_at_renumber=lost,
        lost_pings_at_cut=2 * lost,
        seconds_to_reach=reach,
        seconds_to_come_back=1.0,
        seconds_to_renumber=2 * reach,
        seconds_lost_at_cut=0.2 * lost,
        events=100,
        views_equal_log=True,
        seconds=30.0,
    )


def report(lost: int = 0, missing: tuple[str, ...] = ()) -> Report:
    memory = Memory(50 * MIB, 50 * MIB, 50 * MIB)
    latency = Latency(
        before=0, rate=1, events=2, p50=1, p99=2, most=2, transactions=2, bare_p50=1, bare_p99=1, state_p50=1
    )
    filled = Filled(
        items=10, from_nothing=1, found_again=1, bare=1, peer=1, before=memory, holding=memory, kernel_bytes=0
    )
    return Report(
        load=0.5,
        cores=2,
        renumberings=None if "radvd" in missing else summary(1, [lab(1.0, lost)], []),
        routes=Part([latency], filled),
        elements=None,
        missing=list(missing),
        seconds=1.0,
    )


def test_runs_are_summed_up_and_those_that_failed_are_named() -> None:
    found = summary(4, [lab(1.0, 0), lab(3.0, 5), lab(2.0, 1)], ["no answer"])
    assert found == Renumberings(
        runs=4,
        failed=["no answer"],
        reach_ms=Spread(2_000.0, 3_000.0),
        renumber_ms=Spread(4_000.0, 6_000.0),
        lost_at_renumber=Spread(1, 5),
        lost_at_cut=Spread(2, 10),
        away_at_cut_ms=Spread(200.0, 1_000.0),
    )
    assert summary(1, [], ["no answer"]).reach_ms is None


@pytest.mark.parametrize(
    ("prints", "code", "wrong"),
    [
        (msgspec.json.encode(lab(1.0, 0)).decode(), 0, []),
        (msgspec.json.encode(lab(1.0, 20)).decode(), 1, ["dnms: the lab failed"]),
        ("", 1, ["dnms: the lab failed"]),
    ],
)
def test_a_run_that_has_not_passed_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prints: str, code: int, wrong: list[str]
) -> None:
    program = tmp_path / "python"
    complaint = "echo lab: a step >&2; echo dnms: the lab failed >&2" if code else ":"
    program.write_text(f"#!/bin/sh\n{complaint}\ncat <<'END'\n{prints}\nEND\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    found = renumberings.measure(1)
    assert found.failed == wrong
    assert (found.reach_ms is not None) == bool(prints)


def test_a_second_without_answers_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    subscribers.show(report(lost=9))
    assert "✗" not in capsys.readouterr().out
    subscribers.show(report(lost=10))
    assert capsys.readouterr().out.count("✗") == 2


def test_what_is_not_installed_is_said_and_the_rest_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(renumberings, "search_path", lambda: "/nowhere")
    monkeypatch.setattr(subscribers, "search_path", lambda: "/nowhere")
    asked = []

    def measured(module: str, **_: object) -> Part:
        asked.append(module)
        return report().routes

    monkeypatch.setattr(subscribers, "measured", measured)
    monkeypatch.setattr(sys, "argv", ["subscribers", "-o", "json"])
    assert subscribers.main() == subscribers.LACKS
    found = json.loads(capsys.readouterr().out)
    assert found["missing"] == ["kea-dhcp6-server", "radvd", "nftables"]
    assert found["renumberings"] is None
    assert asked == ["bench.route_changes"]
    subscribers.show(report(missing=("radvd",)))
    assert "apt-get install radvd" in " ".join(capsys.readouterr().out.split())
