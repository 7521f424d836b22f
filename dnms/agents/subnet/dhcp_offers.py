"""What DHCP clients were offered lately: nobody else is, and a client that takes it up is given just that."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from dnms.domain.leases import Binding
from dnms.events.address import AddressAllocated

LASTS = 60.0
"""Seconds for which an offer stands. It is in no log: after a restart a client asks again."""

MAX_OFFERS = 16_384
"""That stand at once: whoever is on the link can ask for any number. The oldest goes then, and may be offered twice."""


class Offer(msgspec.Struct, frozen=True):
    """An address that a client was offered."""

    binding: Binding
    given: AddressAllocated  # what it will be, if it takes it up
    until: float  # seconds of the event loop's clock


class Offers:
    """Those of one link."""

    def __init__(self) -> None:
        self._of: OrderedDict[Binding, Offer] = OrderedDict()
        self._by_address: dict[bytes, Binding] = {}

    def __len__(self) -> int:
        return len(self._of)

    def add(self, binding: Binding, given: AddressAllocated, *, now: float) -> None:
        """A client is offered this, and nothing else any more."""
        self.remove(binding)
        while self._of and (len(self._of) >= MAX_OFFERS or self._oldest().until <= now):
            self.remove(self._oldest().binding)
        if (other := self._by_address.get(given.address)) is not None:
            self.remove(other)
        self._of[binding] = Offer(binding, given, now + LASTS)
        self._by_address[given.address] = binding

    def remove(self, binding: Binding) -> None:
        """What a client was offered it has now, or does not want."""
        if (offer := self._of.pop(binding, None)) is not None:
            del self._by_address[offer.given.address]

    def of(self, binding: Binding, *, now: float) -> Offer | None:
        """What a client was offered."""
        offer = self._of.get(binding)
        return offer if offer is not None and offer.until > now else None

    def to_others(self, address: bytes, binding: Binding, *, now: float) -> Offer | None:
        """The offer of this address to another client than this one."""
        other = self._by_address.get(address, binding)
        return None if other == binding else self.of(other, now=now)

    def _oldest(self) -> Offer:
        return next(iter(self._of.values()))
