"""While no Subnet Agent is there, links go down and nodes lose power; every node gets back what it had.

What a kernel loses, its Node Agent knows: in its memory while it runs, and in its state directory when it starts again.
Subnet Agents that come back later find every node as it was, and nothing to allocate.
"""

from __future__ import annotations

import signal

from dnms.lab.kernel import Kernel
from dnms.lab.lab import Lab, Outcome
from dnms.lab.network import INTERFACE, ROUTER_ADVERTISEMENTS
from dnms.lab.steps import Stage
from dnms.lab.verdict import verdict

UNPLUGGED = 10.0  # seconds within which a kernel has dropped what a link that is down cannot have


async def run(lab: Lab) -> Outcome:
    """LabError where it cannot go on."""
    async with Stage.built(lab) as stage:
        await stage.start()
        await stage.wait_for_event("configuration.applied", of=stage.names, after=0)
        held = [stage.observatory.read(place).ours for place in range(lab.nodes)]
        await stage.end(stage.network.agents, signal.SIGTERM)

        await _links_go_down(stage)
        await _links_come_up(stage)
        await _is_as_it_was(stage, held, "after its link was down")

        await stage.end(stage.network.nodes, signal.SIGKILL)
        await _links_go_down(stage)
        for node in stage.network.nodes:
            node.run("ip", "address", "flush", "dev", INTERFACE)
            node.set_sysctls(ROUTER_ADVERTISEMENTS)
            stage.resolv_conf(node).write_text("")
        await _links_come_up(stage)
        await stage.start_nodes()
        await _is_as_it_was(stage, held, "after it was without power")

        position = await stage.site.position()
        await stage.start_subnet_agents()
        await stage.wait_for_assignments(after=position)
        await stage.nothing_was_allocated(after=position)
        return await verdict(stage, "reboot")


async def _links_go_down(stage: Stage) -> None:
    for node in stage.network.nodes:
        node.ip([f"link set dev {INTERFACE} down"])

    def empty(_: int, found: Kernel) -> bool:
        return not found.defaults

    with stage.lab.display.phase("links down", stage.lab.nodes) as phase:
        await stage.observatory.wait(empty, deadline=UNPLUGGED, reached=phase.reached, check=stage.check_alive)


async def _links_come_up(stage: Stage) -> None:
    for node in stage.network.nodes:
        node.set_up(INTERFACE)


async def _is_as_it_was(stage: Stage, held: list[frozenset[bytes]], when: str) -> None:
    await stage.wait_until_configured()
    for place, node in enumerate(stage.network.nodes):
        if stage.observatory.read(place).ours != held[place]:
            stage.wrong.append(f"{node.name} has not what it had {when}")
