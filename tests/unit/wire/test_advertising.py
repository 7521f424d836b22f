"""When a router advertises itself."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from dnms.wire.advertising import INITIAL, INITIAL_INTERVAL, MAX_DELAY, MIN_DELAY, Times, longest_interval


def due(times: Times, count: int, longest: float = 600.0) -> list[float]:
    """The instants of the next ones."""
    found = []
    for _ in range(count):
        found.append(times.due)
        times.sent(times.due, longest)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_the_first_ones_come_soon_and_the_others_at_random(seed: int) -> None:
    at = due(Times(Random(seed), 100.0), 30)
    pauses = [after - before for before, after in pairwise(at)]
    assert at[0] == 100.0
    assert all(pause <= INITIAL_INTERVAL for pause in pauses[: INITIAL - 1])
    assert all(200 <= pause <= 600 for pause in pauses[INITIAL:])
    assert len(set(pauses[INITIAL:])) == len(pauses[INITIAL:])


@pytest.mark.parametrize("seed", range(20))
def test_who_asks_is_answered_within_half_a_second_and_all_who_ask_at_once(seed: int) -> None:
    times = Times(Random(seed), 0.0)
    due(times, 5)
    at = times.due - 100.0
    for host in range(50):
        times.solicited(at + host / 1_000)
    assert at <= times.due <= at + MAX_DELAY
    times.sent(times.due, 600.0)
    assert times.due > at + 100


@pytest.mark.parametrize("seed", range(20))
def test_never_two_within_three_seconds(seed: int) -> None:
    chance = Random(seed)
    times = Times(chance, 0.0)
    sent: list[float] = []
    now = 0.0
    while now < 300.0:
        now += chance.uniform(0.0, 0.3)
        if chance.random() < 0.5:
            times.solicited(now)
        if chance.random() < 0.1:
            times.changed(now)
        if now >= times.due:
            sent.append(now)
            times.sent(now, chance.uniform(4.0, 600.0))
    assert len(sent) > 50
    assert all(after - before >= MIN_DELAY for before, after in pairwise(sent))


def test_a_change_is_said_at_once_and_soon_again() -> None:
    times = Times(Random(1), 0.0)
    due(times, 6)
    at = times.due - 50
    times.changed(at)
    again = due(times, INITIAL)
    assert again[0] == at
    assert again[-1] <= at + 2 * INITIAL_INTERVAL


def test_what_could_not_be_sent_is_tried_again_soon() -> None:
    times = Times(Random(1), 0.0)
    times.failed(0.0)
    assert 0 < times.due <= 3


@pytest.mark.parametrize(
    ("lifetimes", "longest"), [((), 600), ((0,), 600), ((1_800,), 600), ((90, 1_800), 30), ((3,), 4), ((0, 300), 100)]
)
def test_a_host_that_misses_two_still_has_it(lifetimes: tuple[float, ...], longest: float) -> None:
    assert longest_interval(*lifetimes) == longest
