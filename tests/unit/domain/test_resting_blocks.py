"""Blocks that were withdrawn rest for their client, and are found however many rest: as many as a renumbering ends."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from dnms.domain.delegations import Delegated, Delegations
from dnms.events.ip import Prefix, parse_prefix, prefix_of

ONE, OTHER = b"1" * 16, b"2" * 16
SITE = parse_prefix("2001:db8::/48")


def block(number: int, length: int) -> Prefix:
    return prefix_of((SITE.first | number << (128 - length)).to_bytes(16), length)


def held(prefix: Prefix, client: bytes, until: int) -> Delegated:
    return Delegated(prefix, client, 1, "blocks", b"\xfe\x80" + bytes(14), "e", 0, until, until, position=1)


def resting(several: dict[Prefix, tuple[bytes, int]]) -> Delegations:
    delegations = Delegations()
    for prefix, (client, until) in several.items():
        delegations.put(held(prefix, client, until))
        delegations.end(prefix, rests=True)
    return delegations


@pytest.mark.parametrize("seed", range(8))
def test_what_rests_is_for_its_client_alone_until_its_end(seed: int) -> None:
    chance = random.Random(seed)
    several: dict[Prefix, tuple[bytes, int]] = {}
    for _ in range(12):
        length = chance.choice((52, 56, 60))
        prefix = block(chance.randrange(1 << (length - 48)), length)
        if not any(prefix.overlaps(each) for each in several):
            several[prefix] = chance.choice((ONE, OTHER)), chance.randrange(1, 100)
    delegations, at = resting(several), chance.randrange(100)
    again = Delegations()
    again.load(delegations.dump())
    for each in (delegations, delegations.draft(), again):
        for length in (49, 54, 58, 62):
            for number in range(0, 1 << (length - 48), 1 + (1 << (length - 48)) // 400):
                wanted = block(number, length)
                free = not any(
                    rests.overlaps(wanted) and client != ONE and until > at
                    for rests, (client, until) in several.items()
                )
                assert each.is_free(wanted, ONE, at) == free
    delegations.forget(at)
    assert delegations.resting == {prefix: who for prefix, who in several.items() if who[1] > at}


@contextmanager
def counted() -> Iterator[list[int]]:
    """Calls of Python functions."""
    calls = [0]

    def count(frame: FrameType, event: str, argument: object) -> None:
        calls[0] += event == "call"

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def test_what_rests_elsewhere_costs_nothing() -> None:
    delegations = resting({block(number, 64): (OTHER, 100) for number in range(2_000)})
    with counted() as calls:
        assert delegations.is_free(parse_prefix("2001:db8:1::/60"), ONE, 0)
        delegations.forget(50)
    assert calls[0] < 500
