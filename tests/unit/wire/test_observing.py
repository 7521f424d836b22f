"""Both ends of a session back to back: what a node tells of its configuration while it changes."""

from __future__ import annotations

import msgspec

from dnms.events.configuration import Assignment, Generation, Snapshot
from dnms.wire import agent_events as agent
from dnms.wire.errors import Code
from dnms.wire.exchanges import Exchange
from dnms.wire.messages import Extended
from dnms.wire.observing import MAX_WAITING
from tests.unit.wire.examples import (
    ASSIGNMENT,
    OTHER,
    SNAPSHOT,
    T1,
    T2,
    VALID,
)
from tests.unit.wire.pair import Pair

EXTENDED = Extended(preferred=3_600, valid=VALID, renew_after=T1, rebind_after=T2)


def moved(generation: Generation) -> Assignment:
    """As the example, with another IPv6 address."""
    first, second = ASSIGNMENT.addresses
    addresses = (msgspec.structs.replace(first, address=OTHER), second)
    return msgspec.structs.replace(ASSIGNMENT, generation=generation, addresses=addresses)


def test_observations_follow_one_another_and_only_the_newest_is_told() -> None:
    pair = Pair().join()
    for number in range(5):
        pair.node.observe(Snapshot(kernel=f"6.{number}"), 0)
    pair.run()
    first = pair.agent_said(agent.Observed)
    assert first.snapshot.kernel == "6.0"
    assert not pair.agent_events
    pair.agent.registered(first.id)
    pair.run()
    second = pair.agent_said(agent.Observed)
    assert second.snapshot.kernel == "6.4"
    pair.agent.registered(second.id)
    pair.run()
    assert pair.agent.digest == second.digest
    pair.node.observe(Snapshot(kernel="6.4"), 0)  # no change is no news
    pair.run()
    assert not pair.agent_events


def test_what_is_about_to_go_is_told_though_there_is_newer() -> None:
    pair = Pair().join()
    for number in range(9):
        pair.node.observe(Snapshot(kernel=f"6.{number}"), 0, lasting=number in (3, 5))
    heard = []
    for _ in range(4):
        pair.run()
        observed = pair.agent_said(agent.Observed)
        heard.append(observed.snapshot.kernel)
        pair.agent.registered(observed.id)
    pair.run()
    assert heard == ["6.0", "6.3", "6.5", "6.8"]
    assert not pair.agent_events


def test_what_waits_to_be_told_is_bounded_and_ends_with_the_newest() -> None:
    pair = Pair().join()
    for number in range(10 * MAX_WAITING):
        pair.node.observe(Snapshot(kernel=f"6.{number}"), 0, lasting=True)
    heard = []
    for _ in range(1 + MAX_WAITING):
        pair.run()
        observed = pair.agent_said(agent.Observed)
        heard.append(observed.snapshot.kernel)
        pair.agent.registered(observed.id)
    pair.run()
    assert not pair.agent_events
    assert heard[-1] == f"6.{10 * MAX_WAITING - 1}"


def test_what_is_observed_before_the_registration_is_told_after_it() -> None:
    pair = Pair()
    pair.welcome()
    pair.node.register(SNAPSHOT, 0)
    pair.node.observe(Snapshot(kernel="later"), 0)
    pair.run()
    pair.agent.registered(pair.agent_said(agent.Registered).id)
    pair.run()
    assert pair.agent_said(agent.Observed).snapshot.kernel == "later"


def test_an_agent_that_does_not_know_what_an_observation_follows_gets_a_whole_one() -> None:
    pair = Pair().join()
    pair.agent.digest = bytes(32)
    pair.node.observe(Snapshot(kernel="later"), 0)
    pair.run()
    whole = pair.agent_said(agent.Registered)
    assert whole.snapshot.kernel == "later"
    pair.agent.registered(whole.id)
    pair.run()
    assert pair.agent.digest == whole.digest
    assert pair.doing() is Exchange.IDLE


def test_a_busy_agent_hears_an_observation_again() -> None:
    pair = Pair().join()
    pair.node.observe(Snapshot(kernel="later"), 0)
    pair.run()
    pair.agent.error(pair.agent_said(agent.Observed).id, Code.BUSY, retry_after=5)
    pair.run()
    pair.until(4)
    assert not pair.agent_events
    pair.until(5)
    pair.agent_said(agent.Observed)
