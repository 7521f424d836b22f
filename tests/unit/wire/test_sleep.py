"""The lifetimes of what a node holds go on while its machine sleeps."""

from __future__ import annotations

import math

from dnms.events.configuration import AssignedAddress, Assignment, Generation
from dnms.events.ip import parse_address
from dnms.wire.errors import Code
from dnms.wire.node_state import NodeState

SHORT, LONG = parse_address("2001:db8::1"), parse_address("2001:db8::2")


def held() -> NodeState:
    state = NodeState()
    addresses = tuple(
        AssignedAddress(address=address, prefix_length=64, iaid=1, preferred=1, valid=1) for address in (SHORT, LONG)
    )
    state.restore(
        Assignment(generation=Generation(0, 1, 1), addresses=addresses),
        link=("s", "office"),
        until={SHORT: 100.0, LONG: math.inf},
        renew_at=50.0,
        rebind_at=80.0,
    )
    return state


def test_all_instants_come_sooner() -> None:
    state = held()
    state.skip(30.0)
    assert (state.renew_at, state.rebind_at, state.deadline()) == (20.0, 50.0, 70.0)
    state.skip(70.0)
    state.tick(0.0)
    assert set(state.held) == {LONG}  # for ever is not shortened
    assert not state.events()


def test_what_ended_meanwhile_is_over_at_once() -> None:
    state = held()
    state.held.pop(LONG)
    state.skip(100.0)
    state.tick(0.0)
    assert [event.why for event in state.events()] == [Code.EXPIRED]
