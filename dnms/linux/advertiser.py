"""A router's end of Neighbor Discovery: hears who asks for routers on a link, and advertises itself there."""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Callable

from dnms.events.configuration import Link
from dnms.events.ip import format_address
from dnms.linux import icmp6, multicast, sysctl
from dnms.linux.errors import KernelError
from dnms.linux.multicast import DatagramReader, Peer
from dnms.linux.solicitation import ALL_ROUTERS
from dnms.wire.errors import PeerError
from dnms.wire.nd import SOLICITATION, RouterAdvertisement, check_solicitation, encode_advertisement

ALL_NODES = "ff02::1"
FORWARDING = "net/ipv6/conf/{}/forwarding"


class Advertiser:
    """Of one interface, from when it is made until `close`. `solicited` is called for each host that asks."""

    def __init__(self, own: Link, address: bytes, solicited: Callable[[], None]) -> None:
        """`own` is the interface, `address` the link-local one that this router is known by. KernelError."""
        hardware = None if own.hardware is None else own.hardware.value
        self.hardware = hardware if isinstance(hardware, bytes) else b""
        self._interface, self._index = own.name, own.index
        self._solicited = solicited
        self._socket = icmp6.hear(own.name, SOLICITATION)
        try:
            # Of several the kernel takes now this one and now that, and hosts would see as many routers.
            self._socket.bind((format_address(address), 0, 0, own.index))
            # The kernel is in this group on what it forwards from alone.
            membership = socket.inet_pton(socket.AF_INET6, ALL_ROUTERS) + struct.pack("=I", own.index)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
        except OSError as error:
            self._socket.close()
            raise KernelError.from_errno(error.errno or 0, f"advertise on {own.name}") from error
        self._reader = DatagramReader(self._socket, self._receive)

    @property
    def dropped(self) -> Counter[str]:
        """What was not believed, by a stable word."""
        return self._reader.dropped

    @property
    def forwards(self) -> bool:
        """Whether this machine is a router for what comes from the link."""
        return sysctl.read(FORWARDING.format(self._interface)) not in ("0", "")

    def send(self, advertisement: RouterAdvertisement) -> bool:
        """Tell all nodes, from the link-local address; false if the link cannot carry it now. KernelError."""
        data = encode_advertisement(advertisement)
        return multicast.send(self._socket, data, (ALL_NODES, 0), interface=self._index)

    def close(self) -> None:
        """Hear no more."""
        self._reader.close()

    def _receive(self, packet: bytes, peer: Peer, hops: int) -> None:
        if hops != icmp6.HOPS:
            self.dropped["off-link"] += 1  # RFC 4861, 6.1.1
            return
        try:
            check_solicitation(packet, nameless=peer[0].partition("%")[0] == "::")
        except PeerError as error:
            self.dropped[error.why] += 1
            return
        self._solicited()
