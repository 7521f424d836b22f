"""How a node finds an agent, and how an agent lets itself be found."""

from __future__ import annotations

import random
from itertools import pairwise

import msgspec
import pytest

from dnms.wire import datagrams
from dnms.wire.answering import ANSWERS_A_PEER, ANSWERS_A_SECOND, MAX_DELAY, Answering
from dnms.wire.datagrams import MAX_DATAGRAM, decode, encode_offer, encode_solicit
from dnms.wire.discovery import COLLECT_FOR, FIRST_WITHIN, LAST_INTERVAL, MAX_OFFERS, Chosen, Discovery, Outgoing
from dnms.wire.errors import Code, PeerError
from dnms.wire.messages import ALL_NODES, GROUP, Endpoint, Offer, Solicit
from tests.unit.wire.examples import ADDRESS, DUID, NONCE, OFFER, SOLICIT

SOLICITED = encode_solicit(SOLICIT)
OFFERED = encode_offer(OFFER)


def new(seed: int = 1, *, duid: bytes = DUID) -> Discovery[str]:
    return Discovery(duid=duid, chance=random.Random(seed), now=0.0)


def sent(discovery: Discovery[str], until: float) -> list[tuple[float, Outgoing]]:
    """Everything that is sent until then, and when."""
    out = []
    while (at := discovery.deadline()) is not None and at <= until:
        out += [(at, outgoing) for outgoing in discovery.to_send(at)]
    return out


def nonce_of(outgoing: Outgoing) -> bytes:
    solicit = decode(outgoing.data, hop_limit=255)
    assert isinstance(solicit, Solicit)
    return solicit.nonce


def offer_to(discovery: Discovery[str], at: float, **changes: object) -> bytes:
    """An offer to the search that is going on."""
    (outgoing,) = [outgoing for _, outgoing in sent(discovery, at)][-1:]
    return encode_offer(msgspec.structs.replace(OFFER, nonce=nonce_of(outgoing), **changes))


def chosen(discovery: Discovery[str]) -> list[str]:
    """The agents in the order of choice."""
    (event,) = discovery.events()
    return [candidate.offer.agent for candidate in event.candidates]


@pytest.mark.parametrize("seed", range(20))
def test_solicits_go_out_with_the_timing_of_rfc_8415(seed: int) -> None:
    out = sent(new(seed), until=4_000)
    assert 0 <= out[0][0] <= FIRST_WITHIN
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(out)]
    assert 0.225 <= gaps[0] <= 0.275
    for earlier, later in pairwise(gaps):
        assert later <= LAST_INTERVAL * 1.1
        assert 1.9 * earlier <= later <= 2.1 * earlier or later >= LAST_INTERVAL * 0.9
    assert len(gaps) > 30
    assert len(set(gaps[-5:])) == 5  # jitter goes on for ever


def test_every_third_solicit_goes_to_all_nodes() -> None:
    assert [outgoing.group for _, outgoing in sent(new(), until=20)][:6] == [GROUP, GROUP, ALL_NODES] * 2


def test_one_search_has_one_nonce_and_the_next_a_fresh_one() -> None:
    discovery = new()
    first = {nonce_of(outgoing) for _, outgoing in sent(discovery, until=20)}
    assert len(first) == 1
    discovery.resume(20)
    second = {nonce_of(outgoing) for _, outgoing in sent(discovery, until=200)}
    assert len(second) == 1
    assert first != second


def test_offers_are_collected_for_a_moment() -> None:
    discovery = new()
    data = offer_to(discovery, 0.1)
    discovery.receive(data, hop_limit=255, peer="a", now=0.2)
    assert discovery.deadline() == pytest.approx(0.2 + COLLECT_FOR)
    other = msgspec.structs.replace(OFFER, nonce=datagrams.decode(data, hop_limit=255).nonce, agent="agent-2")
    discovery.receive(encode_offer(other), hop_limit=255, peer="b", now=0.2 + COLLECT_FOR / 2)
    assert discovery.events() == []
    discovery.tick(0.2 + COLLECT_FOR)
    (event,) = discovery.events()
    assert isinstance(event, Chosen)
    assert {candidate.peer for candidate in event.candidates} == {"a", "b"}
    assert discovery.deadline() is None
    discovery.receive(data, hop_limit=255, peer="c", now=1)
    assert discovery.dropped[Code.LATE] == 1
    assert discovery.to_send(1_000) == []


def test_a_solicit_that_is_due_while_offers_are_collected_is_not_waited_for() -> None:
    discovery = new()
    offered = offer_to(discovery, 0.1)
    due = discovery.deadline()
    assert due is not None
    discovery.receive(offered, hop_limit=255, peer="fe80::1", now=due - 0.001)
    assert discovery.deadline() == pytest.approx(due - 0.001 + COLLECT_FOR)
    assert not discovery.to_send(due)


def test_preference_comes_before_load_and_load_before_chance() -> None:
    discovery = new()
    for agent, preference, load in (("a", 1, 0), ("b", 9, 50), ("c", 9, 2)):
        data = offer_to(discovery, 0.1, agent=agent, preference=preference, load=load) if agent == "a" else None
        if data is not None:
            nonce = decode(data, hop_limit=255).nonce
        offer = msgspec.structs.replace(OFFER, nonce=nonce, agent=agent, preference=preference, load=load)
        discovery.receive(encode_offer(offer), hop_limit=255, peer=agent, now=0.1)
    discovery.tick(1)
    assert chosen(discovery) == ["c", "b", "a"]


def test_the_nodes_of_a_link_spread_over_equal_agents() -> None:
    firsts = []
    for number in range(200):
        discovery = new(number, duid=DUID + bytes([number]))
        nonce = nonce_of(sent(discovery, 0.1)[0][1])
        for agent in ("a", "b", "c", "d"):
            offer = msgspec.structs.replace(OFFER, nonce=nonce, agent=agent)
            discovery.receive(encode_offer(offer), hop_limit=255, peer=agent, now=0.1)
        discovery.tick(1)
        firsts.append(chosen(discovery)[0])
    assert all(30 <= firsts.count(agent) <= 70 for agent in "abcd")


def test_a_failed_choice_goes_on_at_the_pace_that_was_reached() -> None:
    discovery = new()
    data = offer_to(discovery, 60)
    discovery.receive(data, hop_limit=255, peer="a", now=60)
    discovery.tick(61)
    assert chosen(discovery) == ["agent-1"]
    discovery.resume(61)
    following = discovery.deadline()
    assert following is not None
    assert following > 61 + 10
    discovery.receive(data, hop_limit=255, peer="a", now=62)
    assert discovery.dropped[Code.NONCE] == 1


def test_a_flood_of_offers_is_cut_off() -> None:
    discovery = new()
    data = offer_to(discovery, 0.1)
    for number in range(MAX_OFFERS + 5):
        discovery.receive(data, hop_limit=255, peer=str(number), now=0.1)
    assert discovery.dropped[Code.TOO_MANY] == 5


@pytest.mark.parametrize(
    ("data", "hop_limit", "code"),
    [
        (SOLICITED, 254, Code.HOP_LIMIT),
        (b"DNMS\x01", 255, Code.TOO_SHORT),
        (SOLICITED + b"\x00", 255, Code.OVERSIZED),
        (b"DNS\x00" + SOLICITED[4:], 255, Code.MAGIC),
        (b"DNMS\x02" + SOLICITED[5:], 255, Code.VERSION),
        (b"DNMS\x01\x07" + SOLICITED[6:], 255, Code.KIND),
        (SOLICITED[:-1], 255, Code.UNPADDED),
        (OFFERED[:-1], 255, Code.MALFORMED),
        (OFFERED + b"\xc0", 255, Code.MALFORMED),
        (b"DNMS\x01\x02\x80", 255, Code.MALFORMED),
    ],
)
def test_a_bad_datagram_has_a_word(data: bytes, hop_limit: int, code: Code) -> None:
    with pytest.raises(PeerError) as caught:
        decode(data, hop_limit=hop_limit)
    assert caught.value.why is code
    discovery, answering = new(), Answering[str](OFFER)
    discovery.receive(data, hop_limit=hop_limit, peer="p", now=0)
    answering.receive(data, hop_limit=hop_limit, peer="p", source="p", now=0)
    assert discovery.dropped == answering.dropped == {code: 1}


def test_nothing_is_believed_in_the_wrong_direction_or_of_another_search() -> None:
    discovery, answering = new(), Answering[str](OFFER)
    discovery.receive(SOLICITED, hop_limit=255, peer="p", now=0)
    discovery.receive(OFFERED, hop_limit=255, peer="p", now=0)
    answering.receive(OFFERED, hop_limit=255, peer="p", source="p", now=0)
    assert discovery.dropped == {Code.DIRECTION: 1, Code.NONCE: 1}
    assert answering.dropped == {Code.DIRECTION: 1}


def test_no_answer_is_larger_than_its_question() -> None:
    assert len(SOLICITED) == MAX_DATAGRAM
    many = tuple(Endpoint(address=ADDRESS, port=port) for port in range(1, 33))
    with pytest.raises(ValueError, match="name fewer endpoints"):
        Answering[str](
            msgspec.structs.replace(OFFER, endpoints=many, site="x" * 200, agent="y" * 200, subnet="z" * 200)
        )
    Answering[str](msgspec.structs.replace(OFFER, endpoints=many[:16]))


def answer(load: int) -> tuple[float, Offer]:
    answering = Answering[str](OFFER)
    answering.load = load
    answering.receive(SOLICITED, hop_limit=255, peer="p", source="p", now=5)
    due = answering.deadline()
    assert due is not None
    assert answering.to_send(due - 1e-9) == []
    ((data, peer),) = answering.to_send(due)
    assert peer == "p"
    offer = decode(data, hop_limit=255)
    assert isinstance(offer, Offer)
    assert answering.deadline() is None
    return due - 5, offer


def test_the_busier_an_agent_the_later_it_answers() -> None:
    delays = []
    for load in (0, 100, 500, 100_000):
        delay, offer = answer(load)
        assert (offer.nonce, offer.load, offer.agent) == (NONCE, load, "agent-1")
        delays.append(delay)
    assert delays == sorted(delays)
    assert delays[0] == 0
    assert delays[-1] == pytest.approx(MAX_DELAY)
    assert MAX_DELAY < COLLECT_FOR


def test_answers_are_capped_for_each_peer_and_for_all() -> None:
    answering = Answering[int](OFFER)
    for port in range(ANSWERS_A_PEER + 1):
        answering.receive(SOLICITED, hop_limit=255, peer=port, source=0, now=1.0)
    assert answering.dropped == {Code.PEER_RATE: 1}
    for peer in range(1, ANSWERS_A_SECOND):
        answering.receive(SOLICITED, hop_limit=255, peer=peer, source=peer, now=1.5)
    assert answering.dropped[Code.RATE] == ANSWERS_A_PEER - 1
    assert len(answering.to_send(2)) == ANSWERS_A_SECOND
    answering.receive(SOLICITED, hop_limit=255, peer=0, source=0, now=2.0)
    assert len(answering.to_send(3)) == 1


def test_a_node_and_an_agent_find_each_other() -> None:
    discovery, answering = new(), Answering[str](OFFER)
    now = discovery.deadline() or 0
    (outgoing,) = discovery.to_send(now)
    answering.receive(outgoing.data, hop_limit=255, peer="node", source="node", now=now)
    ((data, _),) = answering.to_send(now)
    discovery.receive(data, hop_limit=255, peer="agent", now=now)
    discovery.tick(now + COLLECT_FOR)
    assert chosen(discovery) == ["agent-1"]


def test_who_was_delayed_by_another_draw_asks_at_once() -> None:
    discovery: Discovery[str] = Discovery(duid=b"d", chance=random.Random(1), now=5.0, within=0.0)
    assert discovery.deadline() == 5.0
    assert len(discovery.to_send(5.0)) == 1
