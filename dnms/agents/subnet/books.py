"""What a Subnet Agent knows and writes: one follow of the log feeds its folds, and a committer a subject writes.

It follows the plan, all nodes and its own ledger. A plan that touches its subnet is adopted by the ledger; leases whose
horizon has passed expire. Until the folds have reached the end of the log nothing is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import structlog

from dnms.agents.subnet.comers import Comers
from dnms.agents.subnet.expiring import Expiring
from dnms.agents.subnet.folds import Folds
from dnms.agents.subnet.notes import RETRY, Note, Notes
from dnms.agents.subnet.observations import Observations
from dnms.agents.subnet.outage import Journal, Outage
from dnms.agents.subnet.routers import SUBSCRIBER, Routers
from dnms.bus.committer import Committer
from dnms.bus.port import Doubled, Log, LogError, LostRace, Unanswered, Unavailable
from dnms.bus.reading import Position, deviation_alarm, read
from dnms.domain import outage, uplinks
from dnms.domain.aggregate import Fold, Refused, State
from dnms.domain.assignment import group_of
from dnms.domain.document import LEVEL
from dnms.domain.ledger import Ledger
from dnms.domain.nodes import Node, NodeShard
from dnms.domain.plan import PlanState, says_the_same
from dnms.events import subjects
from dnms.events.address import AddressDeprecated, AddressHeld, AddressWithdrawn, OutageGranted
from dnms.events.codec import UnknownToThisRelease
from dnms.events.commit import Commit, Stored
from dnms.events.configuration import Generation
from dnms.events.effect import EffectApplied
from dnms.events.gateway import GatewayAppeared, GatewayVanished
from dnms.events.node import NodeEntered, NodeForgotten, NodeReady
from dnms.events.plan import AdoptedPlan, GroupDefined, GroupWithdrawn, PlanAdopted
from dnms.events.prefix import PrefixDeprecated, PrefixWithdrawn
from dnms.events.recorded import Event, Request
from dnms.events.requests import AdoptPlan, CompleteNode, EnterNode, IdentifyNode, JoinNode
from dnms.events.rollout import RolloutAborted, RolloutEnded, RolloutTold
from dnms.events.seen import OutageEnded, SessionClosed, SessionOpened
from dnms.events.uplink import UplinkDeprecated, UplinkLost, UplinkReceived

ABANDONED = "agent-restarted"
"""Why a session was closed whose agent ended without a word: killed, or by a power cut."""

_OF_ONE = (
    AddressHeld,
    AddressDeprecated,
    AddressWithdrawn,
    OutageGranted,
    PrefixDeprecated,
    PrefixWithdrawn,
)
_OF_ALL = (GatewayAppeared, GatewayVanished, RolloutAborted, RolloutEnded)
_ABOVE = (UplinkReceived, UplinkDeprecated, UplinkLost)
_TELLING = frozenset({*_OF_ONE, *_OF_ALL, *_ABOVE, PlanAdopted, RolloutTold})
"""After these a node may be due something else. A set, since a start reads a million that are none of these."""

_logger = structlog.get_logger(__name__)

S = TypeVar("S", bound=State)


class Books:
    """The folds and the writers of one Subnet Agent. `now` is in microseconds, `random` draws bytes."""

    def __init__(
        self,
        log: Log,
        *,
        site: str,
        secret: bytes,
        subnet: str,
        agent: str,
        now: Callable[[], int],
        random: Callable[[int], bytes],
        journal: Journal | None = None,
        folds: Folds | None = None,
        waits: Mapping[int, float] | None = None,
    ) -> None:
        """Without a journal, nothing is given while the log is away. `folds` are those of a snapshot, to be read on.

        `waits`: for how many seconds nothing of what is in the folds expires yet, by family; None: that is not known.
        """
        self.subnet = subnet
        self.caught_up = asyncio.Event()  # all that was in the log is folded
        self.ready = asyncio.Event()  # nodes can be served: so it is, or the log is away
        self.planned = asyncio.Event()  # the ledger has adopted another plan: set here, cleared by who looks at it
        self.changed = asyncio.Event()  # nodes may be due something else: set here, cleared by who pushes it to them
        self.link_changed = asyncio.Event()  # what is advertised may be another: set here, cleared by who does that
        self.touching: list[Callable[[bytes | None], None]] = []  # who hears which clients may be; None: all
        self._touched: set[bytes] | None = set()  # the clients that are; None: all
        self._log = log
        self._site = site
        self._now = now
        self._random = random
        self._actor = f"agent/{agent}"
        self.folds = folds if folds is not None else Folds(secret)
        self._plan = self.folds.plan
        self._above = self.folds.ledger.state.uplinks  # up to where nodes were told of it
        self._plan_subject = subjects.plan(site)
        self._plan_changed = asyncio.Event()
        self._ledger = self._committer(subjects.ledger(site, subnet), self.folds.ledger)
        self.agent = agent
        self._seen = self._committer(subjects.seen(site, subnet, agent), self.folds.seen, foreign=self._foreign)
        self._shards: dict[int, Committer[NodeShard]] = {}  # by the first byte of their clients
        self._notes = Notes(self._seen)
        for client in sorted(self.folds.seen.state.sessions):
            self._notes.add(SessionClosed(client=client, why=ABANDONED))
        self.observations = Observations(self.observe, self.now)
        self._effects = subjects.effects(site, SUBSCRIBER)
        read_to = self.folds.read.sequence if self.folds.read is not None else 0
        self.routers = Routers(self.folds.routers, followed=read_to)
        self._unrouted: set[bytes] = set()  # the clients that are due a prefix once its route is there
        self.outage = Outage(self._ledger, journal, now=self.now, reach=self._reach, back=self._back)
        self._comers = Comers()
        self._expiring = Expiring(self._ledger, self.outage, subnet=subnet, now=now)
        self._waits = waits
        self._began_at = self.position
        self._tasks = asyncio.TaskGroup()

    @property
    def plan(self) -> PlanState:
        """The whole plan, as far as it is followed."""
        return self._plan.state

    @property
    def ledger(self) -> Ledger:
        """The subnet's ledger, as far as it is folded; while the log is away, with what was granted since."""
        return self.outage.ledger if self.outage.active else self._ledger.fold.state

    @property
    def log(self) -> str:
        """The id of the log."""
        return self._log.log_id

    @property
    def position(self) -> int:
        """The sequence up to which the ledger is folded."""
        return self._ledger.fold.sequence

    def now(self) -> int:
        """The instant of decisions: never before the newest commit's."""
        return max(self._now(), self._ledger.fold.time)

    async def run(self) -> None:
        """Follow and write, until cancelled. LogForked, LogDamaged, Doubled: what cannot be mended here."""
        async with self._tasks:
            for subject in self.folds.shards:
                self._shard(subject)
            writers = (self._ledger.run(), self._seen.run(), self._note())
            for part in (self._follow(), *writers, self._adopt(), self._expire(), self._come_back()):
                self._tasks.create_task(part)

    async def decide(self, request: Request) -> tuple[Event, ...]:
        """Have the ledger decide. Refused; LogError, and then nothing was promised."""
        events, _ = await self.outage.until(self._ask(self._ledger, request))
        return events

    def asked(self, request: Request) -> asyncio.Future[tuple[tuple[Event, ...], int]]:
        """As `decide`, for who is called back: with the events goes their commit's sequence. It is cancelled when the
        log is away. LogError.
        """
        return self.outage.watched(self._ask(self._ledger, request))

    def _ask(self, committer: Committer[Any], request: Request) -> asyncio.Future[tuple[tuple[Event, ...], int]]:
        if self.outage.active:
            raise Unavailable("the log is away")
        return committer.asked(request)

    async def decide_all(self, requests: Iterable[Request]) -> list[tuple[Event, ...] | BaseException]:
        """Have the ledger decide several side by side: with each its events, or why it was refused. LogError."""
        requests = tuple(requests)
        if len(requests) == 1:  # as most
            try:
                return [await self.decide(*requests)]
            except Refused as refused:
                return [refused]

        async def decided() -> list[tuple[Event, ...] | BaseException]:
            outcomes = await self._ledger.submit_all(requests)
            for outcome in outcomes:
                if isinstance(outcome, LogError):
                    raise outcome
            return outcomes

        return await self.outage.unless(decided())

    def knows(self, client: bytes) -> bool:
        """Whether this node was ever seen on the site."""
        return self.node(client) is not None

    def node(self, client: bytes) -> Node | None:
        """What is known of a node of the site, with what is personal sealed; None: nothing."""
        shard = self._shards.get(client[0])
        return None if shard is None else shard.fold.state.nodes.get(client)

    def encoded_nodes(self) -> list[tuple[bytes, bytes]]:
        """All nodes of the site as `Node` in bytes: the same object for as long as nothing of one has changed."""
        return [item for shard in self._shards.values() for item in shard.fold.state.table.encoded.items()]

    async def opened(self, client: bytes) -> Node | None:
        """As `node`, with what is personal in clear; sealed while the keys cannot be read, as without the log."""
        known = self.node(client)
        with suppress(Unavailable, Unanswered):
            return None if known is None else await self._log.keys.opened(known, client)
        return known

    async def hardware(self, client: bytes) -> frozenset[bytes]:
        """The hardware addresses that a node had when it was identified last; none if that is not known."""
        known = await self.opened(client)
        told = known.identity.hardware if known is not None and known.identity is not None else ()
        return frozenset(value for each in told if isinstance(value := each.value, bytes))

    def has_left(self, client: bytes) -> bool:
        """Whether this node has arrived on another subnet since it was here, as far as the log is followed."""
        known = self.node(client)
        return known is not None and known.subnet not in ("", self.subnet) and client not in self._comers

    def has_agent(self, client: bytes) -> bool:
        """Whether a Node Agent has said who this node is, on any subnet."""
        known = self.node(client)
        return known is not None and known.identity is not None and known.identity.kernel != ""

    async def identify(self, request: IdentifyNode) -> None:
        """Record who a node is and where. LogError."""
        await self.tell(request)

    async def tell(self, request: CompleteNode | EnterNode | IdentifyNode | JoinNode) -> None:
        """Have a shard of the nodes decide. Refused; LogError."""
        await self.outage.until(self._ask(self._shard_of(request.client), request))

    def identify_later(self, request: IdentifyNode) -> None:
        """Record who a node is and where once the log is back. Unavailable if too many wait for that."""
        self._comers.add(request)

    def owe(self, client: bytes) -> None:
        """This client may be due more once the log is back."""
        self._comers.owe(client)

    def group(self, client: bytes, name: str, *, duid: bytes, hardware: tuple[bytes, ...]) -> int:
        """The number of the group that a node is in: as an operator entered it, else by the plan's patterns."""
        known = self.node(client)
        entered = known.entered.group if known is not None and known.entered is not None else ""
        return group_of(self.plan, name, duid=duid, hardware=hardware, entered=entered)

    async def reach(self, generation: Generation | None) -> None:
        """Catch up to what a node was told by another agent, so that it is never told less. LogError.

        Unavailable if there is nothing to catch up with: the log has lost its end, or the node is wrong. Whichever it
        is, nothing is decided for it from a ledger that may be too short.
        """
        if generation is None or generation.ledger <= self.position:
            return
        await self.catch_up()
        if generation.ledger > self.position:
            told, ends = generation.ledger, self.position
            _logger.error("a node was told of more than is in the log", told=told, subnet=self.subnet, position=ends)
            raise Unavailable(f"the node was told of position {told}, and the ledger ends at {ends}")

    async def catch_up(self) -> None:
        """Fold the ledger to its end. LogError."""
        await self.outage.unless(self._ledger.catch_up())

    async def observe(self, *events: Event) -> int:
        """Record what was seen; the sequence of its commit. LogError."""
        return await self.outage.unless(self._notes.observe(events))

    def note(self, note: Note) -> None:
        """Record this, as soon as the log takes it."""
        self._notes.add(note)

    async def settled(self) -> None:
        """Wait until all that was noted is in the log."""
        await self._notes.settled()

    @property
    def waits(self) -> dict[int, float] | None:
        """For how many seconds nothing expires yet, by family; None: that is not known yet."""
        return self._expiring.waits

    def suspend_expiry(self) -> None:
        """Let nothing expire until every lease was renewed or is over by any clock: the log's was set, and the nodes'
        were not.
        """
        longest = self._expiring.suspend()
        _logger.warning("nothing expires for a while", subnet=self.subnet, ipv4=longest[4], ipv6=longest[6])

    def _committer(
        self, subject: str, fold: Fold[S], *, foreign: Callable[[Stored], None] | None = None
    ) -> Committer[S]:
        return Committer(
            self._log,
            subject,
            fold,
            actor=self._actor,
            now=self._now,
            random=self._random,
            foreign=foreign,
        )

    def _shard_of(self, client: bytes) -> Committer[NodeShard]:
        return self._shard(subjects.node(self._site, client))

    def _shard(self, subject: str) -> Committer[NodeShard]:
        """A shard of the nodes; one that is first seen here gets its committer now."""
        first = int(subject[-2:], 16)
        if first not in self._shards:
            fold = self.folds.shards.setdefault(subject, Fold(NodeShard()))
            self._shards[first] = shard = self._committer(subject, fold)
            self._tasks.create_task(shard.run())
        return self._shards[first]

    async def _note(self) -> None:
        """Write notes once it is known which sessions this agent's former self left open when it was killed."""
        await self.caught_up.wait()
        await self._notes.run()

    async def _follow(self) -> None:
        written = (self._ledger.subject, self._seen.subject)
        followed = (self._plan_subject, subjects.nodes(self._site), *written, self._effects)
        async with aclosing(read(self._log, followed, after=self.folds.read or 0)) as batches:
            async for batch in batches:
                for stored in batch.stored:
                    self._take(stored)
                    self.routers.followed = stored.sequence
                    self.folds.read = Position(self._log.log_id, stored.sequence, stored.commit.id)
                    self.folds.events += len(stored.commit.events)
                if batch.caught_up and not self.caught_up.is_set():
                    _logger.info("the log is folded", subnet=self.subnet, position=self.position)
                    self.caught_up.set()
                    self.ready.set()

    def _take(self, stored: Stored) -> None:
        if self.caught_up.is_set():
            deviation_alarm(stored)
        if stored.subject == self._plan_subject:
            self._plan.take(stored)
            self._plan_changed.set()
            if any(isinstance(event, GroupDefined | GroupWithdrawn) for event in stored.commit.events):
                self._push(None)  # whom a group holds is no part of what a ledger adopts
        elif stored.subject == self._seen.subject:
            self._seen.take(stored)
        elif stored.subject == self._ledger.subject:
            self._ledger.take(stored)
            self._tell(stored.commit, stored.sequence)
        elif stored.subject.startswith(self._effects[:-1]):
            self._route(stored)
        else:
            self._shard(stored.subject).take(stored)
            for event in stored.commit.events:
                if isinstance(event, NodeForgotten):
                    self.observations.forget(event.client)  # nobody goes on from what is forgotten
                if isinstance(event, NodeEntered | NodeReady | NodeForgotten):
                    self._push(event.client)  # its group may be another one, or it is here and not recognised yet

    def _route(self, stored: Stored) -> None:
        """A router says how far it is: who was not told of a prefix may be now."""
        for event in stored.commit.events:
            if isinstance(event, EffectApplied):
                self.routers.applied(stored.subject.rpartition(".")[2], event)
        for client in self._unrouted:
            self._push(client)
        self._unrouted.clear()

    def owe_route(self, client: bytes) -> None:
        """This client is due a prefix once its route is there."""
        self._unrouted.add(client)

    def _foreign(self, stored: Stored) -> None:
        """What this process did not write on its own `seen`: its former self did, whose sessions have ended with it.

        Or else another process has this agent's name, and runs. It ends when it sees the first commit of this one, as
        this one does here: what both wrote would say of each other's sessions that they have ended. Doubled.
        """
        if self._seen.has_written:
            raise Doubled(
                f"another Subnet Agent on subnet {self.subnet!r} has the name {self.agent!r}, and writes under it "
                f"(position {stored.sequence}): give one of the two another --name"
            )
        for event in stored.commit.events:
            match event:
                case SessionOpened():
                    self._notes.add(SessionClosed(client=event.client, why=ABANDONED))
                case SessionClosed():
                    self._notes.drop(event.client)

    def _tell(self, commit: Commit, position: int) -> None:
        """React to what this agent or another one has committed: an adopted plan, or an end of what a node has.

        UnknownToThisRelease.
        """
        for event in commit.events:
            if type(event) not in _TELLING:
                continue
            if isinstance(event, PlanAdopted | uplinks.Happened):
                self.link_changed.set()
            if isinstance(event, uplinks.Happened):
                if uplinks.shortens(self._above, event):  # what it makes longer nodes hear when they renew
                    self._push(None)
                self._above = uplinks.evolve(self._above, event)
            elif isinstance(event, PlanAdopted):
                self._follow_plan(event.plan, position)
            elif isinstance(event, RolloutTold):
                for client in event.clients:
                    self._push(client)
            elif isinstance(event, _OF_ONE):
                self._push(event.client)
            else:
                self._push(None)

    def _follow_plan(self, plan: AdoptedPlan, position: int) -> None:
        if plan.level > LEVEL:
            raise UnknownToThisRelease(f"the site is at level {plan.level}; this release knows {LEVEL}: upgrade it")
        self.routers.adopted(() if plan.subnet is None else plan.subnet.downlink.routers, position)
        self._plan_changed.set()  # another agent may have been behind ours
        self.planned.set()
        self._push(None)

    def _push(self, client: bytes | None) -> None:
        """A client, or all of them, may be due something else."""
        if self.caught_up.is_set():
            if client is None:
                self._touched = None
            elif self._touched is not None:
                self._touched.add(client)
            self.changed.set()
            for tell in self.touching:
                tell(client)

    def take_due(self) -> set[bytes] | None:
        """The clients that may be due something else since this was asked; None: all of them."""
        self.changed.clear()
        touched, self._touched = self._touched, set()
        return touched

    def begin_without_log(self) -> None:
        """Serve by the folds of a snapshot, as in an outage, since the log cannot be reached; unless it must be."""
        self.outage.begin("it could not be reached at the start")
        if self.outage.active:
            self.ready.set()

    async def _expire(self) -> None:
        began = asyncio.get_running_loop().time()
        await self.caught_up.wait()
        waits = self._waits
        if waits is not None:
            past = asyncio.get_running_loop().time() - began
            waits = {kind: max(0.0, seconds - past) for kind, seconds in waits.items()}
        # What came into the ledger since was promised by a clock that may have been set, and set back again.
        await self._expiring.run(waits if self.position == self._began_at else None)

    async def _come_back(self) -> None:
        await self.ready.wait()
        await self.outage.run()

    async def _reach(self) -> None:
        """See that the log is there, and that all of it is known here. Unavailable."""
        await self._log.end()
        if not self.caught_up.is_set():
            raise Unavailable("the log is not read to its end yet")

    async def _back(self) -> None:
        """The log is back: say so there, who has come, and give those who got less than usual the rest. LogError."""
        # Another agent may be back later, with what it has prolonged: nothing of that ends as long as it can be.
        self._expiring.suspend_for({4: 0, 6: outage.longest(self.ledger.plan)})
        await self._notes.observe((OutageEnded(began=self.outage.began),))
        await self._comers.record(self._shard_of)
        for client in self._comers.take_owed():
            self._push(client)

    async def _adopt(self) -> None:
        """Bring every plan that touches this subnet into the ledger."""
        await self.caught_up.wait()
        while True:
            self._plan_changed.clear()
            try:
                await self._adopt_newest()
            except Refused as refusal:
                _logger.error("plan not adopted", subnet=self.subnet, why=refusal.why, text=refusal.text)
            except (Unavailable, Unanswered, LostRace) as error:
                _logger.warning("plan not adopted yet", subnet=self.subnet, why=error.why)
                await asyncio.sleep(RETRY)
                continue
            await self._plan_changed.wait()

    async def _adopt_newest(self) -> None:
        wanted = self.plan.for_subnet(self.subnet)
        adopted = uplinks.planned(self.ledger.plan)
        if says_the_same(wanted, adopted):
            wanted = adopted  # who adopted it may have ended before all that it contradicts had
        if self.plan.position:
            while await self.decide(AdoptPlan(plan=wanted)):
                pass  # a large ledger ends its contradicted leases in several commits
