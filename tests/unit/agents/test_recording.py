"""Who a DHCP server's clients are is recorded behind their answers, a few subjects at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from dnms.agents.subnet import recording
from dnms.agents.subnet.recording import AT_ONCE, PAUSE, Recording
from tests.virtual_time import pass_time

TOOK = 0.5  # seconds


class Done:
    """What was recorded, and when."""

    def __init__(self) -> None:
        self.at: dict[object, float] = {}

    def of(self, what: object) -> Callable[[], Awaitable[None]]:
        async def record() -> None:
            await pass_time(TOOK)
            self.at[what] = asyncio.get_running_loop().time()

        return record


@pytest.fixture
async def running() -> AsyncIterator[Recording]:
    several = Recording()
    task = asyncio.create_task(several.run())
    yield several
    task.cancel()
    await asyncio.wait((task,))


async def test_one_alone_is_recorded_at_once_and_the_next_after_a_pause(running: Recording) -> None:
    done = Done()
    await pass_time(1)
    assert running.add(b"a", done.of("first"))
    await pass_time(0.1)
    running.add(b"b", done.of("second"))
    running.add(b"a", done.of("newer"))
    assert len(running) == 2
    await pass_time(10)
    assert done.at == {"first": 1 + TOOK, "second": 1 + 2 * TOOK + PAUSE * TOOK, "newer": 1 + 2 * TOOK + PAUSE * TOOK}
    assert len(running) == 0


async def test_of_two_that_wait_for_one_client_the_newer_is_recorded(running: Recording) -> None:
    done = Done()
    running.add(b"a", done.of("old"))
    running.add(b"a", done.of("new"))
    assert len(running) == 1
    await pass_time(10)
    assert done.at.keys() == {"new"}


async def test_all_that_wait_for_a_subject_go_together(running: Recording) -> None:
    done = Done()
    for number in range(400):
        client = bytes([number % 4]) + number.to_bytes(4)
        running.add(client, done.of(client))
    for turn in range(4):
        await pass_time(TOOK + 0.1)
        assert {client[0] for client in done.at if isinstance(client, bytes)} == set(range(turn + 1))
        assert len(done.at) == 100 * (turn + 1)
        await pass_time(PAUSE * TOOK)


async def test_of_subjects_for_which_few_wait_several_go_together(running: Recording) -> None:
    done = Done()
    for number in range(2 * AT_ONCE):
        running.add(bytes([number]), done.of(number))
    await pass_time(TOOK + 0.1)
    assert done.at.keys() == set(range(AT_ONCE))


async def test_whoever_invents_clients_makes_nothing_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_WAITING", 3)
    several, done = Recording(), Done()
    assert all(several.add(bytes([number]), done.of(number)) for number in range(3))
    assert not several.add(b"\x09", done.of(9))
    assert several.add(b"\x01", done.of("again"))
    assert len(several) == 3


async def test_what_cannot_be_mended_ends_it() -> None:
    async def record() -> None:
        await asyncio.sleep(0)
        raise ValueError("broken")

    several = Recording()
    several.add(b"a", record)
    with pytest.raises(ExceptionGroup):
        await several.run()
