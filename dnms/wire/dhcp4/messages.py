"""DHCPv4 messages (RFC 2131, 2). Addresses are mapped, `::ffff:0.0.0.0` is none."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import msgspec

from dnms.events.ip import MAPPED, Address
from dnms.wire.dhcp4 import options
from dnms.wire.dhcp4.codes import ETHERNET, MAGIC, SMALLEST, Op, Option
from dnms.wire.dhcp4.options import NONE, Options
from dnms.wire.dhcp4.values import malformed, text

NOBODY = MAPPED + bytes(4)

HEADERS = 28
"""Bytes of IP and UDP before a message."""

MAX_FILE = 127
"""Bytes of the name in a message, which a zero ends (RFC 2131, 2)."""

_FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_SHORTEST = 300  # bytes: what BOOTP had, and some relays and clients expect (RFC 1542, 2.1)
_IN_FILE, _IN_SNAME = 1, 2  # where options stand too (RFC 2132, 9.3)


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message between a client and a server."""

    op: int
    kind: int
    transaction: bytes  # 4 bytes, that an answer repeats
    hardware: bytes  # of the client
    hardware_type: int = ETHERNET
    hops: int = 0
    seconds: int = 0  # since the client began
    flags: int = 0
    client: Address = NOBODY  # ciaddr: what it has, and answers ARP for
    yours: Address = NOBODY  # yiaddr
    server: Address = NOBODY  # siaddr: that which has what is booted
    file: str = ""  # what is booted
    relay: Address = NOBODY  # giaddr
    options: Options = NONE


def decode(data: bytes) -> Message:
    """A datagram as it came. PeerError `malformed`."""
    if len(data) < _FIXED.size:
        raise malformed("a message is cut off")
    op, hardware_type, size, hops, number, seconds, flags, *rest = _FIXED.unpack_from(data)
    client, yours, server, relay, hardware, sname, file, magic = rest
    if magic != MAGIC or size > len(hardware) or op not in (Op.REQUEST, Op.REPLY):
        raise malformed("no DHCP message")
    fields: list[bytes] = [data[_FIXED.size :]]
    found = options.gather(fields[0])
    if overload := found.get(Option.OVERLOAD, b"")[0:1]:
        if overload[0] & _IN_FILE:
            fields.append(file)
            file = b""
        if overload[0] & _IN_SNAME:
            fields.append(sname)
        found = options.gather(*fields)
    return Message(
        op=op,
        kind=options.kind(found),
        transaction=number.to_bytes(4),
        hardware=hardware[:size],
        hardware_type=hardware_type,
        hops=hops,
        seconds=seconds,
        flags=flags,
        client=MAPPED + client,
        yours=MAPPED + yours,
        server=MAPPED + server,
        relay=MAPPED + relay,
        file=text(file.partition(b"\0")[0]),
        options=options.read(found),
    )


def encode(message: Message, *, size: int = SMALLEST, wanted: Iterable[int] = ()) -> bytes:
    """The bytes of a message that fits in an IP datagram of `size` bytes, without the options that do not fit: those
    that come first in `wanted` (codes) are written first. ValueError if it cannot be written.
    """
    if len(message.transaction) != 4 or len(message.hardware) > 16:
        raise ValueError("a transaction id has 4 bytes, and a hardware address 16 at most")
    if len(file := message.file.encode()) > MAX_FILE:
        raise ValueError(f"the name of a file to boot has {len(file)} bytes, and {MAX_FILE} at most")
    fixed = _FIXED.pack(
        message.op,
        message.hardware_type,
        len(message.hardware),
        message.hops,
        int.from_bytes(message.transaction),
        message.seconds,
        message.flags,
        message.client[12:],
        message.yours[12:],
        message.server[12:],
        message.relay[12:],
        message.hardware,
        b"",
        file,
        MAGIC,
    )
    room = max(SMALLEST, size) - HEADERS - len(fixed)
    return (fixed + options.write(message.kind, message.options, room, wanted)).ljust(_SHORTEST, b"\0")
