from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Set
from pathlib import Path
from typing import cast

import pytest

from dnms.agents.node.application import Application
from dnms.agents.node.configuring import Configuring
from dnms.agents.node.confirming import Confirming
from dnms.agents.node.machine import Machine as MachinePort
from dnms.agents.pump import Pump
from dnms.disk.node_state import NodeStateDirectory
from dnms.events.configuration import AssignedAddress, Assignment, Generation, Link, Policy, Snapshot
from dnms.events.ip import parse_address
from dnms.events.seen import AppliedItem
from dnms.linux.errors import KernelError
from dnms.linux.rivals import Rival
from dnms.wire.agent_events import AppliedReport
from dnms.wire.agent_session import AgentSession
from dnms.wire.messages import Assign, Association, Extended
from dnms.wire.node_events import Assigned, NodeEvent
from dnms.wire.node_events import Extended as ExtendedEvent
from dnms.wire.node_session import NodeSession
from dnms.wire.node_state import NodeState
from tests.unit.agents.conftest import until

ADDRESS = parse_address("2001:db8::7")
ASSIGNMENT = Assignment(
    generation=Generation(0, 1, 2),
    addresses=(AssignedAddress(address=ADDRESS, prefix_length=64, iaid=1, preferred=60, valid=120),),
)
SNAPSHOT = Snapshot(links=(Link(index=2, name="eth0"),))


class Kernel:
    """Lets every address be used, when the test says so."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.free = asyncio.Event()
        self.refuses: Exception | None = None
        self.applied: list[Assignment] = []
        self.managed_by: tuple[Rival, ...] = ()

    async def snapshot(self) -> Snapshot:
        return SNAPSHOT

    async def apply(
        self, assignment: Assignment, *, elapsed: float, going: Callable[[Snapshot], None] | None = None
    ) -> tuple[AppliedItem, ...]:
        self.begun.set()
        await self.free.wait()
        if self.refuses is not None:
            raise self.refuses
        self.applied.append(assignment)
        return tuple(AppliedItem(address=each.address, outcome="usable") for each in assignment.addresses)

    async def drift(self, wanted: Assignment, *, draining: bool) -> None:
        """Nobody changes anything."""

    async def rivals(self, policy: Policy) -> tuple[Rival, ...]:
        return self.managed_by

    async def settle(
        self, assignment: Assignment, usable: Set[int], *, going: Callable[[Snapshot], None] | None = None
    ) -> bool:
        return False

    async def strip(self, *, keep: Set[bytes]) -> None:
        """Nothing is there."""


class Bare:
    """A machine on which nothing is configured."""

    interface = "eth0"

    async def link(self) -> Link:
        return SNAPSHOT.links[0]


class Woken:
    """Counts how often the session has something to send."""

    def __init__(self) -> None:
        self.times = 0

    def wake(self) -> None:
        self.times += 1


class Machine:
    """A node that an agent has assigned an address to; time stands still."""

    def __init__(self, path: Path) -> None:
        self.state = NodeState()
        self.kernel, self.pump = Kernel(), Woken()
        directory = NodeStateDirectory(path)
        confirming = Confirming(cast("MachinePort", Bare()), directory)
        self.configuring = Configuring(cast("Application", self.kernel), confirming, self.state, directory, "eth0")
        self.session = NodeSession(
            self.state,
            duid=b"\x00\x04" + bytes(16),
            name="web-1",
            interface="eth0",
            associations=(Association(iaid=1, family=6),),
            now=0.0,
        )
        self.agent = AgentSession(now=0.0)
        self.told: list[object] = []

    def talk(self) -> list[NodeEvent]:
        """Whatever both ends have to say; what the node is told."""
        told: list[NodeEvent] = []
        while True:
            upward, downward = self.session.to_send(0.0), self.agent.to_send(0.0)
            if not upward and not downward:
                return told
            self.agent.receive(upward, 0.0)
            self.session.receive(downward, 0.0)
            self.told += self.agent.events()
            told += self.session.events()

    async def join(self) -> None:
        self.talk()
        self.agent.welcome(agent="a1", site="s", subnet="office", time=0, now=0.0)
        self.talk()
        self.configuring.attend(self.session, cast("Pump[NodeEvent]", self.pump))
        await self.configuring.register(self.session)
        self.talk()
        self.agent.registered(self.told[-1].id)  # type: ignore[attr-defined]
        self.talk()
        self.agent.assign(
            Assign(assignment=ASSIGNMENT, renew_after=30, rebind_after=48),
            answer_to=self.told[-1].id,  # type: ignore[attr-defined]
        )
        (assigned,) = self.talk()
        assert isinstance(assigned, Assigned)
        self.configuring.assigned(assigned, self.session)

    def reports(self) -> list[str]:
        self.talk()
        return [item.outcome for event in self.told if isinstance(event, AppliedReport) for item in event.items]


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    made = Machine(tmp_path)
    await made.join()
    yield made
    await made.configuring.stop()


async def test_the_outcome_is_sent_at_once(machine: Machine) -> None:
    woken = machine.pump.times
    machine.kernel.free.set()
    await until(lambda: machine.session.exchange == "idle")
    assert machine.pump.times > woken
    assert machine.reports() == ["usable"]


async def test_new_lifetimes_that_come_while_an_assignment_is_applied_lose_no_report(machine: Machine) -> None:
    await machine.kernel.begun.wait()
    machine.agent.extended(Extended(preferred=600, valid=1200, renew_after=300, rebind_after=480))
    (extended,) = machine.talk()
    assert isinstance(extended, ExtendedEvent)
    machine.configuring.extended(extended, machine.session)
    machine.kernel.free.set()
    await until(lambda: machine.session.exchange == "idle")
    assert machine.reports() == ["usable"]
    assert [each.addresses[0].valid for each in machine.kernel.applied] == [1200]
    assert machine.state.configured


@pytest.mark.parametrize("error", [KernelError("exists", "no"), OSError("too many open files")])
async def test_an_assignment_that_the_system_refuses_is_reported_so(machine: Machine, error: Exception) -> None:
    machine.kernel.refuses = error
    machine.kernel.free.set()
    await until(lambda: machine.session.exchange == "idle")
    assert machine.reports() == ["refused"]
    assert not machine.state.configured


async def test_a_disk_that_takes_nothing_holds_no_report_back(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "assignment.eth0").mkdir()
    machine.kernel.free.set()
    await until(lambda: machine.session.exchange == "idle")
    assert machine.reports() == ["usable"]
    assert machine.state.configured


async def test_a_session_that_ends_while_the_kernel_is_looked_at_is_told_nothing(machine: Machine) -> None:
    machine.kernel.free.set()
    await until(lambda: machine.session.exchange == "idle")
    machine.configuring.look_soon()
    machine.configuring.attend(None, None)
    await until(lambda: machine.configuring._work.idle)


async def test_stopping_leaves_nothing_being_done(machine: Machine) -> None:
    await machine.kernel.begun.wait()
    await machine.configuring.stop()
    assert machine.configuring._work.idle
    assert not machine.kernel.applied
