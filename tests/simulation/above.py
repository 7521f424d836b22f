"""What is above a simulated link: an ISP whose prefixes change, and the router whose routes a delegate waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from random import Random
from typing import TYPE_CHECKING

import msgspec

from dnms.agents.subnet.upstream import Received
from dnms.bus.committer import Committer, WriteOnly
from dnms.bus.port import LostRace, Unanswered, Unavailable
from dnms.domain.aggregate import Fold
from dnms.events import subjects
from dnms.events.effect import EffectApplied
from dnms.events.ip import Prefix, parse_prefix
from dnms.events.plan import Uplink
from dnms.events.requests import UplinkPrefix
from dnms.events.uplink import Source
from dnms.kit.clock import MICROSECONDS
from tests.simulation.log import LogClient
from tests.simulation.machines import Process
from tests.simulation.plans import BORDER, SITE, SUBNET
from tests.simulation.trace import Trace

if TYPE_CHECKING:
    from tests.simulation.world import World

PREFERRED, VALID, RENEWED = 60.0, 100.0, 25.0  # seconds of what the ISP gives, and how often it does so again
LAPSING = 40.0  # seconds until what it deprecates ends
RETRY = 1.0  # seconds
SOURCE = Source(name="isp")


class Given(msgspec.Struct):
    """A prefix that the ISP has given, with its ends on the loop's clock."""

    preferred_until: float
    valid_until: float
    is_renewed: bool = True


class Isp:
    """Gives prefixes to the router, renews them, and takes them away."""

    def __init__(self, chance: Random, trace: Trace) -> None:
        self._chance = chance
        self._trace = trace
        self._given: dict[Prefix, Given] = {}
        self._former: list[Prefix] = []
        self._why = "cut"
        self.upstreams: list[SimulatedUpstream] = []  # that are to hear of a change

    def act(self, how: str) -> None:
        """What an ISP does."""
        now = asyncio.get_running_loop().time()
        match how:
            case "new" | "replace":
                if how == "replace":
                    self._deprecate(now)
                self._give(parse_prefix(f"2001:db8:{0x100 + len(self._former):x}::/56"), now)
            case "back" if self._former:
                self._give(self._chance.choice(self._former), now)
            case "deprecate":
                self._deprecate(now)
            case "lapse":  # it is not renewed any more
                for each in self._given.values():
                    each.is_renewed = False
            case "cut" | "withdrawn" | "released":
                self._given.clear()
                self._why = how
        self._trace.note("above", has=",".join(map(str, self._given)))
        for upstream in self.upstreams:
            upstream.changed.set()

    def settle(self) -> None:
        """From now on one prefix stays."""
        if not self.lasting:
            self.act("new")

    @property
    def lasting(self) -> list[Prefix]:
        """Those that are renewed."""
        return [prefix for prefix, given in self._given.items() if given.is_renewed]

    def received(self, log_now: int) -> Received:
        """All that it gives now, in instants of the log's clock."""
        now = asyncio.get_running_loop().time()
        for given in self._given.values():
            if given.is_renewed:
                told = now // RENEWED * RENEWED
                given.preferred_until, given.valid_until = told + PREFERRED, told + VALID
        self._given = {prefix: given for prefix, given in self._given.items() if given.valid_until > now}
        prefixes = tuple(
            UplinkPrefix(
                prefix=prefix,
                preferred_until=log_now + round((given.preferred_until - now) * MICROSECONDS),
                valid_until=log_now + round((given.valid_until - now) * MICROSECONDS),
            )
            for prefix, given in self._given.items()
        )
        return Received(prefixes=prefixes, source=SOURCE, why=self._why)

    def _give(self, prefix: Prefix, now: float) -> None:
        self._given[prefix] = Given(now + PREFERRED, now + VALID)
        if prefix not in self._former:
            self._former.append(prefix)

    def _deprecate(self, now: float) -> None:
        for each in self._given.values():
            each.preferred_until, each.is_renewed = now, False
            each.valid_until = min(each.valid_until, now + LAPSING)


class SimulatedUpstream:
    """The router's way to ask the ISP. Implements `agents.subnet.upstream.Upstream`."""

    def __init__(self, isp: Isp, chance: Random, now: Callable[[], int]) -> None:
        """`now`: the log's clock, as the router knows it."""
        self.changed = asyncio.Event()
        self._isp = isp
        self._now = now
        self._answers_after = chance.uniform(0.0, 3.0)
        self._is_answered = False

    def __call__(self, planned: Uplink) -> SimulatedUpstream:
        return self

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.sleep(self._answers_after)
        self._is_answered = True
        self._isp.upstreams.append(self)
        self.changed.set()
        try:
            await asyncio.Event().wait()
        finally:
            self._isp.upstreams.remove(self)

    def current(self) -> Received | None:
        """None before the ISP has answered."""
        return self._isp.received(self._now()) if self._is_answered else None


class Router:
    """The subscriber `routes` of the router, which says on the log how far its routes are; it has no kernel."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = world.chance("router")
        self._process: Process | None = None
        self._client: LogClient | None = None
        self._stopped: asyncio.Event
        self.routed = 0  # the position up to which it has its routes

    def start(self) -> None:
        if self._process is not None and not self._process.killed:
            return
        stop = asyncio.Event()
        self._client = LogClient(self._world.log, BORDER)
        self._process = Process(self._world, BORDER, self._run(self._client, stop), stop)
        self._world.processes.append(self._process)

    def stop(self) -> None:
        """At the end."""
        if self._process is not None:
            self._process.stop.set()

    def kill(self) -> None:
        if self._process is not None and self._client is not None:
            self._client.dead = True
            self._process.kill()

    async def _run(self, log: LogClient, stop: asyncio.Event) -> None:
        following = asyncio.create_task(self._follow(log))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((following, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            following.cancel()
            stopping.cancel()

    async def _follow(self, log: LogClient) -> None:
        committer = Committer(
            log,
            subjects.effect(SITE, "routes", BORDER),
            Fold(WriteOnly()),
            actor=f"subscriber/routes/{BORDER}",
            now=self._world.log.now,
            random=self._chance.randbytes,
        )
        await _until_done(committer.catch_up)
        writing = asyncio.create_task(committer.run())
        try:
            async with aclosing(log.follow([subjects.ledger(SITE, SUBNET)])) as batches:
                async for batch in batches:
                    if not batch.records:
                        continue
                    position = batch.records[-1].sequence
                    await asyncio.sleep(self._chance.choice((0.0, 0.01, self._chance.uniform(0, 5))))
                    self.routed = max(self.routed, position)
                    applied = (EffectApplied(position=position),)
                    await _until_done(lambda applied=applied: committer.observe(applied))  # type: ignore[misc]
        finally:
            writing.cancel()


async def _until_done(work: Callable[[], object]) -> None:
    """As often as it takes."""
    while True:
        try:
            await work()  # type: ignore[misc]
        except (Unavailable, Unanswered, LostRace):
            await asyncio.sleep(RETRY)
        else:
            return
