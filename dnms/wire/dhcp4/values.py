"""Options as such, and the values that many of them have. PeerError `malformed` for what is cut off or cannot be."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from dnms.events.ip import MAPPED, MAPPED_BITS, Prefix, prefix_of
from dnms.wire.dhcp4.codes import Option
from dnms.wire.errors import Code, PeerError

LONGEST = 255  # bytes of one option; a longer value stands in several, one behind the other (RFC 3396)
Route = tuple[Prefix, bytes]
"""A destination and its router (RFC 3442)."""

MAX_NAMES, MAX_POINTERS = 64, 8
"""Domains of one option, and pointers of one domain. Of each byte pair that points to the pair before it all those
before it would be read: millions of steps for one message, before its sender's rate is looked at."""

_LABEL, _NAME = 63, 255  # bytes at most (RFC 1035, 2.3.4)
_POINTER = 0xC0


def malformed(text: str) -> PeerError:
    """What is said of bytes that are no message."""
    return PeerError(Code.MALFORMED, text)


def walk(data: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
    """The code and the value of each option up to the end of them (RFC 2132, 3). PeerError if one is cut off."""
    at, end = 0, len(data)
    while at < end:
        code = data[at]
        at += 1
        if code == Option.PAD:
            continue
        if code == Option.END:
            return
        if at == end or at + 1 + data[at] > end:
            raise malformed(f"option {code} is cut off")
        size = data[at]
        at += 1 + size
        yield code, bytes(data[at - size : at])


def option(code: int, value: bytes) -> bytes:
    """One option, in as many pieces as its length needs (RFC 3396, 7)."""
    pieces = (value[at : at + LONGEST] for at in range(0, max(1, len(value)), LONGEST))
    return b"".join(bytes((code, len(piece))) + piece for piece in pieces)


def number(code: int, value: bytes, size: int) -> int:
    """A number of so many bytes."""
    if len(value) != size:
        raise malformed(f"option {code} has {len(value)} bytes")
    return int.from_bytes(value)


def numbers(code: int, value: bytes) -> tuple[int, ...]:
    """Numbers of two bytes, one at least."""
    if not value or len(value) % 2:
        raise malformed(f"option {code} has {len(value)} bytes")
    return struct.unpack(f"!{len(value) // 2}H", value)


def addresses(code: int, value: bytes) -> tuple[bytes, ...]:
    """IPv4 addresses, mapped, one at least."""
    if not value or len(value) % 4:
        raise malformed(f"option {code} has {len(value)} bytes")
    return tuple(MAPPED + value[at : at + 4] for at in range(0, len(value), 4))


def packed(addresses: Iterable[bytes]) -> bytes:
    """The bytes of mapped addresses."""
    return b"".join(address[12:] for address in addresses)


def text(value: bytes) -> str:
    """A text of a client, which is of no use if it is none: empty then. Some end it with a zero (RFC 2132, 2)."""
    try:
        told = value.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return ""
    return told if told.isprintable() else ""


def mask(length: int) -> bytes:
    """That of a prefix, of whose 128 bits `length` are set (RFC 2132, 3.3)."""
    return struct.pack("!I", ((1 << 32) - 1) << (128 - length) & 0xFFFFFFFF)


def read_mask(code: int, value: bytes) -> int:
    """The length, of 128 bits, of the prefix with this mask."""
    inverse = number(code, value, 4) ^ 0xFFFFFFFF
    if inverse & (inverse + 1):
        raise malformed("a mask with holes")
    return 128 - inverse.bit_length()


def read_routes(value: bytes) -> tuple[Route, ...]:
    """Of option 121 (RFC 3442)."""
    found: list[Route] = []
    at = 0
    while at < len(value):
        bits = value[at]
        size = (bits + 7) // 8
        whole = value[at + 1 : at + 5 + size]
        at += 5 + size
        if bits > 32 or len(whole) < 4 + size:
            raise malformed("a route is broken")
        # What lies behind the mask is to be zero, and is no part of it (RFC 3442).
        destination = prefix_of(MAPPED + whole[:size].ljust(4, b"\0"), MAPPED_BITS + bits)
        found.append((destination, MAPPED + whole[size:]))
    return tuple(found)


def write_routes(routes: Iterable[Route]) -> bytes:
    """The bytes of option 121."""
    told = bytearray()
    for destination, router in routes:
        bits = destination.length - MAPPED_BITS
        told += bytes((bits,)) + destination.network[12 : 12 + (bits + 7) // 8] + router[12:]
    return bytes(told)


def read_names(data: bytes) -> tuple[str, ...]:
    """Domains, of which one may end in another one (RFC 3397, 2; RFC 1035, 4.1.4)."""
    names: list[str] = []
    at = 0
    while at < len(data):
        name, at = _read_name(data, at)
        if name:
            names.append(name)
        if len(names) > MAX_NAMES:
            raise malformed("too many domain names")
    return tuple(names)


def _read_name(data: bytes, at: int) -> tuple[str, int]:
    """The name that begins there, and where the next one does."""
    labels: list[str] = []
    behind, limit, length, pointers = 0, len(data), 1, 0
    while True:
        if at >= limit:
            raise malformed("a domain name has no end")
        size = data[at]
        if size >= _POINTER:
            if at + 1 >= len(data):
                raise malformed("a domain name is cut off")
            behind, pointers = behind or at + 2, pointers + 1
            if pointers > MAX_POINTERS:
                raise malformed("a domain name has too many pointers")
            # A pointer leads backwards only: so there is no circle.
            at, limit = (size & ~_POINTER) << 8 | data[at + 1], at
            continue
        label = data[at + 1 : at + 1 + size]
        at += 1 + size
        length += 1 + size
        if size > _LABEL or len(label) < size or not label.isascii() or length > _NAME:
            raise malformed("a domain name is broken")
        if not size:
            return ".".join(labels), behind or at
        labels.append(label.decode())
