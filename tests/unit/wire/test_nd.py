"""Router Advertisements byte by byte."""

from __future__ import annotations

import pytest

from dnms.events.ip import parse_address, parse_prefix
from dnms.wire.errors import PeerError
from dnms.wire.nd import (
    INFINITE,
    PrefixInformation,
    RouteInformation,
    RouterAdvertisement,
    check_solicitation,
    encode_advertisement,
    router_advertisement,
)

HEADER = bytes.fromhex("86 00 beef 40 c8 0708 00000000 00000000")  # M, O, high preference, 1800 s
PREFIX = bytes.fromhex("03 04 40 d0 00015180 00003840 00000000 20010db8000500000000000000000000")
HARDWARE = bytes.fromhex("01 01 020000000001")
MTU = bytes.fromhex("05 01 0000 000005d4")
ROUTE = bytes.fromhex("18 02 30 18 00000258 20010db800ff0000")
DEFAULT_ROUTE = bytes.fromhex("18 01 00 00 0000003c")
RDNSS = bytes.fromhex("19 05 0000 0000003c 20010db8000500000000000000000053 20010db8000500000000000000000054")
DNSSL = bytes.fromhex("1f 04 0000 ffffffff 04686f6d65 076578616d706c65 00 026c6e 00 0000000000000000")[:32]
PREF64 = bytes.fromhex("26 02 0708 0064ff9b0000000000000000")


def test_all_that_a_router_says() -> None:
    packet = HEADER + PREFIX + HARDWARE + MTU + ROUTE + DEFAULT_ROUTE + RDNSS + DNSSL + PREF64
    assert router_advertisement(packet) == RouterAdvertisement(
        managed=True,
        other=True,
        preference=1,
        lifetime=1800,
        hop_limit=64,
        hardware=bytes.fromhex("020000000001"),
        mtu=1492,
        prefixes=(
            PrefixInformation(
                prefix=parse_prefix("2001:db8:5::/64"),
                on_link=True,
                autonomous=True,
                delegated=True,
                valid=86_400,
                preferred=14_400,
            ),
        ),
        routes=(
            RouteInformation(prefix=parse_prefix("2001:db8:ff::/48"), preference=-1, lifetime=600),
            RouteInformation(prefix=parse_prefix("::/0"), preference=0, lifetime=60),
        ),
        dns=((parse_address("2001:db8:5::53"), 60), (parse_address("2001:db8:5::54"), 60)),
        search=(("home.example", INFINITE), ("ln", INFINITE)),
        pref64=((parse_prefix("64:ff9b::/96"), 1800),),
    )


def test_one_that_says_nothing_but_that_it_goes() -> None:
    assert router_advertisement(bytes.fromhex("86 00 0000 00 00 0000 00000000 00000000")) == RouterAdvertisement()


@pytest.mark.parametrize(("flags", "preference"), [(0x00, 0), (0x08, 1), (0x18, -1), (0x10, 0)])
def test_the_reserved_preference_is_medium(flags: int, preference: int) -> None:
    packet = HEADER[:5] + bytes([flags]) + HEADER[6:]
    assert router_advertisement(packet).preference == preference


@pytest.mark.parametrize(
    "option",
    [
        bytes.fromhex("03 04 81") + PREFIX[3:],  # a prefix of 129 bits
        PREFIX[:4] + bytes.fromhex("00000001 00000002") + PREFIX[12:],  # preferred for longer than valid
        bytes.fromhex("18 02 41") + ROUTE[3:],  # a route of 65 bits in 64
        bytes.fromhex("26 02 0706") + PREF64[4:],  # a length that has no code
        bytes.fromhex("fe 01 000000000000"),  # an option of tomorrow
        bytes.fromhex("1f 02 0000 0000003c ff00000000000000"),  # a label that is none
    ],
)
def test_an_option_that_says_nothing_is_left_out(option: bytes) -> None:
    assert router_advertisement(HEADER + option) == router_advertisement(HEADER)


@pytest.mark.parametrize(
    "packet",
    [b"", HEADER[:15], b"\x87" + HEADER[1:], HEADER + b"\x03\x00" + PREFIX[2:], HEADER + PREFIX[:31], HEADER + b"\x01"],
)
def test_what_is_cut_off_is_void(packet: bytes) -> None:
    with pytest.raises(PeerError):
        router_advertisement(packet)


def test_an_advertisement_byte_by_byte() -> None:
    whole = HEADER + PREFIX + ROUTE + RDNSS + DNSSL + PREF64
    said = router_advertisement(whole)
    ordered = (HEADER[:2], bytes(2), HEADER[4:], PREFIX, ROUTE, RDNSS, DNSSL, PREF64)
    assert encode_advertisement(said) == b"".join(ordered)
    with_link = router_advertisement(HEADER + HARDWARE + MTU)
    assert encode_advertisement(with_link) == HEADER[:2] + bytes(2) + HEADER[4:] + HARDWARE + MTU


def test_what_does_not_fit_is_not_cut() -> None:
    with pytest.raises(ValueError, match="at most 2040"):
        encode_advertisement(RouterAdvertisement(dns=tuple((bytes([each] * 16), 60) for each in range(200))))
    with pytest.raises(ValueError, match="no domain name"):
        encode_advertisement(RouterAdvertisement(search=((".", 60),)))


SOLICITATION = bytes.fromhex("85 00 beef 00000000")


@pytest.mark.parametrize("nameless", [False, True])
def test_a_solicitation(nameless: bool) -> None:
    check_solicitation(SOLICITATION, nameless=nameless)
    check_solicitation(SOLICITATION + bytes.fromhex("0e 01 010203040506"), nameless=nameless)  # a nonce


@pytest.mark.parametrize(
    ("packet", "nameless"),
    [
        (b"", False),
        (SOLICITATION[:7], False),
        (b"\x86" + SOLICITATION[1:], False),
        (b"\x85\x01" + SOLICITATION[2:], False),
        (SOLICITATION + b"\x0e\x00" + bytes(6), False),
        (SOLICITATION + b"\x0e\x02" + bytes(6), False),
        (SOLICITATION + HARDWARE, True),
    ],
)
def test_what_is_no_solicitation(packet: bytes, nameless: bool) -> None:
    with pytest.raises(PeerError):
        check_solicitation(packet, nameless=nameless)
