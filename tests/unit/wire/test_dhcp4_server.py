"""What a DHCPv4 server takes of a client's message, and what it discards."""

from __future__ import annotations

from typing import Any

import pytest

from dnms.events.ip import parse_address
from dnms.wire.dhcp4.codes import SMALLEST, Kind
from dnms.wire.dhcp4.messages import HEADERS, NOBODY, Message, decode, encode
from dnms.wire.dhcp4.options import Options
from dnms.wire.dhcp4.server import LARGEST, MAX_HOPS, MOST_REPEATED, State, Told, acknowledge, question
from dnms.wire.errors import Code, PeerError

SERVER, OTHER, MINE = parse_address("192.0.2.1"), parse_address("192.0.2.2"), parse_address("192.0.2.7")
FIELDS = {"client", "relay", "hops", "op", "hardware", "hardware_type"}


def message(kind: int, **said: Any) -> Message:
    fields = {"op": 1, "hardware": b"\2abcde", **{name: said.pop(name) for name in FIELDS & said.keys()}}
    return Message(kind=int(kind), transaction=b"abcd", options=Options(**said), **fields)


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ({"server_id": SERVER, "requested_address": MINE}, State.SELECTING),
        ({"requested_address": MINE}, State.INIT_REBOOT),
        ({"client": MINE}, State.RENEWING),
        ({"client": MINE, "requested_address": OTHER}, State.RENEWING),
    ],
)
def test_the_states_in_which_a_client_requests(said: dict[str, Any], state: State) -> None:
    asked = question(message(Kind.REQUEST, **said), server=SERVER)
    assert (asked.state, asked.wanted) == (state, MINE)


@pytest.mark.parametrize(
    ("kind", "said", "why"),
    [
        (Kind.REQUEST, {}, Code.MALFORMED),
        (Kind.REQUEST, {"server_id": SERVER}, Code.MALFORMED),
        (Kind.REQUEST, {"server_id": OTHER, "requested_address": MINE}, Code.SERVER_ID),
        (Kind.RELEASE, {"client": MINE}, Code.SERVER_ID),
        (Kind.RELEASE, {"server_id": SERVER}, Code.MALFORMED),
        (Kind.RELEASE, {"server_id": OTHER, "client": MINE}, Code.SERVER_ID),
        (Kind.DECLINE, {"requested_address": MINE}, Code.SERVER_ID),
        (Kind.DECLINE, {"server_id": SERVER}, Code.MALFORMED),
        (Kind.INFORM, {}, Code.MALFORMED),
        (Kind.DISCOVER, {"hops": MAX_HOPS + 1}, Code.TOO_MANY),
        (Kind.DISCOVER, {"op": 2}, Code.DIRECTION),
        (Kind.OFFER, {}, Code.DIRECTION),
        (Kind.ACK, {}, Code.DIRECTION),
        (Kind.NAK, {}, Code.DIRECTION),
        (9, {}, Code.KIND),
        (Kind.DISCOVER, {"hardware": b""}, Code.UNEXPECTED),
        (Kind.DISCOVER, {"hardware": b"\1abcde"}, Code.UNEXPECTED),
        (Kind.DISCOVER, {"hardware_type": 32}, Code.UNEXPECTED),
    ],
)
def test_what_is_discarded(kind: int, said: dict[str, Any], why: Code) -> None:
    with pytest.raises(PeerError) as error:
        question(message(kind, **said), server=SERVER)
    assert error.value.why == why


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"host_name": "printer"}, "printer"),
        ({"fqdn": b"\x01\0\0printer.example"}, "printer.example"),
        ({"fqdn": b"\x05\0\0\x07printer\x07example\0"}, "printer.example"),
        ({"fqdn": b"\x05\0\0\x07printer"}, "printer"),
        ({"host_name": "a", "fqdn": b"\x01\0\0b"}, "a"),
        ({"fqdn": b"\x05\0\0\x70printer"}, ""),
        ({"fqdn": b"\x05\0\0\x02a\n"}, ""),
        ({"fqdn": b"\x01\0\0\xff"}, ""),
        ({"fqdn": b"\x01\0\0"}, ""),
        ({}, ""),
    ],
)
def test_the_name_that_a_client_says(said: dict[str, Any], name: str) -> None:
    assert question(message(Kind.DISCOVER, **said), server=SERVER).name == name


def test_no_message_is_larger_than_a_client_or_the_link_takes() -> None:
    sizes = {None: SMALLEST, 0: SMALLEST, 1_000: 1_000, 9_000: LARGEST}
    for said, size in sizes.items():
        asked = question(message(Kind.DISCOVER, max_size=said), server=SERVER)
        assert (asked.size, asked.wanted) == (size, NOBODY)


@pytest.mark.parametrize("size", [None, 700])
def test_what_an_answer_has_to_repeat_fits_into_it_or_the_message_is_discarded(size: int | None) -> None:
    most = MOST_REPEATED + (0 if size is None else size - SMALLEST)
    told = Told(address=MINE, lease=1, t1=1, t2=1, mask=120, dns=(OTHER,) * 99, search=("a.example",) * 99)
    said = {"client_id": bytes(100), "max_size": size, "rapid_commit": True}
    asked = question(message(Kind.DISCOVER, agent=bytes(most - 100), **said), server=SERVER)
    data = encode(acknowledge(asked, told, server=SERVER), size=asked.size)
    assert len(data) <= asked.size - HEADERS
    options = decode(data).options
    assert (options.client_id, options.agent, options.lease_time) == (bytes(100), bytes(most - 100), 1)
    with pytest.raises(PeerError) as error:
        question(message(Kind.DISCOVER, agent=bytes(most - 99), **said), server=SERVER)
    assert error.value.why == Code.OVERSIZED


def test_rapid_commit_is_of_a_discover_alone() -> None:
    assert question(message(Kind.DISCOVER, rapid_commit=True), server=SERVER).rapid_commit
    assert not question(message(Kind.REQUEST, rapid_commit=True, client=MINE), server=SERVER).rapid_commit
