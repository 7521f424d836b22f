"""One schedule, from its seed to its verdict."""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, NoReturn

import msgspec
import structlog

from dnms.agents.subnet import agent as shell
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.outage import Outage
from dnms.bus.committer import Committer
from dnms.bus.drafting import Asked
from dnms.bus.port import LogDamaged
from dnms.domain import outage
from dnms.events.ip import format_address
from dnms.events.recorded import Event
from dnms.events.requests import AllocateAddress
from tests.simulation import invariants, views
from tests.simulation.invariants import Acknowledged
from tests.simulation.log import Faults
from tests.simulation.loop import SimulationLoop, Spinning, Stuck
from tests.simulation.network import Weather
from tests.simulation.plans import PLANS
from tests.simulation.schedule import FAULTS_UNTIL, Action, Schedule, draw
from tests.simulation.world import World

SETTLE_WITHIN = 420.0  # seconds after all is healed; a search pauses for up to 2 minutes, a horizon is as long
SETTLED_FOR = 3.0  # seconds
DEFECTS = ("session failed", "a request could not be settled", "push failed")
WEATHERS = {"bad": Weather(loss=0.1, doubling=0.1, delay=0.05), "worse": Weather(loss=0.4, doubling=0.2, delay=0.8)}
FAULTS = {
    "bad": Faults(lost=0.05, unacknowledged=0.1, late=0.05, held=0.05, slow=0.1, stale=0.3),
    "worse": Faults(lost=0.15, unacknowledged=0.25, late=0.1, held=0.1, slow=0.3, stale=0.5),
}


class Verdict(msgspec.Struct):
    """What came of a seed."""

    seed: int
    wrong: list[str]
    digest: str
    commits: int
    seconds: float  # of virtual time
    lines: list[str]


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
    world = World(schedule.seed, agents=schedule.agents, nodes=schedule.nodes)
    made.append(world)
    trace = world.trace
    try:
        await world.apply(schedule.plan)
        for action in schedule.actions:
            await asyncio.sleep(max(0.0, action.at - loop.time()))
            await _act(world, action)
        await asyncio.sleep(max(0.0, FAULTS_UNTIL - loop.time()))
        _heal(world)
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
        wrong = trace.wrong + views.wrong_in_views(invariants.commits(records))
    except LogDamaged as error:
        wrong = [*trace.wrong, str(error)]
    return Verdict(world.seed, wrong, trace.digest, len(records), trace.now(), trace.lines)


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
    tasks = [process.task for process in world.processes]
    _, left = await asyncio.wait(tasks, timeout=60)
    for process in world.processes:
        if process.task in left:
            world.trace.fail(f"{process._name} does not end")


def _heal(world: World) -> None:
    world.trace.note("heal")
    world.network.parts.clear()
    world.network.weather = Weather()
    world.log.faults = Faults()
    world.log.up.set()
    for address in tuple(world.stranger.addresses):
        world.stranger.remove(address)
    for agent in world.agents:
        agent.start()
        if agent.client is not None:
            agent.client.cut = False
    for node in world.nodes:
        if node.on and not node.host.wired:
            node.kernel.set_carrier(True)
        node.boot()
        node.start()


# -- what is done to whom


async def _act(world: World, action: Action) -> None:
    fields = {name: value for name in ("whom", "seconds", "how") if (value := getattr(action, name))}
    world.trace.note(action.what, **fields)
    over = _ACTIONS[action.what](world, action)
    if over is not None:
        asyncio.get_running_loop().call_later(action.seconds, _over, world, action, over)
    if action.what == "plan":
        await world.apply(action.how)
    elif action.what == "operate":
        await world.operate(next(each for each in world.nodes if each.name == action.whom), action.how)


def _over(world: World, action: Action, over: Callable[[], None]) -> None:
    if asyncio.get_running_loop().time() < FAULTS_UNTIL:  # else it is healed already
        world.trace.note("over", action=action.what, whom=action.whom)
        over()


def _node(world: World, action: Action) -> Callable[[], None] | None:
    node = next(each for each in world.nodes if each.name == action.whom)
    if action.what == "boot":
        node.boot()
    if not node.on or action.what == "boot":
        return None
    match action.what:
        case "crash-node" | "stop-node":
            node.crash() if action.what == "crash-node" else node.stop()
            return node.start
        case "power-node":
            node.power_off()
            if action.how == "clock lost":
                node.skew = -world.wall()
            elif action.how == "clock ahead":
                node.skew += 240
            return node.boot
        case "replace-node":
            node.replace()
            return node.boot
        case "flap":
            node.kernel.set_carrier(False)
            return lambda: node.kernel.set_carrier(True) if node.on else None
        case "flush":
            node.kernel.flush()
        case "release":
            node.release()
    return None


def _agent(world: World, action: Action) -> Callable[[], None] | None:
    agent = next(each for each in world.agents if each.name == action.whom)
    match action.what:
        case "begin":
            agent.start()
        case "crash-agent":
            agent.crash()
            return agent.start
        case "power-agent":
            agent.power_off()
            return agent.start
        case "stop-agent":
            agent.stop()
            return agent.start
        case "cut-agent" if (client := agent.client) is not None:
            client.cut = True
            return lambda: setattr(client, "cut", False)
    return None


def _link(world: World, action: Action) -> Callable[[], None] | None:
    network = world.network
    match action.what:
        case "partition":
            network.parts = dict.fromkeys(action.how.split(), 1)
            return network.parts.clear
        case "weather":
            network.weather = WEATHERS[action.how]
            return lambda: setattr(network, "weather", Weather())
        case "break-streams":
            for stream in tuple(network.streams)[::2]:
                stream.abort()
    return None


def _stranger(world: World, action: Action) -> Callable[[], None]:
    """Somebody takes an address that a pool may give, and that nobody uses now."""
    pools = PLANS[world.plan].pools
    pool = pools[int(action.how) % len(pools)]
    first, last = int.from_bytes(pool.first), int.from_bytes(pool.last)
    address = (first + int(action.how) // 7 % (last - first + 1)).to_bytes(16)
    taken = [each.addresses for each in world.kernels if address in each.addresses]
    if not taken:
        world.trace.note("stranger takes", address=format_address(address))
        world.stranger.add(address, 128, "other", None)
        world.stranger.addresses[address].usable = True
    return lambda: world.stranger.remove(address) if not taken else None


def _log(world: World, action: Action) -> Callable[[], None] | None:
    log = world.log
    match action.what:
        case "log-away":
            log.up.clear()
            return log.up.set
        case "log-faults":
            log.faults = FAULTS[action.how]
            return lambda: setattr(log, "faults", Faults())
        case "log-clock":
            log.skew += int(action.how) * 1_000_000
            log.set_by += abs(int(action.how)) * 1_000_000
    return None


_ACTIONS: dict[str, Callable[[World, Action], Callable[[], None] | None]] = {
    **dict.fromkeys(("boot", "crash-node", "power-node", "stop-node", "flap", "flush", "release"), _node),
    "replace-node": _node,
    **dict.fromkeys(("begin", "crash-agent", "power-agent", "stop-agent", "cut-agent"), _agent),
    **dict.fromkeys(("partition", "weather", "break-streams"), _link),
    **dict.fromkeys(("log-away", "log-faults", "log-clock"), _log),
    "stranger": _stranger,
    **dict.fromkeys(("plan", "operate"), lambda world, action: None),
}


# -- what is recorded, without changing anything


@contextmanager
def _recorded(world: list[World]) -> Iterator[list[Acknowledged]]:
    """Every acknowledgement that somebody was given, the books of every agent, and what agents call a defect."""
    acknowledged: list[Acknowledged] = []
    ask, grant = Committer._ask, Outage.grant

    async def recording(self: Committer[Any], asked: Asked) -> tuple[tuple[Event, ...], int]:
        events, sequence = await ask(self, asked)
        if events:
            acknowledged.append((self._actor, self.subject, events, sequence))
        return events, sequence

    async def granting(self: Outage, request: AllocateAddress) -> bytes:
        address = await grant(self, request)
        world[0].granted.append((request.client, address))
        return address

    class Kept(Books):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            agent = next(each for each in world[0].agents if each.name == more["agent"])
            agent.books = self

    def capture(logger: object, method: str, event: MutableMapping[str, Any]) -> NoReturn:
        if world:
            said = {name: value for name, value in event.items() if name not in ("event", "exc_info")}
            world[0].trace.note(f"{method}: {event['event']}", **said)
            if event["event"] in DEFECTS:
                world[0].trace.fail(f"{event['event']}: {said} {_raised()}")
        raise structlog.DropEvent

    before, smallest = structlog.get_config(), outage.SMALLEST
    structlog.configure(
        processors=[capture],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        cache_logger_on_first_use=False,
    )
    Committer._ask = recording  # type: ignore[method-assign]
    Outage.grant = granting  # type: ignore[method-assign]
    shell.Books = Kept  # type: ignore[attr-defined]
    outage.SMALLEST = 1  # type: ignore[misc]  # so that what is given on two sides of a partition collides
    try:
        yield acknowledged
    finally:
        Committer._ask = ask  # type: ignore[method-assign]
        Outage.grant = grant  # type: ignore[method-assign]
        shell.Books = Books  # type: ignore[attr-defined]
        outage.SMALLEST = smallest  # type: ignore[misc]
        structlog.configure(**before)


def _raised() -> str:
    return traceback.format_exc(limit=-4).replace("\n", " | ")
