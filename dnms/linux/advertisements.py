"""What routers advertise on a link, whether the kernel heeds it or not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from dnms.events.configuration import MAX_ROUTERS, AdvertisedPrefix, Advertisement
from dnms.events.ip import Prefix, is_link_local, parse_address
from dnms.linux import icmp6
from dnms.linux.multicast import DatagramReader, Peer
from dnms.wire.errors import PeerError
from dnms.wire.nd import ADVERTISEMENT, RouterAdvertisement, router_advertisement

STAYS = 1_800.0
"""Seconds for which is told what a router said that is no default router: three times the longest pause between two
advertisements by default (RFC 4861, 6.2.1)."""

Heard = Callable[[bytes, RouterAdvertisement], None]
"""Takes an advertisement, with the link-local address of the router that sent it."""


class Advertisements:
    """Those of one interface, from when it is made until `close`. KernelError if they cannot be heard."""

    def __init__(self, interface: str, heard: Heard) -> None:
        self._heard = heard
        self._reader = DatagramReader(icmp6.hear(interface, ADVERTISEMENT), self._receive)
        self.dropped: Counter[str] = self._reader.dropped
        """What was not believed, by a stable word."""

    def close(self) -> None:
        """Hear no more."""
        self._reader.close()

    def _receive(self, packet: bytes, peer: Peer, hops: int) -> None:
        router = parse_address(peer[0].partition("%")[0])
        if hops != icmp6.HOPS or not is_link_local(router):
            self.dropped["off-link"] += 1  # RFC 4861, 6.1.2
            return
        try:
            advertisement = router_advertisement(packet)
        except PeerError as error:
            self.dropped[error.why] += 1
            return
        self._heard(router, advertisement)


class AdvertisedRouters:
    """What the routers of one interface advertise now, from when it is made until `close`. KernelError."""

    def __init__(
        self, interface: str, index: int, changed: Callable[[], None], moved: Callable[[], None] = lambda: None
    ) -> None:
        """`changed` is called when one says anything but the same again; `index` is the interface's.

        `moved` is called when the interface may be on another link: a router is new, or has other prefixes, as one of
        another link with the same link-local address has.
        """
        self._index = index
        self._changed = changed
        self._moved = moved
        self._said: dict[bytes, tuple[Advertisement, float]] = {}  # by router, and until when
        self._hearing = Advertisements(interface, self._take)

    def now(self) -> tuple[Advertisement, ...]:
        """One a router, by its address."""
        now = asyncio.get_running_loop().time()
        self._said = {router: said for router, said in self._said.items() if said[1] > now}
        return tuple(self._said[router][0] for router in sorted(self._said))

    def close(self) -> None:
        """Hear no more."""
        self._hearing.close()

    def _take(self, router: bytes, heard: RouterAdvertisement) -> None:
        said = _advertisement(self._index, router, heard)
        before, _ = self._said.get(router, (None, 0.0))
        if before is None and len(self._said) >= MAX_ROUTERS:
            return  # anybody can invent more
        self._said[router] = said, asyncio.get_running_loop().time() + max(said.lifetime, STAYS)
        if said != before:
            self._changed()
        if before is None or _prefixes(said) != _prefixes(before):
            self._moved()


def _prefixes(said: Advertisement) -> set[Prefix]:
    return {each.prefix for each in said.prefixes}


def _advertisement(interface: int, router: bytes, heard: RouterAdvertisement) -> Advertisement:
    return Advertisement(
        interface=interface,
        router=router,
        lifetime=heard.lifetime,
        managed=heard.managed,
        other=heard.other,
        preference=heard.preference,
        mtu=heard.mtu,
        prefixes=tuple(
            AdvertisedPrefix(
                prefix=each.prefix,
                on_link=each.on_link,
                autonomous=each.autonomous,
                valid=each.valid,
                preferred=each.preferred,
            )
            for each in heard.prefixes
        ),
        dns=tuple(server for server, _ in heard.dns),
        search=tuple(domain for domain, _ in heard.search),
    )
