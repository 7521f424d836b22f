"""The machines of a simulation: nodes and Subnet Agents with the unmodified agents on them, a log, strangers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from dnms.agents.node.agent import NodeAgent
from dnms.agents.subnet.agent import SubnetSettings, attend
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.snapshot import Keeper, Whose
from dnms.bus.clock import LogClock
from dnms.bus.committer import Committer
from dnms.bus.port import Unavailable
from dnms.disk.node_state import Identity, Kept, NodeStateDirectory
from dnms.disk.site import Site
from dnms.domain.aggregate import Fold, Refused, State
from dnms.domain.identity import duid_of_hardware, iaid_of, iaid_of_hardware
from dnms.domain.ledger import Ledger
from dnms.domain.nodes import NodeShard
from dnms.domain.plan import PlanState
from dnms.events import subjects
from dnms.events.codec import decoder, encoder
from dnms.events.ip import format_address, parse_address
from dnms.events.plan import Family
from dnms.events.recorded import Personal, Request
from dnms.events.requests import (
    BlockAddress,
    CompleteNode,
    EnterNode,
    HoldAddress,
    MoveAddress,
    UnholdAddress,
)
from tests.simulation.doubts import Doubt
from tests.simulation.journal import SimulatedJournal
from tests.simulation.kernel import Kernel, SimulatedMachine
from tests.simulation.log import LogClient, SimulatedLog
from tests.simulation.network import Host, Network
from tests.simulation.plans import PLANS, SECRET, SITE, SUBNET
from tests.simulation.snapshots import SimulatedSnapshots
from tests.simulation.trace import Trace

CONNECT_RETRY = 2.0  # seconds
K = TypeVar("K", Identity, Kept)
S = TypeVar("S", bound=State)


class Disk(NodeStateDirectory):
    """A node's state directory that outlives its process, and costs no disk."""

    def __init__(self) -> None:
        self._path = Path("simulated")
        self.files: dict[str, bytes] = {}

    def _read(self, name: str, kind: type[K]) -> K | None:
        return decoder(kind).decode(self.files[name]) if name in self.files else None

    def _write(self, name: str, state: Identity | Kept) -> None:
        self.files[name] = encoder.encode(state)

    def _unlink(self, path: Path) -> None:
        self.files.pop(path.name, None)


class Process:
    """What runs on a machine, and how it ends."""

    def __init__(self, world: World, name: str, work: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
        self.stop = stop
        self.killed = False
        self._world = world
        self._name = name
        self.task = asyncio.create_task(self._run(work))

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if not self.killed:  # what a dead process runs into while it is taken apart is nobody's
                self._world.trace.fail(f"{self._name} ended by {_shown(error)}")
            return
        if not self.stop.is_set():
            self._world.trace.fail(f"{self._name} ended by itself")

    def kill(self) -> None:
        """Nothing that it does from here on is seen by anybody."""
        self.killed = True
        self.task.cancel()


def _shown(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_shown(each) for each in error.exceptions)
    return f"{type(error).__name__}: {error}"


class Node:
    """A machine with a Node Agent."""

    def __init__(self, world: World, number: int) -> None:
        self.name = f"node-{number}"
        self.world = world
        self.host = Host(world.network, self.name, parse_address(f"fe80::1:{number + 1:x}"))
        self.host.wired = False
        self.kernel = Kernel(self.host, world.chance(f"kernel {number}"), world.kernels)
        self.kernel.used, self.kernel.found = world.used, world.found
        self.disk = Disk()
        self.skew = world.chance(f"clock {number}").uniform(-300, 300)
        self.released: set[bytes] = set()  # given back, whatever its kernel still has
        self.agent: NodeAgent | None = None
        self.process: Process | None = None
        self.on = False
        self._chance = world.chance(f"node {number}")

    @property
    def client(self) -> bytes:
        """Its client id; empty before its first start."""
        known = self.disk._read("identity", Identity)
        return self.world.site.client_id(known.duid) if known is not None else b""

    @property
    def running(self) -> bool:
        return self.process is not None and not self.process.task.done() and not self.process.killed

    def holds(self, address: bytes) -> bool:
        """Whether it is still to have what its kernel has: nobody has told it to drop that."""
        if address in self.released:
            return False
        if not self.running or self.agent is None or self.agent._state.assignment is None:
            return True  # the kernel keeps it until its lifetime ends
        return address in self.agent._state.held

    def boot(self) -> None:
        if not self.on:
            self.on = True
            self.kernel.power_on()
            self.start()

    def start(self) -> None:
        if self.running or not self.on:
            return
        world, stop = self.world, asyncio.Event()
        machine = SimulatedMachine(self.kernel, self._chance, wall=lambda: world.wall() + self.skew)
        self.agent = NodeAgent(machine, self.disk, name=self.name)
        self.process = Process(world, self.name, self.agent.live_until(stop), stop)
        world.processes.append(self.process)

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop.set()

    def crash(self) -> None:
        if self.process is not None and self.running:
            self.process.kill()
            self.host.kill()

    def power_off(self) -> None:
        if self.on:
            self.on = False
            if self.process is not None:
                self.process.kill()
            self.host.lose_power()
            self.kernel.power_off()

    def replace(self) -> None:
        """Another machine comes in its place, which has nothing and is nobody yet."""
        self.power_off()
        self.disk.files.clear()
        self.released.clear()

    def release(self) -> bool:
        """Give everything back, as a node does that is taken off; it asks anew afterwards."""
        agent = self.agent
        if not self.running or agent is None or agent._session is None or agent._pump is None:
            return False
        self.released.update(agent._state.held)
        agent._session.release(asyncio.get_running_loop().time())
        agent._pump.wake()
        return True


class Agent:
    """A machine with a Subnet Agent."""

    def __init__(self, world: World, number: int) -> None:
        self.name = f"agent-{number}"
        self.world = world
        self.host = Host(world.network, self.name, parse_address(f"fe80::2:{number + 1:x}"))
        self.books: Books | None = None
        self.client: LogClient | None = None
        self.process: Process | None = None
        self._chance = world.chance(self.name)
        self.journal = SimulatedJournal(self.name, world.chance(f"journal of {self.name}"), world.trace)
        self._whose = Whose(SITE, SUBNET, self.name)
        self.snapshots = SimulatedSnapshots(
            self._whose, world.site.secret, world.chance(f"snapshots of {self.name}"), world.trace
        )
        self._rate = 1 + self._chance.uniform(-1e-4, 1e-4)  # of its clock that is never set
        self._offset = self._chance.uniform(0, 1e6)
        self._boots = 0

    @property
    def running(self) -> bool:
        return self.process is not None and not self.process.task.done() and not self.process.killed

    def start(self) -> None:
        if self.running:
            return
        self.host.wired = True
        stop = asyncio.Event()
        self.client = LogClient(self.world.log, self.name)
        self.process = Process(self.world, self.name, self._run(self.client, stop), stop)
        self.world.processes.append(self.process)

    async def _run(self, log: LogClient, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()

        def elapsed() -> float:
            return self._offset + loop.time() * self._rate

        folds, boot = self.snapshots.folds(), str(self._boots)
        clock, away = LogClock(log, elapsed=elapsed), False
        while not away:
            try:
                await clock.measure()
                break
            except Unavailable:
                if folds is not None and folds.told is not None and folds.told.boot == boot:
                    clock, away = LogClock(log, elapsed=elapsed, told=(folds.told.said, folds.told.at)), True
                    self.world.trace.note("without the log", by=self.name)
                else:
                    await asyncio.sleep(CONNECT_RETRY)
            if stop.is_set():
                return
        settings = SubnetSettings(interface="eth0", subnet=SUBNET, name=self.name, site=Path(), bus="")
        random = self._chance.randbytes
        keeping = asyncio.create_task(self._keep_snapshots(clock, boot))
        try:
            await attend(
                settings,
                self.world.site,
                log,
                clock,
                self.host,
                root=b"",
                random=random,
                stop=stop,
                journal=self.journal,
                snapshots=self.snapshots,
                folds=folds,
                boot=boot,
                away=away,
            )
        finally:
            keeping.cancel()

    async def _keep_snapshots(self, clock: LogClock, boot: str) -> None:
        """Take one at any moment, as an agent does by itself after some thousand events, which none here lives to."""
        while True:
            await asyncio.sleep(self.snapshots.chance.uniform(5, 60))
            if self.books is not None:
                await Keeper(self.books.folds, self.snapshots, self._whose, clock=clock, boot=boot).keep()

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop.set()

    def crash(self) -> None:
        if self.process is not None and self.running:
            self._end(self.process)
            self.host.kill()

    def power_off(self) -> None:
        if self.process is not None and self.running:
            self._end(self.process)
            self.journal.lose_power()
            self._boots += 1
            self.host.wired = False
            self.host.lose_power()

    def _end(self, process: Process) -> None:
        assert self.client is not None
        self.client.dead = True
        process.kill()


class World:
    """All of it."""

    def __init__(self, seed: int, *, agents: int, nodes: int) -> None:
        loop = asyncio.get_running_loop()
        self.seed = seed
        self.trace = Trace(loop.time)
        self.network = Network(self.chance("network"), self.trace)
        self.log = SimulatedLog(SITE, self.chance("log"), self.trace)
        self.site = Site(Path("simulated"), SITE, SECRET)
        self.kernels: list[Kernel] = []
        self.processes: list[Process] = []
        self.agents = [Agent(self, number) for number in range(agents)]
        self.nodes = [Node(self, number) for number in range(nodes)]
        self.stranger = Kernel(
            Host(self.network, "stranger", parse_address("fe80::9:9")), self.chance("stranger"), self.kernels
        )
        self.plan = ""
        self.granted: list[tuple[bytes, bytes]] = []  # client and address, by an agent that did not reach the log
        self.doubts: list[Doubt] = []  # which the log has to explain in the end

    def chance(self, what: str) -> Random:
        """Draws for one part alone, so that one draw more elsewhere changes nothing here."""
        return Random(f"{what} {self.seed}")

    def wall(self) -> float:
        """The true time in seconds since 1970-01-01 UTC."""
        return 1_700_000_000 + asyncio.get_running_loop().time()

    def node_of(self, kernel: Kernel) -> Node | None:
        return next((node for node in self.nodes if node.kernel is kernel), None)

    def used(self, kernel: Kernel, address: bytes) -> None:
        """A kernel uses an address from now on; no other may, that is still to have it."""
        node = self.node_of(kernel)
        if node is None:
            return
        self.trace.note("usable", node=node.name, address=format_address(address))
        node.released.discard(address)
        for other in self.nodes:
            theirs = other.kernel.addresses.get(address)
            if other is not node and theirs is not None and theirs.usable and other.holds(address):
                self._doubt(address, node, other, f"it is used by {node.name} and by {other.name}", used=True)

    def found(self, kernel: Kernel, other: Kernel, address: bytes) -> None:
        """DAD has found a duplicate. If that is another node's, two were given one address."""
        mine, theirs = self.node_of(kernel), self.node_of(other)
        name = "a stranger" if theirs is None else theirs.name
        self.trace.note("duplicate", node=mine.name if mine else "-", address=format_address(address), of=name)
        if mine is not None and theirs is not None and theirs.holds(address):
            self._doubt(address, mine, theirs, f"it was given to {mine.name} and is {theirs.name}'s", used=False)

    def _doubt(self, address: bytes, one: Node, other: Node, said: str, *, used: bool) -> None:
        self.trace.note("doubt", address=format_address(address), said=said)
        clients = frozenset((one.client, other.client))
        self.doubts.append(Doubt(address, clients, self.log.now(), said, used))

    async def apply(self, name: str) -> None:
        """An operator applies a plan."""
        self.plan = name
        await self._submit(subjects.plan(SITE), PlanState(), lambda _: PLANS[name])

    async def operate(self, node: Node, what: str) -> None:
        """An operator, or an agent that sees a conflict, changes what a node has of the ledger."""
        if what == "enter":
            await self._enter(node)
            return
        iaid, client = iaid_of(node.kernel.link.name), node.client

        def request(ledger: Ledger) -> Request | None:
            lease = next((lease for kind in (6, 4) if (lease := ledger.lease(client, iaid, kind))), None)
            if what == "hold" and client:
                return HoldAddress(client=client, iaid=iaid, family=4 if len(self.log.records) % 2 else 6)
            if what == "unhold" and (kept := [each for each, (who, _) in ledger.held.items() if who == client]):
                return UnholdAddress(client=client, iaid=iaid, address=kept[0])
            if what == "move" and lease is not None:
                return MoveAddress(client=client, iaid=iaid, address=lease.address)
            if what == "block" and lease is not None:
                return BlockAddress(client=b"somebody else...", address=lease.address, cause=1)
            return None

        with suppress(Refused):
            await self._submit(subjects.ledger(SITE, SUBNET), Ledger(SECRET), request)

    async def _enter(self, node: Node) -> None:
        """An operator enters a machine by its hardware address, as the API does it."""
        hardware = node.kernel.link.hardware
        address = hardware.value if hardware is not None else None
        assert isinstance(address, bytes)
        duid, iaid = duid_of_hardware(address), iaid_of_hardware(address)
        client, name = self.site.client_id(duid), Personal(node.name)
        shard = subjects.node(SITE, client)
        enter = EnterNode(client=client, duid=Personal(duid), name=name, iaid=iaid, hardware=(Personal(address),))
        await self._submit(shard, NodeShard(), lambda _: enter)
        kinds: tuple[Family, ...] = (6, 4)
        for kind in kinds:
            hold = HoldAddress(client=client, iaid=iaid, family=kind)
            with suppress(Refused):  # there is none of that family
                await self._submit(subjects.ledger(SITE, SUBNET), Ledger(SECRET), partial(_always, hold))
        await self._submit(shard, NodeShard(), lambda _: CompleteNode(client=client))

    async def _submit(self, subject: str, state: S, request: Callable[[S], Request | None]) -> None:
        """Fold a subject, and have what is asked of it decided there."""
        committer = Committer(
            self.log,
            subject,
            Fold(state),
            actor="operator/simulation",
            now=self.log.now,
            random=self.chance(f"{subject} {len(self.log.records)}").randbytes,
        )
        await committer.catch_up()
        wanted = request(state)
        if wanted is None:
            return
        running = asyncio.create_task(committer.run())
        try:
            await committer.submit(wanted)
        finally:
            running.cancel()
            await asyncio.wait((running,))


def _always(request: Request, _: State) -> Request:
    return request
