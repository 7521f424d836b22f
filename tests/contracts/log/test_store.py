"""Storing with an expected sequence, and reading single messages back."""

from __future__ import annotations

import asyncio
import os

import pytest

from dnms.bus.port import Log, LostRace
from dnms.events.commit import MAX_BYTES


async def test_an_empty_log_ends_at_0(log: Log, site: str) -> None:
    assert await log.end() == 0
    assert await log.first_after(f"dnms.{site}.plan", 0) is None
    assert len(log.log_id) == 32


async def test_sequences_are_of_the_stream_and_have_no_gaps(log: Log, site: str) -> None:
    plan, ledger = f"dnms.{site}.plan", f"dnms.{site}.ledger.lan"
    assert await log.store(plan, b"a", expected=0) == 1
    assert await log.store(ledger, b"b", expected=0) == 2
    assert await log.store(plan, b"c", expected=1) == 3
    assert await log.end() == 3


@pytest.mark.parametrize("expected", [0, 2, 3])
async def test_a_wrong_expected_sequence_stores_nothing(log: Log, site: str, expected: int) -> None:
    plan = f"dnms.{site}.plan"
    assert await log.store(plan, b"a", expected=0) == 1
    with pytest.raises(LostRace):
        await log.store(plan, b"b", expected=expected)
    assert await log.end() == 1


async def test_one_of_many_racers_wins(log: Log, site: str) -> None:
    plan = f"dnms.{site}.plan"
    outcomes = await asyncio.gather(
        *(log.store(plan, str(number).encode(), expected=0) for number in range(20)), return_exceptions=True
    )
    assert [outcome for outcome in outcomes if not isinstance(outcome, LostRace)] == [1]
    assert await log.end() == 1


async def test_the_first_message_after_a_sequence_is_of_that_subject(log: Log, site: str) -> None:
    plan, ledger = f"dnms.{site}.plan", f"dnms.{site}.ledger.lan"
    await log.store(plan, b"a", expected=0)
    await log.store(ledger, b"b", expected=0)
    await log.store(plan, b"c", expected=1)
    first, second, third = [await log.first_after(plan, sequence) for sequence in (0, 1, 3)]
    assert first is not None
    assert second is not None
    assert (first.subject, first.sequence, first.data) == (plan, 1, b"a")
    assert (second.subject, second.sequence, second.data) == (plan, 3, b"c")
    assert third is None


async def test_the_largest_commit_can_be_stored_and_read(log: Log, site: str) -> None:
    plan, data = f"dnms.{site}.plan", os.urandom(MAX_BYTES)
    sequence = await log.store(plan, data, expected=0)
    found = await log.first_after(plan, sequence - 1)
    assert found is not None
    assert found.data == data


@pytest.mark.parametrize("subject", ["plan", "dnms.other.plan", "dnms.{site}", "dnms.{site}.a..b", "dnms.{site}.*"])
async def test_what_is_no_subject_of_the_site_is_a_mistake(log: Log, site: str, subject: str) -> None:
    with pytest.raises(ValueError, match="no subject of the site"):
        await log.store(subject.replace("{site}", site), b"", expected=0)
