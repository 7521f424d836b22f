"""DHCPv4 messages: written and read again, of hostile bytes, at every cut, and as scapy has them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP

from dnms.events.ip import MAPPED, Prefix, parse_address, parse_prefix, prefix_of
from dnms.wire.dhcp4.codes import MAGIC, SMALLEST, Kind, Op
from dnms.wire.dhcp4.messages import HEADERS, Message, decode, encode
from dnms.wire.dhcp4.options import Options
from dnms.wire.dhcp4.server import question
from dnms.wire.dhcp4.values import MAX_NAMES, MAX_POINTERS, option, read_names, walk
from dnms.wire.errors import Code, PeerError

SECONDS, BYTE, SHORT = st.integers(0, 0xFFFFFFFF), st.integers(0, 255), st.integers(0, 0xFFFF)
ADDRESS = st.binary(min_size=4, max_size=4).map(lambda packed: MAPPED + packed)
LABEL = st.from_regex(r"[a-z0-9_]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
MANY = 65_535
DISCARDED = {
    Code.MALFORMED,
    Code.UNEXPECTED,
    Code.KIND,
    Code.DIRECTION,
    Code.TOO_MANY,
    Code.SERVER_ID,
    Code.OVERSIZED,
}


def some(strategy: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=most).map(tuple)


@st.composite
def routes(draw: st.DrawFn) -> tuple[Prefix, bytes]:
    return prefix_of(draw(ADDRESS), draw(st.integers(96, 128))), draw(ADDRESS)


OPTIONS = st.builds(
    Options,
    client_id=st.just(b"") | st.binary(min_size=2, max_size=300),
    server_id=st.none() | ADDRESS,
    requested_address=st.none() | ADDRESS,
    requested=some(BYTE, 20),
    max_size=st.none() | SHORT,
    lease_time=st.none() | SECONDS,
    t1=st.none() | SECONDS,
    t2=st.none() | SECONDS,
    mask=st.none() | st.integers(96, 128),
    routers=some(ADDRESS),
    dns=some(ADDRESS, 100),
    domain=st.just("") | NAME,
    search=some(NAME, 20),
    ntp=some(ADDRESS),
    mtu=st.none() | SHORT,
    routes=some(routes(), 60),
    host_name=st.just("") | NAME,
    fqdn=st.binary(max_size=20),
    agent=st.binary(max_size=300),
    rapid_commit=st.booleans(),
    message=st.just("") | NAME,
    vendor_class=st.binary(max_size=300),
    architectures=some(SHORT),
    ipv6_only=st.none() | SECONDS,
    boot_server=st.just("") | NAME,
    boot_file=st.just("") | NAME,
)
MESSAGE = st.builds(
    Message,
    op=st.sampled_from(Op).map(int),
    kind=st.sampled_from(Kind).map(int),
    transaction=st.binary(min_size=4, max_size=4),
    hardware=st.binary(max_size=16),
    hardware_type=BYTE,
    hops=BYTE,
    seconds=SHORT,
    flags=SHORT,
    client=ADDRESS,
    yours=ADDRESS,
    server=ADDRESS,
    relay=ADDRESS,
    file=st.just("") | NAME,
    options=OPTIONS,
)


@given(MESSAGE, some(BYTE, 10))
def test_what_is_written_is_read_again(message: Message, wanted: tuple[int, ...]) -> None:
    assert decode(encode(message, size=MANY, wanted=wanted)) == message


@given(MESSAGE, some(BYTE, 10), st.integers(SMALLEST, 1_500))
def test_what_does_not_fit_is_left_out_and_the_rest_is_whole(
    message: Message, wanted: tuple[int, ...], size: int
) -> None:
    try:
        data = encode(message, size=size, wanted=wanted)
    except ValueError:
        assert len(message.options.client_id) + len(message.options.agent) > 200
        return
    assert len(data) <= size - HEADERS
    read, said = decode(data).options, message.options
    for name in Options.__struct_fields__:
        assert getattr(read, name) in (getattr(said, name), getattr(Options(), name))
    for name in ("server_id", "lease_time", "mask", "client_id", "agent", "rapid_commit"):
        assert getattr(read, name) == getattr(said, name)


@given(st.binary(max_size=400) | st.binary(max_size=300).map(lambda rest: bytes([1, 1, 6]) + bytes(233) + MAGIC + rest))
def test_anything_is_read_or_refused(data: bytes) -> None:
    try:
        question(decode(data), server=MAPPED + b"\xc0\x00\x02\x01")
    except PeerError as error:
        assert error.why in DISCARDED


@given(MESSAGE, st.data())
@settings(max_examples=50)
def test_what_is_cut_or_changed_is_refused_or_read(message: Message, data: st.DataObject) -> None:
    whole = encode(message, size=MANY)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    for broken in (cut, changed):
        try:
            decode(broken)
        except PeerError as error:
            assert error.why is Code.MALFORMED


@given(st.binary(max_size=300))
def test_names_that_point_anywhere_have_an_end(data: bytes) -> None:
    try:
        assert sum(map(len, read_names(data))) <= 255 * (len(data) + 1)
    except PeerError as error:
        assert error.why is Code.MALFORMED


def test_names_may_end_in_others() -> None:
    """The example of RFC 3397, 2."""
    data = b"\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04"
    assert read_names(data) == ("eng.apple.com", "marketing.apple.com")
    for broken in (b"\xc0\x00", b"\x01a\xc0\x02", b"\x01a\xc0", b"\x40" + b"a" * 64 + b"\0", b"\x01a"):
        with pytest.raises(PeerError):
            read_names(broken)


def chain(size: int) -> bytes:
    """The root, and pointers each to the one before it."""
    return b"\0" + b"".join((0xC000 | max(0, 2 * number - 1)).to_bytes(2) for number in range(size))


def names_of_one(size: int) -> bytes:
    """A name of as many labels as one can have, and others that are the same."""
    return b"\x01a" * 126 + b"\0" + b"\xc0\0" * (size - 1)


def test_names_that_point_and_point_are_not_followed_for_long() -> None:
    assert read_names(chain(MAX_POINTERS)) == ()
    assert len(set(read_names(names_of_one(MAX_NAMES)))) == 1
    for size, many in ((MAX_POINTERS, chain), (MAX_NAMES, names_of_one)):
        with pytest.raises(PeerError, match="many"):
            read_names(many(size + 1))
    data = encode(Message(op=1, kind=1, transaction=b"abcd", hardware=b"\2abcde"))
    with pytest.raises(PeerError, match="many"):  # of which each two bytes took as many steps as stood before them
        decode(data[: data.index(b"\xff", 240)] + option(119, chain(2_000)) + b"\xff")


def test_a_long_option_stands_in_pieces_and_the_pieces_are_one() -> None:
    value = bytes(range(256)) * 2
    assert [(code, len(piece)) for code, piece in walk(option(43, value))] == [(43, 255), (43, 255), (43, 2)]
    assert b"".join(piece for _, piece in walk(option(43, value))) == value


def test_options_may_stand_in_the_fields_for_names() -> None:
    """RFC 2132, 9.3; RFC 3396, 5: the options, then `file`, then `sname`, as one."""
    whole = bytearray(encode(Message(op=1, kind=1, transaction=b"abcd", hardware=b"\2abcde")))
    whole[240:] = bytes((52, 1, 3, 53, 1, 1, 12, 1)) + b"p" + b"\xff"
    whole[108:236] = (bytes((12, 2)) + b"ri\xff").ljust(128, b"\0")
    whole[44:108] = (bytes((12, 4)) + b"nter\xff").ljust(64, b"\0")
    assert decode(bytes(whole)).options.host_name == "printer"


def test_what_is_not_known_here_is_written_in_the_place_that_the_client_has_for_it() -> None:
    options = Options(others=((43, b"abc"), (128, b"d")), ntp=(parse_address("192.0.2.1"),))
    data = encode(Message(op=2, kind=5, transaction=b"abcd", hardware=b"\2abcde", options=options), wanted=(43, 42))
    assert data[240:].startswith(bytes((53, 1, 5, 43, 3)) + b"abc" + bytes((42, 4, 192, 0, 2, 1, 128, 1)) + b"d\xff")


def test_a_name_of_a_file_that_does_not_fit_is_not_cut() -> None:
    with pytest.raises(ValueError, match="128 bytes, and 127 at most"):
        encode(Message(op=2, kind=5, transaction=b"abcd", hardware=b"\2abcde", file="x" * 128))


# --- scapy

CLIENT_ID = bytes.fromhex("ff0000000100030001020000000001")
PAIRS: list[tuple[Options, Any]] = [
    (Options(client_id=CLIENT_ID), ("client_id", CLIENT_ID)),
    (Options(server_id=parse_address("192.0.2.1")), ("server_id", "192.0.2.1")),
    (Options(requested_address=parse_address("192.0.2.7")), ("requested_addr", "192.0.2.7")),
    (Options(requested=(1, 3, 6)), ("param_req_list", [1, 3, 6])),
    (Options(max_size=1_500), ("max_dhcp_size", 1_500)),
    (Options(lease_time=3_600), ("lease_time", 3_600)),
    (Options(t1=1_800), ("renewal_time", 1_800)),
    (Options(t2=2_880), ("rebinding_time", 2_880)),
    (Options(mask=120), ("subnet_mask", "255.255.255.0")),
    (Options(routers=(parse_address("192.0.2.1"),)), ("router", "192.0.2.1")),
    (
        Options(dns=(parse_address("192.0.2.53"), parse_address("192.0.2.54"))),
        ("name_server", "192.0.2.53", "192.0.2.54"),
    ),
    (Options(domain="home.example"), ("domain", b"home.example")),
    (Options(ntp=(parse_address("192.0.2.123"),)), ("NTP_server", "192.0.2.123")),
    (Options(mtu=1_280), ("interface-mtu", 1_280)),
    (Options(host_name="printer"), ("hostname", b"printer")),
    (Options(fqdn=b"\0\0\0printer"), ("client_FQDN", b"\0\0\0printer")),
    (Options(agent=b"\x01\x04eth7"), ("relay_agent_information", b"\x01\x04eth7")),
    (Options(rapid_commit=True), ("rapid_commit", b"")),
    (Options(message="no"), ("error_message", b"no")),
    (
        Options(routes=((parse_prefix("10.0.0.0/8"), parse_address("192.0.2.1")),)),
        (121, bytes.fromhex("080ac0000201")),
    ),
    (Options(vendor_class=b"PXEClient"), ("vendor_class_id", b"PXEClient")),
    (Options(architectures=(7, 9)), ("pxe_client_architecture", bytes.fromhex("00070009"))),
    (Options(boot_server="192.0.2.9"), ("tftp_server_name", b"192.0.2.9")),
    (Options(boot_file="pxelinux.0"), ("boot-file-name", b"pxelinux.0")),
    (Options(ipv6_only=1_800), ("ipv6-only-preferred", 1_800)),
    (Options(search=("home.example",)), (119, b"\x04home\x07example\x00")),
]


@pytest.mark.parametrize(("mine", "other"), PAIRS, ids=lambda value: str(value[0]) if isinstance(value, tuple) else "")
def test_the_bytes_are_those_of_scapy(mine: Options, other: Any) -> None:
    message = Message(
        op=2,
        kind=5,
        transaction=b"abcd",
        hardware=b"\2abcde",
        hops=1,
        seconds=3,
        flags=0x8000,
        client=parse_address("192.0.2.7"),
        yours=parse_address("192.0.2.8"),
        server=parse_address("192.0.2.9"),
        relay=parse_address("192.0.2.10"),
        file="boot/x64.efi",
        options=mine,
    )
    head = BOOTP(
        op=2,
        xid=int.from_bytes(b"abcd"),
        chaddr=b"\2abcde",
        hops=1,
        secs=3,
        flags=0x8000,
        ciaddr="192.0.2.7",
        yiaddr="192.0.2.8",
        siaddr="192.0.2.9",
        giaddr="192.0.2.10",
        file=b"boot/x64.efi",
    )
    theirs = bytes(head / DHCP(options=[("message-type", "ack"), other, "end"]))
    assert encode(message) == theirs.ljust(300, b"\0")
    assert decode(theirs) == message
