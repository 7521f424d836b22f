"""The machines of a simulation: nodes and Subnet Agents with the unmodified agents on them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dnms.agents.node.agent import NodeAgent
from dnms.agents.subnet.agent import SubnetSettings, attend, keeper_of
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.snapshot import Whose
from dnms.bus.clock import LogClock
from dnms.bus.port import Unavailable
from dnms.disk.delegated import Delegated
from dnms.disk.journal import JournalError
from dnms.disk.node_state import Identity, Kept, NodeStateDirectory, Unproven
from dnms.events.codec import decoder, encoder
from dnms.events.ip import Prefix, parse_address
from dnms.kit.clock import MICROSECONDS
from tests.simulation.journal import SimulatedJournal
from tests.simulation.kernel import Kernel, SimulatedMachine
from tests.simulation.log import LogClient
from tests.simulation.network import Host
from tests.simulation.plans import SITE, SUBNET
from tests.simulation.snapshots import SimulatedSnapshots

if TYPE_CHECKING:
    from tests.simulation.world import World

CONNECT_RETRY = 2.0  # seconds
HOUR = 3600.0  # seconds by which a clock is wrong at most, but one that is lost
K = TypeVar("K", Identity, Kept, Unproven)


class Disk(NodeStateDirectory):
    """A node's state directory that outlives its process, and costs no disk."""

    def __init__(self) -> None:
        self._path = Path("simulated")
        self.files: dict[str, bytes] = {}
        self.delegated: Delegated | None = None
        self.passed_on: Callable[[Delegated | None], None] = lambda _: None  # is called with it

    def delegate(self, interface: str, delegated: Delegated | None) -> None:
        self.delegated = delegated
        self.passed_on(delegated)

    def _read(self, name: str, kind: type[K]) -> K | None:
        return decoder(kind).decode(self.files[name]) if name in self.files else None

    def _write(self, name: str, state: Identity | Kept | Unproven) -> None:
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

    def __init__(self, world: World, number: int, *, prefix: int | None = None) -> None:
        """`prefix`: the length of a prefix that it asks for; None: it wants none."""
        self.name = f"node-{number}"
        self.world = world
        self.prefix = prefix
        self.prefixes: dict[Prefix, float] = {}  # that it passes on, with their ends on the loop's clock
        self.host = Host(world.network, self.name, parse_address(f"fe80::1:{number + 1:x}"))
        self.host.wired = False
        self.kernel = Kernel(self.host, world.chance(f"kernel {number}"), world.kernels)
        self.kernel.used, self.kernel.found = world.used, world.found
        self.disk = Disk()
        self.disk.passed_on = self._passed_on
        self.skew = world.chance(f"clock {number}").choice((1.0, HOUR / 300)) * world.chance(f"skew {number}").uniform(
            -300, 300
        )
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

    def _passed_on(self, delegated: Delegated | None) -> None:
        clock = self.world.wall() + self.skew - asyncio.get_running_loop().time()
        prefixes = () if delegated is None else delegated.prefixes
        self.prefixes = {each.prefix: each.valid_until / MICROSECONDS - clock for each in prefixes}
        self.world.passed_on(self)

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
        self.agent = NodeAgent(machine, self.disk, name=self.name, prefix=self.prefix)
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
        self.disk.delegated = None
        self.prefixes.clear()
        self.released.clear()

    def release(self) -> bool:
        """Give everything back, as a node does that is taken off; it asks anew afterwards."""
        agent = self.agent
        if not self.running or agent is None or agent._session is None or agent._pump is None:
            return False
        self.released.update(agent._state.held)
        self.prefixes.clear()
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
        try:
            self.journal.open()
        except JournalError as error:
            self.world.trace.note("does not start", who=self.name, reason=str(error))
            return
        stop = asyncio.Event()
        self.client = LogClient(self.world.log, self.name)
        self.process = Process(self.world, self.name, self._run(self.client, stop), stop)
        self.world.processes.append(self.process)

    async def _run(self, log: LogClient, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()

        def elapsed() -> float:
            return self._offset + loop.time() * self._rate

        folds, boot = self.snapshots.folds(), str(self._boots)
        clock, away = LogClock(log, elapsed=elapsed, boot=boot), False
        while not away:
            try:
                await clock.measure()
                break
            except Unavailable:
                if folds is not None and folds.told is not None and folds.told.boot == boot:
                    clock, away = LogClock(log, elapsed=elapsed, boot=boot, told=folds.told), True
                    self.world.trace.note("without the log", by=self.name)
                else:
                    await asyncio.sleep(CONNECT_RETRY)
            if stop.is_set():
                return
        settings = SubnetSettings(interface="eth0", subnet=SUBNET, name=self.name, site=Path(), bus="")
        random = self._chance.randbytes
        keeping = asyncio.create_task(self._keep_snapshots(clock))
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
                away=away,
                asks=self.world.asks(self, clock.now),
            )
        finally:
            keeping.cancel()

    async def _keep_snapshots(self, clock: LogClock) -> None:
        """Take one at any moment, as an agent does by itself after some thousand events, which none here lives to."""
        while True:
            await asyncio.sleep(self.snapshots.chance.uniform(5, 60))
            if self.books is not None:
                await keeper_of(self.books, self.snapshots, self._whose, clock).keep()

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop.set()

    def lose_disk(self) -> None:
        """It is another one from now on."""
        self.journal.lose()
        self.snapshots.lose()

    def crash(self) -> None:
        if self.process is not None and self.running:
            self._end(self.process)
            self.host.kill()

    def power_off(self) -> None:
        if self.process is not None and self.running:
            self._end(self.process)
            self._boots += 1
            self.host.wired = False
            self.host.lose_power()

    def _end(self, process: Process) -> None:
        assert self.client is not None
        self.client.dead = True
        self.journal.end_process()
        process.kill()
