"""The sockets of a DHCPv6 server on one link (RFC 8415, 7.2): one hears clients and relays in the group of the link,
another one relays that are elsewhere, by unicast or in the site's group. Answers to clients go out from port 547, from
which some firewalls want them. What comes by unicast from a client is not read: nobody was told that it may (RFC 8415,
18.4).
"""

from __future__ import annotations

import socket
from collections import Counter

from dnms.events.ip import format_address
from dnms.linux import multicast
from dnms.linux.errors import KernelError
from dnms.linux.multicast import DatagramReader, Peer, Receive
from dnms.wire.dhcp6.codes import ALL_SERVERS, ALL_SERVERS_AND_RELAYS, CLIENT_PORT, SERVER_PORT, Kind

WAITING = 4 << 20
"""Bytes of messages that wait: some 4 000, as when all of a link come back at once. More would be answered when their
clients have asked again."""

GROUPS = (ALL_SERVERS_AND_RELAYS,)
SITE_GROUPS = (ALL_SERVERS,)


class Dhcp6ServerSockets:
    """On one interface (its index), from when it is made until `close`. Clients are answered from its link-local
    `address`.
    """

    def __init__(self, interface: int, address: bytes, receive: Receive) -> None:
        """KernelError if the sockets cannot be had: `in-use` where another server runs on the link."""
        self._interface = interface
        self._receive = receive
        sockets: list[socket.socket] = []
        try:
            for groups, bound in (
                (GROUPS, ALL_SERVERS_AND_RELAYS),
                ((), format_address(address)),
                (SITE_GROUPS, "::"),  # what is not for the two before
            ):
                sockets.append(multicast.group_socket(interface, SERVER_PORT, groups, address=bound))
                multicast.widen(sockets[-1], WAITING)
        except KernelError as error:
            for each in sockets:
                each.close()
            if error.why == "in-use":
                text = "another DHCPv6 server has port 547 of this link: stop it, or leave --dhcpv6 out"
                raise KernelError(error.why, text) from error
            raise
        self._listening, self._answers, self._relays = sockets
        self._reader = DatagramReader(self._listening, receive)
        self._unicast = [DatagramReader(each, self._take_relayed) for each in (self._answers, self._relays)]

    @property
    def dropped(self) -> Counter[str]:
        """What was not handed on, by a stable word."""
        return self._reader.dropped

    def send(self, data: bytes, peer: Peer) -> bool:
        """Answer a client; false if the link cannot carry it now. KernelError."""
        return multicast.send(self._answers, data, (peer[0], CLIENT_PORT), interface=self._interface)

    def send_to_relay(self, data: bytes, peer: Peer) -> bool:
        """Answer a relay, wherever it is; false if no link carries that now. KernelError."""
        is_near = peer[3] != 0
        scope = self._interface if is_near else 0
        sock = self._answers if is_near else self._relays
        return multicast.send(sock, data, (peer[0], SERVER_PORT), interface=scope)

    def rejoin(self) -> None:
        """Join the groups again: a snooping bridge may have forgotten the membership. KernelError."""
        multicast.rejoin(self._listening, self._interface, GROUPS)
        multicast.rejoin(self._relays, self._interface, SITE_GROUPS)

    def close(self) -> None:
        """Hear no more."""
        for each in (self._reader, *self._unicast):
            each.close()

    def _take_relayed(self, data: bytes, peer: Peer, hops: int) -> None:
        """Relays may be told of a server's address, clients are not."""
        if data[:1] == bytes([Kind.RELAY_FORW]):
            self._receive(data, peer, hops)
        else:
            self.dropped["unicast"] += 1
