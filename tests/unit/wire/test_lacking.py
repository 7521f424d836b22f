"""What a node does about what it lacks, with an agent that says much and is asked little."""

from __future__ import annotations

import msgspec

from dnms.events.configuration import Generation
from dnms.wire import agent_events as agent
from dnms.wire.exchanges import Exchange
from tests.unit.wire.examples import ADDRESS, OTHER
from tests.unit.wire.pair import ASSIGN, Pair
from tests.unit.wire.test_session import EXTENDED, moved


def test_a_node_that_an_agent_knows_by_a_decline_alone_says_what_else_it_wants() -> None:
    """Extended all the time, it would not renew, and so never say that it lacks a family."""
    pair = Pair().join()
    pair.node.receive_end(0)
    pair.node.declined([ADDRESS], 0)
    again = pair.again()
    again.register()
    declined = again.agent_said(agent.Declined)
    whole = moved(Generation(1, 17, 4_243))
    half = msgspec.structs.replace(whole, addresses=tuple(each for each in whole.addresses if each.address == OTHER))
    newer = msgspec.structs.replace(ASSIGN, assignment=half)
    again.assign(declined.id, newer)
    again.apply(half)
    due = again.state.renew_at
    for part in range(1, 10):
        again.until(due * part / 10)
        again.agent.extended(EXTENDED)
        again.run()
    again.until(due)
    renewed = [event for event in again.agent_events if isinstance(event, agent.Renewed)]
    assert [each.family for event in renewed for each in event.wanted] == [4]
    assert again.doing() is Exchange.RENEWING
