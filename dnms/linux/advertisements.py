"""What routers advertise on a link, whether the kernel heeds it or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from dnms.events.ip import is_link_local, parse_address
from dnms.linux import icmp6
from dnms.linux.multicast import DatagramReader, Peer
from dnms.wire.errors import PeerError
from dnms.wire.nd import ADVERTISEMENT, RouterAdvertisement, router_advertisement

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
