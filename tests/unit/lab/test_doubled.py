"""What two machines could use at once, and whether the log says so."""

from __future__ import annotations

import pytest

from dnms.events.ip import parse_address
from dnms.lab.doubled import Doubled, Holding, Told, doubled, untold

X, Y = parse_address("2001:db8::1"), parse_address("2001:db8::2")


def held(machine: str, since: float, until: float, address: bytes = X) -> Holding:
    return Holding(machine, address, since, until)


def test_one_after_the_other_is_not_at_once() -> None:
    assert list(doubled([held("b", 2, 4), held("a", 1, 2), held("a", 4, 5), held("a", 5, 6)])) == []
    assert list(doubled([held("a", 1, 3), held("b", 1, 3, Y)])) == []
    assert list(doubled([held("a", 1, 5), held("b", 3, 3)])) == []


def test_it_begins_with_the_second_and_ends_when_one_is_left() -> None:
    names = frozenset({"a", "b"})
    assert list(doubled([held("a", 1, 9), held("b", 3, 5), held("b", 6, 8)])) == [
        Doubled(X, names, 3, 5),
        Doubled(X, names, 6, 8),
    ]
    assert list(doubled([held("a", 1, 4), held("b", 3, 9)])) == [Doubled(X, names, 3, 4)]
    assert list(doubled([held("a", 1, 4), held("b", 1, 4)])) == [Doubled(X, names, 1, 4)]


def test_three_are_one_time_with_all_of_their_names() -> None:
    found = list(doubled([held("a", 1, 5), held("b", 2, 4), held("c", 3, 9)]))
    assert found == [Doubled(X, frozenset({"a", "b", "c"}), 2, 5)]


@pytest.mark.parametrize(
    ("told", "is_told"),
    [
        (Told("b", X, 2.5), True),
        (Told("a", X, 2.5), True),
        (Told("c", X, 2.5), False),
        (Told("b", Y, 2.5), False),
        (Told("b", X, 3.5), False),
    ],
)
def test_the_log_has_to_say_who_and_since_when(told: Told, is_told: bool) -> None:
    found = list(doubled([held("a", 1, 9), held("b", 3, 5)]))
    assert list(untold(found, [told])) == ([] if is_told else found)
    assert list(untold(found, [])) == found
