"""A node, a Subnet Agent and the bus are killed (SIGKILL), each in the middle of a join, while other nodes join.

The nodes start in three waves. As soon as the log has given an address to a node of a wave that cannot use it yet, one
of the three is killed: that node, the Subnet Agent that serves that node, the bus. It is started again at once, as
systemd does it; the bus is by its parent. Everybody gets one address of a family, and nobody another one.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence

from dnms.lab.lab import Lab, LabError, Outcome
from dnms.lab.steps import ALLOCATED, POLL, Stage
from dnms.lab.verdict import verdict
from dnms.linux.namespaces import Namespace

JOINING_DEADLINE = 30.0  # seconds


async def run(lab: Lab) -> Outcome:
    """LabError where it cannot go on."""
    if lab.nodes < 3:
        raise LabError("crash needs 3 nodes or more: one is in the middle of its join at each of three crashes")
    async with Stage.built(lab) as stage:
        await stage.start_subnet_agents()
        await stage.wait_for_slaac()
        for number, crash in enumerate((_node, _subnet_agent, _bus)):
            wave = stage.network.nodes[number::3]
            await stage.start_nodes(wave)
            await crash(stage, await _in_the_middle_of_its_join(stage, wave))
        await stage.wait_until_configured()
        await stage.wait_for_event("configuration.applied", of=stage.names, after=0)
        await stage.everyone_was_allocated_once()
        return await verdict(stage, "crash")


async def _in_the_middle_of_its_join(stage: Stage, wave: Sequence[Namespace]) -> Namespace:
    """Wait for a node to which the log has given an address that its kernel does not let it use yet. LabError."""
    places = {node.name: stage.network.nodes.index(node) for node in wave}
    end = asyncio.get_running_loop().time() + JOINING_DEADLINE
    while asyncio.get_running_loop().time() < end:
        for event in await stage.site.events(ALLOCATED, after=0):
            if event.node in places and not stage.observatory.used(places[event.node]):
                return stage.network.nodes[places[event.node]]
        stage.check_alive()
        await asyncio.sleep(POLL)
    raise LabError(f"none of {', '.join(places)} was seen in the middle of its join")


async def _node(stage: Stage, node: Namespace) -> None:
    _tell(stage, node.name)
    await stage.end([node], signal.SIGKILL)
    await stage.start_nodes([node])


async def _subnet_agent(stage: Stage, node: Namespace) -> None:
    name = next(row.agent for row in await stage.site.nodes() if row.name == node.name)
    agent = next(agent for agent in stage.network.agents if agent.name == name)
    _tell(stage, f"{agent.name}, which serves {node.name},")
    await stage.end([agent], signal.SIGKILL)
    await stage.start_subnet_agents([agent])


async def _bus(stage: Stage, node: Namespace) -> None:
    server = stage.site.server
    restarts = server.restarts
    assert server.pid is not None
    _tell(stage, f"the bus, after it took an address of {node.name},")
    os.kill(server.pid, signal.SIGKILL)
    await stage.site.wait_for_restart(after=restarts)


def _tell(stage: Stage, what: str) -> None:
    started = sum(name in stage.first_started for name in stage.names)
    configured = sum(bool(stage.observatory.used(place)) for place in range(stage.lab.nodes))
    stage.lab.display.line(f"{what} is killed: {configured} of {started} nodes have an address that they can use")
