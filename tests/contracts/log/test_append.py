"""Appending with a certain end, where the log's answers are lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from dnms.bus.append import append
from dnms.bus.port import Batch, Log, LostRace, Record, Unanswered, Unavailable

PATIENCE = 0.2  # seconds


class Faulty:
    """A log that stores or does not, and answers or does not, as a list says; afterwards it is as it is."""

    def __init__(self, log: Log, *faults: str) -> None:
        self._log = log
        self.keys = log.keys
        self._faults = list(faults)
        self.attempts = 0

    @property
    def log_id(self) -> str:
        return self._log.log_id

    async def store(self, subject: str, data: bytes, *, expected: int) -> int:
        self.attempts += 1
        fault = self._faults.pop(0) if self._faults else ""
        if fault == "away":
            raise Unavailable("away")
        if fault == "lost on the way":
            raise Unanswered("lost on the way")
        sequence = await self._log.store(subject, data, expected=expected)
        if fault == "answer lost":
            raise Unanswered("answer lost")
        return sequence

    async def first_after(self, subject: str, sequence: int) -> Record | None:
        if self._faults and self._faults[0] == "no reading":
            self._faults.pop(0)
            raise Unavailable("no reading")
        return await self._log.first_after(subject, sequence)

    async def end(self) -> int:
        return await self._log.end()

    def follow(self, subjects: Sequence[str], *, after: int = 0) -> AsyncIterator[Batch]:
        return self._log.follow(subjects, after=after)


@pytest.mark.parametrize(
    ("faults", "attempts"),
    [
        ([], 1),
        (["answer lost"], 1),
        (["lost on the way"], 2),
        (["lost on the way", "lost on the way", "answer lost"], 3),
        (["answer lost", "no reading"], 2),
        (["away"], 2),
        (["away", "away", "answer lost"], 3),
    ],
)
async def test_it_is_stored_once(log: Log, site: str, faults: list[str], attempts: int) -> None:
    plan = f"dnms.{site}.plan"
    faulty = Faulty(log, *faults)
    assert await append(faulty, plan, b"ours", expected=0) == 1
    assert await log.end() == 1
    assert faulty.attempts == attempts


@pytest.mark.parametrize("faults", [[], ["lost on the way"], ["away", "lost on the way", "lost on the way"]])
async def test_another_was_faster(log: Log, site: str, faults: list[str]) -> None:
    plan = f"dnms.{site}.plan"
    await log.store(plan, b"another's", expected=0)
    with pytest.raises(LostRace):
        await append(Faulty(log, *faults), plan, b"ours", expected=0)
    assert await log.end() == 1


async def test_ours_is_found_though_others_came_after_it(log: Log, site: str) -> None:
    plan = f"dnms.{site}.plan"

    class Slow(Faulty):
        async def first_after(self, subject: str, sequence: int) -> Record | None:
            if await log.end() == 1:
                await log.store(plan, b"another's", expected=1)
            return await super().first_after(subject, sequence)

    assert await append(Slow(log, "answer lost"), plan, b"ours", expected=0) == 1
    assert await log.end() == 2


async def test_patience_ends_in_doubt(log: Log, site: str) -> None:
    with pytest.raises(Unanswered):
        await append(
            Faulty(log, *["lost on the way"] * 1_000), f"dnms.{site}.plan", b"ours", expected=0, patience=PATIENCE
        )


async def test_patience_ends_in_certainty_if_nothing_was_sent(log: Log, site: str) -> None:
    with pytest.raises(Unavailable):
        await append(Faulty(log, *["away"] * 1_000), f"dnms.{site}.plan", b"ours", expected=0, patience=PATIENCE)
    assert await log.end() == 0
