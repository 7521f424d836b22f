"""What a client's name and hardware address are taken from."""

from __future__ import annotations

import pytest

from dnms.wire.dhcp6.identities import hardware_in, hardware_of, name_in

MAC = bytes.fromhex("02005e100001")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"\x00\x02pc", "pc"),  # without a domain it has no end (RFC 4704, 4.2)
        (b"\x01\x02pc\x00", "pc"),
        (b"\x01\x02PC\x04home\x07example\x00", "pc.home.example"),
        (b"\x00\x0b_pc-2_inter", "_pc-2_inter"),
        (b"", ""),
        (b"\x00", ""),
        (b"\x00\x00", ""),
        (b"\x00\x09pc", ""),
        (b"\x00\x02pc\x00\x02pd\x00", ""),
        (b"\x00\x04p\ncd", ""),
        (b"\x00\x04a.bc", "a.bc"),
        (b"\x00\x03-pc", ""),
        (b"\x00\x03p\xffc", ""),
        (b"\x00" + (b"\x3f" + b"a" * 63) * 4, ""),
    ],
)
def test_names(value: bytes, name: str) -> None:
    assert name_in(value) == name


@pytest.mark.parametrize(
    ("duid", "hardware"),
    [
        (b"\x00\x03\x00\x01" + MAC, MAC),
        (b"\x00\x01\x00\x01\x12\x34\x56\x78" + MAC, MAC),
        (b"\x00\x03\x00\x20" + MAC, b""),  # InfiniBand
        (b"\x00\x04\x00\x01" + MAC, b""),  # a UUID
        (b"\x00\x03\x00\x01" + MAC + b"\x00", b""),
        (b"\x00\x01\x00\x01\x12\x34", b""),
        (b"\x00\x03\x00\x01\x33\x33\x00\x00\x00\x01", b""),  # a group's
        (b"\x00\x03\x00\x01" + bytes(6), b""),
        (b"\x00", b""),
    ],
)
def test_duids(duid: bytes, hardware: bytes) -> None:
    assert hardware_in(duid) == hardware


def test_what_a_relay_says() -> None:
    assert hardware_of(b"\x00\x01" + MAC) == MAC
    assert hardware_of(b"\x00\x20" + MAC) == hardware_of(MAC) == hardware_of(b"") == b""
