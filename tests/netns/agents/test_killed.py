"""kill -9 around a delegation: between the event and the route, and between the route and the answer.

A border with a bus, a Subnet Agent and the subscriber `routes`, and a laptop with a Node Agent that asks for a prefix,
each a process of its own. Who is killed is frozen first, so that it is killed where it has to be.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from dnms.agents import node, subnet
from dnms.disk.delegated import path_of, read
from dnms.events.ip import Prefix, parse_prefix
from dnms.lab.nursery import AgentProcess, Nursery, own_resolv_conf, resolv_conf
from dnms.lab.site import NAME, LabSite
from dnms.lab.tree import DOWN, UP, ActingSettings, act
from dnms.linux.namespaces import Namespace
from dnms.linux.routes import PROTOCOL
from dnms.subscribers.subscriber import Local
from tests.netns.agents.conftest import FAST

WITHIN = 30.0
PLAN = f"""
[site]
name = "{NAME}"
[[subnet]]
name = "home"
prefixes = ["2001:db8:1::/64"]
gateways = ["fe80::1"]
routers = ["border"]
[[pool]]
name = "hosts"
subnet = "home"
range = "2001:db8:1::/64"
[[delegation]]
name = "blocks"
subnet = "home"
prefix = "2001:db8:2::/56"
length = 60
"""


class Link:
    """The two machines, and what runs on them."""

    def __init__(self, nursery: Nursery, folder: Path, border: Namespace, laptop: Namespace, site: LabSite) -> None:
        self._nursery = nursery
        self._folder = folder
        self._border, self._laptop = border, laptop
        self.site = site
        self._running: dict[str, AgentProcess] = {}

    async def start_routes(self) -> None:
        local = Local(site=NAME, instance="border", interfaces={"home": DOWN})
        state = self._folder / "border" / "subscribers"
        settings = ActingSettings("routes", self.site.site.path, self.site.bus, state, local)
        await self._start("routes", act, settings)

    async def start_agent(self) -> None:
        settings = subnet.SubnetSettings(
            interface=DOWN, subnet="home", name="border", site=self.site.site.path, bus=self.site.bus
        )
        await self._start("agent", subnet.run, settings)

    async def start_node(self) -> None:
        settings = node.NodeSettings(
            interface=UP,
            state=self._folder / "laptop",
            root_certificate=self.site.site.root_certificate,
            name="laptop",
            resolv_conf=resolv_conf(self._folder, "node"),
            prefix=60,
        )
        await self._start("node", node.run, settings)

    async def _start(self, name: str, program: object, settings: object) -> None:
        own_resolv_conf(self._folder, name).touch()
        self._running[name] = await self._nursery.fork(
            name,
            program,  # type: ignore[arg-type]  # each is a program of its own settings
            settings,
            namespace=self._laptop if name == "node" else self._border,
            folder=self._folder,
            loop_factory=subnet.new_event_loop if name == "agent" else asyncio.new_event_loop,
        )

    def freeze(self, name: str) -> None:
        self._running[name].signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self._running[name].signal(signal.SIGCONT)

    async def kill(self, name: str) -> None:
        await self._end(name, signal.SIGKILL, code=-signal.SIGKILL)

    async def terminate(self, name: str) -> None:
        await self._end(name, signal.SIGTERM, code=0)

    async def _end(self, name: str, number: int, *, code: int) -> None:
        process = self._running.pop(name)
        process.signal(number)
        assert await asyncio.wait_for(process.wait(), WITHIN) == code

    def told(self) -> list[Prefix]:
        """What the node passes on of what it was told."""
        found = read(path_of(self._folder / "laptop", UP))
        return [] if found is None else [each.prefix for each in found.prefixes]

    def is_configured(self) -> bool:
        """Whether the node was answered, and has what it was told of."""
        return " 2001:db8:1:" in self._laptop.run("ip", "-6", "-o", "address", "show", "dev", UP)

    def routes(self) -> list[Prefix]:
        """The prefixes to which the border has a route over its link."""
        shown = self._border.run("ip", "-6", "route", "show", "proto", str(PROTOCOL))
        return [parse_prefix(line.split()[0]) for line in shown.splitlines() if " via " in line]

    def is_routing(self) -> bool:
        """Whether the subscriber has looked: what the pool has and nobody uses leads nowhere."""
        return "unreachable" in self._border.run("ip", "-6", "route", "show", "proto", str(PROTOCOL))

    async def delegated(self) -> list[Prefix]:
        """What the log has, in its order."""
        return [
            parse_prefix(str(each.fields["prefix"])) for each in await self.site.events("prefix.delegated", after=0)
        ]

    async def until(self, what: str, done: Callable[[], bool | Awaitable[bool]]) -> None:
        """Wait until it is so; meanwhile nobody ends, and nobody is told of what no route leads to."""
        end = asyncio.get_running_loop().time() + WITHIN
        while True:
            is_so = done()
            if is_so if isinstance(is_so, bool) else await is_so:
                return
            told = self.told()  # before the routes: one that comes in between was there in time
            assert set(told) <= set(self.routes()), "the node was told of what has no route"
            for name, process in self._running.items():
                assert process.exit_code is None, f"{name}: {process.last_line()}"
            assert asyncio.get_running_loop().time() < end, f"{what}: not within {WITHIN:.0f} s"
            await asyncio.sleep(0.02)

    async def until_delegated(self) -> Prefix:
        """Wait until the log has a prefix for the node."""

        async def is_there() -> bool:
            return bool(await self.delegated())

        await self.until("nothing is delegated", is_there)
        [prefix] = await self.delegated()
        return prefix

    async def until_told(self, prefix: Prefix) -> None:
        """Wait until the node has this prefix and no other, and nobody has given it another one."""
        await self.until("the node is told nothing", lambda: bool(self.told()))
        assert self.told() == [prefix]
        assert self.routes() == [prefix]
        assert await self.delegated() == [prefix]


@pytest.fixture
def machines() -> Iterator[tuple[Namespace, Namespace]]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    with Namespace.create("border") as border, Namespace.create("laptop") as laptop:
        border.ip(
            ["link set dev lo up", f"link add {DOWN} type veth peer name {UP} netns /proc/self/fd/{laptop.fileno()}"],
            pass_fds=[laptop.fileno()],
        )
        border.set_sysctls({"ipv6.conf.all.forwarding": 1})
        border.ip([f"link set dev {DOWN} addrgenmode none up", f"address add fe80::1/64 dev {DOWN} nodad"])
        laptop.set_sysctls({name.replace("eth0", UP): value for name, value in FAST.items()})
        laptop.set_up(UP)
        yield border, laptop


@pytest.fixture
async def link(machines: tuple[Namespace, Namespace], tmp_path: Path) -> AsyncIterator[Link]:
    """All but the node runs, and the border has its routes."""
    nursery = Nursery()
    border, laptop = machines
    try:
        with border.entered():  # the bus is reached on its loopback
            async with LabSite.started(tmp_path / "site", host="127.0.0.1", plan=PLAN) as site:
                made = Link(nursery, tmp_path, border, laptop, site)
                await made.start_routes()
                await made.start_agent()
                await made.until("the border routes nothing", made.is_routing)
                yield made
                await nursery.stop_all(deadline=WITHIN)
    finally:
        nursery.close()


@pytest.mark.parametrize("restarts", ["routes", "routes and agent"])
async def test_killed_between_the_event_and_the_route(link: Link, restarts: str) -> None:
    """The node is told nothing until the route is there, whoever was started anew meanwhile, and from what."""
    link.freeze("routes")
    await link.start_node()
    prefix = await link.until_delegated()
    await link.until("the node is not answered", link.is_configured)
    assert (link.told(), link.routes()) == ([], [])
    if restarts != "routes":
        await link.terminate("agent")  # it goes on from a snapshot that has the event
        await link.start_agent()

        async def is_answered() -> bool:
            opened = await link.site.events("session.opened", after=0)
            applied = await link.site.events("configuration.applied", after=opened[-1].sequence)
            return len(opened) > 1 and bool(applied)

        await link.until("the node is not answered again", is_answered)
        assert link.told() == []
    await link.kill("routes")
    assert (link.told(), link.routes()) == ([], [])
    await link.start_routes()
    await link.until_told(prefix)


async def test_killed_between_the_route_and_the_answer(link: Link) -> None:
    """The node is told what was delegated, and nothing else is."""
    link.freeze("routes")  # so that the agent has no time to answer
    await link.start_node()
    prefix = await link.until_delegated()
    link.freeze("agent")
    link.thaw("routes")
    await link.until("there is no route", lambda: link.routes() == [prefix])
    assert link.told() == []
    await link.kill("agent")
    await link.start_agent()
    await link.until_told(prefix)
