"""Personal values sealed with a key of their client, and what is the same without it."""

from __future__ import annotations

import msgspec
import pytest

from dnms.events import codec
from dnms.events.commit import Commit
from dnms.events.configuration import Link, Snapshot
from dnms.events.node import NodeIdentified
from dnms.events.recorded import Event, Personal, Recorded, Request
from dnms.events.requests import REQUESTS
from dnms.events.sealing import (
    SECRET_BYTES,
    Key,
    changed,
    is_personal,
    key_ids,
    personal_kinds,
    seal,
    sealed,
    unseal,
)
from dnms.events.seen import ConfigurationRegistered
from tests.unit.events.examples import full

ONE = Key(bytes(16), b"8 bytes.", bytes(range(SECRET_BYTES)))
OTHER = Key(bytes(16), b"8 others", bytes(SECRET_BYTES))
MAC = b"\x02\x00\x5e\x10\x00\x01"
VALUES = ["", "anna's laptop", "é", "x" * 300, b"", MAC, bytes(130), b"\x80\0\0"]

KINDS: tuple[type[Recorded], ...] = (*personal_kinds(codec.EVENTS), *personal_kinds(REQUESTS))


@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_sealed_and_comes_back(value: str | bytes) -> None:
    clear = Personal(value)
    closed = seal(clear, ONE)
    assert (closed.value, closed.key_id, closed.text) == (None, ONE.id, "(forgotten)")
    assert unseal(closed, ONE) == clear
    assert seal(closed, ONE) is closed
    assert unseal(clear, ONE) is clear


def test_equal_values_are_equal_with_one_key_and_with_no_other() -> None:
    assert seal(Personal("anna"), ONE) == seal(Personal("anna"), ONE)
    assert seal(Personal("anna"), ONE) != seal(Personal("bert"), ONE)
    assert seal(Personal("anna"), ONE).payload[9:] != seal(Personal("anna"), OTHER).payload[9:]


def test_another_key_does_not_open_it_nor_does_its_own_once_it_was_changed() -> None:
    closed = seal(Personal("anna"), ONE)
    assert unseal(closed, OTHER) is closed
    assert unseal(closed, Key(ONE.client, ONE.id, OTHER.secret)) is closed
    changed_after = Personal.from_payload(closed.payload[:-1] + bytes([closed.payload[-1] ^ 1]))
    assert unseal(changed_after, ONE) is changed_after
    too_short = Personal.from_payload(closed.payload[:12])
    assert unseal(too_short, ONE) is too_short


def test_the_length_says_nothing_of_usual_values() -> None:
    usual = [Personal("a"), Personal("a-name-that-is-rather-long"), Personal(MAC), Personal(b"\0\4" + bytes(16))]
    assert len({len(seal(value, ONE).payload) for value in usual}) == 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_nothing_of_a_recorded_value_stays_in_clear(kind: type[Recorded]) -> None:
    clear = full(kind)
    assert is_personal(clear)
    assert isinstance(clear.client, bytes)
    closed = sealed(clear, ONE)
    found: list[Personal] = []

    def note(value: Personal) -> Personal:
        found.append(value)
        return value

    changed(closed, note)
    assert found
    assert {value.key_id for value in found} == {ONE.id} == key_ids(closed)
    opened = changed(closed, lambda value: unseal(value, ONE))
    if not isinstance(clear, ConfigurationRegistered):
        assert opened == clear
    assert sealed(closed, ONE) is closed


@pytest.mark.parametrize("kind", [*codec.EVENTS, *REQUESTS], ids=lambda kind: kind.__name__)
def test_what_has_nothing_personal_is_the_same_object(kind: type[Event | Request]) -> None:
    value = full(kind)
    if not is_personal(value):
        assert sealed(value, ONE) is value


def test_the_digest_of_a_registration_does_not_give_the_hardware_address_away() -> None:
    """All else that is digested is in the log, so 2^24 guesses would find the address of a known maker."""
    links = (Link(index=1, name="lo"), Link(index=2, name="eth0", hardware=Personal(MAC)))
    clear = ConfigurationRegistered(client=bytes(16), digest=b"d" * 32, snapshot=Snapshot(links=links))
    closed = sealed(clear, ONE)
    assert closed.digest != clear.digest
    assert closed == sealed(clear, ONE)  # so it still says whether a node has what it had
    assert closed.digest != sealed(clear, OTHER).digest
    assert closed.snapshot.links[0] == links[0]
    bare = msgspec.structs.replace(clear, snapshot=Snapshot(links=links[:1]))
    assert sealed(bare, ONE) is bare


def test_a_commit_of_sealed_values_is_read_as_it_was_written() -> None:
    event = sealed(NodeIdentified(client=bytes(16), duid=Personal(MAC), name=Personal("anna's laptop")), ONE)
    data = codec.encode(Commit(id=bytes(16), time=1, predecessor=0, actor="agent/a", events=(event,)))
    assert b"anna" not in data
    assert MAC not in data
    assert codec.decode(data).events == (event,)


def test_a_key_does_not_show_itself() -> None:
    assert repr(ONE) == f"{ONE}" == "Key(3820627974 65732e)".replace(" ", "")
