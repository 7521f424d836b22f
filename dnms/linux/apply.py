"""Applying a node's plan to the kernel, in the order that leaves no moment without a good address.

Settings; new addresses; routes; the outcome of DAD and ARP; and only then what others have set is deprecated and what
is ours and no longer wanted goes away: of a family of which something usable is there, so a node never cuts itself off.
What others have set goes later, by `settle`. Both families go side by side. Applying twice is applying once. What is
not ours and not in the plan is not touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import structlog

from dnms.domain.node_plan import NodePlan, WantedRoute
from dnms.domain.node_settings import ACCEPT_RA
from dnms.events.configuration import AssignedAddress, InterfaceAddress, Link
from dnms.events.ip import family, is_link_local
from dnms.linux import arp, before, name_servers, sysctl, time_servers
from dnms.linux.dad import DAD_TIMEOUT, DUPLICATE, USABLE, DadWatch
from dnms.linux.errors import KernelError
from dnms.linux.messages import IFA_F_DADFAILED, IFA_F_TENTATIVE, MANAGED
from dnms.linux.netlink import Netlink
from dnms.linux.solicitation import solicit_routers

REFUSED, NO_TIME_SERVICE = "refused", "no-time-service"

RESOLV_CONF = Path("/etc/resolv.conf")

STEPS = (
    "settings kept",
    "settings",
    "MTU",
    "addresses of IPv6",
    "routes of IPv6",
    "DAD",
    "probes of IPv4",
    "addresses of IPv4",
    "routes of IPv4",
    "announcement",
    "what is there kept",
    "deprecation",
    "removal",
    "resolver",
    "time servers",
)
"""In their order, but that both families go side by side. A node can be reached whichever of them was the last that its
agent came to."""

log = structlog.get_logger(__name__)


def begin(step: str) -> None:
    """One of the steps begins."""
    log.debug("step", step=step)


async def apply(
    netlink: Netlink,
    plan: NodePlan,
    *,
    interface: str,
    state: Path,
    resolv_conf: Path = RESOLV_CONF,
    dad_timeout: float = DAD_TIMEOUT,
) -> dict[bytes, str]:
    """Change the interface as planned. For each wanted address: `usable`, `duplicate` or `refused`; and for each time
    server `no-time-service`, where this machine has none that could use it.

    An address that is not usable is not left behind. What was before is kept in the directory `state`, for
    `give_back`. KernelError only for what stops everything: no interface, no right to change it, no place to keep.
    """
    application = await _Application.begin(netlink, plan, interface, state)
    if plan.mtu is not None:
        begin("MTU")
        await application.attempt("MTU", netlink.set_mtu(application.link.index, plan.mtu))
    outcomes: dict[bytes, str] = {}
    # Errors are waited for as well: a half that goes on after the other has failed would meet the next attempt.
    for part in await asyncio.gather(application.ipv6(dad_timeout), application.ipv4(), return_exceptions=True):
        if isinstance(part, BaseException):
            raise part
        outcomes.update(part)
    if plan.resolver is not None and (not outcomes or USABLE in outcomes.values()):
        begin("resolver")
        try:
            way = await name_servers.in_use(interface, application.link.index, state=state, resolv_conf=resolv_conf)
            await way.write(plan.resolver)
        except (KernelError, ValueError) as error:
            log.warning("resolver not written", reason=str(error))
    if not outcomes or USABLE in outcomes.values():
        begin("time servers")
        if not await time_servers.write(interface, plan.ntp):
            outcomes |= {server: NO_TIME_SERVICE for server in plan.ntp if server not in outcomes}
    return outcomes


class _Application:
    """One plan on its way into one interface."""

    def __init__(
        self, netlink: Netlink, plan: NodePlan, link: Link, held: Mapping[bytes, InterfaceAddress], state: Path
    ) -> None:
        self.netlink = netlink
        self.plan = plan
        self.link = link
        self.held = held
        self.state = state

    @classmethod
    async def begin(cls, netlink: Netlink, plan: NodePlan, interface: str, state: Path) -> _Application:
        """Look at the interface, and set what has to be set before anything else. KernelError."""
        link = await netlink.link(interface)
        begin("settings kept")
        changed = sysctl.differing(plan.settings)
        before.keep(state, interface, sysctls=changed, mtu=link.mtu if plan.mtu is not None else 0)
        begin("settings")
        sysctl.change(plan.settings)
        if plan.settings.get(name := ACCEPT_RA.format(interface), "0") != "0" and name in changed:
            try:
                solicit_routers(link.index)  # the kernel asks only when a link comes up
            except KernelError as error:
                log.info("routers not asked", interface=interface, reason=str(error))
        held = {each.address: each for each in await netlink.addresses(link.index)}
        return cls(netlink, plan, link, held, state)

    async def ipv6(self, timeout: float) -> dict[bytes, str]:
        """The kernel does DAD itself, and tells its outcome by netlink."""
        wanted = self._wanted(6)
        outcomes: dict[bytes, str] = {}
        undecided = {each.address for each in wanted if await self._is_new(each)}
        begin("addresses of IPv6")
        with DadWatch(self.netlink, self.link.index) as watch:
            for each in wanted:
                if not await self._add(each):
                    outcomes[each.address] = REFUSED
            added = [each.address for each in wanted if each.address not in outcomes]
            if added:
                begin("routes of IPv6")
                await self._add_routes(6)
            begin("DAD")
            decided = await watch.outcomes(undecided.intersection(added), timeout=timeout)
        for address in added:
            outcome = decided.get(address, USABLE)
            outcomes[address] = outcome if outcome in (USABLE, DUPLICATE) else REFUSED
        await self._finish(6, wanted, outcomes)
        return outcomes

    async def ipv4(self) -> dict[bytes, str]:
        """New addresses are probed for before they are added: the kernel has no DAD of IPv4."""
        wanted = self._wanted(4)
        outcomes: dict[bytes, str] = {}
        new = [each.address for each in wanted if await self._is_new(each)]
        if new:
            begin("probes of IPv4")
            try:
                outcomes = dict.fromkeys(await arp.conflicts(self.link.name, new), DUPLICATE)
            except KernelError as error:
                log.warning("addresses not probed", interface=self.link.name, reason=str(error))
                outcomes = dict.fromkeys(new, REFUSED)
        begin("addresses of IPv4")
        for each in wanted:
            if each.address not in outcomes:
                outcomes[each.address] = USABLE if await self._add(each) else REFUSED
        if USABLE in outcomes.values():
            begin("routes of IPv4")
            await self._add_routes(4)
        announced = [address for address in new if outcomes[address] == USABLE]
        if announced:
            begin("announcement")
            await self.attempt("announcement", arp.announce(self.link.name, announced))
        await self._finish(4, wanted, outcomes)
        return outcomes

    async def attempt(self, what: str, change: Coroutine[Any, Any, object]) -> bool:
        """Make a change that may fail without stopping the rest; whether it was made."""
        try:
            await change
        except KernelError as error:
            log.warning("not applied", what=what, interface=self.link.name, reason=str(error))
            return False
        return True

    def _wanted(self, kind: int) -> list[AssignedAddress]:
        return [each for each in self.plan.add_addresses if family(each.address) == kind]

    async def _is_new(self, wanted: AssignedAddress) -> bool:
        """Whether it has to be checked for duplicates. What is there but cannot stay as it is, goes first."""
        held = self.held.get(wanted.address)
        if held is None:
            return True
        failed = family(wanted.address) == 6 and held.flags & IFA_F_DADFAILED
        if failed or held.prefix_length != wanted.prefix_length:
            await self.attempt("address", self._delete(held))
            return True
        return bool(family(wanted.address) == 6 and held.flags & IFA_F_TENTATIVE)

    async def _delete(self, held: InterfaceAddress) -> bool:
        return await self.netlink.delete_address(self.link.index, held.address, held.prefix_length)

    async def _add(self, wanted: AssignedAddress) -> bool:
        change = self.netlink.add_address(
            self.link.index,
            wanted.address,
            wanted.prefix_length,
            preferred=wanted.preferred,
            valid=wanted.valid,
            optimistic=self.plan.optimistic and family(wanted.address) == 6,
        )
        return await self.attempt("address", change)

    async def _add_routes(self, kind: int) -> None:
        """Those on the link first: the kernel takes no gateway that it cannot reach."""
        wanted = [each for each in self.plan.add_routes if each.destination.family == kind]
        for route in sorted(wanted, key=lambda each: each.gateway is not None):
            await self.attempt("route", self._add_route(route))

    async def _add_route(self, wanted: WantedRoute) -> None:
        """Add a route; one that is ours or in the way by the plan is replaced, another's is not. KernelError."""
        destination, interface, gateway, metric, source = (
            wanted.destination,
            wanted.interface,
            wanted.gateway,
            wanted.metric,
            wanted.source,
        )
        try:
            await self.netlink.add_route(destination, interface, gateway=gateway, metric=metric, source=source)
        except KernelError as error:
            if error.why != "exists":
                raise
            there = [
                each
                for each in (await self.netlink.routes())[0]
                if each.destination == destination and each.metric == metric
            ]
            same = any((each.interface, each.gateway, each.protocol) == (interface, gateway, MANAGED) for each in there)
            if same and source is None:
                return  # with a source it is replaced: what is there does not say whose it has
            going = (*self.plan.remove_routes, *self.plan.leave_routes)
            if not same and any(
                (each.protocol != MANAGED or each.interface != interface) and each not in going for each in there
            ):
                raise
            await self.netlink.add_route(
                destination, interface, gateway=gateway, metric=metric, source=source, replace=True
            )

    async def _finish(self, kind: int, wanted: list[AssignedAddress], outcomes: Mapping[bytes, str]) -> None:
        """Remove what failed; then, if the family has something usable or wants nothing, what goes away."""
        for each in wanted:
            if outcomes[each.address] != USABLE:
                change = self.netlink.delete_address(self.link.index, each.address, each.prefix_length)
                await self.attempt("address", change)
        if wanted and USABLE not in outcomes.values():
            return
        deprecate = self._of(kind, self.plan.deprecate)
        if deprecate:
            begin("what is there kept")
            before.keep(self.state, self.link.name, addresses=deprecate)
            begin("deprecation")
        for stray in deprecate:
            deprecation = self.netlink.set_lifetimes(stray, preferred=0, valid=stray.valid)
            await self.attempt("deprecation of an address", deprecation)
        begin("removal")
        for held in self._of(kind, self.plan.remove_addresses):
            await self.attempt("removal of an address", self._delete(held))
        for route in self.plan.remove_routes:
            destination = route.destination
            if destination.family == kind and not is_link_local(destination.network):
                await self.attempt("removal of a route", self.netlink.delete_route(route))

    def _of(self, kind: int, addresses: tuple[InterfaceAddress, ...]) -> tuple[InterfaceAddress, ...]:
        return tuple(
            each
            for each in addresses
            if each.interface == self.link.index and family(each.address) == kind and not is_link_local(each.address)
        )
