"""A node looks for a Subnet Agent on its link.

It multicasts solicits with the timing of RFC 8415 (section 15), for ever, until one is answered; then it collects
offers for a moment and puts them in the order in which it will try them.

One nonce serves all solicits of one search: an answer to the last but one is still an answer, and an agent may be
slower than the first retransmission. The next search draws a fresh one, so no recorded offer can be played back to it.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

import msgspec

from dnms.wire.datagrams import decode, encode_solicit
from dnms.wire.errors import Code, PeerError
from dnms.wire.messages import ALL_NODES, GROUP, Offer, Solicit

FIRST_WITHIN = 0.1  # seconds: the nodes of a link that all come up at once do not all speak at once
FIRST_INTERVAL = 0.25
LAST_INTERVAL = 120.0
JITTER = 0.1  # RFC 8415, 15: RAND
COLLECT_FOR = 0.01  # seconds after the first offer; an agent delays its own by half of that at most
ALL_NODES_EVERY = 3  # a bridge that forgot who joined the group still forwards to all nodes
MAX_OFFERS = 64  # of one search; more agents than that are no honest link's

P = TypeVar("P", bound=Hashable)


class Chance(Protocol):
    """What is drawn; `random.Random` and `random.SystemRandom` are such."""

    def uniform(self, a: float, b: float) -> float:
        """A number between both."""
        ...

    def randbytes(self, n: int) -> bytes:
        """So many bytes."""
        ...


class Outgoing(msgspec.Struct, frozen=True):
    """A datagram to multicast to `group`."""

    data: bytes
    group: str


class Candidate(msgspec.Struct, Generic[P], frozen=True):
    """An agent that offered, and where its offer came from."""

    offer: Offer
    peer: P


class Chosen(msgspec.Struct, Generic[P], frozen=True):
    """The search is over: try these in this order. There is at least one."""

    candidates: tuple[Candidate[P], ...]


class Discovery(Generic[P]):
    """One search. The shell owns the socket and sends from its link-local address with hop limit 255.

    When every candidate fails, `resume` goes on at the pace that was reached, so that an agent which offers and then
    fails cannot make a node flood its link.
    """

    def __init__(
        self, *, duid: bytes, chance: Chance, now: float, within: float = FIRST_WITHIN, group: str = GROUP
    ) -> None:
        """The first solicit goes out `within` so many seconds: when, is drawn."""
        self.dropped: Counter[str] = Counter()
        self._duid = duid
        self._chance = chance
        self._group = group
        self._interval = 0.0  # 0: nothing was sent yet
        self._sent = 0
        self._nonce = chance.randbytes(16)
        self._solicit_at = now + chance.uniform(0, within)
        self._choose_at = math.inf
        self._offers: dict[tuple[str, P], Candidate[P]] = {}
        self._out: list[Outgoing] = []
        self._events: list[Chosen[P]] = []

    def resume(self, now: float) -> None:
        """None of the candidates would do: search on, with a fresh nonce, when the next solicit is due."""
        self._nonce = self._chance.randbytes(16)
        self._offers.clear()
        self._choose_at = math.inf
        self._solicit_at = now + self._interval

    def receive(self, data: bytes, *, hop_limit: int, peer: P, now: float) -> None:
        """Take a datagram. What is no offer to this search is counted in `dropped`."""
        self.tick(now)
        try:
            message = decode(data, hop_limit=hop_limit)
            if not isinstance(message, Offer):
                raise PeerError(Code.DIRECTION)
            if message.nonce != self._nonce:
                raise PeerError(Code.NONCE)
            if math.isinf(self._solicit_at):
                raise PeerError(Code.LATE)
            key = (message.agent, peer)
            if key not in self._offers and len(self._offers) >= MAX_OFFERS:
                raise PeerError(Code.TOO_MANY)
        except PeerError as error:
            self.dropped[error.why] += 1
            return
        self._offers[key] = Candidate(message, peer)
        self._choose_at = min(self._choose_at, now + COLLECT_FOR)

    def to_send(self, now: float) -> list[Outgoing]:
        """What is to be sent now."""
        self.tick(now)
        out, self._out = self._out, []
        return out

    def deadline(self) -> float | None:
        """When to call `tick`; None when the search is over."""
        # While offers are collected no solicit is sent, even if one is due.
        due = self._solicit_at if math.isinf(self._choose_at) else self._choose_at
        return None if math.isinf(due) else due

    def tick(self, now: float) -> None:
        """Time passed."""
        if now >= self._choose_at:
            candidates = sorted(self._offers.values(), key=self._order)
            self._events.append(Chosen(tuple(candidates)))
            self._choose_at = self._solicit_at = math.inf
        elif now >= self._solicit_at and math.isinf(self._choose_at):
            self._solicit(now)

    def events(self) -> list[Chosen[P]]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    def _solicit(self, now: float) -> None:
        self._sent += 1
        group = ALL_NODES if self._sent % ALL_NODES_EVERY == 0 else self._group
        self._out.append(Outgoing(encode_solicit(Solicit(nonce=self._nonce)), group))
        jitter = self._chance.uniform(-JITTER, JITTER)
        if self._interval == 0:
            self._interval = FIRST_INTERVAL * (1 + jitter)
        else:
            self._interval = self._interval * (2 + jitter)
            if self._interval > LAST_INTERVAL:
                self._interval = LAST_INTERVAL * (1 + jitter)
        self._solicit_at = now + self._interval

    def _order(self, candidate: Candidate[P]) -> tuple[int, int, bytes]:
        """Preference, then load, then a hash, by which the nodes of a link spread over equal agents."""
        offer = candidate.offer
        return (-offer.preference, offer.load, hashlib.sha256(self._duid + offer.agent.encode()).digest())
