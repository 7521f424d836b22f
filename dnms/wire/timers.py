"""How long each exchange waits, as a table. A timer has the name of what its end is, and runs where that moves a node.

So which timers run follows from `exchanges`, and a session asks here; the numbers are those that the code waits for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from dnms.wire.asked import ANSWER_WITHIN, TRIES
from dnms.wire.channel import MISSED_PINGS
from dnms.wire.discovery import COLLECT_FOR, FIRST_INTERVAL, FIRST_WITHIN, JITTER, LAST_INTERVAL
from dnms.wire.exchanges import Exchange, On, may
from dnms.wire.messages import MAX_PING_EVERY, MIN_PING_EVERY, MIN_T1

ASK_AGAIN = 60.0  # seconds until a node that got nothing asks again, where the agent does not say


class Timer(msgspec.Struct, frozen=True):
    """How long it runs at least and at most, in seconds, and what says so."""

    least: float
    most: float
    by: str


TIMERS: Mapping[On, Timer] = {
    On.SOLICIT: Timer(
        0.0,
        LAST_INTERVAL * (1 + JITTER),
        f"drawn within {FIRST_WITHIN:g} s, then {FIRST_INTERVAL:g} s, doubled each time, with jitter",
    ),
    On.OFFER: Timer(COLLECT_FOR, COLLECT_FOR, "from the first offer"),
    On.NO_ANSWER: Timer(
        ANSWER_WITHIN,
        TRIES * ANSWER_WITHIN,
        f"a request is sent {TRIES} times, `release` once; an observation once more when a busy agent says",
    ),
    On.SILENCE: Timer(
        MIN_PING_EVERY * (1 + MISSED_PINGS),
        MAX_PING_EVERY * (1 + MISSED_PINGS),
        f"`ping_every` of the welcome, 3 to 15 s, and as long again for each of {MISSED_PINGS} pings",
    ),
    On.EXPIRED: Timer(0.0, math.inf, "the last address that is held: `valid`, from when it was asked for"),
    On.T1: Timer(MIN_T1, math.inf, "`renew_after`; after an error as to ask again"),
    On.T2: Timer(MIN_T1, math.inf, "`rebind_after`, which is at least T1"),
    On.ASK_AGAIN: Timer(
        0.0,
        math.inf,
        f"`retry_after`, else {ASK_AGAIN:g} s; T1 where nothing was assigned; at once when the link came back",
    ),
}
"""By what their end is."""

RUNNING: Mapping[tuple[Exchange, bool], tuple[On, ...]] = {
    (exchange, configured): tuple(on for on in TIMERS if may(exchange, on, configured=configured))
    for exchange in Exchange
    for configured in (False, True)
}
"""The timers that run in an exchange, by whether the node is configured."""
