"""A requesting router that has a prefix: T1, T2, a flap of the link, a restart, a release."""

from __future__ import annotations

import math

import msgspec
import pytest

from dnms.wire.dhcp6.associations import StatusOption
from dnms.wire.dhcp6.client import Delegated, Ended, Refused
from dnms.wire.dhcp6.codes import INFINITE, Kind, Status
from dnms.wire.dhcp6.exchanges import Exchange
from dnms.wire.dhcp6.messages import Message, encode
from dnms.wire.dhcp6.options import Options
from dnms.wire.errors import PeerError
from tests.unit.wire.dhcp6_line import DUID, OTHER, SERVER, UNKNOWN, A, B, C, Line, give, held

# --- keeping it


def test_at_t1_it_renews_with_its_server_and_at_t2_it_rebinds_with_any() -> None:
    line = Line()
    line.bind(give(A), t1=100, t2=160)
    at = line.now
    assert line.pass_until(at + 99.9) == []
    renew = line.next()
    assert (line.now, renew.kind, renew.options.server_id) == (at + 100, Kind.RENEW, SERVER)
    assert [each.prefix for each in renew.options.pd[0].prefixes] == [A]
    sent = line.pass_until(at + 159.9)
    assert {message.kind for message in sent} == {Kind.RENEW}
    rebind = line.next()
    assert (line.now, rebind.kind, rebind.options.server_id) == (at + 160, Kind.REBIND, b"")
    assert rebind.transaction != renew.transaction
    line.answer(Kind.REPLY, give(A), server=OTHER)
    assert (line.client.server, line.client.exchange) == (OTHER, Exchange.BOUND)
    assert line.client.held[0].valid_until == line.now + 300


def test_what_nobody_renews_expires_and_it_looks_for_another() -> None:
    line = Line()
    line.bind(give(A))
    at = line.now
    line.pass_until(at + 299)
    assert line.has == [A]
    line.pass_until(at + 302)
    assert line.has == []
    assert line.client.events() == [Ended((), "expired")]
    assert line.asked[-1][1].kind == Kind.SOLICIT


def test_without_t1_and_t2_they_follow_from_the_preferred_lifetime() -> None:
    line = Line()
    line.bind(give(A), t1=0, t2=0)
    at = line.now
    assert line.next().kind == Kind.RENEW
    assert line.now == at + 100
    line.pass_until(at + 160)
    assert line.asked[-1][1].kind == Kind.REBIND


def test_a_deprecated_prefix_alone_does_not_make_it_ask_without_a_pause() -> None:
    line = Line()
    line.bind(give(A, preferred=0, valid=300), t1=0, t2=0)
    at = line.now
    line.next()
    assert line.now == at + 150


def test_a_server_that_wants_to_be_asked_at_once_is_asked_once_a_second() -> None:
    line = Line()
    line.bind(give(A, preferred=1, valid=10), t1=0, t2=0)
    for _ in range(5):
        at = line.now
        line.next()
        assert line.now >= at + 1
        line.answer(Kind.REPLY, give(A, preferred=1, valid=10))


def test_what_never_ends_is_not_renewed() -> None:
    line = Line()
    line.bind(give(A, preferred=INFINITE, valid=INFINITE), t1=INFINITE, t2=INFINITE)
    assert line.pass_until(line.now + 1e9) == []
    assert line.has == [A]


def test_t1_after_t2_makes_a_reply_void() -> None:
    line = Line()
    line.next()
    with pytest.raises(PeerError):
        line.answer(Kind.REPLY, give(A), t1=10, t2=5, rapid_commit=True)
    assert line.has == []


def test_a_prefix_that_ends_and_one_that_takes_its_place() -> None:
    line = Line()
    line.bind(give(A))
    line.next()
    line.answer(Kind.REPLY, give(A, 0, 0), give(B))
    assert line.has == [B]
    assert isinstance(line.client.events()[-1], Delegated)


def test_a_prefix_that_is_not_spoken_of_lives_on_until_its_time() -> None:
    line = Line()
    line.bind(give(A), give(C, preferred=5_000, valid=6_000))
    at = line.now
    line.next()
    line.answer(Kind.REPLY, give(C, preferred=5_000, valid=6_000), t1=4_000, t2=5_000)
    assert line.has == [C, A]
    line.pass_until(at + 299)
    assert line.has == [C, A]
    line.pass_until(at + 300)
    assert line.has == [C]
    assert line.client.events()[-1] == Ended(line.client.held, "expired")


def test_where_all_ends_at_once_it_looks_for_another() -> None:
    line = Line()
    line.bind(give(A))
    line.next()
    line.answer(Kind.REPLY, give(A, 0, 0))
    assert line.client.events() == [Ended((), "cut")]
    assert line.next().kind == Kind.SOLICIT


def test_a_deprecated_one_beside_a_new_one_is_held_until_its_time() -> None:
    line = Line()
    line.bind(give(A))
    line.next()
    line.answer(Kind.REPLY, give(A, 0, 100), give(B))
    assert line.has == [A, B]
    assert line.client.held[0].preferred_until == line.now


def test_a_server_that_knows_nothing_of_it_is_asked_for_one() -> None:
    line = Line()
    line.bind(give(A))
    renew = line.next()
    line.answer(Kind.REPLY, status=UNKNOWN)
    request = line.next()
    assert (request.kind, request.options.server_id) == (Kind.REQUEST, SERVER)
    assert request.options.pd == renew.options.pd
    assert line.has == [A]
    line.answer(Kind.REPLY, give(B))
    assert line.has == [B]


def test_where_that_gives_nothing_either_it_looks_on_and_keeps_what_it_has() -> None:
    line = Line()
    line.bind(give(A))
    line.next()
    line.answer(Kind.REPLY, status=UNKNOWN)
    line.next()
    line.answer(Kind.REPLY, status=UNKNOWN)
    solicit = line.next()
    assert solicit.kind == Kind.SOLICIT
    assert [each.prefix for each in solicit.options.pd[0].prefixes] == [A]
    assert line.has == [A]
    line.answer(Kind.REPLY, give(A), rapid_commit=True)
    assert line.has == [A]


@pytest.mark.parametrize("status", [Status.UNSPEC_FAIL, Status.USE_MULTICAST])
def test_a_server_that_fails_is_asked_again_when_that_is_due(status: Status) -> None:
    line = Line()
    line.bind(give(A))
    renew = line.next()
    at = line.now
    failed = msgspec.structs.replace(
        Options(client_id=DUID, server_id=SERVER), status=StatusOption(int(status), "not now")
    )
    with pytest.raises(PeerError):
        line.client.receive(encode(Message(int(Kind.REPLY), renew.transaction, failed)), line.now)
    assert line.client.events() == [Refused(int(status), "not now")]
    assert line.next() == msgspec.structs.replace(
        renew, options=msgspec.structs.replace(renew.options, elapsed=round((line.now - at) * 100))
    )
    assert line.now >= at + 9


# --- beginning and ending


def test_what_it_had_before_is_asked_about_at_once() -> None:
    line = Line(held=(held(A),))
    rebind = line.next()
    assert line.now <= 1_001.0
    assert (rebind.kind, rebind.options.server_id) == (Kind.REBIND, b"")
    assert [each.prefix for each in rebind.options.pd[0].prefixes] == [A]
    assert line.has == [A]
    line.answer(Kind.REPLY, give(A, 0, 0), give(B), server=OTHER)
    assert (line.has, line.client.server) == ([B], OTHER)


def test_where_nobody_answers_it_keeps_that_until_its_time_and_asks_on() -> None:
    line = Line(held=(held(A, valid_until=2_000.0),))
    sent = line.pass_until(1_999.0)
    assert {message.kind for message in sent} == {Kind.REBIND}
    assert len(sent) > 5
    assert line.has == [A]
    line.pass_until(2_002.0)
    assert line.has == []
    assert line.asked[-1][1].kind == Kind.SOLICIT


def test_what_is_over_at_the_start_is_told() -> None:
    line = Line(held=(held(A, valid_until=900.0),))
    assert line.client.events() == [Ended((), "expired")]
    assert line.next().kind == Kind.SOLICIT


def test_a_link_that_comes_back_is_asked_whether_it_is_the_same() -> None:
    line = Line()
    line.bind(give(A), t1=100, t2=160)
    line.client.link_came_back(line.now)
    assert line.next().kind == Kind.REBIND
    line.answer(Kind.REPLY, give(A))
    assert line.client.exchange is Exchange.BOUND


@pytest.mark.parametrize("flaps", [1, 3])
def test_a_link_that_comes_back_while_it_looks_is_asked_soon(flaps: int) -> None:
    line = Line()
    line.pass_until(20_000.0)
    for _ in range(flaps):
        line.client.link_came_back(line.now)
    at = line.now
    assert line.next().kind == Kind.SOLICIT
    assert line.now <= at + 1


def test_a_release_is_sent_four_times_at_most_and_nothing_is_held_from_then_on() -> None:
    line = Line()
    line.bind(give(A))
    line.client.release(line.now)
    assert line.has == []
    assert line.client.events() == [Ended((), "released")]
    sent = line.pass_until(line.now + 100)
    assert [(message.kind, message.options.server_id) for message in sent] == [(Kind.RELEASE, SERVER)] * 4
    assert [each.prefix for each in sent[0].options.pd[0].prefixes] == [A]
    assert line.client.exchange is Exchange.ENDED
    assert math.isinf(line.client.deadline())


def test_a_release_ends_with_its_answer() -> None:
    line = Line()
    line.bind(give(A))
    line.client.release(line.now)
    line.next()
    line.answer(Kind.REPLY)
    assert line.client.exchange is Exchange.ENDED


@pytest.mark.parametrize("begun", [False, True])
def test_who_has_nothing_has_nothing_to_release(begun: bool) -> None:
    line = Line()
    if begun:
        line.next()
        line.answer(Kind.ADVERTISE, give(A), preference=255)
        line.next()
    line.client.release(line.now)
    assert line.client.exchange is Exchange.ENDED
