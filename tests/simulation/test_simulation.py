"""Thousands of hours with everything that can fail around the agents: nothing that was promised is ever broken."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from dnms.events import address, prefix, uplink
from tests.simulation.__main__ import main
from tests.simulation.mutants import MUTANTS, Mutant, no_sequence_check
from tests.simulation.run import simulate
from tests.simulation.schedule import WEIGHTS, draw

SCHEDULES = 2_000
CHUNK = 50
SEEDS_OF_A_MUTANT = 80
ALIKE = (0, 3, 28, 77, 140)

SOMETIMES = {
    *WEIGHTS,
    "contested",
    "address.expired of IPv4",
    "address.expired of IPv6",
    "address.declined of IPv6",
    "address.allocate refused: exhausted",
    "address.allocate refused: no-pool",
    "address.allocate refused: outage",
    "address.renew refused: no-binding",
    "pool.withdrawn",
    "uplink",
    "stop-router",
    "prefix.delegate refused: no-prefix",
    "disk full",
    "journal lost",
    "journal torn",
    "journal damaged",
    "journal restored",
    "does not start",
    "from a snapshot",
    "without the log",
    "doubt",
    "duplicate",
}
"""Beside every event of a ledger."""

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("first", range(0, SCHEDULES, CHUNK))
def test_nothing_that_was_promised_is_broken(first: int) -> None:
    """On a failure: `python -m tests.simulation --seed N` prints what happened."""
    wrong = {seed: verdict[0] for seed in range(first, first + CHUNK) if (verdict := _wrong_and_counts(seed))[0]}
    assert not wrong


@cache
def _wrong_and_counts(seed: int) -> tuple[list[str], Counter[str]]:
    """What two tests ask of a seed, where one worker runs both."""
    verdict = simulate(seed)
    return verdict.wrong, verdict.counts


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_a_seed_is_the_same_in_every_process(hash_seed: str) -> None:
    here = [simulate(seed).digest for seed in ALIKE]
    assert here == [simulate(seed).digest for seed in ALIKE]
    program = f"from tests.simulation.run import simulate\nfor s in {ALIKE}: print(simulate(s).digest)"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    there = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert there.stdout.split() == here


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_defect_is_noticed(mutant: Mutant) -> None:
    schedules = [draw(seed, MUTANTS[mutant]) for seed in range(SEEDS_OF_A_MUTANT)]
    with mutant():
        found = next(each for each in schedules if simulate(each.seed, schedule=each).wrong)
    assert not simulate(found.seed, schedule=found).wrong, "it is the defect that is found"


def test_everything_that_can_happen_does_happen() -> None:
    """Else a schedule would show nothing of it. These are the first of the schedules above."""
    missing = {event.NAME for event in (*address.EVENTS, *prefix.EVENTS, *uplink.EVENTS)} | SOMETIMES
    for seed in range(SCHEDULES):
        missing -= _wrong_and_counts(seed)[1].keys()
        if not missing:
            break
    assert not missing


def test_a_seed_that_fails_is_replayed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with no_sequence_check():
        seed = next(seed for seed in range(SEEDS_OF_A_MUTANT) if simulate(seed).wrong)
        assert main(["--seed", str(seed)]) == 1
    out = capsys.readouterr().out
    assert f"seed {seed}: " in out
    assert "WRONG: " in out
    assert " stored sequence=1 on=dnms.s.plan by=operator/simulation " in out
    assert main(["--schedules", "2"]) == 0
    assert capsys.readouterr().out.startswith("2 schedules, 0 wrong; ")


def test_seeds_differ() -> None:
    assert len({simulate(seed).digest for seed in range(5)}) == 5
