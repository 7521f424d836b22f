"""The sockets of a DHCPv6 server on one link (RFC 8415, 7.2): one hears the group of servers, answers go out from port
547, from which some firewalls of clients want them. What comes there by unicast is not read: nobody was told that it
may (RFC 8415, 18.4).
"""

from __future__ import annotations

from collections import Counter

from dnms.events.ip import format_address
from dnms.linux import multicast
from dnms.linux.errors import KernelError
from dnms.linux.multicast import DatagramReader, Peer, Receive
from dnms.wire.dhcp6.codes import ALL_SERVERS_AND_RELAYS, CLIENT_PORT, SERVER_PORT

GROUPS = (ALL_SERVERS_AND_RELAYS,)


class Dhcp6ServerSockets:
    """On one interface (its index), from when it is made until `close`. Answers come from its link-local `address`."""

    def __init__(self, interface: int, address: bytes, receive: Receive) -> None:
        """KernelError if the sockets cannot be had: `in-use` where another server runs on the link."""
        self._interface = interface
        try:
            self._listening = multicast.group_socket(interface, SERVER_PORT, GROUPS, address=ALL_SERVERS_AND_RELAYS)
            try:
                self._answers = multicast.group_socket(interface, SERVER_PORT, (), address=format_address(address))
            except KernelError:
                self._listening.close()
                raise
        except KernelError as error:
            if error.why == "in-use":
                text = "another DHCPv6 server has port 547 of this link: stop it, or leave --dhcpv6 out"
                raise KernelError(error.why, text) from error
            raise
        self._reader = DatagramReader(self._listening, receive)
        self._unicast = DatagramReader(self._answers, self._refuse)

    @property
    def dropped(self) -> Counter[str]:
        """What was not handed on, by a stable word."""
        return self._reader.dropped

    def send(self, data: bytes, peer: Peer) -> bool:
        """Answer a client; false if the link cannot carry it now. KernelError."""
        return multicast.send(self._answers, data, (peer[0], CLIENT_PORT), interface=self._interface)

    def rejoin(self) -> None:
        """Join the group again: a snooping bridge may have forgotten the membership. KernelError."""
        multicast.rejoin(self._listening, self._interface, GROUPS)

    def close(self) -> None:
        """Hear no more."""
        self._reader.close()
        self._unicast.close()

    def _refuse(self, data: bytes, peer: Peer, hops: int) -> None:
        self.dropped["unicast"] += 1
