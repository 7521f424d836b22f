"""The timers of a node's session: those of the table run and no others, each within its bounds."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import cast

import pytest

from dnms.wire import agent_events as agent
from dnms.wire.channel import Closed
from dnms.wire.discovery import Discovery
from dnms.wire.errors import Code
from dnms.wire.exchanges import STRIPS, Exchange, On
from dnms.wire.messages import MAX_PING_EVERY, MIN_PING_EVERY
from dnms.wire.timers import RUNNING, TIMERS
from tests.unit.wire.examples import DUID, T1, T2, VALID
from tests.unit.wire.pair import Pair


def without(missing: On, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table lacks one timer."""
    table = cast("dict[tuple[Exchange, bool], tuple[On, ...]]", RUNNING)
    for state, running in list(table.items()):
        monkeypatch.setitem(table, state, tuple(on for on in running if on is not missing))


def test_without_t1_in_the_table_nothing_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    without(On.T1, monkeypatch)
    pair = Pair().join()
    pair.until(T2 - 1)
    assert pair.doing() is Exchange.IDLE
    assert not pair.agent_events


def test_without_t2_in_the_table_no_other_agent_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    without(On.T2, monkeypatch)
    pair = Pair().join()
    pair.until(T1)
    pair.agent.error(pair.agent_said(agent.Renewed).id, "outage", retry_after=VALID)
    pair.until(VALID - 1)
    assert not pair.node.closed


def test_solicits_are_sent_within_their_bounds() -> None:
    least, most = TIMERS[On.SOLICIT].least, TIMERS[On.SOLICIT].most
    search, now = Discovery[str](duid=DUID, chance=random.Random(7), now=0.0), 0.0
    for _ in range(20):
        due = search.deadline()
        assert due is not None
        assert now + least <= due <= now + most
        now = due
        assert search.to_send(now)


@pytest.mark.parametrize("ping_every", [MIN_PING_EVERY, 3, 15, MAX_PING_EVERY])
def test_a_silent_agent_is_left_within_the_bounds(ping_every: int) -> None:
    pair = Pair()
    pair.agent_said(agent.Greeted)
    pair.agent.welcome(agent="a", site="s", subnet="l", time=0, ping_every=ping_every, now=0)
    pair.run()
    pair.deaf_node = True  # and so nothing is heard any more; nor is anything asked that would end it before
    while not pair.node.closed:
        due = pair.node.deadline()
        assert due is not None
        pair.now = due
        pair.node.tick(due)
    assert [event.why for event in pair.node.events() if isinstance(event, Closed)] == [Code.DEAD_PEER]
    assert pair.now == 4 * ping_every
    assert TIMERS[On.SILENCE].least <= pair.now <= TIMERS[On.SILENCE].most


@pytest.mark.parametrize(("releases", "after"), [(True, "least"), (False, "most")])
def test_a_request_without_an_answer_ends_the_session_within_the_bounds(releases: bool, after: str) -> None:
    pair = Pair().join()
    pair.until(T1 if not releases else 0)
    began = pair.now
    pair.deaf_agent = pair.deaf_node = True
    if releases:
        pair.node.release(began)
    while not pair.node.closed:
        due = pair.node.deadline()
        assert due is not None
        pair.now = due
        pair.node.tick(due)
    assert pair.now - began == getattr(TIMERS[On.NO_ANSWER], after)


def released(pair: Pair) -> None:
    pair.node.release(pair.now)


def off_its_net(pair: Pair) -> None:
    pair.node.link_came_back(pair.now)
    pair.run()
    pair.agent.error(pair.agent_said(agent.Confirmed).id, Code.NOT_ON_LINK)


def expired(pair: Pair) -> None:
    pair.until(T1)
    pair.agent.error(pair.agent_said(agent.Renewed).id, "outage", retry_after=VALID)
    pair.run()
    pair.node.tick(VALID)


@pytest.mark.parametrize(
    ("on", "happens"), [(On.RELEASE, released), (On.NOT_ON_LINK, off_its_net), (On.EXPIRED, expired)]
)
def test_what_the_table_says_ends_being_configured(on: On, happens: Callable[[Pair], None]) -> None:
    pair = Pair().join()
    happens(pair)
    pair.run()
    assert on in STRIPS
    assert not pair.state.configured
    assert STRIPS[on] in {getattr(event, "why", None) for event in pair.node_events}
