from __future__ import annotations

import pytest

from dnms.domain import remembered
from dnms.domain.remembered import Forgotten, Remembered
from dnms.events.ip import parse_address, parse_prefix

ONE, TWO, THREE = (parse_address(f"192.0.2.{host}") for host in (1, 2, 3))
ANNA, BERT = b"a" * 16, b"b" * 16
PREFIX = parse_prefix("192.0.2.0/24")


def lost(memory: Remembered, *addresses: bytes) -> None:
    for address in addresses:
        memory.end(address, ANNA)


def test_a_quarantine_ends_and_leaves_nothing_behind() -> None:
    memory = Remembered()
    lost(memory, ONE)
    memory.decline(ONE, ANNA, 100, durable=True)
    assert memory.withholds(ONE, ANNA, at=99)
    assert memory.declines(ANNA, at=99) == 1
    assert memory.forget(99) == Forgotten([], [])
    assert memory.forget(100) == Forgotten([], [ONE])
    assert not memory.withholds(ONE, BERT, at=100)
    assert not memory.quarantine
    assert not memory._declines
    assert not memory._ends


def test_a_promise_keeps_others_away_and_not_its_client() -> None:
    memory = Remembered()
    lost(memory, ONE)
    memory.withdraw(ONE, ANNA, 100, durable=True)
    assert memory.withholds(ONE, BERT, at=99)
    assert not memory.withholds(ONE, ANNA, at=99)
    assert memory.forget(100) == Forgotten([], [ONE])
    assert not memory.withholds(ONE, BERT, at=100)


def test_what_its_client_took_back_is_not_said_to_be_free() -> None:
    memory = Remembered()
    lost(memory, ONE)
    memory.withdraw(ONE, ANNA, 100, durable=True)
    memory.hold(ONE)
    assert memory.forget(100) == Forgotten([], [])


def test_free_since_the_end_of_its_quarantine() -> None:
    memory = Remembered()
    lost(memory, ONE)
    memory.decline(ONE, ANNA, 100, durable=True)
    lost(memory, TWO)
    assert list(memory.free(4)) == [TWO]
    assert list(memory.over(100)) == [ONE]
    memory.forget(100)
    assert list(memory.free(4)) == [TWO, ONE]


def test_a_draft_leaves_it_as_it_is() -> None:
    memory = Remembered()
    lost(memory, ONE, TWO)
    draft = memory.draft()
    draft.decline(ONE, ANNA, 100, durable=False)
    draft.withdraw(TWO, ANNA, 100, durable=False)
    draft.move((ANNA, 1, PREFIX), 7)
    draft.hold(TWO)
    assert (draft.counter((ANNA, 1, PREFIX)), memory.counter((ANNA, 1, PREFIX))) == (7, 0)
    assert list(memory.free(4)) == [ONE, TWO]
    assert memory.forget(1_000) == Forgotten([], [])


def test_what_too_many_clients_left_behind_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    for bound in ("MAX_FORMER", "MAX_MOVED", "MAX_WITHHELD"):
        monkeypatch.setattr(remembered, bound, 2)
    memory = Remembered()
    lost(memory, ONE, TWO, THREE)
    for number, client in enumerate((ANNA, BERT, b"c" * 16)):
        memory.move((client, 1, PREFIX), 5)
        memory.decline((ONE, TWO, THREE)[number], client, 100 + number, durable=True)
    memory.move((BERT, 1, PREFIX), 6)
    forgotten = memory.forget(0)
    assert forgotten == Forgotten([TWO], [ONE])  # ONE is free before its time, and so the newest of the former
    assert [memory.counter((client, 1, PREFIX)) for client in (ANNA, BERT, b"c" * 16)] == [0, 6, 5]
    assert len(memory.quarantine) == 2
