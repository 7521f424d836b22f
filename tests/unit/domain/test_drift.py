"""How long what somebody else changes is put back."""

from __future__ import annotations

import pytest

from dnms.domain.drift import CONTESTED, HOLD, LEFT, REPORTED, RESTORED, RESTORES, WITHIN, Contest
from dnms.events.configuration import Policy
from dnms.events.seen import DriftItem

ADDRESS = DriftItem(kind="address", name="2001:db8::1/64", change="removed")
ROUTE = DriftItem(kind="route", name="::/0 via fe80::1 metric 512", change="removed")
RESTORE, REPORT = Policy(), Policy(drift="report")


def stray(number: int) -> DriftItem:
    return DriftItem(kind="address", name=f"2001:db8::{number}/64", change="added", now="other")


def test_it_is_put_back_until_somebody_insists_and_then_again_after_a_while() -> None:
    contest = Contest()
    for number in range(RESTORES):
        assert contest.act([ADDRESS], RESTORE, number) == (RESTORED, (ADDRESS,))
    assert contest.act([ADDRESS], RESTORE, RESTORES) == (CONTESTED, (ADDRESS,))
    assert contest.act([ADDRESS], RESTORE, RESTORES + 1) == (LEFT, ())
    assert contest.act([ADDRESS, ROUTE], RESTORE, RESTORES + 2) == (RESTORED, (ROUTE,))
    assert contest.act([ADDRESS], RESTORE, RESTORES + HOLD) == (RESTORED, (ADDRESS,))


def test_what_is_changed_now_and_then_is_put_back_for_ever() -> None:
    contest = Contest()
    for number in range(10 * RESTORES):
        assert contest.act([ADDRESS], RESTORE, number * (WITHIN / RESTORES + 1))[0] == RESTORED


def test_who_adds_ever_other_addresses_is_one_contest() -> None:
    contest = Contest()
    for number in range(RESTORES):
        assert contest.act([stray(number)], RESTORE, number)[0] == RESTORED
    assert contest.act([stray(99)], RESTORE, RESTORES)[0] == CONTESTED


def test_something_else_that_is_assigned_begins_anew() -> None:
    contest = Contest()
    for number in range(RESTORES + 1):
        contest.act([ADDRESS], RESTORE, number)
    contest.begin_anew()
    assert contest.act([ADDRESS], RESTORE, RESTORES + 1) == (RESTORED, (ADDRESS,))


def test_where_it_is_only_reported_each_thing_is_reported_once() -> None:
    contest = Contest()
    assert contest.act([ADDRESS], REPORT, 0) == (REPORTED, (ADDRESS,))
    assert contest.act([ADDRESS], REPORT, 1) == (LEFT, ())
    assert contest.act([ADDRESS, ROUTE], REPORT, 2) == (REPORTED, (ROUTE,))
    contest.sound()
    assert contest.act([ADDRESS], REPORT, 3) == (REPORTED, (ADDRESS,))


@pytest.mark.parametrize("items", [[ADDRESS], [ADDRESS, ROUTE]])
def test_what_may_be_left_is_left(items: list[DriftItem]) -> None:
    assert Contest().act(items, Policy(drift="leave"), 0) == (LEFT, ())
