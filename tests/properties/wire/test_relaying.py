"""What relays and agents say to each other, against hostile bytes, every cut and every flipped bit."""

from __future__ import annotations

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnms.events.ip import parse_address
from dnms.wire import relaying
from dnms.wire.errors import Code, PeerError
from dnms.wire.relaying import HEAD, MAX_BODY, RECORD_HEAD, Asking, Here, Refused, Relayed

RELAYED = Relayed(subnet="branch", node=parse_address("fe80::5"), interface="lan", hello=bytes(range(32)))
CERTIFICATE = bytes(400)
SAID = {
    kind: relaying.encode_said(said, certificate=CERTIFICATE, sign=lambda content: bytes(64))
    for kind, said in (("relayed", RELAYED), ("asking", Asking(subnet="branch")))
}
ANSWERS = {
    "here": relaying.encode_answer(Here(site="s", subnet="branch", agent="one", load=7, preference=3, root=bytes(32))),
    "refused": relaying.encode_answer(Refused(code="untrusted", text="why")),
}
HELLO = b"\x16\x03\x01" + (4 + 200).to_bytes(2) + b"\x01" + (200).to_bytes(3) + bytes(200)


def read_said(data: bytes) -> relaying.Said:
    head = relaying.decode_head(data[:HEAD])
    return relaying.decode_signed(head, data[HEAD : HEAD + head.length])[1]


def read_answer(data: bytes) -> relaying.Answer:
    head = relaying.decode_head(data[:HEAD])
    return relaying.decode_answer(head, data[HEAD : HEAD + head.length])


def test_what_was_said_is_read() -> None:
    assert read_said(SAID["relayed"]) == RELAYED
    assert read_said(SAID["asking"]) == Asking(subnet="branch")
    assert read_answer(ANSWERS["refused"]) == Refused(code="untrusted", text="why")
    assert relaying.is_answer(ANSWERS["here"])
    assert not relaying.is_answer(HELLO)


@pytest.mark.parametrize("field", ["site", "subnet", "agent"])
def test_an_agent_has_names_that_an_offer_has_room_for(field: str) -> None:
    here = msgspec.structs.replace(Here(site="s", subnet="branch", agent="one"), **{field: "\U0001f310" * 255})
    with pytest.raises(PeerError):
        read_answer(relaying.encode_answer(here))


@pytest.mark.parametrize("kind", SAID)
def test_every_cut_of_what_a_relay_says_is_its_error(kind: str) -> None:
    whole = SAID[kind]
    for length in range(len(whole)):
        with pytest.raises(PeerError) as error:
            read_said(whole[:length])
        assert error.value.why == Code.TRUNCATED


@pytest.mark.parametrize("kind", ANSWERS)
def test_every_cut_of_what_an_agent_answers_is_its_error(kind: str) -> None:
    whole = ANSWERS[kind]
    for length in range(len(whole)):
        with pytest.raises(PeerError):
            read_answer(whole[:length])


@given(st.binary(max_size=300))
def test_hostile_bytes_are_an_error_of_the_peer(data: bytes) -> None:
    for read in (read_said, read_answer, relaying.record_length):
        try:
            read(data)
        except PeerError:
            continue


HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=80) | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["certificate", "said", "signature", "subnet", "code"]), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(kind=st.sampled_from([relaying.RELAYED, relaying.ASK, relaying.HERE, relaying.REFUSED, 1, 255]), body=HOSTILE)
def test_a_right_head_before_hostile_values_is_an_error_of_the_peer(kind: int, body: object) -> None:
    payload = msgpack.packb(body)
    data = SAID["asking"][:5] + bytes([kind]) + len(payload).to_bytes(2) + payload
    with pytest.raises(PeerError):
        read_said(data)
    try:
        answer = read_answer(data)
    except PeerError:
        return
    assert isinstance(answer, Refused)  # a code is all that it needs
    assert isinstance(body, dict)


@given(said=HOSTILE)
def test_signed_nonsense_is_nonsense(said: object) -> None:
    payload = msgpack.packb({"certificate": CERTIFICATE, "said": msgpack.packb(said), "signature": bytes(64)})
    for kind in (relaying.RELAYED, relaying.ASK):
        data = SAID["asking"][:5] + bytes([kind]) + len(payload).to_bytes(2) + payload
        if kind == relaying.ASK and isinstance(said, dict) and isinstance(said.get("subnet"), str):
            assert isinstance(read_said(data), Asking)
        else:
            with pytest.raises(PeerError):
                read_said(data)


def test_a_length_is_bounded_before_the_body_is_read() -> None:
    with pytest.raises(PeerError) as error:
        relaying.decode_head(SAID["asking"][:6] + (MAX_BODY + 1).to_bytes(2))
    assert error.value.why == Code.OVERSIZED


def test_a_node_whose_address_is_not_link_local_was_not_on_the_link() -> None:
    routed = Relayed(subnet="branch", node=parse_address("2001:db8::5"), interface="lan", hello=bytes(32))
    with pytest.raises(PeerError) as error:
        read_said(relaying.encode_said(routed, certificate=CERTIFICATE, sign=lambda content: bytes(64)))
    assert error.value.why == Code.NOT_ON_LINK


@pytest.mark.parametrize(
    "data",
    [
        b"\x15" + HELLO[1:],  # an alert
        b"\x16\x02" + HELLO[2:],
        HELLO[:5] + b"\x02" + HELLO[6:],  # a ServerHello
        HELLO[:3] + (100).to_bytes(2) + HELLO[5:],  # in several records
        HELLO[:3] + (0x4001).to_bytes(2) + b"\x01" + (0x3FFD).to_bytes(3),
        b"GET / HTTP/1.1",
    ],
)
def test_what_is_no_whole_client_hello_is_not_passed_on(data: bytes) -> None:
    with pytest.raises(PeerError) as error:
        relaying.record_length(data[:RECORD_HEAD])
    assert error.value.why == Code.NO_HELLO


def test_a_client_hello_is_one_record() -> None:
    assert relaying.record_length(HELLO[:RECORD_HEAD]) == len(HELLO)
