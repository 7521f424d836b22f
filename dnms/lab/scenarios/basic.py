"""Nodes with SLAAC addresses join a subnet and are given managed ones, and all of it is in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from dnms.agents import node, subnet
from dnms.events.ip import family
from dnms.lab import kernel
from dnms.lab.judge import held_twice, missing, not_in_log
from dnms.lab.kernel import OURS, Held, Kernel
from dnms.lab.lab import Lab, LabError, Outcome
from dnms.lab.network import INTERFACE, SITE_ADDRESS, SUBNET, Network
from dnms.lab.nursery import AgentProcess, resolv_conf
from dnms.lab.observatory import Observatory
from dnms.lab.report import Report, Times
from dnms.lab.site import NAME, LabSite
from dnms.lab.tables import Machine, tables
from dnms.wire.messages import PORT

SLAAC_DEADLINE = 30.0  # seconds; 2 to 4 are usual: DAD of fe80::, a solicitation, DAD of what came of it
LISTENING_DEADLINE = 20.0
CONFIGURED_DEADLINE = 40.0
PER_NODE = 0.3  # seconds that each node adds to these: they share the processors
LEAVING_DEADLINE = 10.0
LISTENING_POLL = 0.05


async def run(lab: Lab) -> Outcome:
    """Build it, wait, judge. LabError where it cannot go on."""
    async with AsyncExitStack() as stack:
        with lab.display.phase("building the network"):
            network = Network(nodes=lab.nodes, agents=lab.agents, folder=lab.folder)
            stack.callback(network.close)
            network.start_router()
            observatory = Observatory(network.nodes)
            stack.callback(observatory.close)
            network.start_nodes()
        with lab.display.phase("starting the bus"):
            site = await stack.enter_async_context(
                LabSite.started(lab.folder / "site", host=SITE_ADDRESS, plan=network.addressing.plan(NAME))
            )
        agents = await _start_subnet_agents(lab, network, site)
        await _wait_for_slaac(lab, network, observatory)
        nodes = await _start_nodes(lab, network, site)
        await _wait_until_configured(lab, network, observatory, [*agents, *nodes])
        return await _judge(lab, network, observatory, site, nodes)


async def _start_subnet_agents(lab: Lab, network: Network, site: LabSite) -> list[AgentProcess]:
    with lab.display.phase("starting Subnet Agents", lab.agents) as phase:
        agents = [
            await lab.nursery.fork(
                namespace.name,
                subnet.run,
                subnet.SubnetSettings(
                    interface=INTERFACE, subnet=SUBNET, name=namespace.name, site=site.path, bus=site.bus
                ),
                namespace=namespace,
                folder=lab.folder,
            )
            for namespace in network.agents
        ]
        loop = asyncio.get_running_loop()
        end = loop.time() + LISTENING_DEADLINE
        while (ready := sum(kernel.listens(namespace, PORT) for namespace in network.agents)) < lab.agents:
            phase.reached(ready)
            _check_alive(agents)
            if loop.time() > end:
                raise LabError(f"{lab.agents - ready} Subnet Agents do not listen after {LISTENING_DEADLINE:.0f} s")
            await asyncio.sleep(LISTENING_POLL)
        phase.reached(ready)
    return agents


async def _wait_for_slaac(lab: Lab, network: Network, observatory: Observatory) -> None:
    """As on a network where DNMS is new: nodes have configured themselves already."""

    def check() -> None:
        if not network.router_lives:
            raise LabError("radvd has ended; see radvd.log")

    deadline = SLAAC_DEADLINE + PER_NODE * lab.nodes
    with lab.display.phase("nodes with SLAAC addresses", lab.nodes) as phase:
        late = await observatory.wait(
            lambda found: any(held.is_slaac and held.usable for held in found.addresses),
            deadline=deadline,
            reached=phase.reached,
            check=check,
        )
    if late:
        names = ", ".join(network.nodes[place].name for place in late)
        raise LabError(f"no usable SLAAC address after {deadline:.0f} s: {names}")


async def _start_nodes(lab: Lab, network: Network, site: LabSite) -> list[AgentProcess]:
    with lab.display.phase("starting Node Agents", lab.nodes) as phase:
        started = []
        for namespace in network.nodes:
            state = lab.folder / namespace.name
            state.mkdir()
            settings = node.NodeSettings(
                interface=INTERFACE,
                state=state,
                root_certificate=site.root_certificate,
                name=namespace.name,
                resolv_conf=resolv_conf(lab.folder, namespace.name),
            )
            started.append(
                await lab.nursery.fork(namespace.name, node.run, settings, namespace=namespace, folder=lab.folder)
            )
            phase.reached(len(started))
    return started


async def _wait_until_configured(
    lab: Lab, network: Network, observatory: Observatory, processes: Sequence[AgentProcess]
) -> None:
    """Or until the deadline; what is missing then is the judge's to say."""
    with lab.display.phase("nodes configured", lab.nodes) as phase:
        await observatory.wait(
            lambda found: not any(missing(found, network.addressing)),
            deadline=CONFIGURED_DEADLINE + PER_NODE * lab.nodes,
            reached=phase.reached,
            check=lambda: _check_alive(processes),
        )


def _check_alive(processes: Sequence[AgentProcess]) -> None:
    ended = [process for process in processes if process.exit_code is not None]
    if ended:
        raise LabError("\n".join(f"{one.name} ended with {one.exit_code}: {one.last_line()}" for one in ended))


async def _judge(
    lab: Lab, network: Network, observatory: Observatory, site: LabSite, nodes: Sequence[AgentProcess]
) -> Outcome:
    with lab.display.phase("comparing the views with the log"):
        kernels = [kernel.read(namespace) for namespace in network.nodes]
        others = [kernel.read(namespace) for namespace in (network.router, *network.agents)]
        shown = await site.shown(node_name=network.nodes[0].name)
        late = await lab.nursery.stop_all(deadline=LEAVING_DEADLINE)
        differences = await site.differences()
        log = await site.folded()
    machines = [
        _machine(found, process, observatory, place, configured=not any(missing(found, network.addressing)))
        for place, (found, process) in enumerate(zip(kernels, nodes, strict=True))
    ]
    twice = held_twice([*kernels, *others]) | {text.split()[0] for text in log.duplicates}
    report = Report(
        scenario="basic",
        nodes=lab.nodes,
        configured=sum(one.configured for one in machines),
        duplicates=len(twice),
        subnet_agents=lab.agents,
        events=log.events,
        views_equal_log=not differences,
        time_to_configured_ms=Times.of([one.seconds for one in machines if one.configured and one.seconds is not None]),
        seconds=round(lab.seconds(), 1),
    )
    wrong = [
        *(f"{process.name} did not leave within {LEAVING_DEADLINE:.0f} s; see {process.log}" for process in late),
        *(
            f"{process.name}: {text}; see {process.log}"
            for found, process in zip(kernels, nodes, strict=True)
            for text in (*missing(found, network.addressing), *not_in_log(process.name, found, log))
        ),
        *(f"{address} is held twice" for address in sorted(twice)),
        *differences,
    ]
    return Outcome(report=report, tables=tables(report, machines, shown), wrong=tuple(wrong))


def _machine(
    found: Kernel, process: AgentProcess, observatory: Observatory, place: int, *, configured: bool
) -> Machine:
    def ours(version: int) -> list[Held]:
        return [held for held in found.addresses if held.protocol == OURS and family(held.address) == version]

    moments = [moment for held in ours(6) if (moment := observatory.usable_at(place, held.address)) is not None]
    return Machine(
        name=process.name,
        configured=configured,
        ipv6=", ".join(map(str, ours(6))) or "-",
        ipv4=", ".join(map(str, ours(4))) or "-",
        seconds=min(moments) - process.started if moments else None,
    )
