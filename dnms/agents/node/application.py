"""What the Node Agent does to the kernel: applies an assignment, begins lifetimes anew, strips what is over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set

import msgspec
import structlog

from dnms.agents.node.machine import Machine
from dnms.domain.node_plan import PROTOCOL, RA, NodePlan, plan_node
from dnms.domain.node_settings import is_unset
from dnms.events.configuration import AssignedAddress, Assignment, InterfaceAddress, Snapshot
from dnms.events.ip import family, format_address
from dnms.events.seen import AppliedItem
from dnms.wire.node_state import USABLE, NodeState
from dnms.wire.registration import encode_snapshot

SMALL = 512  # links, addresses and settings of which a snapshot is small enough in any case
STRAGGLERS = 3  # more rounds; one is enough on any link that is not hostile
AUTOCONFIGURED = ("slaac", "temporary")

_logger = structlog.get_logger(__name__)


class Application:
    """One interface of this node."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    async def snapshot(self) -> Snapshot:
        """What the node has now, as much of it as can be registered. KernelError."""
        return fitting(await self._machine.snapshot(), self._machine.interface)

    async def apply(
        self, assignment: Assignment, *, elapsed: float, going: Callable[[Snapshot], None] | None = None
    ) -> tuple[AppliedItem, ...]:
        """Make the interface what is assigned; its lifetimes began `elapsed` seconds ago. KernelError.

        What others have set there is deprecated, and `settle` removes it. `going` hears what the node has before
        addresses of it are removed. Where the policy is only to observe, all is made as it was before DNMS came.
        """
        if assignment.policy.mode == "observe":
            await self._machine.give_back()
            return ()
        link = await self._machine.link()
        wanted = remaining(assignment, elapsed)
        outcomes: dict[bytes, str] = {}
        for number in range(1 + STRAGGLERS):
            snapshot = await self.snapshot()
            plan = plan_node(snapshot, link.index, wanted)
            if number and not _has_stragglers(plan, _usable(outcomes)):
                break
            if plan.remove_addresses and going is not None:
                going(snapshot)
            # The first time it is all that is wanted; then what an advertisement brought after the snapshot and before
            # autoconfiguration was off.
            outcomes |= await self._machine.change(plan)
            _log_removed(plan.remove_addresses)
        return tuple(AppliedItem(address=address, outcome=outcome) for address, outcome in outcomes.items())

    async def settle(
        self, assignment: Assignment, usable: Set[int], *, going: Callable[[Snapshot], None] | None = None
    ) -> bool:
        """Remove what others have set, of the families of which something `usable` is there. KernelError.

        Whether some of it stays for now, since sockets use it.
        """
        if assignment.policy.mode == "observe":
            return False
        snapshot = await self.snapshot()
        plan = plan_node(snapshot, (await self._machine.link()).index, assignment)
        left = msgspec.structs.replace(
            plan,
            leave_addresses=tuple(each for each in plan.leave_addresses if family(each.address) in usable),
            leave_routes=tuple(each for each in plan.leave_routes if each.destination.family in usable),
        )
        if not left.leave_addresses and not left.leave_routes:
            return False
        if left.leave_addresses and going is not None:
            going(snapshot)
        return await self._machine.settle(left, drain=assignment.policy.drain)

    async def lacks(self, wanted: Assignment) -> bool:
        """Whether the kernel has lost something of what was applied, or autoconfiguration is back. KernelError.

        A link that is down lacks nothing: nothing can be given to it.
        """
        link = await self._machine.link()
        return link.up and link.carrier and is_lacking(await self.snapshot(), link.index, wanted)

    async def strip(self, *, keep: Set[bytes]) -> None:
        """Remove our addresses but those to keep, and our routes where none is kept: they are over. KernelError.

        What people set stays.
        """
        link = await self._machine.link()
        for held in await self._machine.addresses(link.index):
            if held.origin == "managed" and held.address not in keep:
                await self._machine.delete_address(held)
        if keep:
            return
        for route in await self._machine.routes():
            if route.interface == link.index and route.protocol == PROTOCOL:
                await self._machine.delete_route(route)


def _usable(outcomes: Mapping[bytes, str]) -> frozenset[int]:
    return frozenset(family(address) for address, outcome in outcomes.items() if outcome == USABLE)


def _has_stragglers(plan: NodePlan, usable: Set[int]) -> bool:
    """Whether something came meanwhile that has to go, of a family of which something can be used."""
    come = (*plan.deprecate, *plan.remove_addresses)
    return any(family(each.address) in usable for each in come)


def _log_removed(addresses: Iterable[InterfaceAddress]) -> None:
    for each in addresses:
        _logger.info("address removed", address=format_address(each.address), origin=each.origin)


def fitting(snapshot: Snapshot, interface: str) -> Snapshot:
    """The snapshot without what makes it too large to be registered: a host of containers has thousands of links.

    What is of other links goes first, and the newest of them. Routes are left out when it is encoded, and counted.
    """
    if len(snapshot.links) + len(snapshot.addresses) + len(snapshot.sysctls) <= SMALL:
        return snapshot
    own = next((link.index for link in snapshot.links if link.name == interface), 0)
    whole = snapshot
    while not is_registrable(snapshot):
        others = [link for link in snapshot.links if link.index != own]
        stay = {own, *(link.index for link in others[: len(others) // 2])}
        snapshot = msgspec.structs.replace(
            snapshot,
            links=tuple(link for link in snapshot.links if link.index in stay),
            addresses=tuple(each for each in snapshot.addresses if each.interface in stay)
            if others
            else snapshot.addresses[: len(snapshot.addresses) // 2],
            sysctls={},
        )
    if snapshot is not whole:
        _logger.warning(
            "too much to be registered",
            links_left_out=len(whole.links) - len(snapshot.links),
            addresses_left_out=len(whole.addresses) - len(snapshot.addresses),
        )
    return snapshot


def is_lacking(snapshot: Snapshot, link_index: int, wanted: Assignment) -> bool:
    """Whether the link has anything less than is wanted, or what autoconfiguration made of a Router Advertisement.

    What people add by hand stays until the next assignment.
    """
    plan = plan_node(snapshot, link_index, wanted)
    addresses = {(each.address, each.prefix_length) for each in snapshot.addresses if each.interface == link_index}
    routes = {
        (each.destination, each.interface, each.gateway, each.metric)
        for each in snapshot.routes
        if each.protocol == PROTOCOL
    }
    return (
        any((each.address, each.prefix_length) not in addresses for each in plan.add_addresses)
        or any((each.destination, each.interface, each.gateway, each.metric) not in routes for each in plan.add_routes)
        or plan.resolver is not None
        or plan.mtu is not None
        or any(each.origin in AUTOCONFIGURED for each in plan.deprecate)
        or any(each.protocol == RA for each in plan.leave_routes)
        or bool(plan.remove_routes)  # of ours, and one of a router's advertisement has taken its place
        or is_unset(plan.settings, snapshot.sysctls)
    )


def is_registrable(snapshot: Snapshot) -> bool:
    """Whether it can be registered, if need be without its routes."""
    try:
        encode_snapshot(snapshot)
    except ValueError:
        return False
    return True


def held_now(state: NodeState, now: float) -> Assignment | None:
    """What the node should have: the usable addresses of its assignment, with what is left of their lifetimes."""
    if state.assignment is None or not state.held:
        return None
    addresses = []
    for address in state.assignment.addresses:
        held = state.held.get(address.address)
        if held is not None and held.until > now:
            addresses.append(_ending(address, held.until - now))
    return msgspec.structs.replace(state.assignment, addresses=tuple(addresses)) if addresses else None


def _ending(address: AssignedAddress, left: float) -> AssignedAddress:
    """The address with so many seconds left, and as much less preferred than in its assignment."""
    if address.permanent:
        return address
    valid = max(1, int(min(left, address.valid)))
    return msgspec.structs.replace(address, valid=valid, preferred=max(0, address.preferred - (address.valid - valid)))


def remaining(assignment: Assignment, elapsed: float) -> Assignment:
    """The assignment with what is left of its lifetimes after so many seconds, without what is over."""
    gone = int(elapsed)
    left: list[AssignedAddress] = []
    for address in assignment.addresses:
        if address.permanent:
            left.append(address)
        elif address.valid > gone:
            preferred, valid = max(0, address.preferred - gone), address.valid - gone
            left.append(msgspec.structs.replace(address, preferred=preferred, valid=valid))
    return msgspec.structs.replace(assignment, addresses=tuple(left))
