"""How clients and their interfaces are named where somebody else than the machine itself names them."""

from __future__ import annotations

import re
import zlib

INTERFACE = "eth0"
"""The interface that is meant where none is named."""

MAX_DUID = 130  # bytes: RFC 8415, 11.1

DUID_LL = b"\x00\x03\x00\x01"
"""Begins the DUID that is made of an Ethernet address: type 3, hardware type 1 (RFC 8415, 11.4)."""

HARDWARE_BYTES = 6  # of an Ethernet address

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
    """The Ethernet address of one interface in hex digits, with colons or hyphens or without; ValueError."""
    octets = _octets(text)
    if not is_hardware(octets):
        expected = "6 bytes in hex, such as 02:00:5e:10:00:01, neither all zeros nor the address of a multicast group"
        raise ValueError(f"{text!r} is no hardware address; expected {expected}")
    return octets


def is_hardware(address: bytes) -> bool:
    """Whether one interface can have this Ethernet address: neither a group's (IEEE 802, 8.2) nor all zeros."""
    return len(address) == HARDWARE_BYTES and not address[0] & 1 and any(address)


def duid_of_hardware(address: bytes) -> bytes:
    """The DUID-LL of an Ethernet address (RFC 8415, 11.4): who a machine is before it has said so."""
    return DUID_LL + address


def iaid_of_hardware(address: bytes) -> int:
    """The IAID of an interface of which only the address is known: the end of that, as of dhclient and dhcpcd."""
    return int.from_bytes(address[-4:])


def _octets(text: str) -> bytes:
    lower = text.strip().lower()
    if not _HEX.fullmatch(lower):
        return b""
    return bytes.fromhex(lower.replace(":", "").replace("-", ""))
