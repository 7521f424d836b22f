"""Runs of `dnms lab run delegation`, for `bench.subscribers`: three levels from an ISP down to containers."""

from __future__ import annotations

import shutil
import subprocess
import sys

import msgspec

from bench.joins import median
from dnms.lab.report import DelegationReport
from dnms.linux.namespaces import search_path

RUNS = 3
WITHIN = 300.0  # seconds for one

NEEDED = {"kea-dhcp6": "kea-dhcp6-server", "radvd": "radvd"}
"""Programs of the lab's ISP, and the Debian packages that bring them."""


class Spread(msgspec.Struct, frozen=True):
    """Of all runs."""

    median: float
    most: float


class Renumberings(msgspec.Struct, frozen=True):
    """All of them; a run that has not passed, but has printed its numbers, is in both."""

    runs: int
    failed: list[str]  # why, of each that has not passed
    reach_ms: Spread | None  # from the ISP's grant to the first answered ping of a container
    renumber_ms: Spread | None  # from what the border was delegated until the last container can use it
    lost_at_renumber: Spread | None  # pings, with both prefixes routed for a while
    lost_at_cut: Spread | None  # pings, with the old one cut at once
    away_at_cut_ms: Spread | None


def missing() -> list[str]:
    """Debian packages without which it cannot run."""
    return [package for program, package in NEEDED.items() if shutil.which(program, path=search_path()) is None]


def measure(runs: int) -> Renumberings:
    """So many, one after the other."""
    found, failed = list[DelegationReport](), list[str]()
    for _ in range(runs):
        report, why = _run()
        found += [report] if report is not None else []
        failed += [why] if why else []
    return summary(runs, found, failed)


def summary(runs: int, found: list[DelegationReport], failed: list[str]) -> Renumberings:
    """Of what the runs have said."""
    return Renumberings(
        runs=runs,
        failed=failed,
        reach_ms=_spread([1_000 * each.seconds_to_reach for each in found]),
        renumber_ms=_spread([1_000 * each.seconds_to_renumber for each in found]),
        lost_at_renumber=_spread([each.lost_pings_at_renumber for each in found]),
        lost_at_cut=_spread([each.lost_pings_at_cut for each in found]),
        away_at_cut_ms=_spread([1_000 * each.seconds_lost_at_cut for each in found]),
    )


def _run() -> tuple[DelegationReport | None, str]:
    """What one run has printed, and why it has not passed."""
    command = (sys.executable, "-m", "dnms.lab", "run", "delegation", "-o", "json")
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=WITHIN)
    except subprocess.TimeoutExpired:
        return None, f"not within {WITHIN:.0f} s"
    try:
        report = msgspec.json.decode(done.stdout, type=DelegationReport)
    except msgspec.MsgspecError:
        report = None
    if report is not None and done.returncode == 0:
        return report, ""
    lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.startswith("dnms: ")]
    return report, "; ".join(lines) or f"exit code {done.returncode}"


def _spread(values: list[float]) -> Spread | None:
    return Spread(round(median(values), 1), round(max(values), 1)) if values else None
