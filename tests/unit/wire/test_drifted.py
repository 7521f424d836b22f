"""What somebody else changed, on its way from a node to its agent."""

from __future__ import annotations

import msgspec

from dnms.events.seen import DriftItem
from dnms.wire import agent_events as agent
from dnms.wire.agent_session import DRIFTS_AN_HOUR, DRIFTS_AT_ONCE
from dnms.wire.channel import Channel
from dnms.wire.errors import Code
from dnms.wire.frames import NOT_A_REQUEST
from dnms.wire.messages import Drifted
from tests.unit.wire.examples import GENERATION
from tests.unit.wire.pair import Pair

DRIFTED = Drifted(
    generation=GENERATION,
    items=(DriftItem(kind="mtu", change="changed", was="1500", now="1280"),),
    action="restored",
)


def test_it_is_told_once_the_node_is_registered_and_needs_no_answer() -> None:
    pair = Pair()
    assert not pair.node.drifted(DRIFTED)
    pair = pair.join()
    exchange = pair.node.exchange
    assert pair.node.drifted(DRIFTED)
    pair.run()
    assert pair.agent_said(agent.DriftReport).drifted == DRIFTED
    assert pair.node.exchange is exchange
    assert not pair.agent_events
    pair.node.leave(0)
    assert not pair.node.drifted(DRIFTED)


def test_a_node_that_tells_ever_more_is_not_recorded_for_ever() -> None:
    pair = Pair().join()
    for _ in range(DRIFTS_AT_ONCE + 5):
        pair.node.drifted(DRIFTED)
    pair.run()
    assert len(pair.agent_events) == DRIFTS_AT_ONCE
    assert pair.agent.dropped[Code.BUSY] == 5
    assert not pair.agent.closed
    pair.agent_events.clear()
    pair.until(3_600 / DRIFTS_AN_HOUR + 1)
    pair.agent_events.clear()
    pair.node.drifted(DRIFTED)
    pair.run()
    assert [each for each in pair.agent_events if isinstance(each, agent.DriftReport)]


def test_an_agent_that_does_not_know_the_message_only_says_so() -> None:
    class Newer(Drifted, frozen=True, kw_only=True, omit_defaults=True):
        KIND = "drifted-2"

    older, node = Channel(now=0), Channel(now=0)
    node.send(Newer(**msgspec.structs.asdict(DRIFTED)), NOT_A_REQUEST)
    assert list(older.receive(node.to_send(), 0)) == []
    assert older.dropped[Code.UNKNOWN_KIND] == 1
    assert list(node.receive(older.to_send(), 0)) == []
    assert node.dropped[Code.UNKNOWN_KIND] == 1
