"""The steps that scenarios are made of: build it, start agents, wait, end some of them, judge.

async with Stage.built(lab) as stage:
    await stage.start()
    …
    return await verdict(stage)
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from dnms.agents import node, relay, subnet
from dnms.events.ip import format_address
from dnms.lab import kernel
from dnms.lab.judge import missing, unresolved
from dnms.lab.kernel import Kernel
from dnms.lab.lab import Lab, LabError
from dnms.lab.network import INTERFACE, SITE_ADDRESS, SUBNET, Network
from dnms.lab.nursery import AgentProcess, LoopFactory, Program, own_resolv_conf, resolv_conf
from dnms.lab.observatory import Complaints, Observatory
from dnms.lab.progress import Phase
from dnms.lab.site import NAME, LabSite
from dnms.linux.namespaces import Namespace
from dnms.wire.messages import PORT

SLAAC_DEADLINE = 30.0  # seconds; 2 to 4 are usual: DAD of fe80::, a solicitation, DAD of what came of it
LISTENING_DEADLINE = 20.0
CONFIGURED_DEADLINE = 40.0
EVENT_DEADLINE = 40.0  # a node that found no agent for 10 s asks again after up to 16 s
ADVERTISED_DEADLINE = 30.0
PER_NODE = 0.3  # seconds that each node adds to these: they share the processors
LEAVING_DEADLINE = 10.0
POLL = 0.05
LOG_POLL = 0.2
ALLOCATED = "address.allocated"
RELEASED = "address.released"
GRANTED = "outage.granted"


class Stage:
    """A network with a site and a router, the agents that run on it, and what was found wrong so far."""

    def __init__(self, lab: Lab, network: Network, observatory: Observatory, site: LabSite) -> None:
        self.lab = lab
        self.network = network
        self.observatory = observatory  # of the nodes
        self.site = site
        self.running: dict[str, AgentProcess] = {}  # the agents that should live, by name
        self.first_started: dict[str, float] = {}  # seconds, monotonic
        self.wrong: list[str] = []  # for people; with any of it the run has failed

    @classmethod
    @asynccontextmanager
    async def built(cls, lab: Lab, *, disk: int | None = None) -> AsyncGenerator[Stage, None]:
        """The network with its router and the site, and no agent yet; `disk` is as in `LabSite.started`."""
        async with AsyncExitStack() as stack:
            with lab.display.phase("building the network"):
                network = Network(nodes=lab.nodes, agents=lab.agents, folder=lab.folder)
                stack.callback(network.close)
                network.start_router()
                observatory = Observatory(network.nodes)
                stack.callback(observatory.close)
                network.start_nodes()
            with lab.display.phase("starting the bus"):
                plan = network.addressing.plan(NAME)
                site = await stack.enter_async_context(
                    LabSite.started(lab.folder / "site", host=SITE_ADDRESS, plan=plan, disk=disk)
                )
            yield cls(lab, network, observatory, site)

    # -- agents ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything, as on a network where DNMS is new, and wait until the nodes are configured.

        What is missing at the deadline is the verdict's to say.
        """
        await self.start_subnet_agents()
        await self.wait_for_slaac()
        await self.start_nodes()
        await self.wait_until_configured()

    async def start_subnet_agents(self, which: Iterable[Namespace] | None = None, *, dhcp: bool = False) -> None:
        """Start them, or those in these namespaces, and wait until they listen. LabError.

        `dhcp`: they serve clients of DHCPv6 and DHCPv4 too, and see who is on the link.
        """
        namespaces = list(self.network.agents if which is None else which)
        with self.lab.display.phase("starting Subnet Agents", len(namespaces)) as phase:
            for namespace in namespaces:
                settings = subnet.SubnetSettings(
                    interface=INTERFACE,
                    subnet=SUBNET,
                    name=namespace.name,
                    site=self.site.site.path,
                    bus=self.site.bus,
                    dhcpv6=dhcp,
                    dhcpv4=dhcp,
                    watch=dhcp,
                )
                await self.fork(namespace, subnet.run, settings, loop_factory=subnet.new_event_loop)
            await self._until_listening(namespaces, phase)

    async def start_relays(self, settings: Mapping[Namespace, relay.RelaySettings]) -> None:
        """Start them in these namespaces, and wait until they offer agents. LabError."""
        with self.lab.display.phase("starting relays", len(settings)) as phase:
            for namespace, each in settings.items():
                await self.fork(namespace, relay.run, each)
            await self._until_listening(settings, phase)

    async def _until_listening(self, which: Collection[Namespace], phase: Phase) -> None:
        """Wait until nodes of the link are heard in these namespaces. LabError."""
        end = asyncio.get_running_loop().time() + LISTENING_DEADLINE
        while (ready := sum(kernel.listens(namespace, PORT) for namespace in which)) < len(which):
            phase.reached(ready)
            self.check_alive()
            if asyncio.get_running_loop().time() > end:
                raise LabError(f"{len(which) - ready} of them do not listen after {LISTENING_DEADLINE:.0f} s")
            await asyncio.sleep(POLL)
        phase.reached(ready)

    async def start_nodes(self, which: Iterable[Namespace] | None = None) -> None:
        """Start the Node Agents, or those in these namespaces; each finds the state that it left."""
        namespaces = list(self.network.nodes if which is None else which)
        with self.lab.display.phase("starting Node Agents", len(namespaces)) as phase:
            for number, namespace in enumerate(namespaces):
                await self.fork(namespace, node.run, self._node_settings(namespace))
                phase.reached(number + 1)

    async def give_back(self, which: Iterable[Namespace]) -> None:
        """Ask these Node Agents to leave, and take DNMS off their nodes. What does not end is wrong."""
        namespaces = list(which)
        await self.end(namespaces, signal.SIGTERM)
        for namespace in namespaces:
            await self.fork(namespace, give_back, self._node_settings(namespace))
        giving = [self.running.pop(namespace.name) for namespace in namespaces]
        await self._ended(giving, 0)

    async def end(self, which: Iterable[Namespace], how: signal.Signals) -> None:
        """End the agents in these namespaces by a signal. One that is asked to leave and does not is wrong."""
        ending = [self.running.pop(namespace.name) for namespace in which]
        for process in ending:
            process.signal(how)
        await self._ended(ending, 0 if how is signal.SIGTERM else -how)

    async def _ended(self, ending: Iterable[AgentProcess], expected: int) -> None:
        ending = list(ending)
        leaving = [asyncio.ensure_future(process.wait()) for process in ending]
        _, late = await asyncio.wait(leaving, timeout=self._within(LEAVING_DEADLINE)) if leaving else ((), set())
        for waiting in late:
            waiting.cancel()
        for process in ending:
            if process.exit_code is None:
                process.signal(signal.SIGKILL)
                self.wrong.append(f"{process.name} did not leave in time; see {process.log}")
            elif process.exit_code != expected:
                self.wrong.append(
                    f"{process.name} ended with {process.exit_code} and not {expected}; see {process.log}"
                )

    def check_alive(self) -> None:
        """LabError if an agent has ended that nobody has ended."""
        ended = [process for process in self.running.values() if process.exit_code is not None]
        if ended:
            raise LabError("\n".join(f"{one.name} ended with {one.exit_code}: {one.last_line()}" for one in ended))

    def _node_settings(self, namespace: Namespace) -> node.NodeSettings:
        return node.NodeSettings(
            interface=INTERFACE,
            state=self.lab.folder / namespace.name,
            root_certificate=self.site.site.root_certificate,
            name=namespace.name,
            resolv_conf=resolv_conf(self.lab.folder, namespace.name),
        )

    async def fork(
        self,
        namespace: Namespace,
        program: Program,
        settings: object,
        *,
        loop_factory: LoopFactory = asyncio.new_event_loop,
    ) -> None:
        """Start a program that is to live, by the name of its namespace."""
        process = await self.lab.nursery.fork(
            namespace.name,
            program,
            settings,
            namespace=namespace,
            folder=self.lab.folder,
            loop_factory=loop_factory,
        )
        self.running[namespace.name] = process
        self.first_started.setdefault(namespace.name, process.started)

    # -- waiting -----------------------------------------------------------------------------------------------------

    async def wait_for_slaac(self) -> None:
        """As on a network where DNMS is new: nodes have configured themselves already. LabError."""
        deadline = self._within(SLAAC_DEADLINE)
        with self.lab.display.phase("nodes with SLAAC addresses", self.lab.nodes) as phase:
            late = await self.observatory.wait(
                lambda _, found: any(held.is_slaac and held.usable for held in found.addresses),
                deadline=deadline,
                reached=phase.reached,
                check=self._check_router,
            )
        if late:
            names = ", ".join(self.network.nodes[place].name for place in late)
            raise LabError(f"no usable SLAAC address after {deadline:.0f} s: {names}")

    async def wait_until_configured(self, which: Collection[int] | None = None) -> None:
        """All nodes, or those at these places; or until the deadline: what is missing then is the verdict's to say."""
        waiting = range(self.lab.nodes) if which is None else which
        others = self.lab.nodes - len(waiting)
        with self.lab.display.phase("nodes configured", len(waiting)) as phase:
            await self.observatory.wait(
                lambda place, found: place not in waiting or not any(self.missing(place, found)),
                deadline=self._within(CONFIGURED_DEADLINE),
                reached=lambda done: phase.reached(done - others),
                check=self.check_alive,
            )

    async def wait_for_nodes(self, places: Collection[int], what: str, done: Callable[[Kernel], bool]) -> None:
        """Wait until the kernels of the nodes at these places are so; what is not so at the deadline is wrong."""
        others = self.lab.nodes - len(places)
        with self.lab.display.phase(f"nodes that {what}", len(places)) as phase:
            late = await self.observatory.wait(
                lambda place, found: place not in places or done(found),
                deadline=self._within(CONFIGURED_DEADLINE),
                reached=lambda so: phase.reached(so - others),
                check=self.check_alive,
            )
        self.wrong += [f"{self.names[place]} is none of those that {what}" for place in late]

    async def wait_for_event(self, kind: str, *, of: Iterable[str], after: int, least: int | None = None) -> None:
        """Wait until the log has an event of this name about each of these nodes, or about so many of them, behind the
        position `after`.
        """
        names = set(of)
        allowed = 0 if least is None else len(names) - least
        end = asyncio.get_running_loop().time() + self._within(EVENT_DEADLINE)
        with self.lab.display.phase(kind, len(names)) as phase:
            while len(late := names - {event.node for event in await self.site.events(kind, after=after)}) > allowed:
                phase.reached(len(names) - len(late))
                self.check_alive()
                if asyncio.get_running_loop().time() > end:
                    self.wrong += [f"{name}: no {kind} after position {after}" for name in sorted(late)]
                    break
                await asyncio.sleep(LOG_POLL)
            phase.reached(len(names) - len(late))

    async def wait_for_advertisements(self, count: int) -> None:
        """Wait until the router has advertised itself to every node so many times more. LabError."""
        before = list(map(kernel.advertisements, self.network.nodes))
        end = asyncio.get_running_loop().time() + ADVERTISED_DEADLINE
        with self.lab.display.phase("Router Advertisements", count) as phase:
            while True:
                now = map(kernel.advertisements, self.network.nodes)
                heard = min(new - old for new, old in zip(now, before, strict=True))
                phase.reached(min(heard, count))
                if heard >= count:
                    return
                self._check_router()
                if asyncio.get_running_loop().time() > end:
                    raise LabError(f"{count} Router Advertisements did not come in {ADVERTISED_DEADLINE:.0f} s")
                await asyncio.sleep(POLL)

    async def wait_for_assignments(self, *, after: int) -> None:
        """Wait until every node has opened a session, and has said what became of what it was assigned in it."""
        await self.wait_for_event("session.opened", of=self.names, after=after)
        await self.wait_for_event("configuration.applied", of=self.names, after=after)

    async def everyone_was_allocated_once(self) -> None:
        """See that the log gave each node one address of each family and never another, again where it was released.

        Of IPv4 another one may have what was released, and then it was given another.
        """
        released = Counter[tuple[str | None, bool]]()
        given, had = Counter[tuple[str | None, bool]](), dict[tuple[str | None, bool], set[str]]()
        for event in await self.site.events("address", after=0):
            key = event.node, ":" in event.fields["address"]
            given[key] += (event.name == ALLOCATED) - (event.name == RELEASED)
            released[key] += event.name == RELEASED
            had.setdefault(key, set()).add(event.fields["address"])
        for name in self.names:
            for six in (True, False):
                addresses = sorted(had.get((name, six), ()))
                most = 1 if six else 1 + released[name, six]
                if given[name, six] != 1 or not 1 <= len(addresses) <= most:
                    times = f"{given[name, six]} times more than it released one"
                    self.wrong.append(f"{name}: it was allocated an IPv{6 if six else 4} address {times}: {addresses}")

    async def nothing_was_allocated(self, *, after: int) -> None:
        """See that behind the position `after` nodes only kept what they had."""
        for event in await self.site.events("address", after=after):
            if event.name != "address.renewed":
                self.wrong.append(f"{event.node}: {event.name} at {event.position}, though nothing had to change")

    def kept(self, held: Mapping[int, frozenset[bytes]]) -> Complaints:
        """What is wrong, for a vigil, with nodes that are to keep what they have: by places, as it is when looked."""

        def complaints(place: int, found: Kernel) -> Iterator[str]:
            if place in held:
                yield from self.missing(place, found)
                for address in found.ours ^ held[place]:
                    yield f"{format_address(address)} is {'gone' if address in held[place] else 'new'}"

        return complaints

    @asynccontextmanager
    async def vigil(self, complaints: Complaints) -> AsyncGenerator[None, None]:
        """Look at the nodes' kernels all the time; what `complaints` finds is wrong."""
        async with self.observatory.vigil(complaints) as vigil:
            yield
        self.wrong += vigil.complaints()
        self.lab.display.line(f"looked {vigil.looks} times at kernels, and {len(vigil.complaints())} things were wrong")

    # -- what nodes have -----------------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """Of the nodes, by their places."""
        return [namespace.name for namespace in self.network.nodes]

    def resolv_conf(self, namespace: Namespace) -> Path:
        """The file that the processes in this namespace have for a resolv.conf."""
        return own_resolv_conf(self.lab.folder, namespace.name)

    def missing(self, place: int, found: Kernel) -> Iterator[str]:
        """What keeps the node at this place from being configured: nothing, or a text each for people."""
        yield from missing(found, self.network.addressing)
        resolver = self.resolv_conf(self.network.nodes[place])
        yield from unresolved(resolver.read_text() if resolver.exists() else "", self.network.addressing)

    def all_configured(self) -> bool:
        """Whether no node lacks anything now."""
        return not any(
            text for place in range(self.lab.nodes) for text in self.missing(place, self.observatory.read(place))
        )

    def _within(self, deadline: float) -> float:
        return deadline + PER_NODE * self.lab.nodes

    def _check_router(self) -> None:
        if not self.network.router_lives:
            raise LabError("radvd has ended; see radvd.log")


async def give_back(settings: node.NodeSettings, *, stop: asyncio.Event) -> None:
    """What `dnms node-agent release` does, as a program of the nursery; it ends by itself."""
    await node.give_back(settings)
