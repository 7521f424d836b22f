"""Which refusals are remembered."""

from __future__ import annotations

from dnms.bus.drafting import MAX_REFUSALS, REFUSAL_PERIOD, Refusals
from dnms.events.requests import RenewAddress


def key(iaid: int, why: str = "no-binding") -> bytes:
    return Refusals.key(RenewAddress(client=bytes(16), iaid=iaid, address=bytes(16)), why)


def test_a_request_and_a_word_make_the_key() -> None:
    assert key(1) == key(1)
    assert len({key(1), key(2), key(1, "exhausted")}) == 3


def test_it_is_known_for_a_minute_and_counts() -> None:
    refusals = Refusals()
    assert not refusals.is_known(key(1), at=0)
    refusals.written(key(1), at=0)
    refusals.came(key(1))
    refusals.came(key(1))
    assert refusals.is_known(key(1), at=REFUSAL_PERIOD - 1)
    assert not refusals.is_known(key(1), at=REFUSAL_PERIOD)
    assert refusals.since(key(1)) == 2
    refusals.written(key(1), at=REFUSAL_PERIOD)
    assert refusals.since(key(1)) == 0


def test_who_invents_requests_makes_us_forget_and_not_grow() -> None:
    refusals = Refusals()
    for iaid in range(MAX_REFUSALS + 1):
        refusals.written(key(iaid), at=iaid)
    assert not refusals.is_known(key(0), at=MAX_REFUSALS)
    assert refusals.is_known(key(1), at=MAX_REFUSALS)
    refusals.came(key(0))
    assert refusals.since(key(0)) == 0
