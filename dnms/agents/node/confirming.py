"""A change has to prove itself, or the node goes back to what it had before.

Theory of operation. Before a change that could cut the node off, what it is about to leave is written to disk, and what
can be reached is looked at. Afterwards the session has to be there, or another one; of each family of which a gateway
answered before, one of the new gateways has to answer; and so has the probe that the plan names, if it did before. What
does not come true in the time that the policy gives it is rolled back: by this process, or by the next one, if it was
killed meanwhile. What others have set on the interface is deprecated by the change and removed only when that is
proven, so there is always something to go back to.

A node that has nothing yet has nothing to lose, and proves nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

import msgspec
import structlog

from dnms.agents.node.machine import Machine
from dnms.disk.node_state import Kept, NodeStateDirectory, NodeStateError, Unproven
from dnms.domain.configured import essence
from dnms.domain.node_plan import DEFAULT4, DEFAULT6, main_of, plan_node
from dnms.events.configuration import Assignment, Snapshot
from dnms.events.ip import MAPPED, family, is_link_local
from dnms.linux.errors import KernelError

AGAIN = 0.5  # seconds between two looks
FIRST_PAUSE = 60.0  # seconds until the same is tried again; then twice as long, each time
LONGEST_PAUSE = 3_600.0

SESSION, GATEWAY, PROBE = "session", "gateway", "probe"
"""What did not answer any more."""

_logger = structlog.get_logger(__name__)


class Reach(msgspec.Struct, frozen=True):
    """What could be reached before a change."""

    families: frozenset[int] = frozenset()  # of which a gateway answered
    probe: bool = False


class Confirming:
    """The changes of one interface."""

    def __init__(self, machine: Machine, directory: NodeStateDirectory) -> None:
        self._machine = machine
        self._directory = directory
        self._reach = Reach()
        self._proven: Assignment | None = None  # its essence
        self._failed: Assignment | None = None  # the essence of what was rolled back last
        self._trying: Assignment | None = None  # the essence of what is to be proven
        self.until = 0.0  # when that has to have happened, by the event loop's clock
        self._why = ""
        self._pause = 0.0
        self._not_before = 0.0

    def refuses(self, assignment: Assignment) -> str:
        """Why this is not to be tried again so soon; empty if it may be."""
        again = self._failed == essence(assignment) and asyncio.get_running_loop().time() < self._not_before
        return self._why if again else ""

    def stands(self, assignment: Assignment) -> None:
        """This is proven, or has nothing to prove. NodeStateError."""
        self._proven, self._failed, self._pause, self._trying = essence(assignment), None, 0.0, None
        self._directory.end(self._machine.interface)

    async def begin(self, assignment: Assignment, snapshot: Snapshot) -> bool:
        """A change to this begins: whether it has to prove itself. KernelError; NodeStateError, then it cannot go back.

        `snapshot` is what the node has.
        """
        policy, interface = assignment.policy, self._machine.interface
        if not policy.confirm or policy.mode == "observe" or essence(assignment) == self._proven:
            return False
        link = await self._machine.link()
        if not _has_something_to_lose(snapshot, link.index):
            return False
        # Else the change before is not proven either: what it broke does not answer now, and is still asked for.
        if self._directory.unproven(interface) is None:
            self._reach = await self._look(snapshot, link.index, policy.probe)
            plan = plan_node(snapshot, link.index, assignment)
            unproven = Unproven(
                snapshot=snapshot,
                interface=link.index,
                settings=self._machine.differing(plan.settings),
                mtu=link.mtu if plan.mtu is not None else 0,
                kept=self._kept(),
                since=self._machine.uptime(),
                boot=self._machine.boot(),
            )
            self._directory.begin(interface, unproven)
        if essence(assignment) != self._trying:  # who is told the same once more has no more time for it
            self._trying = essence(assignment)
            self.until = asyncio.get_running_loop().time() + policy.confirm
        return True

    async def missing(self, assignment: Assignment, session_answers: Callable[[], Awaitable[bool]]) -> str:
        """What does not answer, of all that has to; empty if all does. KernelError."""
        if not await session_answers():
            return SESSION
        for kind in sorted(self._reach.families):
            gateways = await self._gateways(assignment, kind)
            source = main_of(assignment.addresses, kind)
            if gateways and not await self._machine.neighbours_of(_asked(gateways, source)):
                return GATEWAY
        probe = assignment.policy.probe
        if probe is not None and self._reach.probe:
            source = main_of(assignment.addresses, family(probe))
            if not await self._machine.echoes(probe, source=source):
                return PROBE
        return ""

    async def prove(
        self, assignment: Assignment, session_answers: Callable[[], Awaitable[bool]], *, until: float
    ) -> str:
        """Wait until all answers that has to, or until an instant of the event loop's clock; what did not, then."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                missing = await self.missing(assignment, session_answers)
            except KernelError as error:
                _logger.warning("not proven", reason=str(error))
                missing = str(error.why)
            if not missing or loop.time() >= until:
                return missing
            await asyncio.sleep(AGAIN)

    async def roll_back(self, assignment: Assignment, why: str) -> None:
        """Go back, and do not try the same again for a while. KernelError, NodeStateError."""
        self._failed, self._why, self._trying = essence(assignment), why, None
        self._pause = min(LONGEST_PAUSE, 2 * self._pause or FIRST_PAUSE)
        self._not_before = asyncio.get_running_loop().time() + self._pause
        await self.recover()

    async def recover(self) -> bool:
        """Go back from a change that was never proven, if there is one; whether there was. KernelError, NodeStateError.

        After a start of the machine nothing of it is left in the kernel, and only what is kept is put right.
        """
        interface = self._machine.interface
        unproven = self._directory.unproven(interface)
        if unproven is None:
            return False
        if unproven.boot == self._machine.boot():
            await self._machine.roll_back(unproven, elapsed=self._machine.uptime() - unproven.since)
        if unproven.kept is not None:
            self._directory.keep(interface, unproven.kept)
        else:
            self._directory.forget(interface)
        self._directory.end(interface)
        return True

    def _kept(self) -> Kept | None:
        """What is applied after a restart; None if it cannot be read either."""
        try:
            return self._directory.kept(self._machine.interface)
        except NodeStateError:
            return None

    async def _look(self, snapshot: Snapshot, interface: int, probe: bytes | None) -> Reach:
        sources = {
            family(each.address): each.address
            for each in snapshot.addresses
            if each.interface == interface and not is_link_local(each.address)
        }
        gateways = [
            route.gateway
            for route in snapshot.routes
            if route.interface == interface and route.gateway and route.destination in (DEFAULT4, DEFAULT6)
        ]
        asked = {gateway: sources.get(4, MAPPED + bytes(4)) for gateway in gateways}
        answered = await self._machine.neighbours_of(asked) if asked else frozenset()
        reached = probe is not None and await self._machine.echoes(probe, source=None)
        return Reach(frozenset(map(family, answered)), reached)

    async def _gateways(self, assignment: Assignment, kind: int) -> list[bytes]:
        """Those that the node has now by the assignment, or by the routers' own advertisements."""
        if kind == 6 and assignment.policy.mode == "manage-ra-gateway":
            routes = await self._machine.routes()
            return [route.gateway for route in routes if route.destination == DEFAULT6 and route.gateway is not None]
        return [gateway for gateway in assignment.gateways if family(gateway) == kind]


def _asked(gateways: Collection[bytes], source: bytes | None) -> dict[bytes, bytes]:
    return dict.fromkeys(gateways, source or MAPPED + bytes(4))


def _has_something_to_lose(snapshot: Snapshot, interface: int) -> bool:
    """Whether anything beside the link-local address is configured on the interface."""
    return any(each.interface == interface and not is_link_local(each.address) for each in snapshot.addresses)
