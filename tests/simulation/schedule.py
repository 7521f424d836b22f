"""What goes wrong when, drawn from a seed: the same seed draws the same."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import msgspec

from tests.simulation.plans import PLANS

FAULTS_UNTIL = 180.0  # seconds; then all is healed


class Action(msgspec.Struct, frozen=True):
    """Something is done to somebody at a moment, for a while."""

    at: float
    what: str
    whom: str = ""
    seconds: float = 0.0  # until it is made good again; 0: it is over at once
    how: str = ""


class Schedule(msgspec.Struct, frozen=True):
    """One simulation."""

    seed: int
    agents: int
    nodes: int
    plan: str
    actions: tuple[Action, ...]


NODE_ACTIONS = ("crash-node", "power-node", "stop-node", "flap", "flush", "release", "replace-node")
AGENT_ACTIONS = ("crash-agent", "power-agent", "stop-agent", "cut-agent")
LINK_ACTIONS = ("partition", "weather", "break-streams", "stranger")
LOG_ACTIONS = ("log-away", "log-faults", "log-clock")
WEIGHTS = {
    "crash-node": 3,
    "power-node": 4,
    "stop-node": 2,
    "flap": 2,
    "flush": 2,
    "release": 2,
    "replace-node": 5,
    "crash-agent": 5,
    "power-agent": 3,
    "stop-agent": 3,
    "cut-agent": 12,
    "partition": 4,
    "weather": 3,
    "break-streams": 2,
    "stranger": 4,
    "log-away": 4,
    "log-faults": 8,
    "log-clock": 1,
    "plan": 4,
    "operate": 5,
}


def draw(seed: int) -> Schedule:  # one branch a kind of action
    """The schedule of a seed."""
    chance = Random(f"schedule {seed}")
    agents, nodes = chance.choice((2, 2, 3)), chance.randint(3, 6)
    actions = [Action(round(chance.uniform(0, 20), 3), "boot", f"node-{number}") for number in range(nodes)]
    actions += [Action(round(chance.uniform(0, 5), 3), "begin", f"agent-{number}") for number in range(agents)]
    kinds = chance.choices(tuple(WEIGHTS), tuple(WEIGHTS.values()), k=chance.randint(4, 12))
    for what in kinds:
        at = round(chance.uniform(2, FAULTS_UNTIL), 3)
        whom = how = ""
        seconds = round(chance.choice((chance.uniform(0.05, 3), chance.uniform(3, 40))), 3)
        if what in ("cut-agent", "log-away"):
            seconds = round(chance.choice((seconds, chance.uniform(10, 90), chance.uniform(10, 90))), 3)
        if what in NODE_ACTIONS or what == "operate":
            whom = f"node-{chance.randrange(nodes)}"
            if what == "power-node":
                how = chance.choice(("clock kept", "clock kept", "clock lost", "clock ahead"))
            elif what == "operate":
                how = chance.choice(("move", "move", "hold", "unhold", "block"))
        elif what in AGENT_ACTIONS:
            whom = f"agent-{chance.randrange(agents)}"
        elif what == "plan":
            how = chance.choice(tuple(PLANS))
        elif what == "log-clock":
            how = str(chance.choice((-1, 1)) * chance.randint(3, 240))
        elif what == "partition":
            how = " ".join(
                name
                for name in [*(f"node-{n}" for n in range(nodes)), *(f"agent-{n}" for n in range(agents)), "stranger"]
                if chance.random() < 0.4
            )
        elif what in ("weather", "log-faults"):
            how = chance.choice(("bad", "worse"))
        elif what == "stranger":
            how = str(chance.randrange(1 << 30))
        actions.append(Action(at, what, whom, seconds, how))
        if what in ("cut-agent", "log-away"):
            actions += _meanwhile(chance, actions[-1], nodes)
    actions += _entered(Random(f"entered {seed}"), nodes)
    plan = chance.choice(("small", "tiny", "tiny", "whole", "groups", "strict"))
    return Schedule(seed, agents, nodes, plan, tuple(sorted(actions, key=lambda each: each.at)))


def _entered(chance: Random, nodes: int) -> Iterator[Action]:
    """In some schedules an operator enters machines by their hardware addresses, before they come or while they are
    there. A machine that is replaced afterwards has the address of the one that was recognised by it.
    """
    for _ in range(chance.choice((0, 0, 0, 1, 3))):
        moment = round(chance.choice((chance.uniform(0, 20), chance.uniform(0, FAULTS_UNTIL))), 3)
        yield Action(moment, "operate", f"node-{chance.randrange(nodes)}", how="enter")


def _meanwhile(chance: Random, outage: Action, nodes: int) -> Iterator[Action]:
    """While an agent is cut off, others come, and it may be killed: then its journal is all that tells."""
    for _ in range(chance.choice((0, 1, 3, 5))):
        moment = round(outage.at + chance.uniform(0, outage.seconds), 3)
        yield Action(moment, "replace-node", f"node-{chance.randrange(nodes)}", 0.5)
    if outage.whom and chance.random() < 0.4:
        yield Action(round(outage.at + chance.uniform(0, outage.seconds), 3), "crash-agent", outage.whom, 1.0)
