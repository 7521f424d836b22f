"""What the Node Agent does to the kernel: applies an assignment, begins lifetimes anew, strips what is over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Set

import msgspec
import structlog

from dnms.agents.node.machine import Machine
from dnms.domain.drift import drift, is_untidy
from dnms.domain.node_plan import PROTOCOL, NodePlan, plan_node
from dnms.events.configuration import AssignedAddress, Assignment, InterfaceAddress, Policy, Snapshot
from dnms.events.ip import family, format_address
from dnms.events.seen import AppliedItem, DriftItem
from dnms.linux.rivals import Rival
from dnms.wire.messages import MAX_ASSOCIATIONS
from dnms.wire.node_state import USABLE, NodeState
from dnms.wire.registration import encode_snapshot

SMALL = 512  # links, addresses and settings of which a snapshot is small enough in any case
LETS_GO = 10.0  # seconds for another program to let go of the interface, once it was told
STRAGGLERS = 3  # more rounds; one is enough on any link that is not hostile

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
        items = (AppliedItem(address=address, outcome=outcome) for address, outcome in outcomes.items())
        return tuple(items)[:MAX_ASSOCIATIONS]  # time servers come last

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

    async def drift(self, wanted: Assignment, *, draining: bool) -> tuple[DriftItem, ...] | None:
        """What is otherwise than it was applied; None: nothing is, and nothing of ours is left over. KernelError.

        A link that is down has no drift: nothing can be given to it.
        """
        link = await self._machine.link()
        if not (link.up and link.carrier):
            return None
        snapshot = await self.snapshot()
        items = drift(snapshot, link.index, wanted, draining=draining)
        return items if items or is_untidy(snapshot, link.index, wanted) else None

    async def rivals(self, policy: Policy) -> tuple[Rival, ...]:
        """Other programs that manage the interface, though they were told to leave it where the policy says so.
        KernelError.
        """
        found = await self._machine.rivals()
        if policy.rivals != "configure":
            return found
        told = False
        for rival in found:
            told |= await self._machine.leave_alone(rival)
        if told:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LETS_GO):
                    while found := await self._machine.rivals():  # noqa: ASYNC110  # another process
                        await asyncio.sleep(LETS_GO / 20)
        return found

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
