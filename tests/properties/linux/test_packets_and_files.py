"""What comes from the link or from other programs' files is read, or ignored; it raises nothing."""

from __future__ import annotations

import struct
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnms.linux import arp, resolver

OWN, OTHER = b"\x02" * 6, b"\x04" * 6
ADDRESS, ANOTHER, NOBODY = b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x02", bytes(4)
WANTED = frozenset({ADDRESS})


def packet(hardware: bytes, sender: bytes, target: bytes) -> bytes:
    """RFC 826; an operation of 1."""
    return struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, hardware, sender, bytes(6), target)


def test_who_speaks_for_an_address() -> None:
    assert arp.claimed(packet(OTHER, ADDRESS, ANOTHER), OWN, WANTED) == ADDRESS
    assert arp.claimed(packet(OTHER, NOBODY, ADDRESS), OWN, WANTED) == ADDRESS
    assert arp.claimed(packet(OTHER, ANOTHER, ADDRESS), OWN, WANTED) is None  # merely asks for it
    assert arp.claimed(packet(OWN, ADDRESS, ADDRESS), OWN, WANTED) is None


@given(st.binary(max_size=128))
def test_any_bytes_as_arp(data: bytes) -> None:
    assert arp.claimed(data, OWN, WANTED) in (None, ADDRESS)


@given(st.integers(0, 27))
def test_every_cut_of_an_arp_packet_is_ignored(end: int) -> None:
    assert arp.claimed(packet(OTHER, ADDRESS, ANOTHER)[:end], OWN, WANTED) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: f"nameserver {text}\nsearch {text}".encode()))
def test_any_resolv_conf(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "resolv.conf"
    path.write_bytes(data)
    assert all(len(server) == 16 for server in resolver.read(path).servers)
