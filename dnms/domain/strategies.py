"""How a pool picks addresses: the n-th candidate for a client. A strategy is a function in `STRATEGIES`."""

from __future__ import annotations

import hashlib
from typing import Final, Protocol

from dnms.events.plan import Pool

GROUP_BITS: Final = 16
HOST_BITS: Final = 48
"""In a whole /64 the interface identifier is a group's number and a host: one match finds a group in every subnet."""


class Strategy(Protocol):
    """The n-th candidate."""

    def __call__(self, secret: bytes, pool: Pool, client: bytes, iaid: int, *, group: int, n: int) -> int:
        """An address within the pool, as a number of 128 bits. The same arguments give the same address."""
        ...


def is_whole_64(pool: Pool) -> bool:
    """Whether the pool is a /64 from end to end, so that its identifiers carry the group's number."""
    return pool.first[8:] == bytes(8) and pool.last == pool.first[:8] + b"\xff" * 8


def hashed(secret: bytes, pool: Pool, client: bytes, iaid: int, *, group: int, n: int) -> int:
    """A keyed hash of prefix, client, IAID and counter (RFC 7943; RFC 7217, 5).

    The DUID enters as the client id, a keyed hash of it, because a ledger knows no DUIDs. The group is a field beside
    the hash and not a part of it.
    """
    message = pool.first + pool.last + client + iaid.to_bytes(4) + n.to_bytes(4)
    digest = int.from_bytes(hashlib.blake2b(message, key=secret, digest_size=8, person=b"dnms-address").digest())
    first = int.from_bytes(pool.first)
    if is_whole_64(pool):
        return first | group << HOST_BITS | digest & ((1 << HOST_BITS) - 1)
    return first + digest % (int.from_bytes(pool.last) - first + 1)


STRATEGIES: dict[str, Strategy] = {"hash": hashed}
"""By the name that a plan gives."""
