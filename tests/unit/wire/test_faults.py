"""What a session does about a peer that is silent, slow, hostile, older or newer."""

from __future__ import annotations

import msgpack
import msgspec
import pytest

from dnms.events.configuration import AssignedAddress, Assignment, Generation, Snapshot
from dnms.events.seen import AppliedItem
from dnms.wire import agent_events as agent
from dnms.wire import messages as m
from dnms.wire import node_events as node
from dnms.wire.agent_session import (
    HELLO_WITHIN,
    MAX_IN_FLIGHT,
    REGISTER_WITHIN,
    REQUESTS_AT_ONCE,
    AgentSession,
    choose_version,
)
from dnms.wire.asked import ANSWER_WITHIN, TRIES
from dnms.wire.channel import FRAMES_AT_ONCE, HELLO_LIMIT, Closed
from dnms.wire.errors import Code
from dnms.wire.exchanges import Exchange
from dnms.wire.frames import MAX_FRAME, Frame, FrameReader, encode
from dnms.wire.phases import Phase
from dnms.wire.registration import cut, encode_snapshot
from tests.unit.wire.examples import ADDRESS, ASSIGNMENT, DUID, GENERATION, SNAPSHOT
from tests.unit.wire.pair import ASSIGN, Pair

HELLO = m.Hello(lowest=1, highest=1, duid=DUID, name="n", interface="eth0")


def said(data: bytes) -> list[m.Message]:
    """The messages in a piece of a stream."""
    reader = FrameReader()
    reader.receive(data)
    return [frame.message for frame in reader.frames() if isinstance(frame, Frame)]


def raw(kind: str, frame_id: int, body: object) -> bytes:
    """A frame of whatever it is."""
    payload: bytes = msgpack.packb([kind, frame_id, body])
    return len(payload).to_bytes(4) + payload


def ended(session: AgentSession) -> tuple[str, str]:
    """Why the session is over, and the code that it sent."""
    closed = session.events()[-1]
    assert isinstance(closed, Closed)
    assert session.closed
    assert session.deadline() is None
    error = said(session.to_send(0))[-1]
    assert isinstance(error, m.Error)
    return closed.why, error.code


def open_session() -> AgentSession:
    """A session in which a node may ask for anything."""
    session = Pair().join().agent
    session.events()
    return session


@pytest.mark.parametrize(
    ("lowest", "highest", "chosen"), [(1, 1, 1), (0, 9, 1), (1, 2, 1), (2, 3, None), (0, 0, None), (1, 0, None)]
)
def test_the_highest_common_version_is_chosen(lowest: int, highest: int, chosen: int | None) -> None:
    assert choose_version(lowest, highest) == chosen


def test_without_a_common_version_the_session_ends_with_a_code() -> None:
    session = AgentSession(now=0)
    session.receive(encode(msgspec.structs.replace(HELLO, lowest=2, highest=3), 1), 0)
    assert ended(session) == (Code.VERSION, Code.VERSION)


def test_a_node_does_not_take_a_version_that_it_did_not_offer() -> None:
    pair = Pair()
    pair.node.receive(encode(m.Welcome(version=2, agent="a", site="s", subnet="l", time=0), 1), 0)
    assert pair.node.events() == [Closed(Code.VERSION, text="version 2 was not offered")]
    assert pair.doing() is Exchange.DISCOVERING


def test_a_node_that_says_nothing_is_dropped() -> None:
    session = AgentSession(now=0)
    assert session.deadline() == HELLO_WITHIN
    session.tick(HELLO_WITHIN - 1)
    assert not session.closed
    session.tick(HELLO_WITHIN)
    assert ended(session) == (Code.HELLO_TIMEOUT, Code.HELLO_TIMEOUT)


def test_a_node_that_never_registers_is_dropped() -> None:
    pair = Pair()
    pair.welcome()
    pair.until(REGISTER_WITHIN)  # its pings are answered all the time
    assert pair.agent_said(Closed).why == Code.REGISTER_TIMEOUT
    assert pair.node_said(Closed) == Closed(Code.REFUSED, said="register-timeout")


def test_a_refused_node_hears_why_and_when_to_try_again() -> None:
    pair = Pair()
    pair.agent_said(agent.Greeted)
    pair.agent.refuse("duplicate-duid", "another node has this DUID", retry_after=60)
    pair.run()
    assert pair.agent_said(Closed).why == "duplicate-duid"
    closed = pair.node_said(Closed)
    assert (closed.why, closed.said, closed.retry_after) == (Code.REFUSED, "duplicate-duid", 60)


def test_a_request_is_sent_again_under_its_id_and_then_the_session_ends() -> None:
    pair = Pair()
    pair.register()
    first = pair.agent_said(agent.Requested)
    pair.until(ANSWER_WITHIN * TRIES - 1)
    assert not pair.agent_events  # the agent works on it already
    assert pair.agent.dropped[Code.REPEATED] == TRIES - 1
    pair.agent.assign(ASSIGN, answer_to=first.id)
    pair.until(ANSWER_WITHIN * TRIES)
    assert pair.doing() is Exchange.APPLYING

    pair = Pair()
    pair.register()
    pair.agent_said(agent.Requested)
    pair.until(ANSWER_WITHIN * TRIES)
    assert pair.node_said(Closed).why == Code.TIMEOUT
    assert pair.agent_said(Closed).said == "timeout"
    with_nobody: agent.AgentEvent | None = next(iter(pair.agent_events), None)
    assert with_nobody is None
    pair.agent.assign(ASSIGN, answer_to=first.id)  # too late, and no error of the agent's
    assert pair.agent.to_send(pair.now) == b""


def test_a_hello_that_comes_again_before_or_after_the_welcome_is_one() -> None:
    pair = Pair()
    pair.until(ANSWER_WITHIN)  # an agent that is slow to welcome
    assert pair.agent.dropped[Code.REPEATED] == 1
    pair.deaf_agent = True
    pair.node.tick(2 * ANSWER_WITHIN)
    late = pair.node.to_send(2 * ANSWER_WITHIN)
    pair.deaf_agent = False
    pair.welcome()
    pair.agent.receive(late, pair.now)  # it was on its way
    pair.node.register(SNAPSHOT, pair.now)
    pair.run()
    assert pair.agent_said(agent.Registered).snapshot == SNAPSHOT
    assert pair.agent.dropped[Code.REPEATED] == 2


@pytest.mark.parametrize("deaf", ["node", "agent"])
def test_a_peer_that_is_gone_is_noticed(deaf: str) -> None:
    pair = Pair().join()
    pair.deaf_agent = deaf == "agent"
    pair.deaf_node = deaf == "node"
    pair.until(15 * 8.0)
    assert pair.node_said(Closed).why == Code.DEAD_PEER or deaf == "agent"
    assert pair.agent.closed
    assert pair.node.closed
    assert pair.state.configured


def test_a_machine_that_slept_asks_before_it_gives_its_peer_up() -> None:
    pair = Pair().join()
    pair.now = 1_000
    pair.node.tick(1_000)
    pair.run()
    assert not pair.node.closed
    assert not pair.agent.closed


def test_a_peer_that_talks_is_not_asked_whether_it_is_there() -> None:
    session = open_session()
    for second in range(0, 100, 10):
        session.receive(encode(m.Pong(), 0), second)
        session.tick(second)
    assert session.to_send(100) == b""


def test_an_unknown_kind_is_answered_and_the_session_goes_on() -> None:
    session = open_session()
    session.receive(raw("later", 5, {"x": 1}), 0)
    assert said(session.to_send(0)) == [m.Error(code=Code.UNKNOWN_KIND, text="'later'")]
    assert session.dropped[Code.UNKNOWN_KIND] == 1
    assert not session.closed


def test_a_peer_that_does_not_know_a_kind_ends_nothing() -> None:
    pair = Pair().join()
    pair.node.receive(encode(m.Error(code=Code.UNKNOWN_KIND), 0), 0)
    pair.agent.receive(encode(m.Error(code=Code.UNKNOWN_KIND), 0), 0)
    assert not pair.node.closed
    assert not pair.agent.closed


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xff\xff\xff\xff", Code.OVERSIZED),
        (raw("ping", 1, []), Code.MALFORMED),
        (raw("ping", -1, {}), Code.MALFORMED),
        (raw("ping", 1 << 32, {}), Code.MALFORMED),
        (raw("x" * 33, 1, {}), Code.MALFORMED),
        (raw("request", 1, {}), Code.MALFORMED),
        (raw("request", 1, {"associations": [{"iaid": 1, "family": 5}]}), Code.MALFORMED),
        (raw("request", 1, {"associations": [{"iaid": 1, "family": 6}] * 65}), Code.MALFORMED),
        (raw("request", 0, {"associations": []}), Code.MALFORMED),
        (raw("observe", 1, {"previous": bytes(32), "digest": bytes(32), "snapshot": b"\x80"}), Code.MALFORMED),
        (encode(HELLO, 2), Code.UNEXPECTED),
        (encode(ASSIGN, 2), Code.UNEXPECTED),
        (encode(cut(b"x" * 40_000)[1], 2), Code.UNEXPECTED),
    ],
)
def test_a_broken_frame_ends_its_session_with_a_code(data: bytes, code: Code) -> None:
    session = open_session()
    session.receive(data, 0)
    assert ended(session) == (code, code)
    assert session.dropped[code] == 1
    session.receive(encode(m.Ping(), 1), 0)
    assert session.to_send(0) == b""


@pytest.mark.parametrize("message", [m.Renew(bindings=()), m.Applied(generation=GENERATION), m.Ping()])
def test_hello_comes_first(message: m.Message) -> None:
    session = AgentSession(now=0)
    session.receive(encode(message, 1), 0)
    if isinstance(message, m.Ping):
        assert not session.closed
    else:
        assert ended(session) == (Code.UNEXPECTED, Code.UNEXPECTED)


def test_who_has_not_said_hello_gets_little_room() -> None:
    session = AgentSession(now=0)
    session.receive((HELLO_LIMIT + 1).to_bytes(4), 0)
    assert ended(session) == (Code.OVERSIZED, Code.OVERSIZED)
    fullest = msgspec.structs.replace(
        HELLO, name="n" * 255, interface="i" * 255, capabilities=("c" * 255,) * 64, duid=bytes(130)
    )
    session = AgentSession(now=0)
    session.receive(encode(fullest, 1), 0)
    assert isinstance(session.events()[0], agent.Greeted)


def test_a_node_registers_before_it_asks() -> None:
    pair = Pair()
    pair.welcome()
    pair.agent.receive(encode(m.RequestAddresses(associations=()), 7), 0)
    assert pair.agent.phase is Phase.CLOSED


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"chunk": 2}, Code.UNEXPECTED),
        ({"digest": bytes(32)}, Code.MALFORMED),
        ({"chunks": 9}, Code.MALFORMED),
        ({"data": bytes(m.MAX_REGISTRATION)}, Code.OVERSIZED),
    ],
)
def test_chunks_that_do_not_belong_together_end_the_session(change: dict[str, object], code: Code) -> None:
    session = open_session()
    first, second, *_ = cut(encode_snapshot(Snapshot(kernel="x" * 100_000)))
    session.receive(encode(first, 9), 0)
    session.receive(encode(msgspec.structs.replace(second, **change), 9), 0)
    assert ended(session) == (code, code)


def test_a_registration_is_what_its_digest_says_and_a_snapshot() -> None:
    session = open_session()
    session.receive(encode(m.Register(digest=bytes(32), chunk=0, chunks=1, data=encode_snapshot(SNAPSHOT)), 9), 0)
    assert ended(session) == (Code.MALFORMED, Code.MALFORMED)
    session = open_session()
    session.receive(encode(cut(b"\x93")[0], 9), 0)
    assert ended(session) == (Code.MALFORMED, Code.MALFORMED)


def test_a_node_that_asks_too_much_is_told_to_wait() -> None:
    session = open_session()
    answered = []
    for number in range(100, 100 + REQUESTS_AT_ONCE):
        session.receive(encode(m.RequestAddresses(associations=()), number), 0)
        for event in session.events():
            assert isinstance(event, agent.Requested)
            session.error(event.id, "no-addresses")
            answered.append(event.id)
    assert len(answered) < REQUESTS_AT_ONCE  # it had asked for something when it joined
    error = said(session.to_send(0))[-1]
    assert isinstance(error, m.Error)
    assert (error.code, error.retry_after > 0) == (Code.BUSY, True)
    session.receive(encode(m.RequestAddresses(associations=()), 200), error.retry_after)
    assert session.events()
    assert not session.closed


def test_requests_in_flight_are_capped() -> None:
    session = open_session()
    for number in range(100, 101 + MAX_IN_FLIGHT):
        session.receive(encode(m.RequestAddresses(associations=()), number), 0)
    assert len(session.events()) == MAX_IN_FLIGHT
    assert session.dropped[Code.BUSY] == 1


def test_a_peer_that_talks_too_fast_is_cut_off() -> None:
    session = AgentSession(now=0)
    session.receive(encode(m.Ping(), 1) * (FRAMES_AT_ONCE + 1), 0)
    assert ended(session) == (Code.TOO_FAST, Code.TOO_FAST)


def test_reports_of_what_was_not_assigned_are_counted_and_go_nowhere() -> None:
    session = open_session()
    session.receive(encode(m.Applied(generation=GENERATION), 0) * 3, 0)  # the one there was is reported already
    assert session.events() == []
    assert session.dropped[Code.STALE] == 3


def test_each_answer_is_given_once() -> None:
    pair = Pair()
    pair.register()
    requested = pair.agent_said(agent.Requested)
    pair.agent.assign(ASSIGN, answer_to=requested.id)
    with pytest.raises(ValueError, match="without an answer"):
        pair.agent.assign(ASSIGN, answer_to=requested.id)


def test_an_assignment_is_not_pushed_before_the_node_is_registered() -> None:
    pair = Pair()
    pair.welcome()
    pair.agent.assign(ASSIGN)
    assert pair.agent.to_send(0) == b""


@pytest.mark.parametrize(
    "change",
    [
        {"renew_after": 0},
        {"renew_after": 10, "rebind_after": 9},
        {"preferred": 10, "valid": 9},
        {"valid": -1},
        {"valid": 1 << 32},
        {"prefix_length": 129},
    ],
)
def test_an_assignment_that_makes_no_sense_ends_the_session_and_changes_nothing(change: dict[str, int]) -> None:
    pair = Pair().join()
    held = AssignedAddress(address=ADDRESS, prefix_length=64, iaid=7, preferred=10, valid=20)
    times = {key: change[key] for key in change if key.endswith("_after")}
    rest = {key: change[key] for key in change if key not in times}
    addresses = (msgspec.structs.replace(held, **rest),)
    assignment = Assignment(generation=Generation(9, 9, 9), addresses=addresses)
    assign = msgspec.structs.replace(ASSIGN, assignment=assignment)
    pair.node.receive(encode(msgspec.structs.replace(assign, **times), 0), 0)
    assert pair.node.dropped[Code.MALFORMED] == 1
    assert pair.node.closed
    assert pair.state.assignment == ASSIGNMENT
    assert pair.state.configured


def test_a_stream_that_ends_within_a_frame_is_said_so() -> None:
    pair = Pair().join()
    pair.node.receive(encode(ASSIGN)[:-1], 0)
    pair.node.receive_end(0)
    assert pair.node.events() == [Closed(Code.TRUNCATED)]


def test_what_the_shell_reports_after_the_end_is_still_remembered() -> None:
    pair = Pair()
    pair.register()
    pair.assign(pair.agent_said(agent.Requested).id)
    pair.node.receive_end(0)
    pair.node_events += pair.node.events()
    pair.node.applied(GENERATION, [AppliedItem(address=ADDRESS, outcome="usable")], 0)
    assert pair.state.configured
    assert pair.node.to_send(0) == b""
    assert pair.node_said(Closed).why == Code.END


def test_a_snapshot_that_is_too_large_loses_its_routes_and_says_how_many() -> None:
    route = SNAPSHOT.routes[0]
    sysctls = {f"net.{number}": "x" * 100 for number in range(2_000)}
    encoded = encode_snapshot(Snapshot(routes=(route,) * 4_000, sysctls=sysctls, routes_not_listed=5))
    assert len(encoded) <= m.MAX_REGISTRATION
    listed = msgspec.msgpack.decode(encoded)
    assert 0 < len(listed["routes"]) < 4_000
    assert len(listed["routes"]) + listed["routes_not_listed"] == 4_005
    with pytest.raises(ValueError, match="over the limit"):
        encode_snapshot(Snapshot(kernel="x" * m.MAX_REGISTRATION))


def test_a_frame_over_the_limit_is_never_sent() -> None:
    with pytest.raises(ValueError, match="over the limit"):
        encode(m.Bye(why="x" * MAX_FRAME))


def test_a_node_hears_of_each_refusal_in_its_words() -> None:
    pair = Pair()
    pair.register()
    pair.agent.error(pair.agent_said(agent.Requested).id, "no-addresses", "the pool is full")
    pair.run()
    assert pair.node_said(node.Refused).text == "the pool is full"
    assert pair.doing() is Exchange.IDLE
