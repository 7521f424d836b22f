"""Both ends of a session back to back: each exchange, as it should go."""

from __future__ import annotations

import msgspec
import pytest

from dnms.events.configuration import Assignment, Generation, Snapshot
from dnms.events.seen import AppliedItem
from dnms.wire import agent_events as agent
from dnms.wire import node_events as node
from dnms.wire.channel import Closed
from dnms.wire.errors import Code
from dnms.wire.exchanges import Exchange
from dnms.wire.messages import FOREVER, Association, Binding, Endpoint, Extended
from dnms.wire.node_state import NodeState, Unconfigured
from dnms.wire.phases import Phase
from tests.unit.wire.examples import (
    ADDRESS,
    ADDRESS4,
    ASSIGNMENT,
    BINDINGS,
    DUID,
    GENERATION,
    OTHER,
    SNAPSHOT,
    T1,
    T2,
    VALID,
)
from tests.unit.wire.pair import ASSIGN, ASSOCIATIONS, Pair

EXTENDED = Extended(preferred=3_600, valid=VALID, renew_after=T1, rebind_after=T2)


def moved(generation: Generation) -> Assignment:
    """As the example, with another IPv6 address."""
    first, second = ASSIGNMENT.addresses
    addresses = (msgspec.structs.replace(first, address=OTHER), second)
    return msgspec.structs.replace(ASSIGNMENT, generation=generation, addresses=addresses)


def test_a_node_joins() -> None:
    pair = Pair()
    assert pair.doing() is Exchange.CONNECTING
    greeted = pair.agent_said(agent.Greeted)
    assert (greeted.duid, greeted.name, greeted.interface) == (DUID, "laptop", "eth0")
    pair.agent.welcome(agent="agent-1", site="example", subnet="office", time=9, now=0)
    pair.run()
    assert pair.node_said(node.Welcomed).welcome.time == 9
    assert pair.doing() is Exchange.REGISTERING
    pair.node.register(SNAPSHOT, 0)
    pair.run()
    registered = pair.agent_said(agent.Registered)
    assert registered.snapshot == SNAPSHOT
    assert pair.doing() is Exchange.REGISTERING
    pair.agent.registered(registered.id)
    pair.run()
    assert pair.doing() is Exchange.REQUESTING
    requested = pair.agent_said(agent.Requested)
    assert requested.associations == ASSOCIATIONS
    assert requested.generation is None
    pair.agent.assign(ASSIGN, answer_to=requested.id)
    pair.run()
    assert pair.node_said(node.Assigned).assignment == ASSIGNMENT
    assert pair.doing() is Exchange.APPLYING
    assert not pair.state.configured
    pair.apply()
    assert pair.doing() is Exchange.IDLE
    assert pair.state.configured
    assert pair.agent_said(agent.AppliedReport).items[0] == AppliedItem(address=ADDRESS, outcome="usable")


def test_a_large_registration_comes_in_chunks_and_whole() -> None:
    pair = Pair()
    pair.welcome()
    large = Snapshot(sysctls={f"net.{number}": "x" * 100 for number in range(2_000)})
    pair.node.register(large, 0)
    assert len(pair.node.to_send(0)) > 200_000
    pair = Pair()
    pair.welcome()
    pair.node.register(large, 0)
    pair.run()
    assert pair.agent_said(agent.Registered).snapshot == large


def test_lifetimes_count_from_when_the_node_asked() -> None:
    pair = Pair()
    pair.register()
    pair.until(4.0)
    assigned = pair.assign(pair.agent_said(agent.Requested).id)
    assert assigned.began == 0.0
    assert pair.state.renew_at == T1


def test_lifetimes_of_what_is_pushed_count_from_when_it_came() -> None:
    pair = Pair().join()
    pair.until(4.0)
    assert pair.assign().began == 4.0


def test_a_session_is_kept_alive_and_its_agent_extends_what_the_node_holds() -> None:
    pair = Pair().join()
    for minute in range(1, 200):
        pair.until(minute * 60.0)
        pair.agent.extended(EXTENDED)
        pair.run()
        assert pair.node_said(node.Extended).began == pair.now
    assert pair.doing() is Exchange.IDLE
    assert not pair.agent_events


def test_at_t1_a_node_renews_and_its_lifetimes_begin_anew() -> None:
    pair = Pair().join()
    pair.until(T1)
    assert pair.doing() is Exchange.RENEWING
    renewed = pair.agent_said(agent.Renewed)
    assert renewed.bindings == BINDINGS
    assert renewed.generation == GENERATION
    pair.agent.extended(EXTENDED, answer_to=renewed.id)
    pair.run()
    assert pair.doing() is Exchange.IDLE
    assert pair.state.renew_at == 2 * T1
    pair.node_said(node.Extended)
    pair.until(2 * T1 - 1)  # the request is over, and nothing waits for it
    assert not pair.node_events


def test_a_renewal_answered_with_an_assignment_is_applied() -> None:
    pair = Pair().join()
    pair.until(T1)
    newer = msgspec.structs.replace(ASSIGN, assignment=moved(Generation(1, 17, 5_000)))
    pair.assign(pair.agent_said(agent.Renewed).id, newer)
    assert pair.doing() is Exchange.APPLYING
    assert pair.state.configured
    pair.until(VALID + 1)  # it takes its time; what it keeps has got its new lifetime already
    assert set(pair.state.held) == {ADDRESS4}
    pair.apply(newer.assignment)
    assert set(pair.state.held) == {OTHER, ADDRESS4}


def test_a_renewal_asks_for_what_was_refused_before() -> None:
    pair = Pair()
    pair.register()
    only6 = msgspec.structs.replace(ASSIGNMENT, addresses=ASSIGNMENT.addresses[:1])
    requested = pair.agent_said(agent.Requested)
    assigned = pair.assign(
        requested.id, msgspec.structs.replace(ASSIGN, assignment=only6, refused={"4": "no-addresses"})
    )
    assert assigned.refused == {"4": "no-addresses"}
    pair.apply(only6)
    pair.agent_said(agent.AppliedReport)
    pair.until(T1)
    assert pair.agent_said(agent.Renewed).wanted == (Association(iaid=7, family=4),)


def test_a_refused_renewal_is_tried_again_when_the_agent_says() -> None:
    pair = Pair().join()
    pair.until(T1)
    pair.agent.error(pair.agent_said(agent.Renewed).id, "outage", retry_after=30)
    pair.run()
    assert pair.node_said(node.Refused).code == "outage"
    assert pair.doing() is Exchange.IDLE
    pair.until(T1 + 29)
    assert not pair.agent_events
    pair.until(T1 + 30)
    pair.agent_said(agent.Renewed)


def test_at_t2_the_node_looks_for_any_agent_and_rebinds() -> None:
    pair = Pair().join()
    pair.until(T1)
    while pair.now < T2:
        pair.agent.error(pair.agent_said(agent.Renewed).id, "outage", retry_after=600)
        pair.run()
        pair.node_said(node.Refused)
        pair.until(min(pair.now + 600, T2))
    assert pair.node_said(Closed).why == Code.REBIND
    assert pair.agent_said(Closed) == Closed(Code.BYE, said="rebind")
    assert pair.state.configured
    other = pair.again()
    other.register()
    rebound = other.agent_said(agent.Rebound)
    assert rebound.bindings == BINDINGS
    assert other.doing() is Exchange.REBINDING
    other.assign(rebound.id)
    other.apply()
    assert other.doing() is Exchange.IDLE
    assert other.state.rebind_at == T2 + T2


def test_a_refused_rebind_ends_the_session_and_says_when_to_try_again() -> None:
    pair = Pair().join()
    pair.until(T2)
    other = pair.again()
    other.register()
    other.agent.error(other.agent_said(agent.Rebound).id, "outage", retry_after=7)
    other.run()
    assert other.node_said(Closed) == Closed(Code.REFUSED, said="outage", retry_after=7)
    assert other.state.configured


def test_what_expires_is_stripped_and_asked_for_again() -> None:
    pair = Pair().join()
    pair.until(T2)
    other = pair.again()
    other.register()
    rebound = other.agent_said(agent.Rebound)
    other.now = VALID - 1.0
    other.until(VALID)  # neither end was awake in between
    assert Unconfigured(Code.EXPIRED) in other.node_events
    assert not other.state.configured
    assert other.doing() is Exchange.REQUESTING
    other.agent.error(rebound.id, "late")  # nothing asks this any more
    other.run()
    assert other.node.dropped[Code.LATE] == 1
    hints = [
        each.held for event in other.agent_events if isinstance(event, agent.Requested) for each in event.associations
    ]
    assert hints == [ADDRESS, ADDRESS4]


def test_what_expires_while_no_agent_answers_is_stripped_too() -> None:
    state = Pair().join().state
    assert state.deadline() == VALID
    state.tick(VALID - 1)
    assert state.events() == []
    state.tick(VALID)
    assert state.events() == [Unconfigured(Code.EXPIRED)]
    assert state.deadline() is None


def test_a_node_that_comes_back_confirms_what_it_holds() -> None:
    pair = Pair().join()
    pair.until(100)
    pair.node.receive_end(100)
    pair.agent.receive_end(100)
    assert pair.node.events() == [Closed(Code.END)]
    again = pair.again()
    again.register()
    confirmed = again.agent_said(agent.Confirmed)
    assert (confirmed.bindings, confirmed.generation) == (BINDINGS, GENERATION)
    assert again.doing() is Exchange.CONFIRMING
    again.agent.extended(EXTENDED, answer_to=confirmed.id)
    again.run()
    assert again.doing() is Exchange.IDLE
    assert again.state.renew_at == 100 + T1


def test_a_rebooted_node_restores_what_it_had_and_confirms_it() -> None:
    state = NodeState()
    until = {ADDRESS: 500.0, ADDRESS4: 400.0}
    state.restore(ASSIGNMENT, link=("example", "office"), until=until, renew_at=100, rebind_at=200)
    pair = Pair(state=state)
    pair.register()
    pair.agent_said(agent.Confirmed)
    assert pair.state.configured
    assert pair.state.deadline() == 400.0


def test_off_its_link_a_node_strips_and_asks_without_hints() -> None:
    state = Pair().join().state
    pair = Pair(state=state)
    pair.register(subnet="lab")
    confirmed = pair.agent_said(agent.Confirmed)
    assert confirmed.generation is None  # positions in another subnet's ledger do not compare
    pair.agent.error(confirmed.id, Code.NOT_ON_LINK)
    pair.run()
    assert pair.node_said(Unconfigured).why == Code.NOT_ON_LINK
    requested = pair.agent_said(agent.Requested)
    assert requested.associations == ASSOCIATIONS
    lower = msgspec.structs.replace(ASSIGN, assignment=moved(Generation(1, 17, 3)))
    pair.assign(requested.id, lower)
    pair.apply(lower.assignment)
    assert pair.state.configured


def test_without_its_bindings_at_the_agent_a_node_asks_anew_and_keeps_them_meanwhile() -> None:
    pair = Pair().join()
    pair.until(T1)
    pair.agent.error(pair.agent_said(agent.Renewed).id, Code.NO_BINDING)
    pair.run()
    assert pair.state.configured
    assert [each.held for each in pair.agent_said(agent.Requested).associations] == [ADDRESS, ADDRESS4]


def test_a_link_that_came_back_is_confirmed() -> None:
    pair = Pair().join()
    pair.node.link_came_back(pair.now)
    pair.run()
    assert pair.doing() is Exchange.CONFIRMING
    pair.agent.error(pair.agent_said(agent.Confirmed).id, "outage")
    pair.run()
    pair.node_said(node.Refused)
    assert pair.doing() is Exchange.IDLE  # RFC 8415, 18.2.3: without an answer it goes on with what it has
    assert pair.state.configured


def test_a_link_that_comes_back_in_another_exchange_is_confirmed_after_it() -> None:
    pair = Pair().join()
    pair.until(T1)
    pair.node.link_came_back(pair.now)
    pair.agent.extended(EXTENDED, answer_to=pair.agent_said(agent.Renewed).id)
    pair.run()
    assert pair.doing() is Exchange.CONFIRMING


def test_a_node_that_could_apply_nothing_while_its_link_was_away_asks_when_it_comes_back() -> None:
    pair = Pair()
    pair.register()
    pair.assign(pair.agent_said(agent.Requested).id)
    pair.apply(outcome="refused")
    pair.agent_said(agent.AppliedReport)
    assert pair.doing() is Exchange.IDLE
    pair.until(1.0)
    pair.node.link_came_back(pair.now)
    pair.run()
    assert pair.agent_said(agent.Requested).associations[0].held == ADDRESS


def test_a_push_is_applied() -> None:
    pair = Pair().join()
    newer = msgspec.structs.replace(ASSIGN, assignment=moved(Generation(1, 18, 4_300)))
    pair.assign(assign=newer)
    pair.apply(newer.assignment)
    assert pair.doing() is Exchange.IDLE
    assert set(pair.state.held) == {OTHER, ADDRESS4}


def test_of_two_pushes_the_newer_one_counts() -> None:
    pair = Pair().join()
    first = msgspec.structs.replace(ASSIGN, assignment=moved(Generation(1, 18, 4_300)))
    second = msgspec.structs.replace(ASSIGN, assignment=moved(Generation(1, 18, 4_301)))
    pair.assign(assign=first)
    pair.assign(assign=second)
    pair.apply(first.assignment)
    assert pair.doing() is Exchange.APPLYING
    assert pair.node.dropped[Code.STALE] == 1
    pair.apply(second.assignment)
    assert pair.doing() is Exchange.IDLE


def test_a_lower_generation_is_ignored_and_a_higher_epoch_is_not() -> None:
    pair = Pair().join()
    pair.agent.assign(msgspec.structs.replace(ASSIGN, assignment=moved(Generation(1, 17, 4_241))))
    pair.run()
    assert not pair.node_events
    assert pair.node.dropped[Code.STALE] == 1
    pair.assign(assign=msgspec.structs.replace(ASSIGN, assignment=moved(Generation(2, 1, 1))))


def test_a_duplicate_is_declined_and_replaced() -> None:
    pair = Pair()
    pair.register()
    pair.assign(pair.agent_said(agent.Requested).id)
    usable = AppliedItem(address=ADDRESS4, outcome="usable")
    duplicate = AppliedItem(address=ADDRESS, outcome="duplicate")
    pair.node.applied(GENERATION, (duplicate, usable), 0)
    pair.node.declined([ADDRESS], 0)
    pair.run()
    pair.agent_said(agent.AppliedReport)
    declined = pair.agent_said(agent.Declined)
    assert declined.bindings == (Binding(iaid=7, address=ADDRESS),)
    assert pair.state.configured  # by IPv4
    newer = msgspec.structs.replace(ASSIGN, assignment=moved(Generation(1, 17, 4_243)))
    pair.assign(declined.id, newer)
    pair.apply(newer.assignment)
    assert pair.doing() is Exchange.IDLE
    assert set(pair.state.held) == {OTHER, ADDRESS4}


def test_a_duplicate_found_without_a_session_is_declined_in_the_next_one() -> None:
    pair = Pair().join()
    pair.node.receive_end(0)
    pair.node.declined([ADDRESS], 0)
    again = pair.again()
    again.register()
    assert again.agent_said(agent.Declined).bindings == (Binding(iaid=7, address=ADDRESS),)


def test_a_push_that_crosses_a_decline_does_not_swallow_it() -> None:
    pair = Pair().join()
    pair.node.declined([ADDRESS], 0)
    pair.agent.assign(ASSIGN)  # decided before the decline was heard
    pair.run()
    pair.node_said(node.Assigned)
    pair.agent_said(agent.Declined)
    pair.apply(outcome="duplicate")
    pair.agent_said(agent.AppliedReport)
    assert pair.agent_said(agent.Declined).bindings == (Binding(iaid=7, address=ADDRESS),)


def test_a_node_that_got_nothing_asks_again() -> None:
    pair = Pair()
    pair.register()
    nothing = msgspec.structs.replace(ASSIGNMENT, addresses=())
    requested = pair.agent_said(agent.Requested)
    full = {"4": "no-addresses", "6": "no-addresses"}
    pair.assign(requested.id, msgspec.structs.replace(ASSIGN, assignment=nothing, renew_after=90, refused=full))
    pair.apply(nothing)
    pair.agent_said(agent.AppliedReport)
    assert pair.doing() is Exchange.IDLE
    assert not pair.state.configured
    pair.until(89)
    assert not pair.agent_events
    pair.until(90)
    pair.agent_said(agent.Requested)


def test_a_refused_request_is_asked_again_when_the_agent_says() -> None:
    pair = Pair()
    pair.register()
    pair.agent.error(pair.agent_said(agent.Requested).id, "outage", "the bus is away", retry_after=20)
    pair.run()
    assert pair.node_said(node.Refused) == node.Refused(Exchange.REQUESTING, "outage", "the bus is away")
    pair.until(19)
    assert not pair.agent_events
    pair.until(20)
    pair.agent_said(agent.Requested)


def test_a_node_that_went_back_to_what_it_had_still_holds_it() -> None:
    pair = Pair().join()
    newer = msgspec.structs.replace(ASSIGN, assignment=moved(Generation(1, 18, 4_300)))
    pair.assign(assign=newer)
    pair.apply(newer.assignment, outcome="rolled-back")
    assert set(pair.state.held) == {ADDRESS, ADDRESS4}
    assert pair.doing() is Exchange.IDLE


def test_a_node_that_leaves_gives_back_what_it_held() -> None:
    pair = Pair().join()
    pair.node.release(0)
    pair.run()
    assert pair.node_said(Unconfigured).why == Code.RELEASED
    released = pair.agent_said(agent.Released)
    assert released.bindings == BINDINGS
    pair.agent.assign(ASSIGN)  # crosses it
    pair.agent.bye(Code.RELEASED)
    pair.run()
    assert pair.node_said(Closed) == Closed(Code.BYE, said="released")
    assert pair.doing() is Exchange.DISCOVERING
    assert not pair.state.configured


def test_a_release_that_nobody_answers_ends_all_the_same() -> None:
    pair = Pair().join()
    pair.deaf_agent = True
    pair.node.release(0)
    pair.until(10)
    pair.node_said(Unconfigured)
    assert pair.node_said(Closed).why == Code.TIMEOUT


def test_a_node_that_restarts_keeps_what_it_holds() -> None:
    pair = Pair().join()
    pair.node.leave(0)
    pair.run()
    assert pair.node_said(Closed).why == Code.LEAVING
    assert pair.agent_said(Closed) == Closed(Code.BYE, said="leaving")
    assert pair.state.configured


def test_an_agent_that_leaves_says_where_to_go() -> None:
    pair = Pair().join()
    go_to = (Endpoint(address=ADDRESS, port=61_047),)
    pair.agent.bye("leaving", go_to=go_to)
    pair.run()
    assert pair.agent_said(Closed) == Closed("leaving")
    assert pair.node_said(Closed) == Closed(Code.BYE, said="leaving", go_to=go_to)
    assert pair.state.configured
    assert pair.agent.phase is Phase.CLOSED


@pytest.mark.parametrize("lifetime", [FOREVER, 60])
def test_a_lifetime_may_be_for_ever(lifetime: int) -> None:
    pair = Pair()
    pair.register()
    addresses = tuple(msgspec.structs.replace(each, preferred=60, valid=lifetime) for each in ASSIGNMENT.addresses)
    assignment = msgspec.structs.replace(ASSIGNMENT, addresses=addresses)
    assign = msgspec.structs.replace(ASSIGN, assignment=assignment, renew_after=FOREVER, rebind_after=FOREVER)
    pair.assign(pair.agent_said(agent.Requested).id, assign)
    pair.apply(assignment)
    pair.until(59)
    assert pair.state.configured
    pair.until(1_000)
    assert pair.state.configured is (lifetime == FOREVER)


def test_permanent_addresses_do_not_expire() -> None:
    pair = Pair()
    pair.register()
    first, second = ASSIGNMENT.addresses
    addresses = (msgspec.structs.replace(first, permanent=True), second)
    assignment = msgspec.structs.replace(ASSIGNMENT, addresses=addresses)
    pair.assign(pair.agent_said(agent.Requested).id, msgspec.structs.replace(ASSIGN, assignment=assignment))
    pair.apply(assignment)
    pair.state.tick(VALID)
    assert set(pair.state.held) == {ADDRESS}
    assert pair.state.events() == []
