"""A Subnet Agent answers the solicits of its link, the busier the later.

Anybody on the link can send solicits, so answers are capped, for all together and for each peer. An answer is never
larger than its question (`datagrams`), so nothing is gained by a forged source.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

import msgspec

from dnms.wire.datagrams import decode, encode_offer
from dnms.wire.errors import Code, PeerError
from dnms.wire.messages import Offer, Solicit

ANSWERS_A_SECOND = 1_000  # 10 Mbit/s at most; a link of 20 000 nodes is answered within half a minute of its power-on
ANSWERS_A_PEER = 8  # in a second, whatever its ports; a node sends at most four in its first
DELAY_PER_SESSION = 0.000_01  # seconds: 100 sessions are 1 ms
MAX_DELAY = 0.005  # seconds; a node collects for 10 ms

LARGEST_LOAD = 0xFFFF_FFFF

P = TypeVar("P")


def fitting(offer: Offer) -> Offer:
    """The offer with as many of its endpoints, the first ones, as a datagram takes."""
    while len(offer.endpoints) > 1:
        try:
            encode_offer(msgspec.structs.replace(offer, load=LARGEST_LOAD))
        except ValueError:
            offer = msgspec.structs.replace(offer, endpoints=offer.endpoints[:-1])
        else:
            break
    return offer


class Answering(Generic[P]):
    """What one agent says to those who search. `load` is the number of open sessions; the shell keeps it up to date.

    `offer` is what it says, but for the nonce and the load. ValueError if that does not fit a datagram.
    """

    def __init__(self, offer: Offer) -> None:
        encode_offer(msgspec.structs.replace(offer, load=LARGEST_LOAD))
        self.load = 0
        self.dropped: Counter[str] = Counter()
        self._offer = offer
        self._second = 0
        self._answers = 0  # in this second
        self._answers_to: Counter[Hashable] = Counter()  # of them; never more peers than ANSWERS_A_SECOND
        self._waiting: list[tuple[float, int, bytes, P]] = []
        self._serial = 0

    def receive(self, data: bytes, *, hop_limit: int, peer: P, source: Hashable, now: float) -> None:
        """Take a datagram. What is no solicit, or one too many, is counted in `dropped`.

        `peer` is whom to answer; `source` its address alone, since a machine has as many ports as it likes.
        """
        try:
            message = decode(data, hop_limit=hop_limit)
            if not isinstance(message, Solicit):
                raise PeerError(Code.DIRECTION)
            self._admit(source, now)
        except PeerError as error:
            self.dropped[error.why] += 1
            return
        answer = msgspec.structs.replace(self._offer, nonce=message.nonce, load=min(self.load, LARGEST_LOAD))
        self._serial += 1  # equal times go in the order in which they came
        at = now + min(self.load * DELAY_PER_SESSION, MAX_DELAY)
        heapq.heappush(self._waiting, (at, self._serial, encode_offer(answer), peer))

    def to_send(self, now: float) -> list[tuple[bytes, P]]:
        """The answers that are due, each with its peer; they go out unicast, with hop limit 255."""
        due = []
        while self._waiting and self._waiting[0][0] <= now:
            _, _, data, peer = heapq.heappop(self._waiting)
            due.append((data, peer))
        return due

    def deadline(self) -> float | None:
        """When to call `to_send`."""
        return self._waiting[0][0] if self._waiting else None

    def _admit(self, source: Hashable, now: float) -> None:
        if int(now) != self._second:
            self._second, self._answers = int(now), 0
            self._answers_to.clear()
        if self._answers >= ANSWERS_A_SECOND:
            raise PeerError(Code.RATE)
        if self._answers_to[source] >= ANSWERS_A_PEER:
            raise PeerError(Code.PEER_RATE)
        self._answers += 1
        self._answers_to[source] += 1
