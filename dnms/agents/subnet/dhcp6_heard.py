"""What a DHCPv6 server makes of a datagram: what is asked, by whom on which link, and through which relays.

A client is on the link that the innermost relay names which names one (RFC 8415, 13.1 and 19.1.2), whoever sent the
datagram; relays that name none are on the client's own link (RFC 6221).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import msgspec

from dnms.events.ip import is_link_local, parse_address
from dnms.wire.dhcp6.codes import Kind
from dnms.wire.dhcp6.messages import Relay, decode
from dnms.wire.dhcp6.server import Question, question
from dnms.wire.errors import Code, PeerError


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is for this server."""

    asked: Question
    peer: bytes  # the client's address on its link
    relays: tuple[Relay, ...] = ()  # the outermost first

    @property
    def key(self) -> tuple[bytes, bytes, bytes]:
        """What a message that is said again has in common with the first."""
        return self.peer, self.asked.client, self.asked.transaction

    @property
    def link_layer(self) -> bytes:
        """What the relay next to the client says of its hardware (RFC 6939)."""
        return self.relays[-1].link_layer if self.relays else b""


def heard(data: bytes, source: str, *, server: bytes, is_on_link: Callable[[bytes], bool]) -> Heard:
    """What is asked in a datagram from this address; `is_on_link` tells addresses of this server's link.

    PeerError for what is not answered.
    """
    if data[:1] == bytes([Kind.RELAY_REPL]):
        raise PeerError(Code.DIRECTION, "an answer to a relay")
    message = decode(data)
    address = _parsed(source)
    is_near = is_link_local(address)
    link = next((each.link for each in reversed(message.relays) if _names_a_link(each.link)), None)
    if message.relays and not (is_near if link is None else is_on_link(link)):
        raise PeerError(Code.NOT_ON_LINK, "from a relay of another link")
    peer = message.relays[-1].peer if message.relays else address
    asked = question(message.message, server=server)
    if asked.registered is None and not is_link_local(peer):
        raise PeerError(Code.DIRECTION, "not from a link-local address (RFC 8415, 13.1)")
    if asked.registered is not None and asked.registered.address != peer:
        raise PeerError(Code.DIRECTION, "not from the address that is registered (RFC 9686, 4.2.1)")
    return Heard(asked=asked, peer=peer, relays=message.relays)


@lru_cache(maxsize=4_096)
def _parsed(source: str) -> bytes:
    """A sender's address: one sends several messages at least, and a relay most of all."""
    return parse_address(source.partition("%")[0])


def _names_a_link(address: bytes) -> bool:
    return any(address) and not is_link_local(address)
