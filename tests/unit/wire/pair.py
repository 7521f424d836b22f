"""A node's and an agent's session, back to back, in virtual time."""

from __future__ import annotations

from typing import TypeVar

from dnms.events.configuration import Assignment
from dnms.events.seen import AppliedItem
from dnms.wire import agent_events, node_events
from dnms.wire.agent_session import AgentSession
from dnms.wire.exchanges import Exchange
from dnms.wire.messages import Assign, Association
from dnms.wire.node_session import NodeSession
from dnms.wire.node_state import NodeState
from tests.unit.wire.examples import ASSIGNMENT, DUID, SNAPSHOT, T1, T2

E = TypeVar("E")

ASSOCIATIONS = (Association(iaid=7, family=6), Association(iaid=7, family=4))
ASSIGN = Assign(assignment=ASSIGNMENT, renew_after=T1, rebind_after=T2)


class Pair:
    """Carries bytes between both ends whenever something is called through it, and keeps what happened."""

    def __init__(self, *, state: NodeState | None = None, now: float = 0.0) -> None:
        self.now = now
        self.state = state if state is not None else NodeState()
        self.node = NodeSession(
            self.state, duid=DUID, name="laptop", interface="eth0", associations=ASSOCIATIONS, now=now
        )
        self.agent = AgentSession(now=now)
        self.node_events: list[node_events.NodeEvent] = []
        self.agent_events: list[agent_events.AgentEvent] = []
        self.deaf_agent = self.deaf_node = False
        self.run()

    def doing(self) -> Exchange:
        """What the node is doing."""
        return self.node.exchange

    def run(self) -> None:
        """Carry bytes until neither has any more."""
        while True:
            from_node, from_agent = self.node.to_send(self.now), self.agent.to_send(self.now)
            if from_node and not self.deaf_agent:
                self.agent.receive(from_node, self.now)
            if from_agent and not self.deaf_node:
                self.node.receive(from_agent, self.now)
            self.node_events += self.node.events()
            self.agent_events += self.agent.events()
            if not from_node and not from_agent:
                return

    def until(self, instant: float) -> None:
        """Let time pass, from deadline to deadline."""
        self.run()
        while True:
            deadlines = [at for at in (self.node.deadline(), self.agent.deadline()) if at is not None]
            following = min(deadlines, default=instant)
            if following > instant:
                break
            self.now = max(self.now, following)
            self.node.tick(self.now)
            self.agent.tick(self.now)
            self.run()
            if not deadlines:
                break
        self.now = instant

    def node_said(self, kind: type[E]) -> E:
        """The oldest event of the node's end that was not taken yet; it has to be of this kind."""
        event = self.node_events.pop(0)
        assert isinstance(event, kind), event
        return event

    def agent_said(self, kind: type[E]) -> E:
        """The oldest event of the agent's end that was not taken yet; it has to be of this kind."""
        event = self.agent_events.pop(0)
        assert isinstance(event, kind), event
        return event

    def welcome(self, *, subnet: str = "office") -> None:
        """Up to a welcome that the node has heard."""
        self.agent_said(agent_events.Greeted)
        self.agent.welcome(agent="agent-1", site="example", subnet=subnet, time=1_750_000_000_000_000, now=self.now)
        self.run()
        self.node_said(node_events.Welcomed)

    def register(self, *, subnet: str = "office") -> None:
        """Up to a registration that the node knows of."""
        self.welcome(subnet=subnet)
        self.node.register(SNAPSHOT, self.now)
        self.run()
        self.agent.registered(self.agent_said(agent_events.Registered).id)
        self.run()

    def assign(self, answer_to: int = 0, assign: Assign = ASSIGN) -> node_events.Assigned:
        """The agent assigns, and the node hears it."""
        self.agent.assign(assign, answer_to=answer_to)
        self.run()
        return self.node_said(node_events.Assigned)

    def apply(self, assignment: Assignment = ASSIGNMENT, outcome: str = "usable") -> None:
        """The node has applied it, and all of it had this outcome."""
        items = tuple(AppliedItem(address=each.address, outcome=outcome) for each in assignment.addresses)
        self.node.applied(assignment.generation, items, self.now)
        self.run()

    def join(self) -> Pair:
        """All the way: the node is idle and configured, and no event is left."""
        self.register()
        self.assign(self.agent_said(agent_events.Requested).id)
        self.apply()
        self.agent_said(agent_events.AppliedReport)
        assert self.doing() is Exchange.IDLE
        assert self.state.configured
        assert not self.node_events
        assert not self.agent_events
        return self

    def again(self) -> Pair:
        """A new session over what the node holds."""
        return Pair(state=self.state, now=self.now)
