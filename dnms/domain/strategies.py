"""How a pool picks addresses: the n-th candidate for a client. A strategy is an entry in `STRATEGIES`.

Another package brings one by an entry point in the group `dnms.strategies`; see `dnms.disk.extensions`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import msgspec

from dnms.domain.ranges import Ranges
from dnms.events.plan import Pool

ENTROPY: Final = 16
"""Random bytes that a decision is given where a strategy wants some."""


COUNTING: Final = "sequential"
"""The strategy for which it is remembered which address of its ranges is the highest that was ever given."""


class Asking(msgspec.Struct, frozen=True, gc=False):
    """Who asks, and all that a strategy may look at: the same values give the same candidates, in every release."""

    secret: bytes
    pool: Pool
    client: bytes
    iaid: int
    ranges: Ranges  # what the client may have of the pool
    entropy: bytes = b""  # ENTROPY random bytes, if the strategy wants them
    behind: int = 0  # the number in `ranges` behind the highest address that was ever given of them


class Strategy(msgspec.Struct, frozen=True, kw_only=True):
    """One way to pick."""

    candidate: Callable[[Asking, int], int | None]
    """The number in the ranges of the n-th candidate; None: there are no more, take what was free for longest."""

    random: bool = False
    """Wants random bytes. The addresses of others cannot be known before they are asked for."""

    dynamic: bool = True
    """Gives addresses to who has none reserved."""


def hashed(asking: Asking, n: int) -> int:
    """A keyed hash of prefix, client, IAID and counter (RFC 7943; RFC 7217, 5).

    The DUID enters as the client id, a keyed hash of it, because a ledger knows no DUIDs. The group is no part of it,
    and chooses the ranges.
    """
    pool = asking.pool
    message = pool.first + pool.last + asking.client + asking.iaid.to_bytes(4) + n.to_bytes(4)
    digest = hashlib.blake2b(message, key=asking.secret, digest_size=8, person=b"dnms-address").digest()
    return int.from_bytes(digest) % asking.ranges.size


def drawn(asking: Asking, n: int) -> int:
    """Random: nobody can tell from who a client is what it will have."""
    digest = hashlib.blake2b(n.to_bytes(4), key=asking.entropy, digest_size=16, person=b"dnms-random").digest()
    return int.from_bytes(digest) % asking.ranges.size


def following(asking: Asking, n: int) -> int | None:
    """The next one that nobody ever had."""
    number = asking.behind + n
    return number if number < asking.ranges.size else None


def none(asking: Asking, n: int) -> int | None:
    """Nobody is given anything but what is reserved."""
    return None


STRATEGIES: dict[str, Strategy] = {
    "hash": Strategy(candidate=hashed),
    "random": Strategy(candidate=drawn, random=True),
    COUNTING: Strategy(candidate=following),
    "reserved": Strategy(candidate=none, dynamic=False),
}
"""By the name that a plan gives."""
