"""How clients and their interfaces are named where somebody else than the machine itself names them."""

from __future__ import annotations

import re
import zlib

DUID_LL_ETHERNET = b"\x00\x03\x00\x01"
"""A DUID-LL of an Ethernet address (RFC 8415, 11.4) begins so."""

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


def parse_hardware(text: str) -> bytes:
    """An Ethernet address in hex digits, with colons or hyphens or without; ValueError."""
    octets = _octets(text)
    if len(octets) != 6:
        raise ValueError(f"{text!r} is no hardware address; expected 6 bytes in hex, such as 02:00:00:00:00:01")
    return octets


def _octets(text: str) -> bytes:
    lower = text.strip().lower()
    if not _HEX.fullmatch(lower):
        return b""
    return bytes.fromhex(lower.replace(":", "").replace("-", ""))
