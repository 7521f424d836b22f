"""Whose turn it is to commit, where several write one subject: what each can tell from the log alone. No I/O.

The log takes one commit after another, so of several writers that try at once one wins, and what the others have
decided was for nothing: they fold, decide again, and meet again. Each of five then wins every fifth time, by chance;
who is unlucky ten times in a row waits ten times as long, and most of all CPU goes into what is thrown away.

So writers take turns, without a word to each other, and only while they meet. Whose newest commit is oldest goes first,
at once. The next one gives it the time that a commit takes, and goes then, unless a commit came: that begins the next
round. All see the same commits in the same order, so all know the same order of turns. Who has nothing to write is
passed over after that time, and forgotten when it has not written for a while. Nothing depends on this but speed: who
goes when it is not its turn wins the race or loses it, as ever.
"""

from __future__ import annotations

from typing import Final

FIRST_SLOT: Final = 0.003
"""Seconds that a commit takes, before it is known."""

ROUND: Final = 40
"""Commits. Who has not written in the time that so many take is not waited for, and who has not met another in that
time stops waiting: longer than a round of many writers, and short enough for who writes only now and then."""

MAX_WAIT: Final = 1.0
"""Seconds at most that anybody waits for a turn, or is waited for, however slow the log is and however many write."""

_MARGIN: Final = 3
"""Times what a commit takes, until the next one goes: each sees the commit before it at another moment, and who writes
may not have a core at once. Longer costs nothing as long as all have something to write."""

_SMOOTHING: Final = 0.1


class Turns:
    """Of one writer of one subject. Instants are in seconds, of any clock that only goes forward."""

    def __init__(self) -> None:
        self._others: dict[str, float] = {}  # by who wrote: when its newest commit was seen, the oldest first
        self._ours = 0.0  # when ours was
        self._newest = 0.0  # when any was
        self._meet_until = 0.0
        self._slot = FIRST_SLOT

    def ours(self, now: float, *, took: float) -> None:
        """A commit of ours is in the log, `took` seconds after we began to decide it."""
        self._ours = self._newest = now
        self._slot += _SMOOTHING * (min(took, MAX_WAIT) - self._slot)

    def others(self, who: str, now: float, *, waiting: bool) -> None:
        """A commit of another writer is in the log; `waiting`: while we had something to write ourselves."""
        self._others.pop(who, None)  # so that it stands behind those whose newest commit is older
        self._others[who] = self._newest = now
        while now - self._others[oldest := next(iter(self._others))] > self._round:
            del self._others[oldest]
        if waiting:
            self.meet(now)

    def meet(self, now: float) -> None:
        """We write at the same time as another."""
        self._meet_until = now + self._round

    def begins(self, now: float) -> float:
        """The instant of our next turn, if nobody commits before; not later than `now` if it is ours."""
        if now >= self._meet_until:
            return now
        before = sum(now - self._round < seen < self._ours for seen in self._others.values())
        return self._newest + min(before * _MARGIN * self._slot, MAX_WAIT)

    @property
    def _round(self) -> float:
        return min(ROUND * self._slot, MAX_WAIT)
