"""A requesting router and the server's reader against hostile bytes: every cut and any change of a message that is
right, and messages that say anything. What is discarded is a PeerError, and nothing else happens.
"""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnms.events.ip import parse_prefix, prefix_of
from dnms.wire.dhcp6.associations import IaAddress, IaNa, IaPd, IaPrefix, StatusOption
from dnms.wire.dhcp6.client import Client
from dnms.wire.dhcp6.codes import Kind
from dnms.wire.dhcp6.exchanges import Exchange
from dnms.wire.dhcp6.held import MAX_PREFIXES
from dnms.wire.dhcp6.identities import hardware_in
from dnms.wire.dhcp6.messages import Message, Relay, decode, encode, encode_forward, encode_reply
from dnms.wire.dhcp6.options import Options
from dnms.wire.dhcp6.server import (
    MAX_ADDRESSES,
    MAX_ASSOCIATIONS,
    Answer,
    Given,
    GivenAddresses,
    address_over,
    answer,
    over,
    question,
)
from dnms.wire.errors import PeerError

DUID_LL = bytes.fromhex("0003000102005e100001")
CLIENT, SERVER, IAID = b"\x00\x04client", b"\x00\x04server", 7
BLOCK, EXCLUDED = parse_prefix("2001:db8:100::/56"), parse_prefix("2001:db8:100::/64")
FULL = IaPd(
    iaid=IAID,
    t1=100,
    t2=160,
    prefixes=(IaPrefix(prefix=BLOCK, preferred=200, valid=300, exclude=EXCLUDED, status=StatusOption(0, "fine")),),
    status=StatusOption(0, "fine"),
)


def client_in(exchange: Exchange) -> tuple[Client, float, bytes]:
    """A client that does this, the time, and the transaction that it waits for an answer to."""
    now = 0.0
    client = Client(duid=CLIENT, iaid=IAID, chance=Random(1), now=now)
    sent = b""

    def step() -> None:
        nonlocal now, sent
        now = max(now, client.deadline())
        for data in client.to_send(now):
            sent = decode(data).message.transaction

    while not sent:
        step()
    if exchange is Exchange.SOLICITING:
        return client, now, sent
    kind = Kind.ADVERTISE if exchange is Exchange.REQUESTING else Kind.REPLY
    options = Options(client_id=CLIENT, server_id=SERVER, pd=(FULL,), preference=255, rapid_commit=kind is Kind.REPLY)
    client.receive(encode(Message(int(kind), sent, options)), now)
    if exchange is Exchange.CONFIRMING:
        client.link_came_back(now)
    if exchange is Exchange.RELEASING:
        client.release(now)
    while client.exchange is not exchange:
        step()
    before = sent
    while sent == before and exchange is not Exchange.BOUND:
        step()
    return client, now, sent


EXCHANGES = [each for each in Exchange if each is not Exchange.ENDED]
PREFIXES = st.builds(
    IaPrefix,
    prefix=st.just(BLOCK) | st.builds(prefix_of, st.binary(min_size=16, max_size=16), st.integers(0, 128)),
    preferred=st.integers(0, 400),
    valid=st.sampled_from([0, 1, 300, 0xFFFFFFFF]) | st.integers(0, 0xFFFFFFFF),
    status=st.none() | st.builds(StatusOption, st.integers(0, 7)),
)
PD = st.builds(
    IaPd,
    iaid=st.sampled_from([IAID, IAID, IAID, 8]),
    t1=st.sampled_from([0, 1, 100, 0xFFFFFFFF]),
    t2=st.sampled_from([0, 1, 160, 0xFFFFFFFF]),
    prefixes=st.lists(PREFIXES, max_size=4).map(tuple),
    status=st.none() | st.builds(StatusOption, st.integers(0, 7)),
)
NA = st.builds(
    IaNa,
    iaid=st.sampled_from([IAID, 8]),
    addresses=st.lists(st.builds(IaAddress, address=st.binary(min_size=16, max_size=16)), max_size=10).map(tuple),
)
OPTIONS = st.builds(
    Options,
    client_id=st.sampled_from([CLIENT, CLIENT, CLIENT, b"", b"\x00\x04other"]),
    server_id=st.sampled_from([SERVER, SERVER, b"", b"\x00\x04other"]),
    pd=st.lists(PD, max_size=2).map(tuple),
    na=st.lists(NA, max_size=2).map(tuple),
    fqdn=st.binary(max_size=20),
    status=st.none() | st.builds(StatusOption, st.integers(0, 7)),
    preference=st.none() | st.integers(0, 255),
    rapid_commit=st.booleans(),
    sol_max_rt=st.none() | st.integers(0, 0xFFFFFFFF),
    requested=st.lists(st.integers(0, 100), max_size=4).map(tuple),
)


def survives(client: Client, data: bytes, now: float) -> None:
    """It takes the bytes or discards them, and goes on."""
    before = client.held
    try:
        client.receive(data, now)
    except PeerError:
        assert client.held == before
    assert len(client.held) <= MAX_PREFIXES
    assert len({each.prefix for each in client.held}) == len(client.held)
    assert all(each.valid_until > now for each in client.held)
    client.events()
    sent, began = 0, now
    for _ in range(20):  # and asks on, at its pace
        if math.isinf(client.deadline()):
            assert client.exchange is Exchange.ENDED
            return
        now = max(now, client.deadline())
        if now > began + 3_600:
            return
        sent += len(client.to_send(now))
    assert sent <= 2 + (now - began) / 0.9


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("kind", [Kind.ADVERTISE, Kind.REPLY])
def test_every_cut_and_every_changed_byte_of_an_answer(exchange: Exchange, kind: Kind) -> None:
    options = Options(client_id=CLIENT, server_id=SERVER, pd=(FULL,), sol_max_rt=100, rapid_commit=True)
    _, _, transaction = client_in(exchange)
    whole = encode(Message(int(kind), transaction, options))
    for cut in range(len(whole)):
        client, now, _ = client_in(exchange)
        survives(client, whole[:cut], now)
    for at in range(len(whole)):
        for bits in (0x01, 0x80, 0xFF):
            client, now, _ = client_in(exchange)
            survives(client, whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :], now)


@pytest.mark.parametrize("exchange", EXCHANGES)
@given(
    kind=st.sampled_from([Kind.ADVERTISE, Kind.REPLY, Kind.RECONFIGURE]), said=st.lists(OPTIONS, min_size=1, max_size=4)
)
def test_answers_that_say_anything(exchange: Exchange, kind: Kind, said: list[Options]) -> None:
    client, now, transaction = client_in(exchange)
    for options in said:
        for data in client.to_send(now):
            transaction = decode(data).message.transaction
        survives(client, encode(Message(int(kind), transaction, options)), now)


@given(st.binary(max_size=200), st.sampled_from(EXCHANGES))
def test_anything_at_all(data: bytes, exchange: Exchange) -> None:
    client, now, transaction = client_in(exchange)
    for packet in (data, bytes([Kind.REPLY]) + transaction + data):
        survives(client, packet, now)
    reads(data)
    reads(bytes([Kind.SOLICIT]) + b"abc" + data)


def reads(data: bytes) -> None:
    """The server takes it, and can answer, or discards it."""
    try:
        relayed = decode(data)
        asked = question(relayed.message, server=SERVER)
    except PeerError:
        return
    assert len({each.iaid for each in asked.wanted}) == len(asked.wanted) <= MAX_ASSOCIATIONS
    assert len({each.iaid for each in asked.addresses}) == len(asked.addresses) <= MAX_ASSOCIATIONS
    assert all(0 <= each.length <= 64 for each in asked.wanted)
    assert all(len(each.addresses) <= MAX_ADDRESSES for each in asked.addresses)
    assert 0 <= asked.decisions <= 2 * MAX_ASSOCIATIONS * MAX_ADDRESSES
    assert asked.name.isascii()
    assert asked.name.isprintable()
    assert hardware_in(asked.client) == b"" or len(hardware_in(asked.client)) == 6
    told = Answer(
        prefixes=tuple(Given(iaid=a.iaid, prefixes=tuple(map(over, a.prefixes))) for a in asked.wanted),
        addresses=tuple(
            GivenAddresses(iaid=a.iaid, addresses=tuple(map(address_over, a.addresses))) for a in asked.addresses
        ),
    )
    answered = answer(asked, told, server=SERVER)
    assert decode(encode(answered)).message == answered
    assert decode(encode_reply(answered, relayed.relays)).message == answered


@given(st.sampled_from(list(Kind)), OPTIONS)
def test_questions_that_say_anything(kind: Kind, options: Options) -> None:
    message = Message(int(kind), b"abc", options)
    if kind not in (Kind.RELAY_FORW, Kind.RELAY_REPL):
        reads(encode(message))
        reads(encode_forward(encode(message), Relay()))


@pytest.mark.parametrize("is_relayed", [False, True])
def test_every_cut_and_every_changed_byte_of_a_question(*, is_relayed: bool) -> None:
    na = (IaNa(iaid=1), IaNa(iaid=2, addresses=(IaAddress(address=BLOCK.network),)))
    options = Options(client_id=DUID_LL, pd=(FULL,), na=na, requested=(67, 82), elapsed=3, fqdn=b"\1\2pc\0")
    whole = encode(Message(int(Kind.SOLICIT), b"abc", options))
    if is_relayed:
        whole = encode_forward(whole, Relay(link=BLOCK.network, interface_id=b"eth1", link_layer=b"\0\1" + DUID_LL[4:]))
    for cut in range(len(whole)):
        reads(whole[:cut])
    for at in range(len(whole)):
        for bits in range(1, 256):
            reads(whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :])


@given(st.randoms(use_true_random=False), st.integers(0, 64))
def test_a_client_that_nobody_answers_never_asks_faster(random: Random, length: int) -> None:
    client = Client(duid=CLIENT, iaid=IAID, chance=random, now=0.0, length=length)
    times = []
    now = 0.0
    while now < 100_000:
        now = client.deadline()
        times += [now for _ in client.to_send(now)]
    pauses = [after - before for before, after in pairwise(times)]
    assert all(after >= 0.81 * before for before, after in pairwise(pauses))
    assert max(pauses) <= 3_600 * 1.1001
