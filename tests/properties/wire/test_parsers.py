"""Every parser of the wire against hostile bytes, every cut, bit flips, and a stream that comes in any pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgpack
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers import inet6

from dnms.events.ip import parse_address, parse_prefix, prefix_of
from dnms.wire import datagrams, frames
from dnms.wire.agent_session import AgentSession
from dnms.wire.answering import Answering
from dnms.wire.channel import Closed
from dnms.wire.discovery import Discovery
from dnms.wire.errors import Code, PeerError
from dnms.wire.exchanges import Exchange
from dnms.wire.frames import Frame, FrameReader, Unknown
from dnms.wire.messages import MESSAGES, Message
from dnms.wire.nd import (
    PrefixInformation,
    RouteInformation,
    RouterAdvertisement,
    check_solicitation,
    encode_advertisement,
    router_advertisement,
)
from dnms.wire.node_session import NodeSession
from dnms.wire.registration import Collector, cut, decode_snapshot, digest_of
from tests.unit.wire import test_nd as nd
from tests.unit.wire.examples import DUID, ENCODED, FRAMES, OFFER, SNAPSHOT
from tests.unit.wire.golden_bytes import published, relays
from tests.unit.wire.pair import Pair

GOLDEN = {name: data for name, data in published().items() if name not in relays()}
DATAGRAMS = [GOLDEN.pop("solicit"), GOLDEN.pop("offer")]
STREAM = b"".join(GOLDEN[message.KIND] for _, message in FRAMES)

KINDS = st.sampled_from([message.KIND for message in MESSAGES])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=40) | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10) | st.integers(0, 9), inner, max_size=5)
    ),
    max_leaves=20,
)
KEYS = st.sampled_from(sorted({field for message in MESSAGES for field in message.__struct_fields__}))
ID = st.integers(0, 20)


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4) + payload


# A frame that is right on the outside and anything within; anything in a frame; anything at all; the real thing.
HOSTILE = st.one_of(
    st.builds(lambda *frame: framed(msgpack.packb(frame)), KINDS, ID, st.dictionaries(KEYS, VALUES, max_size=6)),
    st.builds(lambda *frame: framed(msgpack.packb(frame)), st.text(max_size=40), VALUES, VALUES),
    st.binary(max_size=200).map(framed),
    st.binary(max_size=200),
    st.sampled_from(list(GOLDEN.values())),
)


class Offline(Discovery[str]):
    """A search whose chance is always the same."""

    def __init__(self) -> None:
        super().__init__(duid=DUID, chance=self, now=0.0)

    def uniform(self, a: float, b: float) -> float:
        """The middle."""
        return (a + b) / 2

    def randbytes(self, n: int) -> bytes:
        """The nonce of the examples."""
        return OFFER.nonce[:n]


def node_in(exchange: Exchange) -> NodeSession:
    """A node's session that has come so far."""
    pair = Pair()
    if exchange is Exchange.CONNECTING:
        return pair.node
    if exchange is Exchange.REGISTERING:
        pair.welcome()
        pair.node.register(SNAPSHOT, 0)
        return pair.node
    if exchange is Exchange.REQUESTING:
        pair.register()
        return pair.node
    pair.join()
    if exchange is Exchange.RENEWING:
        pair.until(1_800)
    elif exchange is Exchange.CONFIRMING:
        pair.node.link_came_back(0)
    elif exchange is Exchange.RELEASING:
        pair.node.release(0)
    elif exchange is Exchange.APPLYING:
        pair.assign()
    elif exchange is Exchange.REBINDING:
        pair.until(2_880)
        other = pair.again()
        other.register()
        return other.node
    pair.node.events()
    return pair.node


def agents() -> Iterator[AgentSession]:
    """An agent's session in each phase."""
    yield AgentSession(now=0)
    pair = Pair()
    yield pair.agent
    pair = Pair()
    pair.welcome()
    yield pair.agent
    yield Pair().join().agent


SESSIONS: list[tuple[str, Callable[[], NodeSession | AgentSession]]] = [
    *((f"node {each}", lambda each=each: node_in(each)) for each in Exchange if each is not Exchange.DISCOVERING),
    *((f"agent {number}", lambda number=number: list(agents())[number]) for number in range(4)),
]
STARTS = [pytest.param(start, id=name) for name, start in SESSIONS]


def survives(session: NodeSession | AgentSession, pieces: list[bytes]) -> None:
    """Whatever comes, the session goes on, or ends once and properly; its shell never hears of anything else."""
    closings = 0
    now = 4_000.0
    for piece in pieces:
        session.receive(piece, now)
        session.tick(now)
        session.to_send(now)
        closings += sum(isinstance(event, Closed) for event in session.events())
        deadline = session.deadline()
        assert deadline is None or deadline >= 0
        now += 0.01
    assert closings == session.closed
    if session.closed:
        assert session.deadline() is None


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda rest: b"DNMS\x01\x02" + rest)), ID)
def test_hostile_datagrams(data: bytes, hop_limit: int) -> None:
    for limit in (255, hop_limit):
        try:
            datagrams.decode(data, hop_limit=limit)
        except PeerError as error:
            assert error.why in Code
    discovery, answering = Offline(), Answering[str](OFFER)
    discovery.receive(data, hop_limit=255, peer="p", now=0)
    answering.receive(data, hop_limit=255, peer="p", source="p", now=0)
    assert answering.dropped.total() == 1  # a solicit is longer
    assert discovery.dropped.total() + len(discovery._offers) == 1


@pytest.mark.parametrize("whole", DATAGRAMS, ids=["solicit", "offer"])
def test_every_cut_of_a_datagram(whole: bytes) -> None:
    for length in range(len(whole)):
        with pytest.raises(PeerError):
            datagrams.decode(whole[:length], hop_limit=255)


@pytest.mark.parametrize("whole", DATAGRAMS, ids=["solicit", "offer"])
def test_every_flipped_bit_of_a_datagram(whole: bytes) -> None:
    for bit in range(min(len(whole), 250) * 8):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            datagrams.decode(bytes(flipped), hop_limit=255)
        except PeerError as error:
            assert error.why in Code


@pytest.mark.parametrize("kind", GOLDEN)
def test_every_cut_of_a_frame(kind: str) -> None:
    whole = GOLDEN[kind]
    for length in range(len(whole) - 4):
        with pytest.raises(PeerError):
            frames.decode(whole[4 : 4 + length])
        reader = FrameReader()
        reader.receive(whole[: length + 4])
        assert list(reader.frames()) == []
        assert reader.within_a_frame


@pytest.mark.parametrize("kind", GOLDEN)
def test_every_flipped_bit_of_a_frame(kind: str) -> None:
    whole = GOLDEN[kind][4:]
    for bit in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            assert isinstance(frames.decode(bytes(flipped)), Frame | Unknown)
        except PeerError as error:
            assert error.why is Code.MALFORMED


@pytest.mark.parametrize("frame_id, message", FRAMES, ids=lambda value: getattr(value, "KIND", None))
def test_keys_that_are_not_known_are_ignored(frame_id: int, message: Message) -> None:
    kind, number, body = msgpack.unpackb(GOLDEN[message.KIND][4:], ext_hook=msgpack.ExtType)
    body["later"] = {"than": [1, b"this", None, msgpack.ExtType(9, b"release")]}
    assert frames.decode(msgpack.packb([kind, number, body])) == Frame(frame_id, message)
    prefix, fields = DATAGRAMS[1][:6], msgpack.unpackb(DATAGRAMS[1][6:])
    assert datagrams.decode(prefix + msgpack.packb(fields | {"later": 1}), hop_limit=255) == OFFER


@given(
    st.binary(max_size=200) | VALUES.map(msgpack.packb) | st.lists(VALUES, min_size=3, max_size=3).map(msgpack.packb)
)
@example(b"\x93\xa4ping\x01" + b"\x91" * 100_000 + b"\xc0")
@example(b"\x93\xa4ping\x01\x81\xa1x" + b"\xdd\xff\xff\xff\xff")
@example(b"\x93\xa5hello\x01\x81\xaccapabilities\xdd\xff\xff\xff\xff")
@example(b"\x93\xa3bye\x01\x81\xa3why\xa1\xff")
def test_hostile_frames(payload: bytes) -> None:
    try:
        frames.decode(payload)
    except PeerError as error:
        assert error.why is Code.MALFORMED


@given(st.binary(max_size=200) | VALUES.map(msgpack.packb))
def test_hostile_snapshots(data: bytes) -> None:
    for register in cut(data):
        assert Collector().take(register, 1) == data
    with pytest.raises(PeerError):
        decode_snapshot(data, b"")
    try:
        decode_snapshot(data, digest_of(data))
    except PeerError as error:
        assert error.why is Code.MALFORMED


@given(st.lists(st.integers(0, len(STREAM)), max_size=40).map(sorted))
def test_a_stream_in_any_pieces_gives_the_same_frames(cuts: list[int]) -> None:
    reader = FrameReader()
    read = []
    for start, end in zip([0, *cuts], [*cuts, len(STREAM)], strict=True):
        reader.receive(STREAM[start:end])
        read += list(reader.frames())
    assert [frame.message for frame in read if isinstance(frame, Frame)] == [message for _, message in FRAMES]
    assert not reader.within_a_frame


@given(st.lists(HOSTILE, min_size=1, max_size=6).map(b"".join), st.lists(st.integers(0, 1_500), max_size=8).map(sorted))
def test_hostile_streams_in_any_pieces_come_to_the_same_end(stream: bytes, cuts: list[int]) -> None:
    def outcome(pieces: list[bytes]) -> tuple[object, ...]:
        session = Pair().join().agent
        for piece in pieces:
            session.receive(piece, 0)
        return session.events(), session.to_send(0), session.closed, session.dropped

    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert outcome([stream]) == outcome(pieces)


@pytest.mark.parametrize("start", STARTS)
@given(pieces=st.lists(HOSTILE, min_size=1, max_size=8))
def test_hostile_streams_end_a_session_and_nothing_else(
    start: Callable[[], NodeSession | AgentSession], pieces: list[bytes]
) -> None:
    survives(start(), pieces)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("kind", GOLDEN)
def test_any_message_at_any_time(start: Callable[[], NodeSession | AgentSession], kind: str) -> None:
    survives(start(), [GOLDEN[kind]] * 3)


@given(st.lists(st.integers(0, len(ENCODED)), max_size=20).map(sorted))
def test_chunks_of_any_size_make_one_registration_and_only_in_their_order(cuts: list[int]) -> None:
    pieces = [ENCODED[start:end] for start, end in zip([0, *cuts], [*cuts, len(ENCODED)], strict=True)]
    pieces = [piece for piece in pieces if piece]
    chunks = [
        msgspec.structs.replace(cut(ENCODED)[0], chunk=number, chunks=len(pieces), data=piece)
        for number, piece in enumerate(pieces)
    ]
    collector = Collector()
    wholes = [collector.take(chunk, 1) for chunk in chunks]
    assert wholes == [None] * (len(pieces) - 1) + [ENCODED]
    if len(chunks) > 1:
        with pytest.raises(PeerError):
            Collector().take(chunks[1], 1)


@given(st.binary(max_size=200) | st.binary(max_size=120).map(lambda options: nd.HEADER + options))
def test_an_advertisement_of_anything_is_read_or_refused(packet: bytes) -> None:
    try:
        router_advertisement(packet)
    except PeerError as error:
        assert error.why is Code.MALFORMED


SECONDS = st.integers(0, 0xFFFFFFFF)
PREFIX = st.builds(prefix_of, st.binary(min_size=16, max_size=16), st.integers(0, 128))
ADVERTISEMENT = st.builds(
    RouterAdvertisement,
    managed=st.booleans(),
    other=st.booleans(),
    preference=st.sampled_from([-1, 0, 1]),
    lifetime=st.integers(0, 0xFFFF),
    hop_limit=st.integers(0, 255),
    hardware=st.just(b"") | st.binary(min_size=6, max_size=6),
    mtu=SECONDS,
    prefixes=st.lists(
        st.tuples(PREFIX, st.booleans(), st.booleans(), st.booleans(), SECONDS, SECONDS).map(
            lambda drawn: PrefixInformation(
                prefix=drawn[0],
                on_link=drawn[1],
                autonomous=drawn[2],
                delegated=drawn[3],
                valid=max(drawn[4:]),
                preferred=min(drawn[4:]),
            )
        ),
        max_size=3,
    ).map(tuple),
    routes=st.lists(
        st.builds(RouteInformation, prefix=PREFIX, preference=st.sampled_from([-1, 0, 1]), lifetime=SECONDS), max_size=3
    ).map(tuple),
    dns=st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 2)), max_size=4).map(tuple),
    search=st.lists(
        st.tuples(st.from_regex(r"[a-z0-9]{1,9}(\.[a-z0-9]{1,9})?", fullmatch=True), SECONDS), max_size=4
    ).map(tuple),
    pref64=st.lists(
        st.tuples(
            st.builds(
                prefix_of, st.binary(min_size=12, max_size=12).map(lambda network: network + bytes(4)), st.just(96)
            ),
            st.integers(0, 8_191).map(lambda scaled: 8 * scaled),
        ),
        max_size=2,
    ).map(tuple),
)


@given(ADVERTISEMENT)
def test_an_advertisement_that_is_written_is_read_again(said: RouterAdvertisement) -> None:
    assert router_advertisement(encode_advertisement(said)) == said


@given(st.binary(max_size=80), st.booleans())
def test_a_solicitation_of_anything_is_taken_or_refused(packet: bytes, nameless: bool) -> None:
    for data in (packet, b"\x85\x00" + packet):
        try:
            check_solicitation(data, nameless=nameless)
        except PeerError as error:
            assert error.why is Code.MALFORMED


def test_scapy_has_a_route_and_the_flag_of_prefixes_to_ask_for_as_we_have_them() -> None:
    theirs = inet6.ICMPv6ND_RA(chlim=64, prf=0, routerlifetime=0)
    theirs /= inet6.ICMPv6NDOptPrefixInfo(
        prefix="2001:db8:5::", prefixlen=64, validlifetime=900, preferredlifetime=600, L=1, A=1, R=0, res1=0x10
    )
    theirs /= inet6.ICMPv6NDOptRouteInfo(prefix="2001:db8:f::", plen=48, prf=1, rtlifetime=900, len=2)
    said = RouterAdvertisement(
        hop_limit=64,
        prefixes=(
            PrefixInformation(
                prefix=parse_prefix("2001:db8:5::/64"),
                on_link=True,
                autonomous=True,
                delegated=True,
                valid=900,
                preferred=600,
            ),
        ),
        routes=(RouteInformation(prefix=parse_prefix("2001:db8:f::/48"), preference=1, lifetime=900),),
    )
    assert encode_advertisement(said) == bytes(theirs)
    assert router_advertisement(bytes(theirs)) == said


def test_scapy_has_an_advertisement_as_we_have_it() -> None:
    theirs = inet6.ICMPv6ND_RA(chlim=64, M=1, O=1, prf=3, routerlifetime=1_800)
    theirs /= inet6.ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:01") / inet6.ICMPv6NDOptMTU(mtu=1_400)
    theirs /= inet6.ICMPv6NDOptPrefixInfo(prefix="2001:db8:5::", prefixlen=64, validlifetime=900, preferredlifetime=600)
    theirs /= inet6.ICMPv6NDOptRDNSS(dns=["2001:db8:5::53", "2001:db8:5::54"], lifetime=60)
    theirs /= inet6.ICMPv6NDOptDNSSL(searchlist=["home.example.", "example."], lifetime=60)
    theirs /= inet6.ICMPv6NDOptPREF64(prefix="64:ff9b::", scaledlifetime=225, plc=0)
    said = RouterAdvertisement(
        managed=True,
        other=True,
        preference=-1,
        lifetime=1_800,
        hop_limit=64,
        hardware=bytes.fromhex("020000000001"),
        mtu=1_400,
        prefixes=(
            PrefixInformation(
                prefix=parse_prefix("2001:db8:5::/64"), on_link=True, autonomous=True, valid=900, preferred=600
            ),
        ),
        dns=((parse_address("2001:db8:5::53"), 60), (parse_address("2001:db8:5::54"), 60)),
        search=(("home.example", 60), ("example", 60)),
        pref64=((parse_prefix("64:ff9b::/96"), 1_800),),
    )
    assert encode_advertisement(said) == bytes(theirs)
    assert router_advertisement(bytes(theirs)) == said
