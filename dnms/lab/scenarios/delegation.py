"""A prefix goes from an ISP down three levels to containers: reached, released, back, rebooted, and renumbered.

All the while that the ISP changes the prefix a container pings a host beyond it, from whatever address its kernel
chooses: once with both prefixes routed for a while, once with the old one cut in the moment in which the new one is
given.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from dnms.events.ip import Prefix, family, parse_address
from dnms.lab import isp, kernel
from dnms.lab.lab import Lab, LabError, Outcome
from dnms.lab.report import DelegationReport
from dnms.lab.streams import EVERY, Streams
from dnms.lab.tables import more
from dnms.lab.tree import LAPTOP, ROLES, VM, RouterRole, Tree
from dnms.linux.namespaces import Namespace

WITHIN = 60.0  # seconds for a step
POLL = 0.05
SETTLED = 2.0  # seconds of pings before and after what is measured
BEYOND = parse_address(isp.BEYOND)


async def run(lab: Lab) -> Outcome:
    """LabError where it cannot go on."""
    async with Tree.built(lab) as tree:
        scenario = Scenario(tree)
        return await scenario.run()


class Scenario:
    """The steps, and what they found."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._lab = tree.lab
        self._wrong = tree.wrong

    async def run(self) -> Outcome:
        """All of them."""
        tree, lab = self._tree, self._lab
        first, second, third = (isp.block(number) for number in (1, 2, 3))
        tree.isp.delegate(first)
        tree.isp.route(first)
        with lab.display.phase("a container reaches the host beyond"):
            await tree.start()
            reached = await self._until_reached(first)
        granted = await self._granted(first)
        both_ways = await self._both_ways(first)
        routes = sum(len(tree.routes(role)) for role in ROLES)
        [prefix] = await self._delegated(LAPTOP)
        rules = len(tree.let_through(prefix))
        with lab.display.phase("the laptop releases, and comes back"):
            left = await self._release()
            rules_left = len(tree.let_through(prefix))
        with lab.display.phase("the laptop reboots"):
            await self._back(first)
            back = await self._reboot(first)
            both_ways &= await self._both_ways(first)
        with lab.display.phase("the ISP changes the prefix, both are routed"):
            pings, lost, seconds, _ = await self._renumber(first, second, cut=False)
        with lab.display.phase("the ISP cuts the prefix"):
            more_pings, lost_at_cut, _, away = await self._renumber(second, third, cut=True)
        both_ways &= await self._both_ways(third)
        with lab.display.phase("comparing the views with the log"):
            late = await lab.nursery.stop_all(deadline=10.0)
            differences = await tree.site.differences()
            log = await tree.site.folded()
        report = DelegationReport(
            scenario="delegation",
            levels=len(ROLES),
            reachable_both_ways=both_ways,
            routes=routes,
            routes_left_after_release=left,
            rules=rules,
            rules_left_after_release=rules_left,
            pings=pings + more_pings,
            lost_pings_at_renumber=lost,
            lost_pings_at_cut=lost_at_cut,
            seconds_to_reach=round(reached - granted, 3),
            seconds_to_come_back=round(back, 3),
            seconds_to_renumber=round(seconds, 3),
            seconds_lost_at_cut=round(away, 3),
            events=log.events,
            views_equal_log=not differences,
            seconds=round(lab.seconds(), 1),
        )
        counts = {name: getattr(report, name) for name in report.__struct_fields__ if name != "scenario"}
        wrong = (*self._wrong, *(f"{each.name} did not leave; see {each.log}" for each in late), *differences)
        return Outcome(report=report, tables=(more(counts),), wrong=wrong)

    async def _until(self, what: str, done: Callable[[], object], *, within: float = WITHIN) -> None:
        """LabError if it is not so in time, or if something has ended that should run."""
        if not await self._so(done, within=within):
            raise LabError(f"{what}: not within {within:.0f} s")

    async def _so(self, done: Callable[[], object], *, within: float) -> bool:
        """Whether it is so in so many seconds. LabError if something has ended that should run."""
        end = time.monotonic() + within
        while not (is_so := done()) and time.monotonic() < end:
            self._tree.check_alive()
            await asyncio.sleep(POLL)
        return bool(is_so)

    async def _until_reached(self, prefix: Prefix) -> float:
        """When the first container had an answer from beyond first, by the monotonic clock."""
        async with Streams.opened(self._tree.containers[0], []) as streams:
            streams.begin(BEYOND, talk=False)
            await self._until("no answer from beyond the ISP", lambda: BEYOND in streams.heard)
            return streams.heard[BEYOND]

    async def _granted(self, prefix: Prefix) -> float:
        """When the log had that the ISP has delegated a prefix, by the monotonic clock."""
        events = await self._tree.site.events("uplink.received", after=0)
        times = [event.time.timestamp() for event in events if event.fields["prefix"] == str(prefix)]
        return min(times) - time.time() + time.monotonic()

    async def _delegated(self, role: RouterRole) -> list[str]:
        """The networks of the prefixes that were delegated to a router."""
        events = await self._tree.site.events("prefix.delegated", after=0)
        return [event.fields["prefix"].partition("/")[0] for event in events if event.node == role.name]

    async def _both_ways(self, prefix: Prefix) -> bool:
        """Whether every container reaches the host beyond, and that every container at its address in the prefix."""
        tree = self._tree
        addresses = []
        for container in tree.containers:
            await self._until(f"{container.name} has no address in {prefix}", partial(_usable, container, prefix))
            addresses.append(_usable(container, prefix)[0])
        for container in tree.containers:
            if not await self._answers(container, [BEYOND]):
                return False
        return await self._answers(tree.beyond, addresses)

    async def _answers(self, source: Namespace, addresses: list[bytes], *, within: float = 5.0) -> bool:
        """Whether all of these answer in so many seconds."""
        async with Streams.opened(source, []) as streams:
            for address in addresses:
                streams.begin(address, talk=False)
            return await self._so(lambda: streams.heard.keys() >= set(addresses), within=within)

    async def _release(self) -> int:
        """The laptop gives back; how many routes are left to it, on it and below."""
        tree = self._tree
        await tree.release(LAPTOP)

        def left() -> int:
            towards = [route for route in tree.routes(ROLES[0]) if " via " in route]
            return len(towards) + len(tree.routes(LAPTOP)) + len(tree.routes(VM))

        await self._so(lambda: not left(), within=WITHIN)
        if await self._answers(tree.containers[0], [BEYOND], within=1.0):
            self._wrong.append("packets pass though the laptop has given its prefix back")
        return left()

    async def _back(self, prefix: Prefix) -> None:
        await self._tree.start_node(LAPTOP)
        await self._until_reached(prefix)

    async def _reboot(self, prefix: Prefix) -> float:
        """The laptop loses its power; seconds from when it starts until a container reaches the host beyond again."""
        await self._tree.kill(LAPTOP)
        if await self._answers(self._tree.containers[0], [BEYOND], within=1.0):
            self._wrong.append("packets pass though the laptop has lost its power")
        began = time.monotonic()
        await self._tree.start([LAPTOP])
        return await self._until_reached(prefix) - began

    async def _renumber(self, old: Prefix, new: Prefix, *, cut: bool) -> tuple[int, int, float, float]:
        """The ISP delegates another prefix under a stream of pings: how many there were, how many were lost, in how
        many seconds the last container could use the new one, and for how many no ping was answered.
        """
        tree = self._tree
        position = await tree.site.position()
        async with Streams.opened(tree.containers[0], []) as streams:
            streams.begin(BEYOND, talk=False)
            await asyncio.sleep(SETTLED)
            tree.isp.route(new)
            tree.isp.delegate(new)
            granted = await self._received(new, after=position)
            if cut:
                tree.isp.cut(old)
            await self._until(
                f"no container can use {new}", lambda: all(_usable(each, new) for each in tree.containers)
            )
            usable = time.monotonic()
            await asyncio.sleep(SETTLED)
            if not cut:
                tree.isp.cut(old)
                await asyncio.sleep(SETTLED)
            await streams.end([BEYOND])
            found = streams.counted
        return found.pings, found.lost_pings, usable - granted, found.lost_pings * EVERY

    async def _received(self, prefix: Prefix, *, after: int) -> float:
        """Wait until the border has a prefix; when the log had that, by the monotonic clock."""
        end = time.monotonic() + WITHIN
        while time.monotonic() < end:
            for event in await self._tree.site.events("uplink.received", after=after):
                if event.fields["prefix"] == str(prefix):
                    return event.time.timestamp() - time.time() + time.monotonic()
            self._tree.check_alive()
            await asyncio.sleep(POLL)
        raise LabError(f"the border was not delegated {prefix} within {WITHIN:.0f} s")


def _usable(namespace: Namespace, prefix: Prefix) -> list[bytes]:
    """The addresses of a prefix that its kernel lets a container use and prefer."""
    found = kernel.read(namespace)
    return [
        held.address for held in found.addresses if family(held.address) == 6 and held.address in prefix and held.usable
    ]
