"""DHCPv6 messages, and what relays wrap them in (RFC 8415, 8 and 9)."""

from __future__ import annotations

import msgspec

from dnms.events.ip import Address
from dnms.wire.dhcp6 import options
from dnms.wire.dhcp6.codes import Kind, Option
from dnms.wire.dhcp6.options import NONE, Options
from dnms.wire.dhcp6.values import malformed, option, walk

MAX_HOPS = 8
"""HOP_COUNT_LIMIT (RFC 8415, 7.6): more relays than that are a loop."""

_RELAYED = frozenset({Kind.RELAY_FORW, Kind.RELAY_REPL})


class Message(msgspec.Struct, frozen=True):
    """A message between a client and a server."""

    kind: int
    transaction: bytes  # 3 bytes, that an answer repeats
    options: Options = NONE


class Relay(msgspec.Struct, frozen=True, kw_only=True):
    """One relay that a message has come through, or an answer is to go through (RFC 8415, 9)."""

    hops: int = 0
    link: Address = bytes(16)  # an address of the client's link; `::` if `interface_id` or an inner relay says it
    peer: Address = bytes(16)  # the client, or the relay before this one
    interface_id: bytes = b""  # is repeated in the answer (RFC 8415, 21.18)
    remote_id: bytes = b""  # with its enterprise number (RFC 4649)
    link_layer: bytes = b""  # the client's, behind its hardware type (RFC 6939)


class Relayed(msgspec.Struct, frozen=True):
    """A message and the relays that it has come through, the outermost first; none if it came from its client."""

    message: Message
    relays: tuple[Relay, ...] = ()


def decode(data: bytes) -> Relayed:
    """A datagram as it came. PeerError `malformed`."""
    relays: list[Relay] = []
    while data and data[0] in _RELAYED:
        if len(relays) > MAX_HOPS:
            raise malformed("it has come through too many relays")
        relay, data = _unwrap(data)
        relays.append(relay)
    if len(data) < 4:
        raise malformed("a message is cut off")
    return Relayed(Message(data[0], data[1:4], options.read(data[4:])), tuple(relays))


def encode(message: Message) -> bytes:
    """The bytes of a message. ValueError if an option is too long."""
    if len(message.transaction) != 3:
        raise ValueError("a transaction id has 3 bytes")
    return bytes([message.kind]) + message.transaction + options.write(message.options)


def encode_reply(message: Message, relays: tuple[Relay, ...]) -> bytes:
    """An answer, wrapped for the way back through these relays (RFC 8415, 19.3). ValueError."""
    return wrapped(encode(message), relays)


def wrapped(data: bytes, relays: tuple[Relay, ...]) -> bytes:
    """A message to a client, for the way through these relays, the outermost first (RFC 8415, 19.3). ValueError."""
    for relay in reversed(relays):
        inner = option(Option.RELAY_MESSAGE, data)
        if relay.interface_id:
            inner = option(Option.INTERFACE_ID, relay.interface_id) + inner
        data = bytes([Kind.RELAY_REPL, relay.hops]) + relay.link + relay.peer + inner
    return data


def encode_forward(data: bytes, relay: Relay) -> bytes:
    """What a relay makes of a datagram from a client or from another relay (RFC 8415, 19.1). ValueError."""
    inner = option(Option.RELAY_MESSAGE, data)
    for code, value in (
        (Option.INTERFACE_ID, relay.interface_id),
        (Option.REMOTE_ID, relay.remote_id),
        (Option.CLIENT_LINK_LAYER, relay.link_layer),
    ):
        if value:
            inner += option(code, value)
    return bytes([Kind.RELAY_FORW, relay.hops]) + relay.link + relay.peer + inner


def _unwrap(data: bytes) -> tuple[Relay, bytes]:
    if len(data) < 34:
        raise malformed("a relayed message is cut off")
    found: dict[int, bytes] = {}
    for code, value in walk(data[34:]):
        found.setdefault(code, value)
    if Option.RELAY_MESSAGE not in found:
        raise malformed("a relay without a message")
    relay = Relay(
        hops=data[1],
        link=data[2:18],
        peer=data[18:34],
        interface_id=found.get(Option.INTERFACE_ID, b""),
        remote_id=found.get(Option.REMOTE_ID, b""),
        link_layer=found.get(Option.CLIENT_LINK_LAYER, b""),
    )
    return relay, found[Option.RELAY_MESSAGE]
