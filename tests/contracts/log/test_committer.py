"""The group commit: nobody is told what the log does not hold, and nothing is given twice."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import pytest

from dnms.bus.committer import MIN_ASKED, Committer, WriteOnly
from dnms.bus.port import Log, LogForked, LostRace, Record, Unanswered, Unavailable
from dnms.bus.reading import read
from dnms.domain.aggregate import Fold, Refused, resettle
from dnms.events import codec
from dnms.events.address import AddressAllocated, AddressReleased
from dnms.events.commit import MAX_EVENTS, Stored
from dnms.events.recorded import Event, Request
from dnms.events.requests import AllocateAddress, ExpireAddresses, ReleaseAddress, RenewAddress
from dnms.events.seen import SessionClosed
from dnms.kit.clock import SystemClock

DEADLINE = 30.0
CLIENT = bytes(16)
CLOCK = SystemClock()


class Numbers:
    """A toy ledger: gives each iaid the lowest free number, as an address. Renewals need no event."""

    plan_position = 0

    def __init__(self, size: int = 100_000, held: dict[int, int] | None = None, free: int = 0) -> None:
        self.size = size
        self.held = held if held is not None else {}
        self._next = free

    def entropy(self, request: Request) -> int:
        return 0

    def decide(self, request: Request, *, at: int, entropy: bytes) -> tuple[Event, ...]:
        if isinstance(request, AllocateAddress):
            if request.iaid in self.held:
                return ()
            if self._next >= self.size:
                raise Refused("exhausted")
            address = self._next.to_bytes(16)
            return (
                AddressAllocated(
                    address=address, client=CLIENT, iaid=request.iaid, pool="p", valid_until=at, horizon=at
                ),
            )
        if isinstance(request, RenewAddress):
            if request.iaid not in self.held:
                raise Refused("no-binding")
            return ()
        if isinstance(request, ReleaseAddress):
            return (AddressReleased(address=request.address, client=CLIENT, iaid=request.iaid),)
        raise RuntimeError("a mistake of the domain")

    def evolve(self, event: Event, *, at: int, position: int) -> None:
        if isinstance(event, AddressAllocated):
            self.held[event.iaid] = int.from_bytes(event.address)
            self._next = max(self._next, int.from_bytes(event.address) + 1)
        elif isinstance(event, AddressReleased):
            self.held.pop(event.iaid, None)

    def draft(self) -> Numbers:
        return Numbers(self.size, dict(self.held), self._next)


def ask(iaid: int) -> AllocateAddress:
    return AllocateAddress(client=CLIENT, iaid=iaid, family=6)


def renew(iaid: int) -> RenewAddress:
    return RenewAddress(client=CLIENT, iaid=iaid, address=bytes(16))


def commit_to(log: Log, subject: str, state: Any = None, now: Callable[[], int] = CLOCK.now) -> Committer[Any]:
    fold: Fold[Any] = Fold(state if state is not None else Numbers())
    return Committer(log, subject, fold, actor="agent/test", now=now, random=secrets.token_bytes)


@asynccontextmanager
async def running(committer: Committer[Any], *, followed: bool = False) -> AsyncIterator[Committer[Any]]:
    """Run it, and feed it with a follow if it is followed."""

    async def feed() -> None:
        async with aclosing(read(committer._log, [committer.subject])) as batches:
            async for batch in batches:
                for stored in batch.stored:
                    committer.take(stored)

    tasks = [asyncio.create_task(committer.run())]
    if followed:
        tasks.append(asyncio.create_task(feed()))
    try:
        async with asyncio.timeout(DEADLINE):
            yield committer
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def stored_on(log: Log, subject: str) -> list[Stored]:
    found: list[Stored] = []
    async with asyncio.timeout(DEADLINE), aclosing(read(log, [subject])) as batches:
        async for batch in batches:
            found.extend(batch.stored)
            if batch.caught_up:
                break
    return found


def claims(stored: Iterable[Stored]) -> list[AddressAllocated]:
    return [event for each in stored for event in each.commit.events if isinstance(event, AddressAllocated)]


class Between:
    """A log with something between it and its writer."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.stored = 0
        self.keys = log.keys
        self.follow = log.follow
        self.end = log.end

    @property
    def log_id(self) -> str:
        return self.log.log_id

    async def store(self, subject: str, data: bytes, *, expected: int) -> int:
        self.stored += 1
        return await self.log.store(subject, data, expected=expected)

    async def first_after(self, subject: str, sequence: int) -> Record | None:
        return await self.log.first_after(subject, sequence)


@pytest.fixture
def ledger(site: str) -> str:
    return f"dnms.{site}.ledger.lan"


@pytest.mark.parametrize("followed", [False, True])
async def test_many_questions_go_into_few_commits(log: Log, ledger: str, followed: bool) -> None:
    async with running(commit_to(log, ledger), followed=followed) as committer:
        answers = await asyncio.gather(*(committer.submit(ask(iaid)) for iaid in range(2_500)))
    stored = await stored_on(log, ledger)
    assert len(stored) == 3
    assert [event for answer in answers for event in answer] == claims(stored)
    assert len({claim.address for claim in claims(stored)}) == 2_500
    assert committer.counts["commits"] == 3
    assert committer.fold.sequence == 3


async def test_a_commit_holds_what_its_decisions_were_given(log: Log, ledger: str) -> None:
    async with running(commit_to(log, ledger, now=lambda: 5_000_000)) as committer:
        await committer.submit(ask(1))
        committer._now = lambda: 4_000_000  # a clock that was set back
        await committer.submit(ask(2))
    first, second = (each.commit for each in await stored_on(log, ledger))
    assert (first.time, first.predecessor, first.actor) == (5_000_000, 0, "agent/test")
    assert (second.time, second.predecessor) == (5_000_000, 1)
    assert [decision.request for decision in first.decisions] == [ask(1)]
    assert first.id != second.id
    assert len(first.id) == 16
    state = Numbers()
    assert resettle(state, first) == first


@pytest.mark.parametrize("followed", [False, True])
async def test_racing_committers_give_nothing_twice(log: Log, ledger: str, followed: bool) -> None:
    async with AsyncExitStack() as stack:
        committers = [
            await stack.enter_async_context(running(commit_to(log, ledger), followed=followed)) for _ in range(3)
        ]

        async def claim(committer: Committer[Any], first: int) -> list[Event]:
            events: list[Event] = []
            for number in range(0, 200, 10):
                batch = (committer.submit(ask(first + number + i)) for i in range(10))
                events += [event for answer in await asyncio.gather(*batch) for event in answer]
            return events

        told = await asyncio.gather(*(claim(committer, 1_000 * index) for index, committer in enumerate(committers)))
    in_log = claims(await stored_on(log, ledger))
    assert Counter(claim.address for claim in in_log).most_common(1)[0][1] == 1
    assert sorted(claim.iaid for claim in in_log) == sorted(1_000 * c + n for c in range(3) for n in range(200))
    assert {event for events in told for event in events} == set(in_log)
    assert sum(committer.counts["lost-race"] for committer in committers) > 0


async def test_who_is_always_overtaken_while_it_decides_for_long_decides_less_at_once(log: Log, ledger: str) -> None:
    """Or else it would never win a race again: what had to wait makes its next attempt longer still."""

    class Overtaken(Between):
        async def store(self, subject: str, data: bytes, *, expected: int) -> int:
            if len(codec.decode(data).decisions) > MIN_ASKED:
                await faster.submit(ask(10_000 + self.stored))
            return await super().store(subject, data, expected=expected)

    async with running(commit_to(log, ledger)) as faster, running(commit_to(Overtaken(log), ledger)) as slow:
        told = await asyncio.gather(*(slow.submit(ask(iaid)) for iaid in range(1_000)))
        assert slow.counts["lost-race"] > 0
    in_log = [claim for claim in claims(await stored_on(log, ledger)) if claim.iaid < 10_000]
    assert [event for answer in told for event in answer] == in_log
    assert [claim.iaid for claim in in_log] == list(range(1_000))


async def test_what_the_follow_brings_before_the_acknowledgement_is_folded_in_order(log: Log, ledger: str) -> None:
    class LateAnswer(Between):
        """Answers only when the follow has brought our commit and another's after it."""

        async def store(self, subject: str, data: bytes, *, expected: int) -> int:
            sequence = await super().store(subject, data, expected=expected)
            if sequence == 1:
                async with running(commit_to(log, ledger)) as other:
                    await other.submit(ask(77))
                while committer.fold.sequence < 2:
                    await folded.wait()
                    folded.clear()
            return sequence

    folded = asyncio.Event()
    late = LateAnswer(log)
    committer = commit_to(late, ledger)
    take = committer.take

    def notice(stored: Stored) -> bool:
        taken = take(stored)
        folded.set()
        return taken

    committer.take = notice  # type: ignore[method-assign]
    async with running(committer, followed=True):
        await committer.submit(ask(1))
        await committer.submit(ask(2))
    assert committer.fold.state.held == {1: 0, 77: 1, 2: 2}
    assert committer.counts["lost-race"] == 0


async def test_lost_answers_and_lost_messages(log: Log, ledger: str) -> None:
    class Lossy(Between):
        async def store(self, subject: str, data: bytes, *, expected: int) -> int:
            if self.stored % 3 == 1:
                self.stored += 1
                raise Unanswered("lost on the way")
            sequence = await super().store(subject, data, expected=expected)
            if self.stored % 3 == 0:
                raise Unanswered("answer lost")
            return sequence

    async with running(commit_to(Lossy(log), ledger)) as one, running(commit_to(Lossy(log), ledger)) as other:
        told = await asyncio.gather(
            *(c.submit(ask(1_000 * i + n)) for i, c in enumerate((one, other)) for n in range(20))
        )
        for number in range(20, 26):
            told += [await one.submit(ask(number)), await other.submit(ask(1_000 + number))]
    in_log = claims(await stored_on(log, ledger))
    assert len({claim.address for claim in in_log}) == len(in_log) == 52
    assert {event for answer in told for event in answer} == set(in_log)


async def test_without_the_log_nobody_is_told_anything_but_what_needs_no_event(
    log: Log, ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away(Between):
        away = False

        async def store(self, subject: str, data: bytes, *, expected: int) -> int:
            if self.away:
                raise Unavailable("away")
            return await super().store(subject, data, expected=expected)

    monkeypatch.setattr("dnms.bus.committer.PATIENCE", 0.1)
    away = Away(log)
    async with running(commit_to(away, ledger)) as committer:
        await committer.submit(ask(1))
        away.away = True
        assert await committer.submit(renew(1)) == ()
        assert await committer.submit(ask(1)) == ()
        outcomes = await asyncio.gather(*(committer.submit(ask(n)) for n in (2, 3, 3)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
        with pytest.raises(Unavailable):
            await committer.submit(renew(9))  # a refusal is an answer that the log has to know
        away.away = False
        assert len(await committer.submit(ask(2))) == 1
    assert [claim.iaid for claim in claims(await stored_on(log, ledger))] == [1, 2]


async def test_what_needs_no_event_waits_for_events_before_it_in_the_draft(log: Log, ledger: str) -> None:
    class Held(Between):
        gate = asyncio.Event()

        async def store(self, subject: str, data: bytes, *, expected: int) -> int:
            await self.gate.wait()
            return await super().store(subject, data, expected=expected)

    held = Held(log)
    held.gate = asyncio.Event()
    held.gate.set()
    committer = commit_to(held, ledger)
    async with running(committer):
        await committer.submit(ask(1))
        held.gate.clear()
        asked = [renew(1), ask(2), renew(2), renew(1)]
        answers = [asyncio.create_task(committer.submit(request)) for request in asked]
        assert await answers[0] == ()
        await asyncio.sleep(0)
        assert [answer.done() for answer in answers] == [True, False, False, False]
        held.gate.set()
        assert [len(await answer) for answer in answers] == [0, 1, 0, 0]


async def test_nothing_is_written_where_nothing_happened(log: Log, ledger: str) -> None:
    async with running(commit_to(log, ledger)) as committer:
        await committer.submit(ask(1))
        for _ in range(5):
            assert await committer.submit(renew(1)) == ()
    assert await log.end() == 1


async def test_a_refusal_is_written_once_a_minute_with_its_count(log: Log, ledger: str) -> None:
    clock = [1_000_000]
    async with running(commit_to(log, ledger, now=lambda: clock[0])) as committer:
        refused = await asyncio.gather(*(committer.submit(renew(1)) for _ in range(3)), return_exceptions=True)
        assert [error.why for error in refused if isinstance(error, Refused)] == ["no-binding"] * 3
        for _ in range(5):
            with pytest.raises(Refused):
                await committer.submit(renew(1))
        assert await log.end() == 1
        with pytest.raises(Refused):
            await committer.submit(renew(2))  # another request
        assert await log.end() == 2
        await asyncio.gather(committer.submit(ask(5)), committer.submit(renew(1)), return_exceptions=True)
        clock[0] += 60_000_000
        with pytest.raises(Refused):
            await committer.submit(renew(1))
    commits = [each.commit for each in await stored_on(log, ledger)]
    assert [[(d.refused, d.times) for d in commit.decisions] for commit in commits] == [
        [("no-binding", 3)],
        [("no-binding", 1)],
        [(None, 1)],
        [("no-binding", 7)],
    ]
    assert committer.counts["refusals-coalesced"] == 6
    state = Numbers()
    for commit in commits:
        assert resettle(state, commit) == commit
        for event in commit.events:
            state.evolve(event, at=commit.time, position=1)


async def test_a_mistake_in_one_decision_is_for_who_asked_it(log: Log, ledger: str) -> None:
    async with running(commit_to(log, ledger)) as committer:
        broken = ExpireAddresses(addresses=())
        requests: list[Request] = [ask(1), ask(2), broken, ask(3), ask(4), ask(5)]
        outcomes = await asyncio.gather(*map(committer.submit, requests), return_exceptions=True)
        assert isinstance(outcomes.pop(2), RuntimeError)
        assert all(isinstance(outcome, tuple) and len(outcome) == 1 for outcome in outcomes)
        assert committer.counts["broken"] == 1
    assert len(claims(await stored_on(log, ledger))) == 5


async def test_what_could_not_be_read_again_is_not_written(log: Log, site: str) -> None:
    seen = f"dnms.{site}.seen.lan.one"
    good = SessionClosed(client=CLIENT, why="left")
    broken = SessionClosed(client=b"too short", why="left")
    async with running(commit_to(log, seen, WriteOnly())) as committer:
        outcomes = await asyncio.gather(
            *(committer.observe([event]) for event in (good, broken, good)), return_exceptions=True
        )
    assert [type(outcome) for outcome in outcomes] == [int, codec.BrokenCommit, int]
    assert [event for each in await stored_on(log, seen) for event in each.commit.events] == [good, good]


async def test_observations_need_no_decision(log: Log, site: str) -> None:
    seen = f"dnms.{site}.seen.lan.one"
    event = AddressReleased(address=bytes(16), client=CLIENT, iaid=1)
    async with running(commit_to(log, seen, WriteOnly())) as committer:
        assert await committer.observe([event]) == 1
        sequences = await asyncio.gather(*(committer.observe([event, event]) for _ in range(50)))
        assert set(sequences) == {2}
        sequences = await asyncio.gather(*(committer.observe([event] * 2_000) for _ in range(4)))
        assert sequences == [3, 3, 4, 4]
        with pytest.raises(Refused):
            await committer.submit(ask(1))
        for count in (0, MAX_EVENTS + 1):
            with pytest.raises(ValueError, match="a commit holds 1 to"):
                await committer.observe([event] * count)
    stored = await stored_on(log, seen)
    assert [len(each.commit.events) for each in stored] == [1, 100, 4_000, 4_000, 0]


async def test_what_is_too_large_for_one_commit_goes_into_several(log: Log, site: str) -> None:
    seen = f"dnms.{site}.seen.lan.one"
    event = SessionClosed(client=CLIENT, why="p" * 1_000_000)
    async with running(commit_to(log, seen, WriteOnly())) as committer:
        await asyncio.gather(*(committer.observe([event]) for _ in range(20)))
        with pytest.raises(ValueError, match="over the limit"):
            await committer.observe([event] * 8)
        await committer.observe([event])
    stored = await stored_on(log, seen)
    assert sum(len(each.commit.events) for each in stored) == 21
    assert len(stored) <= 7


async def test_an_owner_without_a_follow_catches_up(log: Log, ledger: str) -> None:
    async with running(commit_to(log, ledger)) as committer:
        for number in range(5):
            await committer.submit(ask(number))
    late = commit_to(log, ledger)
    await late.catch_up()
    assert late.fold.sequence == 5
    assert late.fold.state.held == committer.fold.state.held


async def test_when_it_ends_all_who_wait_are_told(log: Log, ledger: str) -> None:
    class Never(Between):
        async def store(self, subject: str, data: bytes, *, expected: int) -> int:
            storing.set()
            await asyncio.get_running_loop().create_future()
            raise AssertionError

    storing = asyncio.Event()
    committer = commit_to(Never(log), ledger)
    async with running(committer):
        in_flight = asyncio.create_task(committer.submit(ask(1)))
        await storing.wait()
        queued = asyncio.create_task(committer.submit(ask(2)))
        await asyncio.sleep(0)
    with pytest.raises(Unanswered):
        await in_flight
    with pytest.raises(Unavailable):
        await queued
    with pytest.raises(Unavailable):
        await committer.submit(ask(3))


async def test_a_log_that_refuses_and_shows_nothing_is_forked(
    log: Log, ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(Between):
        async def store(self, subject: str, data: bytes, *, expected: int) -> int:
            raise LostRace("no reason")

    monkeypatch.setattr("dnms.bus.committer.CATCH_UP_PATIENCE", 0.2)
    committer = commit_to(Refusing(log), ledger)
    run = asyncio.create_task(committer.run())
    with pytest.raises(LogForked):
        await asyncio.wait_for(committer.submit(ask(1)), DEADLINE)
    with pytest.raises(LogForked):
        await run


async def test_who_goes_before_the_decision_gets_nothing(log: Log, ledger: str) -> None:
    committer = commit_to(log, ledger)
    gone = asyncio.create_task(committer.submit(ask(1)))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    async with running(committer):
        await committer.submit(ask(2))
    assert [claim.iaid for claim in claims(await stored_on(log, ledger))] == [2]
