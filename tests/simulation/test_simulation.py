"""Thousands of hours with everything that can fail around the agents: nothing that was promised is ever broken."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.simulation.__main__ import main
from tests.simulation.mutants import MUTANTS, no_sequence_check
from tests.simulation.run import simulate

SCHEDULES = 1_000
CHUNK = 25
SEEDS_OF_A_MUTANT = 80
ALIKE = (3, 28, 77, 140)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("first", range(0, SCHEDULES, CHUNK))
def test_nothing_that_was_promised_is_broken(first: int) -> None:
    """On a failure: `python -m tests.simulation --seed N` prints what happened."""
    wrong = {seed: verdict.wrong for seed in range(first, first + CHUNK) if (verdict := simulate(seed)).wrong}
    assert not wrong


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
def test_a_defect_is_noticed(mutant: Callable[[], AbstractContextManager[None]]) -> None:
    """The schedules above pass without it, so it is the defect that is found."""
    with mutant():
        assert any(simulate(seed).wrong for seed in range(SEEDS_OF_A_MUTANT))


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
