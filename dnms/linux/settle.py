"""The end of a take-over: what others have set goes, once the change is proven and as soon as no socket uses it."""

from __future__ import annotations

from pathlib import Path

import structlog

from dnms.domain.node_plan import DEFAULT4, DEFAULT6, NodePlan
from dnms.events.configuration import InterfaceAddress, Route
from dnms.events.ip import Prefix, family, format_address, is_link_local
from dnms.linux import before, sockets
from dnms.linux.apply import begin
from dnms.linux.errors import KernelError
from dnms.linux.netlink import Netlink

STEPS = ("what is left kept", "deadlines", "removal of addresses", "removal of routes")

log = structlog.get_logger(__name__)


async def settle(netlink: Netlink, plan: NodePlan, *, interface: str, state: Path, drain: int) -> bool:
    """Remove what the plan leaves. Whether some of it stays for now, since sockets use it. KernelError.

    An address that is used has `drain` seconds from the first time on. They are its lifetime in the kernel, which
    counts them with or without an agent.
    """
    link = await netlink.link(interface)
    addresses = tuple(
        each for each in plan.leave_addresses if each.interface == link.index and not is_link_local(each.address)
    )
    routes = tuple(
        each
        for each in plan.leave_routes
        if each.interface == link.index and not is_link_local(each.destination.network)
    )
    if not addresses and not routes:
        return False
    begin("what is left kept")
    before.keep(state, interface, addresses=addresses, routes=routes)
    used = _used(addresses) if drain else frozenset()
    begin("deadlines")
    for each in addresses:
        if each.address in used and (each.preferred != 0 or each.valid is None or each.valid > drain):
            log.info("address left to its sockets", address=format_address(each.address), seconds=drain)
            await _attempt(netlink, each, interface, valid=min(drain, each.valid or drain))
    begin("removal of addresses")
    for each in addresses:
        if each.address not in used:
            log.info("address removed", address=format_address(each.address), origin=each.origin)
            await _attempt(netlink, each, interface, valid=0)
    begin("removal of routes")
    on_link = {route.destination for route in plan.add_routes if route.gateway is None}
    for route in routes:
        if not _is_needed(route, used, on_link):
            try:
                await netlink.delete_route(route)
            except KernelError as error:
                log.warning("not applied", what="removal of a route", interface=interface, reason=str(error))
    return bool(used)


def _used(addresses: tuple[InterfaceAddress, ...]) -> frozenset[bytes]:
    """Those that sockets use; all, if that cannot be known."""
    mine = frozenset(each.address for each in addresses)
    try:
        used = mine & sockets.connected_from() if mine else mine
        # Temporary addresses go with the one that they came from (RFC 8981).
        of_used = {each.address[:8] for each in addresses if each.address in used and each.origin == "temporary"}
        return used.union(each.address for each in addresses if each.origin == "slaac" and each.address[:8] in of_used)
    except KernelError as error:
        log.warning("addresses stay until the drain time is over", reason=str(error))
        return mine


def _is_needed(route: Route, used: frozenset[bytes], on_link: set[Prefix]) -> bool:
    """Whether an address that stays for now has its neighbours by this route, and by none of ours."""
    destination = route.destination
    if destination in (DEFAULT4, DEFAULT6) or destination in on_link:
        return False
    return any(address in destination for address in used if family(address) == destination.family)


async def _attempt(netlink: Netlink, held: InterfaceAddress, interface: str, *, valid: int) -> None:
    """Give it so many seconds; 0: none."""
    try:
        if valid:
            await netlink.set_lifetimes(held, preferred=0, valid=valid)
        else:
            await netlink.delete_address(held.interface, held.address, held.prefix_length)
    except KernelError as error:
        log.warning("not applied", what="end of an address", interface=interface, reason=str(error))
