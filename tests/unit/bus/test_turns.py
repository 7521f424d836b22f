"""Whose turn it is, in a world where a commit takes as long as it takes, and who loses a race knows of it at once."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from dnms.bus.turns import MAX_WAIT, ROUND, Turns

TAKES = 0.004  # seconds, a commit
STEP = 0.0005


class World:
    """Writers of one subject that try when they may, and see what is committed a little after one another."""

    def __init__(self, writers: int) -> None:
        self.turns = [Turns() for _ in range(writers)]
        self.now = 1_000.0
        self.lost = 0
        self.committed: list[int] = []
        self._begun: dict[int, tuple[float, float, int]] = {}  # by who tries: from, until, behind how many commits
        self._chance = random.Random(writers)

    def run(self, seconds: float, busy: set[int]) -> None:
        """`busy` have something to write all the time."""
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            for who in sorted(busy - set(self._begun)):
                if self.turns[who].begins(self.now) <= self.now:
                    until = self.now + TAKES * self._chance.uniform(0.8, 1.2)
                    self._begun[who] = self.now, until, len(self.committed)
            for who, (since, until, behind) in sorted(self._begun.items(), key=lambda each: each[1][1]):
                if self.now < until:
                    continue
                del self._begun[who]
                if behind == len(self.committed):
                    self._commit(who, since, busy)
                else:
                    self.lost += 1
                    self.turns[who].meet(self.now)

    def _commit(self, who: int, since: float, busy: set[int]) -> None:
        self.committed.append(who)
        for other, turns in enumerate(self.turns):
            if other == who:
                turns.ours(self.now, took=self.now - since)
            else:
                turns.others(f"agent/{who}", self.now + other * STEP / 10, waiting=other in busy)


def test_writers_that_meet_take_turns() -> None:
    world = World(5)
    world.run(0.5, set(range(5)))
    world.lost = 0
    world.committed.clear()
    world.run(2.0, set(range(5)))
    assert world.lost < 0.01 * len(world.committed)
    assert len(world.committed) > 0.8 * 2.0 / (TAKES + STEP)  # nobody leaves the log alone
    rounds = [tuple(sorted(world.committed[at : at + 5])) for at in range(0, len(world.committed) - 5, 5)]
    assert set(rounds) == {(0, 1, 2, 3, 4)}


def test_who_is_alone_never_waits() -> None:
    world = World(5)
    world.run(1.0, {3})
    assert world.lost == 0
    assert len(world.committed) > 0.9 * 1.0 / (TAKES + STEP)


def test_those_who_have_nothing_to_write_are_passed_over_and_forgotten() -> None:
    world = World(5)
    world.run(1.0, set(range(5)))
    world.run(2 * ROUND * TAKES, {0, 1})
    world.committed.clear()
    world.run(1.0, {0, 1})
    assert len(world.committed) > 0.8 * 1.0 / (TAKES + STEP)
    assert Counter(world.committed)[0] == pytest.approx(Counter(world.committed)[1], abs=1)


def test_one_that_does_not_take_turns_keeps_nobody_from_writing() -> None:
    """An earlier release, or one that has not noticed that it meets others."""
    turns, now = Turns(), 1_000.0
    turns.ours(now, took=TAKES)
    for _ in range(1_000):
        now += TAKES
        turns.others("agent/rude", now, waiting=True)
    assert turns.begins(now) <= now


def test_nobody_waits_for_more_than_a_moment_however_many_write() -> None:
    turns = Turns()
    for who in range(1_000):
        turns.others(f"agent/{who}", 1_000.0, waiting=True)
    turns.ours(1_000.001, took=60.0)
    assert 1_000.01 < turns.begins(1_000.002) <= 1_000.001 + MAX_WAIT
