from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from dnms.agents.node.work import FIRST_PAUSE, LONGEST_PAUSE, Pace, Work
from dnms.linux.errors import KernelError
from tests.unit.agents.conftest import until
from tests.virtual_time import pass_time


class Diary:
    """Things to do that take a second, and what became of them."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def thing(self, name: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def do() -> None:
            self.lines.append(f"{name} begins")
            try:
                await pass_time(1.0)
            except asyncio.CancelledError:
                await pass_time(0.5)  # it puts something in order
                self.lines.append(f"{name} is cut short")
                raise
            self.lines.append(f"{name} ends")

        return do


async def test_the_newer_thing_begins_when_the_older_has_ended() -> None:
    work, diary = Work(), Diary()
    work.begin(diary.thing("old"))
    await pass_time(0.1)
    work.begin(diary.thing("new"))
    assert not work.idle
    await until(lambda: work.idle)
    assert diary.lines == ["old begins", "old is cut short", "new begins", "new ends"]


async def test_what_is_to_be_done_whole_is_not_cut_short() -> None:
    work, diary = Work(), Diary()
    work.begin(diary.thing("strip"), whole=True)
    await pass_time(0.1)
    work.begin(diary.thing("first"))
    await pass_time(0.1)
    work.begin(diary.thing("second"))
    await until(lambda: work.idle)
    assert diary.lines == ["strip begins", "strip ends", "second begins", "second ends"]


async def test_a_failure_ends_one_thing_alone() -> None:
    async def fail() -> None:
        raise KernelError("no-interface", "as it was told")

    work, diary = Work(), Diary()
    work.begin(fail)
    work.begin(diary.thing("next"))
    await until(lambda: work.idle)
    assert diary.lines == ["next begins", "next ends"]


async def test_a_defect_is_not_hidden() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    work = Work()
    work.begin(fail)
    with pytest.raises(ZeroDivisionError):
        await work.watch()


def test_repairs_that_do_not_last_become_seldom() -> None:
    pace, now, waits = Pace(), 0.0, []
    for _ in range(15):
        waits.append(pace.wait(now))
        now += waits[-1]
        pace.repaired(now)
    assert waits[:4] == [0.0, FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert waits[-1] == LONGEST_PAUSE


def test_a_repair_that_lasts_makes_the_next_one_prompt() -> None:
    pace = Pace()
    pace.repaired(0.0)
    pace.repaired(10.0)
    pace.sound(10.5)  # not yet for long
    assert pace.wait(10.5) > 0
    pace.sound(20.0)
    pace.repaired(30.0)
    assert pace.wait(30.0) == FIRST_PAUSE
