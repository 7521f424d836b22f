"""How much a peer may ask in a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class Bucket:
    """Tokens: `burst` at once, and `per_second` after that."""

    def __init__(self, *, burst: float, per_second: float, now: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._tokens = burst
        self._at = now

    def take(self, now: float, number: int = 1) -> bool:
        """Whether there are so many left; takes them, or none."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._per_second)
        self._at = now
        if self._tokens < number:
            return False
        self._tokens -= number
        return True


class Buckets:
    """A bucket for each of many peers. There are `most` of them: the one that was used longest ago is forgotten."""

    def __init__(self, *, burst: float, per_second: float, most: int) -> None:
        self._burst = burst
        self._per_second = per_second
        self._most = most
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, peer: Hashable, now: float, number: int = 1) -> bool:
        """Whether this peer has so many tokens left; takes them, or none."""
        bucket = self._buckets.get(peer)
        if bucket is None:
            bucket = self._buckets[peer] = Bucket(burst=self._burst, per_second=self._per_second, now=now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(peer)
        return bucket.take(now, number)
