"""Who a client is beside its DUID: its name (RFC 4704), and the hardware address in what it or its relay says."""

from __future__ import annotations

from dnms.wire.dhcp6.values import read_names
from dnms.wire.errors import PeerError

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
_ETHERNET = b"\x00\x01"
_DUID_LLT, _DUID_LL = b"\x00\x01", b"\x00\x03"
_SIZE = 6  # bytes of an Ethernet address


def name_in(value: bytes) -> str:
    """The name in a Client FQDN option, in small letters; empty if there is none that a machine can have.

    One without a domain lacks the end of a name (RFC 4704, 4.2).
    """
    for each in (value[1:], value[1:] + b"\0") if value else ():
        try:
            names = read_names(each)
        except PeerError:
            continue
        name = names[0].lower() if len(names) == 1 else ""
        return name if _LETTERS.issuperset(name) and not name.startswith(("-", ".")) else ""
    return ""


def hardware_in(duid: bytes) -> bytes:
    """The Ethernet address that a DUID is made of (RFC 8415, 11.2 and 11.4), of any interface of the client's machine;
    empty if there is none.
    """
    kind, hardware = duid[:2], duid[2:4]
    if hardware != _ETHERNET or kind not in (_DUID_LLT, _DUID_LL):
        return b""
    return _address(duid[8:] if kind == _DUID_LLT else duid[4:])


def hardware_of(link_layer: bytes) -> bytes:
    """The Ethernet address in a Client Link-Layer Address option (RFC 6939); empty if there is none."""
    return _address(link_layer[2:]) if link_layer[:2] == _ETHERNET else b""


def _address(found: bytes) -> bytes:
    """If one interface can have it: neither a group's (IEEE 802, 8.2) nor all zeros."""
    return found if len(found) == _SIZE and not found[0] & 1 and any(found) else b""
