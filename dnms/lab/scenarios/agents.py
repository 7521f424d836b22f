"""Subnet Agents are killed and started in turns, down to a single one, while nodes come and go.

In each turn another agent is the one that is left. Nodes come, and while they join the other agents are killed one
after the other (SIGKILL). As long as one alone is there, it has all nodes; some of them go: by giving the interface
back, killed, and by being stopped. The other agents are started again, and who went comes again in the next turn. In
the end all are there, each with what it was given first, and no node lost anything meanwhile.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Collection, Sequence

from dnms.events.ip import family
from dnms.lab.lab import Lab, LabError, Outcome
from dnms.lab.report import AgentsReport
from dnms.lab.steps import EVENT_DEADLINE, LOG_POLL, PER_NODE, Stage
from dnms.lab.verdict import counted, verdict
from dnms.linux.namespaces import Namespace

TURNS = 5  # or fewer, with fewer agents
WAYS = 3  # to go: give back, be killed, be stopped; of four nodes one stays


async def run(lab: Lab) -> Outcome:
    """LabError where it cannot go on."""
    turns = min(lab.agents, TURNS)
    if lab.agents < 2:
        raise LabError("agents needs 2 Subnet Agents or more: one is left while others are killed")
    if lab.nodes < WAYS * turns:
        raise LabError(
            f"agents needs {WAYS * turns} nodes or more with {lab.agents} Subnet Agents: in each of {turns} turns "
            f"{WAYS} come, to go in the next one by giving back, killed and stopped"
        )
    async with Stage.built(lab) as stage:
        traffic = _Traffic(stage)
        await stage.start_subnet_agents()
        await stage.wait_for_slaac()
        async with stage.vigil(stage.kept(traffic.kept)):
            waves = [range(number, lab.nodes, turns) for number in range(turns)]
            for wave, left, before in zip(waves, stage.network.agents, [range(0), *waves], strict=False):
                await _turn(traffic, left, coming=wave, going=before)
            await traffic.come(sorted(traffic.away))
            await traffic.settle()
        await _wait_for_sessions(stage, "one session", stage.names, lambda agents: len(agents) == 1)
        await stage.everyone_was_allocated_once()
        return counted(
            await verdict(stage, "agents"),
            AgentsReport,
            agents_killed=traffic.agents_killed,
            nodes_came=traffic.came,
            nodes_gave_back=traffic.gave_back,
            nodes_killed=traffic.killed,
            nodes_stopped=traffic.stopped,
        )


async def _turn(traffic: _Traffic, left: Namespace, *, coming: Sequence[int], going: Sequence[int]) -> None:
    """Nodes at these places come and go, and this agent is left."""
    stage = traffic.stage
    others = [agent for agent in stage.network.agents if agent is not left]
    position = await stage.site.position()
    came = [*coming, *sorted(traffic.away)]
    names = [stage.names[place] for place in came]
    starting = asyncio.create_task(traffic.come(came))
    try:
        for number, agent in enumerate(others, 1):
            least = len(names) * number // (len(others) + 1)
            await stage.wait_for_event("session.opened", of=names, after=position, least=least)
            await traffic.kill(agent)
        await starting
    finally:
        starting.cancel()
        await asyncio.wait((starting,))
    await traffic.settle()
    await _wait_for_sessions(
        stage, f"sessions with {left.name} alone", traffic.there(), lambda agents: left.name in agents
    )
    await traffic.go(going)
    await traffic.settle()
    await stage.start_subnet_agents(others)


class _Traffic:
    """Who is there, and what those have who are to keep it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.kept: dict[int, frozenset[bytes]] = {}  # by places, also of those whose agents do not run
        self.agents_killed = self.came = self.gave_back = self.killed = self.stopped = 0
        self.away: set[int] = set()  # places of those who went
        self._had: dict[int, frozenset[bytes]] = {}  # what was given back, by places

    def there(self) -> list[str]:
        """The names of the nodes whose agents run."""
        return [name for name in self.stage.names if name in self.stage.running]

    async def come(self, places: Sequence[int]) -> None:
        """Those at these places come, for the first time or again."""
        self.came += len(places)
        self.away -= set(places)
        await self.stage.start_nodes(self.stage.network.nodes[place] for place in places)

    async def kill(self, agent: Namespace) -> None:
        """An agent, and never the last one."""
        stage = self.stage
        lives = sum(each.name in stage.running for each in stage.network.agents) - 1
        assert lives
        await stage.end([agent], signal.SIGKILL)
        self.agents_killed += 1
        configured = sum(not any(stage.missing(place, stage.observatory.read(place))) for place in self._places())
        stage.lab.display.line(
            f"{agent.name} was killed, {lives} live: {configured} of {len(self.there())} nodes are configured"
        )

    async def settle(self) -> None:
        """Wait until all who are there are configured: from now on they keep that, and it is what they had before."""
        stage = self.stage
        places = self._places()
        await stage.wait_until_configured(places)
        for place in places:
            name, found = stage.names[place], stage.observatory.read(place)
            missing = list(stage.missing(place, found))
            stage.wrong += [f"{name}: {text}, though an agent was there" for text in missing]
            if missing or place in self.kept:
                continue
            self.kept[place] = found.ours
            # Of IPv4, which is scarce, another one may have been given meanwhile what was given back.
            now, before = (
                {each for each in addresses if family(each) == 6}
                for addresses in (found.ours, self._had.get(place, found.ours))
            )
            if now != before:
                stage.wrong.append(f"{name}: it was given another IPv6 address than before it gave that back")

    async def go(self, places: Sequence[int]) -> None:
        """Of these places the first gives back, the second is killed, the third is stopped, the fourth stays, …"""
        stage, nodes = self.stage, self.stage.network.nodes
        giving, killed, stopped = (places[way :: WAYS + 1] for way in range(WAYS))
        await stage.end([nodes[place] for place in killed], signal.SIGKILL)
        await stage.end([nodes[place] for place in stopped], signal.SIGTERM)
        for place in giving:
            if place in self.kept:
                self._had[place] = self.kept.pop(place)
        await stage.give_back(nodes[place] for place in giving)
        await stage.wait_for_nodes(
            giving,
            "are as without DNMS",
            lambda found: not found.ours and any(held.is_slaac and held.usable for held in found.addresses),
        )
        self.gave_back += len(giving)
        self.killed += len(killed)
        self.stopped += len(stopped)
        self.away |= {*giving, *killed, *stopped}

    def _places(self) -> list[int]:
        return [place for place, name in enumerate(self.stage.names) if name in self.stage.running]


async def _wait_for_sessions(
    stage: Stage, what: str, names: Collection[str], done: Callable[[Sequence[str]], bool]
) -> None:
    """Wait until the agents with which each of these nodes has sessions, by the views, are such; or it is wrong."""
    end = asyncio.get_running_loop().time() + EVENT_DEADLINE + PER_NODE * stage.lab.nodes
    with stage.lab.display.phase(f"nodes with {what}", len(names)) as phase:
        while True:
            sessions = await stage.site.open_sessions()
            late = [name for name in names if not done(sessions.get(name, ()))]
            phase.reached(len(names) - len(late))
            if not late:
                return
            stage.check_alive()
            if asyncio.get_running_loop().time() > end:
                stage.wrong += [f"{name}: it does not have {what}, but {sessions.get(name)}" for name in late]
                return
            await asyncio.sleep(LOG_POLL)
