"""Buckets of tokens."""

from __future__ import annotations

from dnms.wire.rates import Bucket, Buckets


def test_a_bucket_holds_its_burst_and_fills_no_further() -> None:
    bucket = Bucket(burst=3, per_second=2, now=0)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(0.5), bucket.take(0.5)] == [True, False]
    assert [bucket.take(1_000) for _ in range(4)] == [True, True, True, False]


def test_several_are_taken_together_or_not_at_all() -> None:
    bucket = Bucket(burst=5, per_second=1, now=0)
    assert [bucket.take(0, 3), bucket.take(0, 3), bucket.take(0, 2), bucket.take(0, 0)] == [True, False, True, True]


def test_a_clock_that_steps_back_gives_nothing() -> None:
    bucket = Bucket(burst=1, per_second=1, now=10)
    assert bucket.take(10)
    assert not bucket.take(5)


def test_a_peer_takes_several_or_none() -> None:
    buckets = Buckets(burst=3, per_second=1, most=2)
    assert buckets.take("a", 0.0, 2)
    assert not buckets.take("a", 0.0, 2)
    assert buckets.take("a", 0.0)
    assert buckets.take("b", 0.0, 3)
    assert not buckets.take("b", 2.0, 3)
    assert buckets.take("b", 3.0, 3)
