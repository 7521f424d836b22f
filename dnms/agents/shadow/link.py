"""A link on which nothing is said: what the servers of an agent would send is kept for who asks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from dnms.events.ip import MAPPED
from dnms.linux.multicast import Peer, Receive
from dnms.wire.dhcp6.codes import Kind, Option
from dnms.wire.dhcp6.messages import MAX_HOPS
from dnms.wire.dhcp6.values import option, walk

ADDRESS = MAPPED + bytes([192, 0, 0, 8])
"""By which the DHCPv4 server is known to itself: the dummy address (RFC 7600), which no machine has."""

DUID = b"\x00\x04" + b"shadow of a DUID"
"""Likewise of the DHCPv6 server."""

_SERVER_ID4 = 54
_OPTIONS4 = 240  # where they begin
_RELAY_HEADER, _HEADER = 34, 4


class Socket4:
    """Implements `link.Dhcp4`."""

    address = ADDRESS

    def __init__(self, said: list[bytes]) -> None:
        self._said = said

    def send(self, data: bytes, to: bytes, port: int, hardware: bytes = b"") -> bool:
        """Keep it."""
        self._said.append(data)
        return True

    def close(self) -> None:
        """Nothing."""


class Socket6:
    """Implements `link.Dhcp6`."""

    def __init__(self, said: list[bytes]) -> None:
        self._said = said

    def send(self, data: bytes, peer: Peer) -> bool:
        """Keep it."""
        self._said.append(data)
        return True

    def send_to_relay(self, data: bytes, peer: Peer) -> bool:
        """Keep it."""
        self._said.append(data)
        return True

    def rejoin(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class ShadowLink:
    """Implements `link.Dhcp4Link` and `link.Dhcp6Link`."""

    def __init__(self) -> None:
        self.said: list[bytes] = []
        """What was sent and not taken from here yet."""
        self.receive4: Callable[[bytes], None] | None = None
        self.receive6: Receive | None = None
        self.seen: dict[bytes, bytes] = {}
        """The hardware address of who sent from an address."""

    def dhcp4(self, receive: Callable[[bytes], None]) -> Socket4:
        """Hand on what is heard."""
        self.receive4 = receive
        return Socket4(self.said)

    def dhcp6(self, receive: Receive) -> Socket6:
        """Hand on what is heard."""
        self.receive6 = receive
        return Socket6(self.said)

    async def own(self) -> Mapping[bytes, bytes]:
        """Nothing: it is nobody on the link."""
        return {}

    async def users(self, addresses: Collection[bytes]) -> Mapping[bytes, frozenset[bytes]]:
        """Nobody: the link is not asked."""
        return {}

    async def hardware(self, address: bytes) -> bytes:
        """Of whom was heard from there."""
        return self.seen.get(address, b"")


def as_for_us4(data: bytes) -> bytes:
    """A client's message that names another server, as if it named this one."""
    at = _OPTIONS4
    while at + 1 < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        if data[at] == _SERVER_ID4 and data[at + 1] == 4:
            return data[: at + 2] + ADDRESS[12:] + data[at + 6 :]
        at += 2 + data[at + 1]
    return data


def as_for_us6(data: bytes, depth: int = 0) -> bytes:
    """A client's message that names another server, as if it named this one, through relays too. PeerError."""
    is_relayed = data[:1] == bytes([Kind.RELAY_FORW]) and depth <= MAX_HOPS
    begin = _RELAY_HEADER if is_relayed else _HEADER
    told = bytearray(data[:begin])
    for code, value in walk(data[begin:]):
        if code == Option.SERVER_ID and not is_relayed:
            told += option(code, DUID)
        elif code == Option.RELAY_MESSAGE and is_relayed:
            told += option(code, as_for_us6(value, depth + 1))
        else:
            told += option(code, value)
    return bytes(told)


def without_relays(data: bytes) -> bytes:
    """The message that relays have wrapped. PeerError."""
    for _ in range(MAX_HOPS + 1):
        if data[:1] not in (bytes([Kind.RELAY_FORW]), bytes([Kind.RELAY_REPL])):
            break
        data = next((value for code, value in walk(data[_RELAY_HEADER:]) if code == Option.RELAY_MESSAGE), b"")
    return data
