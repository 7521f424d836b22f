"""Sets that are in the kernel lose no element by another log than that by which they came, nor by a part of it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from dnms.bus.port import LogForked
from dnms.disk.subscriber_state import SubscriberState, SubscriberStateError
from dnms.events import codec
from dnms.events.plan import SiteDefined
from dnms.subscribers.subscriber import Happened
from tests.netns.subscribers.conftest import Machine, Sets, kept, running, stopped, until
from tests.netns.subscribers.logs import LENGTH, WITHDRAWN, copied, filled, memory_log, whole


@pytest.mark.parametrize("length", [0, LENGTH])
def test_a_known_subscriber_stops_before_another_log(machine: Machine, before: Sets, state: Path, length: int) -> None:
    """As long, as empty, and with a plan that has none of the groups."""

    async def work() -> str:
        log = await filled(memory_log("other"), [Happened("plan", (SiteDefined(name="example", level=1),))] * length)
        return await stopped(log, state, LogForked)

    told = machine.run(work)
    assert "this is the log other, and that was one; nothing was dropped" in told
    assert str(state / "firewall.json") in told
    assert machine.sets() == before


@pytest.mark.parametrize("length", range(LENGTH))
def test_a_log_without_its_end_takes_nothing(machine: Machine, before: Sets, state: Path, length: int) -> None:
    """As a backup from before, at every length: only what was written down tells that there was more."""

    async def work() -> None:
        log = await whole()
        told = await stopped(copied(log, log.records[:length]), state, LogForked)
        assert f"it ends at {length}, and that was at {LENGTH}" in told

    machine.run(work)
    assert machine.sets() == before


def test_nor_does_one_that_went_on_otherwise_after_its_backup(machine: Machine, before: Sets, state: Path) -> None:
    async def work() -> None:
        log = await whole()
        other = copied(log, log.records[: LENGTH - 1])
        data = codec.encode(msgspec.structs.replace(codec.decode(log.records[-1].data), id=b"another's commit"))
        await other.store(log.records[-1].subject, data, expected=1)
        await filled(other, WITHDRAWN)
        assert f"is at {LENGTH} now" in await stopped(other, state, LogForked)

    machine.run(work)
    assert machine.sets() == before


def test_a_log_that_loses_its_end_while_it_is_followed_takes_nothing(
    machine: Machine, before: Sets, state: Path
) -> None:
    async def work() -> None:
        log = copied(await whole())
        with pytest.raises(LogForked, match=f"ends at 3, and was folded up to {LENGTH} before"):
            async with running(log, state) as runner:
                await runner.settled.wait()
                del log.records[3:]
                machine.nft("add element inet dnms sales-4 { 198.51.100.1 }")
                await asyncio.Event().wait()  # it is the runner that ends this

    machine.run(work)
    assert kept(before, machine)


def test_it_acts_by_nothing_that_it_has_not_written_down(machine: Machine, before: Sets, state: Path) -> None:
    async def work() -> None:
        log = await filled(await whole(), WITHDRAWN)
        scratch = state / f".firewall.json.{os.getpid()}"
        scratch.mkdir()  # where a new state is written first
        async with running(log, state) as runner:
            await until(lambda: runner.counts.failed["state"] >= 3)
            assert machine.sets() == before
            scratch.rmdir()
            await runner.settled.wait()
        acted = SubscriberState(state, "firewall").read()
        assert acted is not None
        assert acted.sequence == LENGTH + 1

    machine.run(work)
    assert set(machine.sets()) == {"_7-guests-4", "_7-guests-6"}


@pytest.mark.parametrize("content", [b"", b"{", b'{"log_id": "one"}', b"\xff"])
def test_a_state_that_cannot_be_read_takes_nothing(machine: Machine, before: Sets, state: Path, content: bytes) -> None:
    (state / "firewall.json").write_bytes(content)

    async def work() -> None:
        told = await stopped(await filled(await whole(), WITHDRAWN), state, SubscriberStateError)
        assert told.startswith(f"cannot read {state / 'firewall.json'}")

    machine.run(work)
    assert machine.sets() == before
