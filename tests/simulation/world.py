"""All of a simulation: its machines, a link, a log, strangers, and what an operator does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import TypeVar

from dnms.bus.committer import Committer
from dnms.disk.site import Site
from dnms.domain.aggregate import Fold, Refused, State
from dnms.domain.identity import duid_of_hardware, iaid_of, iaid_of_hardware
from dnms.domain.ledger import Ledger
from dnms.domain.nodes import NodeShard
from dnms.domain.plan import PlanState
from dnms.events import subjects
from dnms.events.address import AddressExpired
from dnms.events.commit import Commit
from dnms.events.ip import format_address, parse_address
from dnms.events.plan import Family
from dnms.events.prefix import PrefixExpired
from dnms.events.recorded import Personal, Request
from dnms.events.requests import (
    BlockAddress,
    CompleteNode,
    EnterNode,
    ForgetNode,
    HoldAddress,
    MoveAddress,
    UnholdAddress,
    WithdrawAddress,
)
from tests.simulation.above import Isp, Router, SimulatedUpstream
from tests.simulation.doubts import LATE, Doubt, Grant, Happened
from tests.simulation.kernel import Kernel
from tests.simulation.log import SimulatedLog
from tests.simulation.machines import Agent, Node, Process
from tests.simulation.network import Host, Network
from tests.simulation.plans import CUT, ROUTED, SECRET, SITE, SUBNET, plans
from tests.simulation.trace import Trace

S = TypeVar("S", bound=State)


class World:
    """All of it."""

    def __init__(
        self, seed: int, *, agents: int, nodes: int, delegates: str = "", wanting: Sequence[int | None] = ()
    ) -> None:
        """`delegates`: as the plans do; `wanting`: the length of the prefix that each node asks for, None for none."""
        loop = asyncio.get_running_loop()
        self.seed = seed
        self.trace = Trace(loop.time)
        self.network = Network(self.chance("network"), self.trace)
        self.log = SimulatedLog(SITE, self.chance("log"), self.trace)
        self.log.told = self.stored
        self.site = Site(Path("simulated"), SITE, SECRET)
        self.kernels: list[Kernel] = []
        self.processes: list[Process] = []
        self.agents = [Agent(self, number) for number in range(agents)]
        self.nodes = [Node(self, number, prefix=wanting[number] if wanting else None) for number in range(nodes)]
        self.plans = plans(delegates)
        self.isp = Isp(self.chance("isp"), self.trace) if CUT in delegates else None
        self.router = Router(self) if ROUTED in delegates else None
        self.stranger = Kernel(
            Host(self.network, "stranger", parse_address("fe80::9:9")), self.chance("stranger"), self.kernels
        )
        self.plan = ""
        self.healed = False
        self.grants: dict[Happened, Grant] = {}  # by agents that did not reach the log
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

    def asks(self, agent: Agent, now: Callable[[], int]) -> SimulatedUpstream | None:
        """Who asks above for this agent: one of them is a router."""
        if self.isp is None or agent is not self.agents[0]:
            return None
        return SimulatedUpstream(self.isp, self.chance(f"upstream {agent._boots}"), now)

    def passed_on(self, node: Node) -> None:
        """A node passes on what it is delegated; nobody else may still do so with any of that."""
        now = self.trace.now()
        if node.prefixes:
            self.trace.note("passes on", node=node.name, prefixes=",".join(map(str, node.prefixes)))
        for other in self.nodes:
            for prefix, until in other.prefixes.items() if other is not node else ():
                if until > now and any(each.overlaps(prefix) for each in node.prefixes):
                    self.trace.fail(f"{node.name} passes on what {other.name} has of {prefix}")

    def stored(self, commit: Commit) -> None:
        """A lease expires after its holder has stopped to use it, whatever was done to any clock; but where an agent
        that does not reach the log has given it for longer, which nobody can know.
        """
        for event in commit.events:
            if isinstance(event, PrefixExpired):
                for node in self.nodes:
                    if node.client == event.client and node.prefixes.get(event.prefix, 0.0) > self.trace.now():
                        self.trace.fail(f"{event.prefix} expired, and {node.name} passes it on")
            if isinstance(event, AddressExpired):
                for node in self.nodes:
                    if event.address not in node.kernel.addresses or node.client != event.client:
                        continue
                    if not any(
                        name[:2] == (event.client, event.address) and self.trace.now() <= grant.until + LATE
                        for name, grant in self.grants.items()
                    ):
                        self.trace.fail(f"{format_address(event.address)} expired, and {node.name} has it yet")

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
        self.doubts.append(Doubt(address, clients, self.trace.now(), said, used))

    async def apply(self, name: str) -> None:
        """An operator applies a plan."""
        self.plan = name
        await self._submit(subjects.plan(SITE), PlanState(), lambda _: self.plans[name])

    async def operate(self, node: Node, what: str) -> None:
        """An operator, or an agent that sees a conflict, changes what a node has of the ledger."""
        if what == "enter":
            await self._enter(node)
            return
        if what == "forget":
            await self._forget(node)
            return
        iaid, client = iaid_of(node.kernel.link.name), node.client

        def request(ledger: Ledger) -> Request | None:
            lease = next((lease for kind in (6, 4) if (lease := ledger.lease(client, iaid, kind))), None)
            if what == "hold" and client:
                return HoldAddress(client=client, iaid=iaid, family=4 if len(self.log.records) % 2 else 6)
            if what == "unhold" and (kept := [each for each, (who, _) in ledger.held.items() if who == client]):
                return UnholdAddress(client=client, iaid=iaid, address=kept[0])
            if what == "withdraw" and lease is not None:
                return WithdrawAddress(client=client, iaid=iaid, address=lease.address)
            if what == "move" and lease is not None:
                return MoveAddress(client=client, iaid=iaid, address=lease.address)
            if what == "block" and lease is not None:
                return BlockAddress(client=b"somebody else...", address=lease.address, cause=1, holder=client)
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

    async def _forget(self, node: Node) -> None:
        """An operator forgets what is personal of a machine. The API would refuse it while the node has a session."""
        client = node.client
        key = await self.log.keys.of(client) if client else None
        if key is not None:
            forget = ForgetNode(client=client, personal=True, key=key.id)
            await self._submit(subjects.node(SITE, client), NodeShard(), lambda _: forget)
            await self.log.keys.destroy(client, key.id)

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
