"""Options as such, and the values that many of them have. PeerError `malformed` for what is cut off or cannot be."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from dnms.wire.errors import Code, PeerError

HEADER = struct.Struct("!HH")  # code, length
SHORT, LONG = struct.Struct("!H"), struct.Struct("!I")

MAX_DUID = 130  # bytes (RFC 8415, 11.1)
_LABEL, _NAME = 63, 255  # bytes at most (RFC 1035, 2.3.4)


def malformed(text: str) -> PeerError:
    """What is said of bytes that are no message."""
    return PeerError(Code.MALFORMED, text)


def walk(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The code and the value of each option. PeerError if one is cut off."""
    at, end = 0, len(data)
    while at < end:
        if end - at < 4:
            raise malformed("an option is cut off")
        code, size = HEADER.unpack_from(data, at)
        at += 4 + size
        if at > end:
            raise malformed(f"option {code} is cut off")
        yield code, data[at - size : at]


def option(code: int, value: bytes) -> bytes:
    """One option. ValueError if it is over 65 535 bytes."""
    if len(value) > 0xFFFF:
        raise ValueError(f"option {code} has {len(value)} bytes, and at most 65535 can be told")
    return HEADER.pack(code, len(value)) + value


def duid(code: int, value: bytes) -> bytes:
    """A DUID (RFC 8415, 11)."""
    if not 3 <= len(value) <= MAX_DUID:
        raise malformed(f"option {code}: a DUID of {len(value)} bytes")
    return value


def no_value(code: int, value: bytes) -> bool:
    """True: the option is there, and has no value."""
    if value:
        raise malformed(f"option {code} has a value")
    return True


def number(code: int, value: bytes, size: int) -> int:
    """A number of so many bytes."""
    if len(value) != size:
        raise malformed(f"option {code} has {len(value)} bytes")
    return int.from_bytes(value)


def numbers(code: int, value: bytes) -> tuple[int, ...]:
    """Numbers of two bytes."""
    if len(value) % 2:
        raise malformed(f"option {code} has {len(value)} bytes")
    return struct.unpack(f"!{len(value) // 2}H", value)


def shorts(numbers: Iterable[int]) -> bytes:
    """The bytes of numbers of two bytes."""
    return b"".join(map(SHORT.pack, numbers))


def addresses(code: int, value: bytes, *, exactly: int | None = None) -> tuple[bytes, ...]:
    """IPv6 addresses, one at least."""
    if not value or len(value) % 16 or exactly not in (None, len(value) // 16):
        raise malformed(f"option {code} has {len(value)} bytes")
    return tuple(value[at : at + 16] for at in range(0, len(value), 16))


def pieces(code: int, value: bytes) -> Iterator[bytes]:
    """Each behind its length (RFC 8415, 21.15)."""
    at = 0
    while at < len(value):
        size = int.from_bytes(value[at : at + 2])
        at += 2 + size
        if at > len(value):
            raise malformed(f"option {code} is cut off")
        yield value[at - size : at]


def text(code: int, value: bytes) -> str:
    """A text in UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise malformed(f"option {code} is no text") from error


def read_names(data: bytes) -> tuple[str, ...]:
    """Domains without compression (RFC 8415, 10). PeerError."""
    names: list[str] = []
    labels: list[str] = []
    at = 0
    while at < len(data):
        size = data[at]
        label = data[at + 1 : at + 1 + size]
        at += 1 + size
        if size > _LABEL or len(label) < size or not label.isascii():
            raise malformed("a domain name is broken")
        if size:
            labels.append(label.decode())
        elif labels:
            names.append(".".join(labels))
            labels = []
    if labels or any(len(name) + 2 > _NAME for name in names):
        raise malformed("a domain name has no end")
    return tuple(names)


def write_names(names: Iterable[str]) -> bytes:
    """The bytes of domains. ValueError if one is none."""
    return b"".join(_write_name(name) for name in names)


def _write_name(name: str) -> bytes:
    labels = name.rstrip(".").encode("ascii").split(b".")
    if any(not 0 < len(label) <= _LABEL for label in labels) or len(name) + 2 > _NAME:
        raise ValueError(f"{name!r} is no domain name (RFC 1035, 2.3.4)")
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
