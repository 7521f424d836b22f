"""How much a peer may ask in a time."""

from __future__ import annotations


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
