"""How clients and their interfaces are named where somebody else than the machine itself names them."""

from __future__ import annotations

import re
import zlib

MAX_DUID = 130  # bytes: RFC 8415, 11.1

_HEX = re.compile(r"[0-9a-f]{2}([:-]?[0-9a-f]{2})*")


def iaid_of(interface: str) -> int:
    """The IAID of an interface: as stable as its name."""
    return zlib.crc32(interface.encode())


def parse_duid(text: str) -> bytes:
    """A DUID in hex digits, with colons or hyphens or without; ValueError.

    A DUID begins with its type, of which all that there are stand below 256 (RFC 8415, 11).
    """
    octets = _octets(text)
    if not 3 <= len(octets) <= MAX_DUID or octets[0] != 0:
        raise ValueError(f"{text!r} is no DUID; expected 3 to {MAX_DUID} bytes in hex, such as 00:04:…")
    return octets


def _octets(text: str) -> bytes:
    lower = text.strip().lower()
    if not _HEX.fullmatch(lower):
        return b""
    return bytes.fromhex(lower.replace(":", "").replace("-", ""))
