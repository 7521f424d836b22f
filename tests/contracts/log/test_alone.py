"""A subject that is one process's alone: what others write there goes to its owner, and what it wrote itself never."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest

from dnms.bus.committer import Committer, WriteOnly
from dnms.bus.memory import MemoryLog
from dnms.bus.port import Doubled, Log
from dnms.domain.aggregate import Fold
from dnms.events.commit import Stored
from dnms.events.recorded import Event
from dnms.events.seen import SessionClosed
from dnms.kit.clock import SystemClock
from tests.contracts.log.test_committer import running

EVENT = SessionClosed(client=bytes(16), why="end")


class Owner:
    """Owns a subject, and bears with others until it has written itself."""

    def __init__(self, log: Log, subject: str) -> None:
        self.heard: list[tuple[Event, ...]] = []
        fold: Fold[Any] = Fold(WriteOnly())
        self.committer: Committer[Any] = Committer(
            log, subject, fold, actor="a", now=SystemClock().now, random=secrets.token_bytes, foreign=self._hear
        )

    def _hear(self, stored: Stored) -> None:
        if self.committer.has_written:
            raise Doubled("somebody else writes here")
        self.heard.append(stored.commit.events)


@pytest.mark.parametrize("followed", [False, True])
async def test_what_others_write_goes_to_the_owner(log: MemoryLog, site: str, followed: bool) -> None:
    subject = f"dnms.{site}.seen.lan.a"
    one, other = Owner(log, subject), Owner(log, subject)
    async with running(one.committer, followed=followed), running(other.committer, followed=followed):
        for _ in range(3):
            await one.committer.observe((EVENT,))
        assert not one.heard
        await other.committer.observe((EVENT,))
        assert other.heard == [(EVENT,)] * 3
        if not followed:
            with pytest.raises(Doubled):
                await one.committer.observe((EVENT,))
            with pytest.raises(Doubled):  # and of the next too, without a look at the log
                await one.committer.observe((EVENT,))


async def test_what_it_wrote_itself_is_never_anothers(log: MemoryLog, site: str) -> None:
    owner = Owner(log, f"dnms.{site}.seen.lan.a")
    async with running(owner.committer, followed=True):
        for _ in range(20):
            await asyncio.gather(*(owner.committer.observe((EVENT,)) for _ in range(5)))
    assert not owner.heard
