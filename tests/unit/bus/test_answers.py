"""What JetStream says, understood."""

from __future__ import annotations

import pytest

from dnms.bus.following import Where, parse_reply
from dnms.bus.jetstream import _microseconds
from dnms.bus.jetstream_api import Error, refusal
from dnms.bus.port import LostRace, Unanswered, Unavailable


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.DNMS_a.follow-1.1.20.7.1795417413174200123.3",
        "$JS.ACK.hub.ACCOUNT.DNMS_a.follow-1.1.20.7.1795417413174200123.3",
        "$JS.ACK._.ACCOUNT.DNMS_a.follow-1.1.20.7.1795417413174200123.3.random",
    ],
)
def test_a_reply_subject_says_where_a_message_is(reply: str) -> None:
    assert parse_reply(reply) == Where(20, 7, 1_795_417_413_174_200_123, 3)


@pytest.mark.parametrize(
    "reply", ["", "_INBOX.x", "$JS.ACK.a.b.1.2.3.4", "$JS.ACK.a.b.1.2.3.4.x", "$JS.FC.a.b.1.2.3.4"]
)
def test_another_reply_subject_is_none(reply: str) -> None:
    with pytest.raises(ValueError, match=r"not pushed|invalid literal"):
        parse_reply(reply)


@pytest.mark.parametrize(
    ("time", "microseconds"),
    [
        ("2026-11-23T07:03:33.174200999Z", 1_795_417_413_174_200),
        ("2026-11-23T07:03:33.1742Z", 1_795_417_413_174_200),
        ("2026-11-23T07:03:33.5Z", 1_795_417_413_500_000),
        ("2026-11-23T07:03:33Z", 1_795_417_413_000_000),
    ],
)
def test_times_are_truncated_to_microseconds(time: str, microseconds: int) -> None:
    assert _microseconds(time) == microseconds


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        (10071, LostRace, "wrong"),
        (10008, Unanswered, "wrong"),
        (10047, Unavailable, "disk full"),
        (10077, Unavailable, "disk full"),
        (10060, Unavailable, "refuses"),
    ],
)
def test_a_refusal_is_certain_or_not(code: int, error: type[Exception], says: str) -> None:
    refused = refusal("dnms.a.plan", Error(503, code, "wrong"))
    assert type(refused) is error
    assert says in str(refused)
