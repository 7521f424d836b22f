"""One schedule, from its seed to its verdict."""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, NoReturn
from unittest.mock import patch

import msgspec
import structlog

from dnms.agents.subnet import agent as shell
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.outage import Outage
from dnms.agents.subnet.served import ServedNode
from dnms.bus.committer import Committer
from dnms.bus.drafting import Asked
from dnms.bus.port import LogDamaged
from dnms.domain import outage
from dnms.domain.aggregate import Refused
from dnms.domain.ledger import Ledger
from dnms.events.address import AddressDeclined, AddressExpired, OutageGranted
from dnms.events.commit import Stored
from dnms.events.ip import family
from dnms.events.recorded import Event
from dnms.events.requests import AllocateAddress, MergeOutage
from dnms.kit.clock import MICROSECONDS
from dnms.wire.messages import Assign
from tests.simulation import invariants, views
from tests.simulation.actions import act, heal
from tests.simulation.doubts import Grant, happened
from tests.simulation.invariants import Acknowledged
from tests.simulation.loop import SimulationLoop, Spinning, Stuck
from tests.simulation.prefixes import wrongly_told
from tests.simulation.schedule import Schedule, draw
from tests.simulation.world import World

SETTLE_WITHIN = 420.0  # seconds after all is healed; a search pauses for up to 2 minutes, a horizon is as long
SETTLED_FOR = 3.0  # seconds


class Verdict(msgspec.Struct):
    """What came of a seed."""

    seed: int
    wrong: list[str]
    digest: str
    commits: int
    seconds: float  # of virtual time
    lines: list[str]
    counts: Counter[str]  # of what happened: lines, events, refusals


def simulate(seed: int, *, schedule: Schedule | None = None) -> Verdict:
    """Run a seed's schedule, or another one with its draws."""
    schedule = schedule or draw(seed)
    collecting = gc.isenabled()
    gc.disable()  # what it finalizes when would not be the same in every run
    loop = SimulationLoop()
    world: list[World] = []
    loop.set_exception_handler(lambda _, context: world[0].trace.fail(_said(context)))
    try:
        with _recorded(world) as acknowledged:
            try:
                loop.run_until_complete(_simulate(schedule, world, acknowledged))
            except (Stuck, Spinning) as error:
                world[0].trace.fail(f"{type(error).__name__}: {error}")
            finally:
                world[0].trace.end()
                loop.run_until_complete(_clear())
    finally:
        loop.close()
        if collecting:
            gc.enable()
    return _verdict(world[0])


def _said(context: dict[str, Any]) -> str:
    return f"{context.get('message')}: {context.get('exception')!r}"


async def _clear() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=60)


async def _simulate(schedule: Schedule, made: list[World], acknowledged: list[Acknowledged]) -> None:
    loop = asyncio.get_running_loop()
    world = World(
        schedule.seed,
        agents=schedule.agents,
        nodes=schedule.nodes,
        delegates=schedule.delegates,
        wanting=schedule.wanting,
    )
    made.append(world)
    trace = world.trace
    try:
        await world.apply(schedule.plan)
        for action in schedule.actions:
            await asyncio.sleep(max(0.0, action.at - loop.time()))
            await act(world, action)
        await asyncio.sleep(max(0.0, schedule.until - loop.time()))
        heal(world)
        await _settle(world)
        for line in invariants.wrong_in_the_end(world):
            trace.fail(line)
        await _end(world)
        for line in invariants.wrong_in_log(world, acknowledged):
            trace.fail(line)
    except Exception as error:
        trace.fail(f"{type(error).__name__}: {error}")


def _verdict(world: World) -> Verdict:
    trace, records = world.trace, world.log.records
    try:
        stored = invariants.commits(records)
        wrong, counts = (
            trace.wrong + views.wrong_in_views(invariants.opened(stored, world)),
            trace.counts + _counted(stored),
        )
    except LogDamaged as error:
        wrong, counts = [*trace.wrong, str(error)], trace.counts
    return Verdict(world.seed, wrong, trace.digest, len(records), trace.now(), trace.lines, counts)


def _counted(stored: list[Stored]) -> Counter[str]:
    """Events and refusals, by stable words."""
    counts: Counter[str] = Counter()
    for each in stored:
        for event in each.commit.events:
            counts[event.NAME] += 1
            if isinstance(event, AddressExpired | AddressDeclined):
                counts[f"{event.NAME} of IPv{family(event.address)}"] += 1
            if isinstance(event, OutageGranted):
                counts["contested"] += event.contested
        for decision in each.commit.decisions:
            if decision.refused is not None:
                counts[f"{decision.request.NAME} refused: {decision.refused}"] += decision.times
    return counts


async def _settle(world: World) -> None:
    """Wait until all is as it has to be, and stays so for a moment."""
    loop = asyncio.get_running_loop()
    until = loop.time() + SETTLE_WITHIN
    since = None
    while True:
        for start in [*(agent.start for agent in world.agents), *(node.start for node in world.nodes)]:
            start()  # who was still stopping when all was healed
        left = list(invariants.unsettled(world))
        if left:
            since = None
            if loop.time() > until:
                for line in left:
                    world.trace.fail(f"in the end {line}")
                return
        else:
            since = since if since is not None else loop.time()
            if loop.time() - since >= SETTLED_FOR:
                return
        await asyncio.sleep(1.0)


async def _end(world: World) -> None:
    """All stop as they are told; nothing of them stays."""
    for node in world.nodes:
        node.stop()
    await asyncio.sleep(5.0)
    for agent in world.agents:
        agent.stop()
    if world.router is not None:
        world.router.stop()
    tasks = [process.task for process in world.processes]
    _, left = await asyncio.wait(tasks, timeout=60)
    for process in world.processes:
        if process.task in left:
            world.trace.fail(f"{process._name} does not end")


# -- what is recorded, without changing anything


@contextmanager
def _recorded(world: list[World]) -> Iterator[list[Acknowledged]]:
    """Every acknowledgement that somebody was given, the books of every agent, and what agents call a defect."""
    acknowledged: list[Acknowledged] = []
    ask, grant, make, come_back = Committer._ask, Outage.grant, outage.grant, Outage._come_back
    note_told = ServedNode._note_told
    made: dict[asyncio.Task[Any] | None, tuple[MergeOutage, int]] = {}  # for whom the journal is being written

    def recording(self: Committer[Any], asked: Asked) -> None:
        def answered(future: asyncio.Future[tuple[tuple[Event, ...], int]]) -> None:
            if not future.cancelled() and future.exception() is None:
                events, sequence = future.result()
                if events:
                    acknowledged.append((self._actor, self.subject, events, sequence))

        ask(self, asked)
        asked.answered.add_done_callback(answered)

    async def coming_back(self: Outage) -> bool:
        is_back = await come_back(self)
        if is_back and world[0].log.is_long_full:
            world[0].trace.fail("an agent came back to a log that stores nothing")
        return is_back

    def making(ledger: Ledger, request: AllocateAddress, *, at: int, since: int = 0) -> MergeOutage:
        entry = make(ledger, request, at=at, since=since)
        made[asyncio.current_task()] = entry, at
        return entry

    async def granting(self: Outage, request: AllocateAddress) -> bytes:
        try:
            address = await grant(self, request)
        except Refused as refusal:
            world[0].trace.counts[f"{request.NAME} refused: {refusal.why}"] += 1
            raise
        (entry, at), now = made.pop(asyncio.current_task()), world[0].trace.now()
        until = now + (entry.valid_until - at) / MICROSECONDS
        known = world[0].grants.setdefault(happened(entry), Grant(now, until))
        known.until = max(known.until, until)
        return address

    def telling(self: ServedNode, assign: Assign) -> None:
        for line in wrongly_told(world[0], self._books, self.client, assign.assignment.prefixes):
            world[0].trace.fail(line)
        note_told(self, assign)

    class Kept(Books):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            agent = next(each for each in world[0].agents if each.name == more["agent"])
            agent.books = self

    def capture(logger: object, method: str, event: MutableMapping[str, Any]) -> NoReturn:
        if world:
            said = {name: value for name, value in event.items() if name not in ("event", "exc_info")}
            world[0].trace.note(f"{method}: {event['event']}", **said)
            if event.get("exc_info"):  # what nobody foresaw
                world[0].trace.fail(f"{event['event']}: {said} {_raised()}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[capture],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        cache_logger_on_first_use=False,
    )
    try:
        with (
            patch.object(Committer, "_ask", recording),
            patch.object(Outage, "grant", granting),
            patch.object(Outage, "_come_back", coming_back),
            patch.object(outage, "grant", making),
            patch.object(ServedNode, "_note_told", telling),
            patch.object(outage, "SMALLEST", 1),  # so that what is given on two sides of a partition collides
            patch.object(shell, "Books", Kept),
        ):
            yield acknowledged
    finally:
        structlog.configure(**before)


def _raised() -> str:
    return traceback.format_exc(limit=-4).replace("\n", " | ")
