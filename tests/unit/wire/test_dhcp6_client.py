"""A requesting router that looks for a prefix, and what it discards."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from dnms.events.ip import Prefix, parse_prefix
from dnms.wire.dhcp6 import retransmission
from dnms.wire.dhcp6.associations import IaNa, IaPd, IaPrefix
from dnms.wire.dhcp6.client import Delegated, Refused
from dnms.wire.dhcp6.codes import Kind, Option, Status
from dnms.wire.dhcp6.exchanges import ASKS, NEXT, Exchange, On
from dnms.wire.dhcp6.held import MAX_PREFIXES, Held
from dnms.wire.dhcp6.messages import Message, Relay, encode, encode_forward
from dnms.wire.dhcp6.options import Options
from dnms.wire.errors import Code, PeerError
from tests.unit.wire.dhcp6_line import DUID, GONE, IAID, OTHER, SERVER, A, B, C, Line, give

# --- looking for a prefix


def test_a_solicit_says_what_it_has_to() -> None:
    line = Line(length=56)
    solicit = line.next()
    assert solicit.kind == Kind.SOLICIT
    assert 1_000.0 <= line.now <= 1_001.0
    options = solicit.options
    assert (options.client_id, options.server_id, options.elapsed, options.rapid_commit) == (DUID, b"", 0, True)
    assert options.pd == (IaPd(iaid=IAID, prefixes=(IaPrefix(prefix=Prefix(bytes(16), 56)),)),)
    assert set(options.requested) == {Option.PD_EXCLUDE, Option.SOL_MAX_RT}
    assert not options.reconfigure_accept


def test_solicits_become_rare_and_say_for_how_long_it_was() -> None:
    line = Line()
    line.pass_until(40_000.0)
    times = [at for at, _ in line.asked]
    pauses = [after - before for before, after in pairwise(times)]
    assert 1.0 < pauses[0] <= 1.1
    for before, after in pairwise(pauses):
        assert 1.9 * before <= after <= 2.1 * before or 3_240 <= after <= 3_960
    assert len(pauses) < 25
    assert len({message.transaction for _, message in line.asked}) == 1
    assert line.asked[2][1].options.elapsed == round((times[2] - times[0]) * 100)
    assert line.asked[-1][1].options.elapsed == 0xFFFF


def test_a_server_that_commits_at_once_is_done_with() -> None:
    line = Line()
    line.next()
    line.answer(Kind.REPLY, give(A, exclude=parse_prefix("2001:db8:100::/64")), rapid_commit=True)
    (event,) = line.client.events()
    assert event == Delegated(
        (
            Held(
                prefix=A,
                preferred_until=line.now + 200,
                valid_until=line.now + 300,
                exclude=parse_prefix("2001:db8:100::/64"),
            ),
        )
    )
    assert (line.client.exchange, line.client.server) == (Exchange.BOUND, SERVER)


def test_a_reply_without_rapid_commit_is_none() -> None:
    line = Line()
    line.next()
    with pytest.raises(PeerError) as error:
        line.answer(Kind.REPLY, give(A))
    assert error.value.why == Code.UNEXPECTED
    assert line.has == []


def test_advertises_are_collected_for_a_second_and_the_preferred_server_is_asked() -> None:
    line = Line()
    line.next()
    began = line.now
    line.answer(Kind.ADVERTISE, give(A))
    line.answer(Kind.ADVERTISE, give(B), server=OTHER, preference=10)
    assert line.pass_until(began + 0.99) == []
    (request,) = line.pass_until(began + 1.0)
    assert (request.kind, request.options.server_id) == (Kind.REQUEST, OTHER)
    assert [each.prefix for each in request.options.pd[0].prefixes] == [B]
    assert not request.options.rapid_commit
    line.answer(Kind.REPLY, give(B), server=OTHER)
    assert (line.has, line.client.server) == ([B], OTHER)


def test_of_equal_servers_the_one_with_the_larger_prefix_is_asked() -> None:
    line = Line()
    line.next()
    line.answer(Kind.ADVERTISE, give(A))
    line.answer(Kind.ADVERTISE, give(C), server=OTHER)
    assert line.next().options.server_id == OTHER


def test_the_greatest_preference_is_not_waited_for() -> None:
    line = Line()
    line.next()
    began = line.now
    line.answer(Kind.ADVERTISE, give(A), preference=255)
    assert line.next().kind == Kind.REQUEST
    assert line.now == began


def test_after_the_first_second_any_advertise_will_do() -> None:
    line = Line()
    line.next()
    assert line.next().kind == Kind.SOLICIT
    line.answer(Kind.ADVERTISE, give(A))
    assert line.next().kind == Kind.REQUEST


def test_an_advertise_that_offers_nothing_is_ignored_but_for_the_pace() -> None:
    line = Line()
    line.next()
    with pytest.raises(PeerError) as error:
        line.answer(Kind.ADVERTISE, status=GONE, sol_max_rt=60)
    assert error.value.why == Code.REFUSED
    assert line.client.events() == [Refused(int(Status.NO_PREFIX_AVAIL), "none left")]
    line.pass_until(2_000.0)
    times = [at for at, _ in line.asked]
    assert 54 <= times[-1] - times[-2] <= 66  # and not an hour, nor 512 s


@pytest.mark.parametrize("seconds", [0, 59, 86_401])
def test_a_pace_that_cannot_be_meant_is_ignored(seconds: int) -> None:
    line = Line()
    line.next()
    with pytest.raises(PeerError):
        line.answer(Kind.ADVERTISE, status=GONE, sol_max_rt=seconds)
    line.pass_until(40_000.0)
    times = [at for at, _ in line.asked]
    assert 3_240 <= times[-1] - times[-2] <= 3_960


def test_a_server_that_does_not_answer_gives_way_to_the_next_and_then_it_looks_anew() -> None:
    line = Line()
    line.next()
    line.answer(Kind.ADVERTISE, give(A), preference=5)
    line.answer(Kind.ADVERTISE, give(B), server=OTHER)
    sent = line.pass_until(line.now + 3_000)
    asked = [(message.kind, message.options.server_id) for message in sent]
    assert asked[:20] == [(Kind.REQUEST, SERVER)] * 10 + [(Kind.REQUEST, OTHER)] * 10
    assert set(asked[20:]) == {(Kind.SOLICIT, b"")}


def test_a_server_that_refuses_each_request_is_not_asked_ever_faster() -> None:
    line = Line()
    for _ in range(12):
        line.next()
        assert line.client.exchange is Exchange.SOLICITING
        line.answer(Kind.ADVERTISE, give(A), preference=255)
        line.next()
        line.answer(Kind.REPLY, status=GONE)
    solicits = [at for at, message in line.asked if message.kind == Kind.SOLICIT]
    pauses = [after - before for before, after in pairwise(solicits)]
    assert all(after > 1.8 * before for before, after in pairwise(pauses))


def test_an_advertise_after_a_long_pause_is_not_kept_waiting() -> None:
    line = Line()
    line.pass_until(line.now + 5_000)
    line.answer(Kind.ADVERTISE, give(A))
    line.next()
    line.answer(Kind.REPLY, status=GONE)  # it looks anew, at the pace that was reached
    line.next()
    at = line.now
    line.answer(Kind.ADVERTISE, give(A))
    assert line.next().kind == Kind.REQUEST
    assert line.now <= at + retransmission.SOLICIT.irt


# --- what is discarded


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"client_id": b"\x00\x04another"}, Code.CLIENT_ID),
        ({"client_id": b""}, Code.CLIENT_ID),
        ({"server_id": b""}, Code.SERVER_ID),
        ({"pd": ()}, Code.REFUSED),
        ({"pd": (IaPd(iaid=IAID + 1, prefixes=(give(A),)),)}, Code.REFUSED),
        ({"pd": (IaPd(iaid=IAID, prefixes=(give(A, 300, 200),)),)}, Code.REFUSED),  # preferred for longer than valid
        ({"pd": (IaPd(iaid=IAID, prefixes=(give(parse_prefix("::/0")),)),)}, Code.REFUSED),
        ({"pd": (IaPd(iaid=IAID, prefixes=(give(parse_prefix("fe80::/56")),)),)}, Code.REFUSED),
        ({"pd": (IaPd(iaid=IAID, prefixes=(give(parse_prefix("ff00::/8")),)),)}, Code.REFUSED),
        ({"pd": (IaPd(iaid=IAID, prefixes=(give(parse_prefix("2001:db8::/80")),)),)}, Code.REFUSED),
        ({"pd": (), "na": (IaNa(iaid=IAID),)}, Code.REFUSED),
    ],
)
def test_an_advertise_that_is_not_for_it_or_gives_nothing(said: dict[str, Any], why: Code) -> None:
    line = Line()
    line.next()
    with pytest.raises(PeerError) as error:
        line.answer(Kind.ADVERTISE, give(A), **said)
    assert error.value.why == why
    assert line.next().kind == Kind.SOLICIT


def test_an_answer_to_nothing_that_is_asked() -> None:
    line = Line()
    line.next()
    for kind, transaction in ((Kind.ADVERTISE, b"abc"), (Kind.REPLY, b"abc")):
        message = Message(int(kind), transaction, Options(client_id=DUID, server_id=SERVER))
        with pytest.raises(PeerError) as error:
            line.client.receive(encode(message), line.now)
        assert error.value.why == Code.LATE
    line.bind(give(A))
    with pytest.raises(PeerError) as error:
        line.answer(Kind.REPLY, give(B))  # the same once more
    assert error.value.why == Code.LATE
    assert line.has == [A]


@pytest.mark.parametrize("kind", [Kind.RECONFIGURE, Kind.SOLICIT, Kind.REQUEST, 77])
def test_what_no_server_sends_to_it(kind: int) -> None:
    line = Line()
    line.next()
    message = Message(int(kind), line.asked[-1][1].transaction, Options(client_id=DUID, server_id=SERVER))
    for data in (encode(message), encode_forward(encode(message), Relay())):
        with pytest.raises(PeerError) as error:
            line.client.receive(data, line.now)
        assert error.value.why == Code.DIRECTION


def test_a_server_that_gives_ever_more_is_not_followed() -> None:
    line = Line()
    many = tuple(give(Prefix(bytes([0x20, 0x01, number]) + bytes(13), 56)) for number in range(100))
    line.bind(*many)
    assert len(line.has) == MAX_PREFIXES
    line.next()
    line.answer(Kind.REPLY, *(give(Prefix(bytes([0x20, 0x02, number]) + bytes(13), 56)) for number in range(100)))
    assert len(line.has) == MAX_PREFIXES


def test_every_exchange_can_end_and_be_reached() -> None:
    assert {exchange for exchange, _ in NEXT} == set(Exchange) - {Exchange.ENDED}
    assert set(NEXT.values()) == set(Exchange)
    assert set(ASKS) == set(Exchange) - {Exchange.BOUND, Exchange.ENDED}
    assert {on for _, on in NEXT} == set(On)
