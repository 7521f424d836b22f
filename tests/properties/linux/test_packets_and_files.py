"""What comes from the link or from other programs' files is read, or ignored; it raises nothing."""

from __future__ import annotations

import struct
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnms.linux import arp, neighbours, resolver

OWN, OTHER = b"\x02" * 6, b"\x04" * 6
ADDRESS, ANOTHER, NOBODY = b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x02", bytes(4)
WANTED = frozenset({ADDRESS})
SIX = bytes.fromhex("20010db8000000000000000000000077")


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


def advertisement(*options: bytes, kind: int = 136) -> bytes:
    """RFC 4861, 4.4."""
    return bytes([kind, 0, 0, 0, 0x60, 0, 0, 0]) + SIX + b"".join(options)


def test_whose_hardware_an_answer_tells() -> None:
    assert arp.answered(packet(OTHER, ADDRESS, ANOTHER), OWN) == (ADDRESS, OTHER)
    assert arp.answered(packet(OWN, ADDRESS, ANOTHER), OWN) is None
    assert arp.answered(packet(OTHER, NOBODY, ADDRESS), OWN) is None  # a probe
    target = bytes([2, 1]) + OTHER
    assert neighbours.answered(advertisement(target), hops=255) == (SIX, OTHER)
    assert neighbours.answered(advertisement(bytes([14, 2]) + bytes(14), target), hops=255) == (SIX, OTHER)
    for broken in (
        advertisement(target, kind=135),
        advertisement(),
        advertisement(bytes([1, 1]) + OTHER),
        advertisement(bytes([2, 0]) + OTHER, target),
        advertisement(bytes([2, 2]) + OTHER),
    ):
        assert neighbours.answered(broken, hops=255) is None
    assert neighbours.answered(advertisement(target), hops=64) is None  # from off the link


@given(st.binary(max_size=128))
def test_any_bytes_as_an_answer(data: bytes) -> None:
    found = (arp.answered(data, OWN), neighbours.answered(data, hops=255))
    for answer, size in zip(found, (4, 16), strict=True):
        assert answer is None or (len(answer[0]), len(answer[1])) == (size, 6)


@given(st.integers(0, 31))
def test_every_cut_of_an_advertisement_is_ignored(end: int) -> None:
    whole = advertisement(bytes([2, 1]) + OTHER)
    assert len(whole) == 32
    assert neighbours.answered(whole[:end], hops=255) is None


@given(st.integers(0, 27))
def test_every_cut_of_an_arp_packet_is_ignored(end: int) -> None:
    assert arp.claimed(packet(OTHER, ADDRESS, ANOTHER)[:end], OWN, WANTED) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: f"nameserver {text}\nsearch {text}".encode()))
def test_any_resolv_conf(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "resolv.conf"
    path.write_bytes(data)
    assert all(len(server) == 16 for server in resolver.read(path).servers)
