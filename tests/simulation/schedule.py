"""What goes wrong when, drawn from a seed: the same seed draws the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

import msgspec

from tests.simulation.plans import CUT, PLANS, ROUTED, STATIC

FAULTS_UNTIL = 180.0  # seconds; then all is healed
LONG = 420.0  # the same, of a schedule in which much expires while the agents that have given it live on


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
    until: float = FAULTS_UNTIL  # seconds; then all is healed
    delegates: str = ""  # how its plans delegate prefixes
    wanting: tuple[int | None, ...] = ()  # the length of the prefix that each node asks for


NODE_ACTIONS = ("crash-node", "power-node", "stop-node", "flap", "flush", "release", "replace-node")
AGENT_ACTIONS = ("crash-agent", "power-agent", "stop-agent", "cut-agent")
LINK_ACTIONS = ("partition", "weather", "break-streams", "stranger")
LOG_ACTIONS = ("log-away", "log-faults", "log-clock")
JOURNALS = ("", "", "disk lost", "journal damaged", "journal damaged")
"""What becomes of an agent's disk when it is killed in an outage, and when it loses its power at any time."""
IN_A_WRITE = "in a write"  # the next one, of a journal, is when an agent is killed
UPLINK = ("new", "replace", "replace", "back", "back", "deprecate", "lapse", "cut", "cut", "withdrawn", "released")
DELEGATING = 1 / 8  # of the schedules have prefixes
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
    "log-clock": 2,
    "plan": 4,
    "operate": 5,
}


def draw(seed: int, more: Sequence[str] = ()) -> Schedule:
    """The schedule of a seed; `more`: with these kinds of actions too, to look for something that needs them."""
    chance = Random(f"schedule {seed}")
    agents, nodes = chance.choice((2, 2, 3)), chance.randint(3, 6)
    until = LONG if chance.random() < 0.08 else FAULTS_UNTIL
    actions = [Action(round(chance.uniform(0, 20), 3), "boot", f"node-{number}") for number in range(nodes)]
    actions += [Action(round(chance.uniform(0, 5), 3), "begin", f"agent-{number}") for number in range(agents)]
    for what in (*chance.choices(tuple(WEIGHTS), tuple(WEIGHTS.values()), k=chance.randint(4, 12)), *more):
        action = _action(chance, what, agents, nodes, until)
        actions += (action, *_meanwhile(chance, action, nodes))
    actions += _entered(Random(f"entered {seed}"), nodes)
    actions += _forgotten(Random(f"forgotten {seed}"), nodes)
    plan = chance.choice(("small", "tiny", "tiny", "whole", "groups", "strict", "brief"))
    delegates, wanting = "", tuple[int | None, ...]()
    prefixes = Random(f"prefixes {seed}")
    if prefixes.random() < DELEGATING:
        delegates = prefixes.choice((STATIC, f"{STATIC} {ROUTED}", CUT, CUT, f"{CUT} {ROUTED}", f"{CUT} {ROUTED}"))
        wanting = tuple(prefixes.choice((None, 0, 60, 59, 62)) for _ in range(nodes))
        actions += _above(prefixes, delegates, agents, nodes, until)
    ordered = tuple(sorted(actions, key=lambda each: each.at))
    return Schedule(seed, agents, nodes, plan, ordered, until, delegates, wanting)


def _above(chance: Random, delegates: str, agents: int, nodes: int, until: float) -> Iterator[Action]:
    """What an ISP and the router do in a schedule with prefixes; and others meanwhile, who may be given what somebody
    else was promised, or told what has no route.
    """

    def others(begin: float, end: float) -> Iterator[Action]:
        for _ in range(chance.choice((1, 2, 3))):
            moment = round(chance.uniform(begin, end), 3)
            yield Action(moment, "replace-node", f"node-{chance.randrange(nodes)}", 0.5)

    for _ in range(chance.choice((0, 1, 2))):
        yield Action(round(chance.uniform(30, until), 3), "release", f"node-{chance.randrange(nodes)}")
    if CUT in delegates:
        yield Action(round(chance.uniform(0, 20), 3), "uplink", how="new")
        for _ in range(chance.randint(1, 6)):
            yield Action(round(chance.uniform(10, until), 3), "uplink", how=chance.choice(UPLINK))
        for _ in range(chance.choice((0, 1, 2))):
            at, away = round(chance.uniform(30, until - 30), 3), round(chance.uniform(1, 30), 3)
            yield Action(at, "uplink", how=chance.choice(("withdrawn", "released")))
            yield Action(round(at + away, 3), "uplink", how="back")
            yield from others(at, at + away)
    if ROUTED in delegates:
        yield Action(round(chance.uniform(0, 20), 3), "stop-router", seconds=0.1)
        for _ in range(chance.randint(0, 3)):
            seconds = round(chance.choice((chance.uniform(0.05, 3), chance.uniform(3, 60))), 3)
            at = round(chance.uniform(10, until), 3)
            yield Action(at, "stop-router", seconds=seconds)
            if seconds > 15:
                yield from others(at, at + seconds / 2)
                moment = round(at + chance.uniform(0.5, 0.9) * seconds, 3)
                what = chance.choice(("stop-agent", "crash-agent"))
                yield Action(moment, what, f"agent-{chance.randrange(agents)}", 0.5)


def _entered(chance: Random, nodes: int) -> Iterator[Action]:
    """In some schedules an operator enters machines by their hardware addresses, before they come or while they are
    there. A machine that is replaced afterwards has the address of the one that was recognised by it.
    """
    for _ in range(chance.choice((0, 0, 0, 1, 3))):
        moment = round(chance.choice((chance.uniform(0, 20), chance.uniform(0, FAULTS_UNTIL))), 3)
        yield Action(moment, "operate", f"node-{chance.randrange(nodes)}", how="enter")


def _forgotten(chance: Random, nodes: int) -> Iterator[Action]:
    """In some an operator forgets what is personal of a machine, which comes again, or is there, as it may not be."""
    for _ in range(chance.choice((0, 0, 1, 2))):
        moment = round(chance.uniform(5, FAULTS_UNTIL), 3)
        yield Action(moment, "operate", f"node-{chance.randrange(nodes)}", how="forget")


def _action(chance: Random, what: str, agents: int, nodes: int, until: float) -> Action:
    at = round(chance.uniform(2, until), 3)
    seconds = round(chance.choice((chance.uniform(0.05, 3), chance.uniform(3, 40))), 3)
    if what in ("cut-agent", "log-away"):
        seconds = round(chance.choice((seconds, chance.uniform(10, 90), chance.uniform(10, 90))), 3)
    whom = how = ""
    if what in NODE_ACTIONS or what == "operate":
        whom = f"node-{chance.randrange(nodes)}"
    elif what in AGENT_ACTIONS:
        whom = f"agent-{chance.randrange(agents)}"
    match what:
        case "power-node":
            how = chance.choice(("", "", "clock lost", "clock set"))
            how += f" {chance.choice((-1, 1)) * _wrong(chance)}" if how == "clock set" else ""
        case "power-agent":
            how = chance.choice(JOURNALS)
        case "operate":
            how = chance.choice(("move", "move", "hold", "unhold", "block", "withdraw"))
        case "plan":
            how = chance.choice(tuple(PLANS))
        case "log-clock":
            how = str(chance.choice((-1, 1)) * _wrong(chance))
        case "partition":
            names = [*(f"node-{n}" for n in range(nodes)), *(f"agent-{n}" for n in range(agents)), "stranger"]
            how = " ".join(name for name in names if chance.random() < 0.4)
        case "weather" | "log-faults":
            how = chance.choice(("bad", "worse"))
        case "stranger":
            how = str(chance.randrange(1 << 30))
        case "log-away" if round(at * 1_000) % 3 == 0:
            how = "full"  # it can be read, and not stored to
    return Action(at, what, whom, seconds, how)


def _wrong(chance: Random) -> int:
    """By how many seconds a clock is set: minutes, or up to an hour."""
    return chance.choice((chance.randint(3, 240), chance.randint(240, 3600)))


def _meanwhile(chance: Random, action: Action, nodes: int) -> Iterator[Action]:
    """What else is to happen then: some of it would hardly ever meet by chance."""

    def during(begin: float = 0.0) -> float:
        return round(action.at + chance.uniform(begin, 1.0) * action.seconds, 3)

    if action.what in ("cut-agent", "log-away"):  # others come, and it may be killed: its journal is all that tells
        for _ in range(chance.choice((0, 1, 3, 5))):
            yield Action(during(), "replace-node", f"node-{chance.randrange(nodes)}", 0.5)
        if action.whom and chance.random() < 0.4:
            how = chance.choice((*JOURNALS, IN_A_WRITE, IN_A_WRITE))
            yield Action(during(0.4), "crash-agent", action.whom, 10.0 if how == IN_A_WRITE else 1.0, how)
    elif action.what == "stranger":  # others come, who may be given what it has
        for _ in range(chance.choice((0, 2, 4))):
            yield Action(during(), "replace-node", f"node-{chance.randrange(nodes)}", 0.5)
    elif action.what == "operate" and action.how == "hold":
        yield Action(round(action.at + chance.uniform(0, 60), 3), "operate", action.whom, 0.0, "unhold")
