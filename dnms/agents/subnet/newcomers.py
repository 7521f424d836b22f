"""How many nodes that the site does not know one machine may bring, and how many new leases they may have.

Whoever is on the link can invent DUIDs, and each would get addresses for as long as a lease lasts: one machine could
fill a pool, and the log. A machine comes from its own link-local address, each guest of a host for virtual machines
too, and is one node; it is another one when it was installed anew. Who also invents link-local addresses is not stopped
by this.
"""

from __future__ import annotations

from collections import OrderedDict

from dnms.wire.rates import Buckets

NEW_AT_ONCE = 4  # a machine that is installed again and again has a new DUID each time
NEW_A_SECOND = 1 / 60
LEASES_A_NODE = 4  # new ones: both families, and another interface on the link; a node asks for 64 if it likes
LINK_WIDE = 256  # times as many may come to the whole link of whom nobody can tell which machine sends them
MAX_PEERS = 4_096  # remembered: as many as an agent has sessions


class Newcomers:
    """The nodes that came from each address lately and were not known."""

    def __init__(self, at_once: int = NEW_AT_ONCE) -> None:
        self.share = max(1.0, at_once / NEW_AT_ONCE)
        """How many times as much as one machine an address may ask for, since so many come from it."""
        self._buckets = Buckets(burst=at_once, per_second=NEW_A_SECOND, most=MAX_PEERS)
        self._leases = Buckets(burst=LEASES_A_NODE * at_once, per_second=LEASES_A_NODE * NEW_A_SECOND, most=MAX_PEERS)
        # Of the DHCPv4 clients of a link, since one machine can send the hardware addresses of all.
        self._anywhere = Buckets(burst=LINK_WIDE * at_once, per_second=LINK_WIDE * NEW_A_SECOND, most=1)
        self._admitted: OrderedDict[tuple[bytes, bytes], None] = OrderedDict()

    def admits(self, peer: bytes, client: bytes, *, now: float) -> bool:
        """Whether one more new client may come from this address. Who was admitted may try again."""
        if (peer, client) in self._admitted:
            return True
        if not self._buckets.take(peer, now):
            return False
        self._admitted[peer, client] = None
        if len(self._admitted) > MAX_PEERS:
            self._admitted.popitem(last=False)
        return True

    def leases(self, peer: bytes, *, now: float) -> bool:
        """Whether one more new lease may go to a node at this address."""
        return self._leases.take(peer, now)

    def leases_anywhere(self, peer: bytes, *, now: float) -> bool:
        """As `leases`, for a peer that can be anybody on the link."""
        return self.leases(peer, now=now) and self._anywhere.take(b"", now)
