"""What a node says that it lacks, to an agent that it comes to with a complaint."""

from __future__ import annotations

import msgspec

from dnms.wire import agent_events as agent
from tests.unit.wire.examples import ADDRESS, ADDRESS4
from tests.unit.wire.pair import ASSIGN, Pair


def test_a_node_that_comes_to_an_agent_with_a_decline_says_what_else_it_wants() -> None:
    """Its leases are extended from then on, so it would never renew, and never say that it lacks a family."""
    whole = ASSIGN.assignment
    half = msgspec.structs.replace(whole, addresses=tuple(each for each in whole.addresses if each.address != ADDRESS4))
    pair = Pair()
    pair.register()
    pair.assign(pair.agent_said(agent.Requested).id, msgspec.structs.replace(ASSIGN, assignment=half))
    pair.apply(half)
    pair.node.receive_end(0)
    pair.node.declined([ADDRESS], 0)
    again = pair.again()
    again.register()
    declined = again.agent_said(agent.Declined)
    assert [each.address for each in declined.bindings] == [ADDRESS]
    assert [each.family for each in declined.wanted] == [4]
