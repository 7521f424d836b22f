from __future__ import annotations

from dnms.lab.path import STEPS, Way, steps


def test_steps_are_between_moments() -> None:
    near, far = Way(1.0, 1.25, 1.5, 1.75, 3.0), Way(1.0, 1.75, 2.5, 3.25, 4.0)
    found = steps([near, far])
    assert tuple(each.name for each in found) == STEPS
    assert [each.median for each in found] == [0.5, 0.5, 0.5, 1.0]
    assert [each.longest for each in found] == [0.75, 0.75, 0.75, 1.25]


def test_a_way_that_nobody_saw_whole_is_left_out() -> None:
    unseen = Way(1.0, 1.25, None, 1.75, 3.0)
    crashed = Way(1.0, 1.25, 1.5, 1.375, 3.0)
    assert unseen.steps == crashed.steps == ()
    assert steps([unseen, crashed]) == []
    assert [each.median for each in steps([unseen, Way(0.0, 1.0, 2.0, 3.0, 4.0)])] == [1.0] * 4
