from __future__ import annotations

from itertools import product
from math import prod

import pytest

from dnms.domain.chances import any_of, expected_meetings, next_meets


def test_the_next_client_meets_what_is_taken() -> None:
    assert next_meets(0, 16) == 0
    assert next_meets(4, 16) == 0.25
    assert next_meets(17, 16) == next_meets(1, 0) == 1


def test_the_expected_pairs_are_those_of_all_outcomes() -> None:
    """Three clients and four addresses: every outcome is as likely as any other."""
    outcomes = list(product(range(4), repeat=3))
    pairs = sum((a == b) + (a == c) + (b == c) for a, b, c in outcomes)
    assert expected_meetings(3, 4) == pairs / len(outcomes)
    assert expected_meetings(1, 4) == expected_meetings(0, 4) == 0


@pytest.mark.parametrize("clients", [23, 100])
def test_the_birthday_bound_is_near_to_the_truth(clients: int) -> None:
    truth = 1 - prod((365 - n) / 365 for n in range(clients))
    assert any_of(expected_meetings(clients, 365)) == pytest.approx(truth, abs=0.01)


def test_of_a_million_clients_in_one_64_two_meet_once_in_five_hundred_sites() -> None:
    assert expected_meetings(1_000_000, 1 << 48) == pytest.approx(0.00178, rel=0.01)
    assert any_of(expected_meetings(1_000_000, 1 << 48)) == pytest.approx(0.00178, rel=0.01)
    assert any_of(1e-300) > 0  # no chance is lost to rounding
