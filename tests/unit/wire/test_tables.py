"""The tables that the sessions run, the golden bytes of each message, and the document that shows both."""

from __future__ import annotations

import re

import msgspec
import pytest

from dnms.wire import datagrams, errors, frames, messages, relaying
from dnms.wire.drawing import diagram, label, timers
from dnms.wire.errors import Code, PeerError
from dnms.wire.exchanges import IF_CONFIGURED, NEXT, STRIPS, Exchange, On, following
from dnms.wire.phases import ACCEPTS, Phase
from dnms.wire.timers import RUNNING, TIMERS
from tests.unit.wire import golden_bytes as golden
from tests.unit.wire.examples import ANSWERS, FRAMES, OFFER, SAID, SOLICIT

DATAGRAMS = (messages.Solicit, messages.Offer)
PARTS = (messages.Endpoint, messages.Association, messages.PrefixAssociation, messages.Binding)


def test_every_exchange_is_reached_and_left() -> None:
    assert {exchange for exchange, _ in NEXT} == set(Exchange)
    assert set(NEXT.values()) == set(Exchange)
    assert {on for _, on in NEXT} == set(On)


def test_whatever_goes_on_a_session_may_end() -> None:
    for exchange in set(Exchange) - {Exchange.DISCOVERING}:
        assert following(exchange, On.ENDED) is Exchange.DISCOVERING


def test_what_is_not_in_the_table_is_the_peers_error() -> None:
    with pytest.raises(PeerError) as caught:
        following(Exchange.DISCOVERING, On.ASSIGN)
    assert caught.value.why is Code.UNEXPECTED


def test_the_diagram_has_every_transition() -> None:
    drawn = diagram()
    inside = drawn.partition("session {")[2].partition("}")[0]
    for (exchange, on), then in NEXT.items():
        named = rf"{then}: (.* / )?{re.escape(label(on))}( / .*)?$"
        if on in (On.ENDED, On.NO_ANSWER, On.SILENCE):
            assert f"{exchange} --> " in inside
            assert re.search(rf"^ +session --> {named}", drawn, re.MULTILINE)
        else:
            assert re.search(rf"^ +{exchange} --> {named}", drawn, re.MULTILINE)


def test_the_diagram_has_what_ends_being_configured() -> None:
    (arrow,) = re.findall(r"^ +configured --> unconfigured: (.*)$", diagram(), re.MULTILINE)
    assert set(STRIPS) < set(arrow.split(" / "))


def test_every_timer_runs_where_it_moves_something_and_has_bounds() -> None:
    for on, timer in TIMERS.items():
        assert 0 <= timer.least <= timer.most
        assert timer.most > 0
        where = {exchange for exchange in Exchange if on in RUNNING[exchange, True]}
        assert where == {exchange for exchange, each in NEXT if each is on}
        either = {exchange for exchange in Exchange if on in RUNNING[exchange, False]}
        assert either == (set() if on in IF_CONFIGURED else where)
        assert f"\n| {on} | " in timers()


def test_a_node_renews_only_when_idle_and_looks_for_another_agent_only_when_configured() -> None:
    """What RFC 8415 says, 18.2.4 and 18.2.5."""
    assert {state for state, running in RUNNING.items() if On.T1 in running} == {(Exchange.IDLE, True)}
    assert (Exchange.RENEWING, True) in {state for state, running in RUNNING.items() if On.T2 in running}
    assert not [state for state, running in RUNNING.items() if On.T2 in running and not state[1]]


def test_a_closed_session_takes_nothing_and_every_message_is_known() -> None:
    assert set(ACCEPTS) == set(Phase)
    assert not ACCEPTS[Phase.CLOSED]
    assert set().union(*ACCEPTS.values()) < set(messages.MESSAGES)


@pytest.mark.parametrize("frame_id, message", FRAMES, ids=lambda value: getattr(value, "KIND", None))
def test_every_frame_is_read_and_written_as_it_was(frame_id: int, message: messages.Message) -> None:
    data = golden.published()[message.KIND]
    assert frames.encode(message, frame_id) == data
    assert frames.decode(data[4:]) == frames.Frame(frame_id, message)


def test_both_datagrams_are_read_and_written_as_they_were() -> None:
    published = golden.published()
    assert datagrams.encode_solicit(SOLICIT) == published["solicit"]
    assert datagrams.encode_offer(OFFER) == published["offer"]
    assert datagrams.decode(published["solicit"], hop_limit=255) == SOLICIT
    assert datagrams.decode(published["offer"], hop_limit=255) == OFFER


def test_what_relays_and_agents_say_is_read_and_written_as_it_was() -> None:
    published, written = golden.published(), golden.relays()
    for name, data in written.items():
        assert data == published[name]
        head, body = relaying.decode_head(data[: relaying.HEAD]), data[relaying.HEAD :]
        if name in SAID:
            signed, said = relaying.decode_signed(head, body)
            assert (said, signed.certificate, signed.signature) == (SAID[name], b"certificate", bytes(range(64)))
        else:
            assert relaying.decode_answer(head, body) == ANSWERS[name]


def test_every_message_has_golden_bytes() -> None:
    datagrams_and_relays = {"solicit", "offer", *golden.relays()}
    assert set(golden.published()) == datagrams_and_relays | {message.KIND for message in messages.MESSAGES}
    assert set(golden.published()) == set(golden.encoded())


def test_the_document_shows_the_table_and_the_golden_bytes() -> None:
    text = golden.DOCUMENT.read_text()
    assert golden.document(text) == text, "run: python -m tests.unit.wire.golden_bytes"


@pytest.mark.parametrize("kind", (*messages.MESSAGES, *DATAGRAMS, *PARTS), ids=lambda kind: kind.__name__)
def test_the_document_names_every_key(kind: type[msgspec.Struct]) -> None:
    text = golden.DOCUMENT.read_text().partition("## Words")[0]
    named = getattr(kind, "KIND", kind.__name__.lower())
    rows = re.findall(rf"^\| `{named}` \|(.*)$", text, re.MULTILINE)
    assert len(rows) == 1, f"{named} has {len(rows)} rows"
    assert set(kind.__struct_fields__) <= set(re.findall(r"`(\w+)`", rows[0]))


@pytest.mark.parametrize("code", errors.Code)
def test_the_document_names_every_word(code: Code) -> None:
    assert f"| `{code}` |" in golden.DOCUMENT.read_text()


@pytest.mark.parametrize("name", ["PORT", "GROUP", "ALL_NODES", "MAX_ENDPOINTS", "MAX_ASSOCIATIONS", "MAX_CHUNKS"])
def test_the_document_gives_the_numbers_that_the_code_has(name: str) -> None:
    assert f"`{getattr(messages, name)}`" in golden.DOCUMENT.read_text()
