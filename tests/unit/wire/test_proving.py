"""A change that has to prove itself: what node and agent say of it, and what stands when it did not."""

from __future__ import annotations

import msgspec

from dnms.events.configuration import AssignedAddress, Assignment, Generation
from dnms.events.seen import AppliedItem
from dnms.wire import agent_events, node_events
from dnms.wire.errors import Code
from dnms.wire.messages import Assign, Extended
from dnms.wire.node_state import NodeState
from dnms.wire.timers import ASK_AGAIN
from tests.unit.wire.examples import ADDRESS, ASSIGNMENT, GENERATION
from tests.unit.wire.pair import ASSIGN, Pair

LINK = ("example", "office")
NEWER = Generation(1, 18, 4_300)
OTHER = AssignedAddress(address=bytes(15) + b"\x99", prefix_length=64, iaid=7, preferred=50, valid=100)


def _assign(*addresses: AssignedAddress, generation: Generation = NEWER) -> Assign:
    assignment = Assignment(generation=generation, addresses=addresses)
    return msgspec.structs.replace(ASSIGN, assignment=assignment)


def _rolled_back(state: NodeState, now: float) -> None:
    """The first assignment, then another one, which is applied and rolled back."""
    old = next(each for each in ASSIGNMENT.addresses if each.address == ADDRESS)
    state.take(_assign(old, generation=GENERATION), link=LINK, began=now)
    state.applied([AppliedItem(address=ADDRESS, outcome="usable")])
    was, held = state.assignment, dict(state.held)
    state.take(_assign(OTHER), link=LINK, began=now)
    state.applied([AppliedItem(address=OTHER.address, outcome="usable")])
    assert set(state.held) == {OTHER.address}
    state.roll_back(was, held)


def test_what_is_unproven_is_reported_twice_and_no_more() -> None:
    pair = Pair()
    pair.register()
    pair.assign(pair.agent_said(agent_events.Requested).id)
    items = tuple(AppliedItem(address=each.address, outcome="usable") for each in ASSIGNMENT.addresses)
    pair.node.applied(GENERATION, items, 0, unproven=True)
    pair.run()
    assert pair.agent_said(agent_events.AppliedReport).unproven
    pair.node.applied(GENERATION, items, 0)
    pair.run()
    assert not pair.agent_said(agent_events.AppliedReport).unproven
    pair.node.applied(GENERATION, items, 0)
    pair.run()
    assert not pair.agent_events
    assert pair.agent.dropped[Code.STALE] == 1


def test_what_is_unproven_for_ever_is_reported_once() -> None:
    pair = Pair()
    pair.register()
    pair.assign(pair.agent_said(agent_events.Requested).id)
    for _ in range(3):
        pair.node.applied(GENERATION, (), 0, unproven=True)
    pair.run()
    assert pair.agent_said(agent_events.AppliedReport).unproven
    assert pair.agent.dropped[Code.STALE] == 2


def test_a_rolled_back_assignment_says_why_and_takes_nothing_that_was_held() -> None:
    pair = Pair().join()
    held = dict(pair.state.held)
    pair.assign(assign=_assign(OTHER))
    items = (AppliedItem(address=OTHER.address, outcome="rolled-back"),)
    pair.node.applied(NEWER, items, 0, why="gateway")
    pair.run()
    report = pair.agent_said(agent_events.AppliedReport)
    assert (report.items, report.why, report.unproven) == (items, "gateway", False)
    assert set(pair.state.held) == set(held)


def test_what_was_before_stands_again_under_the_newest_generation() -> None:
    state = NodeState()
    _rolled_back(state, now=0)
    assert set(state.held) == {ADDRESS}
    assert state.assignment is not None
    assert [each.address for each in state.assignment.addresses] == [ADDRESS]
    assert state.generation(LINK) == NEWER


def test_an_extension_does_not_concern_what_the_agent_knows_nothing_of() -> None:
    state = NodeState()
    _rolled_back(state, now=0)
    until = state.held[ADDRESS].until
    state.extend(Extended(preferred=90_000, valid=100_000, renew_after=10, rebind_after=20), began=5)
    assert state.held[ADDRESS].until == until
    assert not state.is_extended(ADDRESS)


def test_what_is_in_both_ends_as_the_newest_says() -> None:
    state = NodeState()
    old = next(each for each in ASSIGNMENT.addresses if each.address == ADDRESS)
    state.take(_assign(old, generation=GENERATION), link=LINK, began=0)
    state.applied([AppliedItem(address=ADDRESS, outcome="usable")])
    was, held = state.assignment, dict(state.held)
    state.take(_assign(old, OTHER), link=LINK, began=1_000)
    state.roll_back(was, held)
    assert state.held[ADDRESS].until == 1_000 + old.valid
    assert state.is_extended(ADDRESS)


def test_a_first_assignment_that_is_rolled_back_leaves_a_node_that_asks_again() -> None:
    pair = Pair()
    pair.register()
    pair.assign(pair.agent_said(agent_events.Requested).id)
    items = tuple(AppliedItem(address=each.address, outcome="rolled-back") for each in ASSIGNMENT.addresses)
    pair.node.applied(GENERATION, items, 0, why="session")
    pair.state.roll_back(None, {})
    pair.run()
    pair.agent_said(agent_events.AppliedReport)
    assert not pair.state.configured
    pair.until(ASK_AGAIN - 1)
    assert not pair.agent_events
    pair.until(ASK_AGAIN)
    pair.agent_said(agent_events.Requested)


def test_whether_the_agent_is_there_is_answered_once_and_by_what_was_asked_last() -> None:
    pair = Pair().join()
    pair.node.ask()
    first = pair.node.to_send(0)
    pair.node.ask()
    second = pair.node.to_send(0)
    pair.agent.receive(first, 0)
    pair.run()
    assert not pair.node_events  # it may have come before what was changed since
    pair.agent.receive(second, 0)
    pair.run()
    assert pair.node_said(node_events.Answered) == node_events.Answered()
    pair.agent.receive(second, 0)
    pair.run()
    assert not pair.node_events
