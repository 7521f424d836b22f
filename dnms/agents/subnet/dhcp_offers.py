"""What DHCP clients were offered lately: nobody else is, and a client that takes it up is given just that."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container

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
        """A client is offered this, and nothing else any more. Offered again, it stands no longer: else who asks again
        and again would keep it from all others.
        """
        known = self.of(binding, now=now)
        if known is not None and known.given.address == given.address:
            self._of[binding] = Offer(binding, given, known.until)
            return
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

    def others(self, binding: Binding, *, now: float) -> Container[bytes]:
        """The addresses that are offered to other clients than this one."""
        return _Others(self, binding, now)

    def _oldest(self) -> Offer:
        return next(iter(self._of.values()))


class _Others(Container[bytes]):
    """A look at those of one link, of which there may be thousands."""

    def __init__(self, offers: Offers, binding: Binding, now: float) -> None:
        self._offers = offers
        self._binding = binding
        self._now = now

    def __contains__(self, address: object) -> bool:
        return isinstance(address, bytes) and self._offers.to_others(address, self._binding, now=self._now) is not None
