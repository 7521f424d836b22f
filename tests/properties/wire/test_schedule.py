"""A node and its agents through any schedule of answers, refusals, losses time; in the calm after it all is well."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from dnms.events.configuration import AssignedAddress, Assignment, Generation, Snapshot
from dnms.events.seen import AppliedItem
from dnms.wire import agent_events as agent
from dnms.wire import node_events as node
from dnms.wire.agent_session import AgentSession
from dnms.wire.channel import Closed
from dnms.wire.errors import Code
from dnms.wire.exchanges import Exchange
from dnms.wire.messages import Assign, Association, Extended
from dnms.wire.node_session import NodeSession
from dnms.wire.node_state import NodeState, Unconfigured
from tests.unit.wire.examples import DUID, SNAPSHOT

T1, T2, VALID = 40, 80, 120
EXTENDED = Extended(preferred=60, valid=VALID, renew_after=T1, rebind_after=T2)
STUCK = 20  # wakings at one instant: more is a loop without an end


class World:
    """Both shells, as simple as they can be: a node that comes back when its session ends, and one agent at a time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.state = NodeState()
        self.ledger = 1
        self.number = 1  # of the address that the ledger has for the node
        self.in_use: set[bytes] = set()  # by another
        self.waiting: list[tuple[AgentSession, int]] = []  # requests without an answer
        self.wanted: list[Assignment] = []  # what the node has not applied yet
        self.kernel: set[bytes] = set()
        self.stripped = 0
        self.calm = False
        self.connect()

    def connect(self) -> None:
        associations = (Association(iaid=1, family=6),)
        self.node = NodeSession(
            self.state, duid=DUID, name="n", interface="eth0", associations=associations, now=self.now
        )
        self.agent = AgentSession(now=self.now)
        self.waiting.clear()
        self.run()

    def address(self) -> bytes:
        return bytes(12) + self.number.to_bytes(4)

    def assign(self) -> Assign:
        address = AssignedAddress(address=self.address(), prefix_length=64, iaid=1, preferred=60, valid=VALID)
        assignment = Assignment(generation=Generation(1, 1, self.ledger), addresses=(address,))
        return Assign(assignment=assignment, renew_after=T1, rebind_after=T2)

    def move(self) -> None:
        self.number += 1
        self.ledger += 1

    def run(self) -> None:
        for _ in range(STUCK):
            from_node, from_agent = self.node.to_send(self.now), self.agent.to_send(self.now)
            self.agent.receive(from_node, self.now)
            self.node.receive(from_agent, self.now)
            for node_event in self.node.events():
                self.node_heard(node_event)
            for agent_event in self.agent.events():
                self.agent_heard(agent_event)
            if not from_node and not from_agent:
                return
        raise AssertionError("they never stop talking")

    def node_heard(self, event: node.NodeEvent) -> None:
        match event:
            case node.Welcomed():
                self.node.register(SNAPSHOT, self.now)
            case node.Assigned():
                self.wanted.append(event.assignment)
                if self.calm:
                    self.apply()
            case Unconfigured():
                self.kernel.clear()
                self.stripped += 1

    def agent_heard(self, event: agent.AgentEvent) -> None:
        match event:
            case agent.Greeted():
                self.agent.welcome(agent="a", site="s", subnet="l", time=0, now=self.now)
            case agent.Registered() | agent.Observed():
                self.agent.registered(event.id)
            case agent.AppliedReport():
                assert event.generation.ledger <= self.ledger
            case Closed():
                self.waiting.clear()
            case agent.DriftReport():
                pass  # needs no answer
            case agent.Declined():
                self.move()
                self.waiting.append((self.agent, event.id))
            case _:
                self.waiting.append((self.agent, event.id))
        if self.calm:
            while self.waiting:
                self.answer(lambda request: self.agent.assign(self.assign(), answer_to=request))

    def answer(self, how: Callable[[int], None]) -> None:
        if self.waiting:
            session, request = self.waiting.pop(0)
            if session is self.agent and not session.closed:
                how(request)

    def apply(self) -> None:
        if not self.wanted:
            return
        assignment = self.wanted.pop()  # the newest
        addresses = {each.address for each in assignment.addresses}
        self.kernel = addresses - self.in_use
        items = [
            AppliedItem(address=address, outcome="duplicate" if address in self.in_use else "usable")
            for address in addresses
        ]
        self.node.applied(assignment.generation, items, self.now)
        if addresses & self.in_use:
            self.node.declined(addresses & self.in_use, self.now)

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        stuck, last = 0, -1.0
        while True:
            instants = [self.node.deadline(), self.agent.deadline(), self.state.deadline()]
            following = min((at for at in instants if at is not None), default=until)
            if following > until:
                break
            self.now = max(self.now, following)
            stuck = stuck + 1 if self.now == last else 0
            assert stuck < STUCK, (self.node.exchange, instants, self.now)
            last = self.now
            self.wake()
            if following == until:
                break
        self.now = until
        self.wake()

    def wake(self) -> None:
        if self.node.closed:
            self.state.tick(self.now)  # the shell's own to do, without a session
            for event in self.state.events():
                self.node_heard(event)
        self.node.tick(self.now)
        self.agent.tick(self.now)
        self.run()

    def check(self) -> None:
        assert self.state.configured == bool(self.state.held)
        assert all(held.until > self.now for held in self.state.held.values())
        assert self.node.closed == (self.node.exchange is Exchange.DISCOVERING)
        assert len(self.agent._in_flight) <= 8


REFUSALS = st.sampled_from(["outage", "no-addresses", Code.NO_BINDING, Code.NOT_ON_LINK, Code.BUSY])
ACTIONS = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.0, 1.0, 15.0, 39.0, 41.0, 130.0, 4_000.0])),
    st.tuples(st.sampled_from(["apply", "assign", "extend", "push", "grant", "old", "declined", "flap", "observe"])),
    st.tuples(st.sampled_from(["lost", "leave", "release", "bye", "taken", "moved", "half"])),
    st.tuples(st.just("refuse"), REFUSALS, st.sampled_from([0, 3, 500])),
)


def act(world: World, action: tuple[str, ...]) -> None:  # noqa: PLR0912  # one branch an action
    match action:
        case ("wait", seconds):
            world.wait(float(seconds))
        case ("refuse", code, retry_after):
            world.answer(lambda request: world.agent.error(request, code, retry_after=int(retry_after)))
        case ("assign",):
            world.answer(lambda request: world.agent.assign(world.assign(), answer_to=request))
        case ("extend",):
            world.answer(lambda request: world.agent.extended(EXTENDED, answer_to=request))
        case ("push",):
            world.agent.assign(world.assign())
        case ("grant",):
            world.agent.extended(EXTENDED)
        case ("old",):
            older = msgspec.structs.replace(world.assign().assignment, generation=Generation(1, 1, 0))
            world.agent.assign(msgspec.structs.replace(world.assign(), assignment=older))
        case ("apply",):
            world.apply()
        case ("declined",):
            world.node.declined(list(world.state.held), world.now)
        case ("taken",):
            world.in_use.add(world.address())
        case ("moved",):
            world.move()
        case ("flap",):
            world.node.link_came_back(world.now)
        case ("observe",):
            world.node.observe(Snapshot(kernel=str(world.now)), world.now)
        case ("leave",):
            world.node.leave(world.now)
        case ("release",):
            world.node.release(world.now)
        case ("bye",):
            world.agent.bye("leaving")
        case ("half",):
            world.agent.receive(world.node.to_send(world.now)[:-1], world.now)
            world.agent.receive_end(world.now)
        case ("lost",):
            world.node.receive_end(world.now)
            world.agent.receive_end(world.now)


@settings(max_examples=300)
@given(st.lists(ACTIONS, max_size=40))
def test_after_any_schedule_calm_configures_the_node(actions: list[tuple[str, ...]]) -> None:
    world = World()
    for action in actions:
        act(world, action)
        world.run()
        world.check()
        if world.node.closed and world.agent.closed:
            world.connect()
    world.calm = True
    world.in_use.clear()
    for _ in range(30):
        world.wait(60)
        world.check()
        if world.node.closed:
            world.connect()
        while world.waiting:
            world.answer(lambda request: world.agent.assign(world.assign(), answer_to=request))
        world.apply()
        world.wanted.clear()
        world.run()
    assert world.state.configured
    assert set(world.state.held) == world.kernel == {world.address()}
    assert world.node.exchange in (Exchange.IDLE, Exchange.RENEWING)
