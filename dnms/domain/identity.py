"""How clients and their interfaces are named where somebody else than the machine itself names them."""

from __future__ import annotations

import hashlib
import re
import zlib

INTERFACE = "eth0"
"""The interface that is meant where none is named."""

ANY_INTERFACE = "*"
"""In the place of an interface's name: that under whose IAID a client asks first, which nobody can know before."""

MAX_DUID = 130  # bytes: RFC 8415, 11.1

DUID_LL = b"\x00\x03\x00\x01"
"""Begins the DUID that is made of an Ethernet address: type 3, hardware type 1 (RFC 8415, 11.4)."""

DUID_OF_CLIENT_ID = b"\x00\x02" + (32_473).to_bytes(4)
"""Begins the DUID that is made of the client id of a DHCPv4 client: type 2 (RFC 8415, 11.3), and the number of an
enterprise that is none (RFC 5612), so that no machine has such a one by itself."""

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


def identity_of(client_id: bytes, hardware: bytes) -> tuple[bytes, int]:
    """DUID and IAID of a DHCPv4 client with this client id (RFC 2132, 9.14; empty: it has none) and Ethernet address.

    Those that it has for DHCPv6 too, if it says them (RFC 4361, 6.1). A client id that is its hardware address is none.
    """
    if client_id[:1] == b"\xff" and 3 <= len(client_id) - 5 <= MAX_DUID and client_id[5] == 0:
        return client_id[5:], int.from_bytes(client_id[1:5])
    if not client_id or client_id == b"\x01" + hardware:
        return duid_of_hardware(hardware), iaid_of_hardware(hardware)
    if len(client_id) > MAX_DUID - len(DUID_OF_CLIENT_ID):
        client_id = hashlib.sha256(client_id).digest()
    return DUID_OF_CLIENT_ID + client_id, 0


def _octets(text: str) -> bytes:
    lower = text.strip().lower()
    if not _HEX.fullmatch(lower):
        return b""
    return bytes.fromhex(lower.replace(":", "").replace("-", ""))
