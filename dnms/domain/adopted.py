"""What a ledger makes of the plan that it has adopted, once a plan: every allocation asks for it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dnms.domain import dhcp_table
from dnms.domain.identity import ANY_INTERFACE
from dnms.domain.policy import narrowest
from dnms.domain.ranges import Ranges, ranges_of
from dnms.domain.reserved import fixed_addresses, prefix_in
from dnms.domain.strategies import COUNTING, STRATEGIES
from dnms.events.ip import Prefix, family
from dnms.events.plan import AdoptedPlan, Pool, Stateless, Subnet


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where an address lies: its pool, and the prefix that is on the link."""

    pool: Pool
    prefix: Prefix


class Adopted:
    """One plan of one subnet. It never changes; drafts share it."""

    def __init__(self, plan: AdoptedPlan, leaving: tuple[Place, ...] = ()) -> None:
        """`leaving`: of former plans, what somebody has an address of yet that nobody is given any more."""
        self.plan = plan
        self.leaving = leaving
        self.has_special = any(pool.prefix_per_host or pool.strategy == COUNTING for pool in plan.pools)
        """Whether more has to be kept of what some pool gives than who has it."""
        self.draws = any(pool.strategy in STRATEGIES and STRATEGIES[pool.strategy].random for pool in plan.pools)
        """Whether some pool picks at random."""
        self.reserved: dict[bytes, tuple[bytes, ...]] = {}
        """By client, what is reserved for it on any interface."""
        for each in plan.reservations:
            if each.interface == ANY_INTERFACE:
                self.reserved[each.client] = (*self.reserved.get(each.client, ()), each.address)
        self._fixed = fixed_addresses(plan.subnet)  # that the plan gives to nobody
        self._ranges: dict[tuple[str, int], Ranges] = {}  # of pools and groups, made when first needed
        self._names = {number: name for name, number in plan.groups.items()}
        self._told: dict[int, Stateless] = {}  # by the number of a group, made when first needed
        self._pools: dict[int, tuple[tuple[Pool, Prefix], ...]] = {
            kind: tuple(
                (pool, prefix)
                for pool in plan.pools
                if family(pool.first) == kind
                and plan.subnet is not None
                and (prefix := prefix_in(plan.subnet, pool.first)) is not None
            )
            for kind in (4, 6)
        }

    def pools(self, kind: int) -> tuple[tuple[Pool, Prefix], ...]:
        """The pools of a family (4 or 6), each with the subnet's prefix that it lies in."""
        return self._pools[kind]

    def pool_of(self, address: bytes) -> Pool | None:
        """The pool that the address is given from; None if the plan has no place for it."""
        if address in self._fixed:
            return None
        return next((pool for pool in self.plan.pools if pool.first <= address <= pool.last), None)

    def place_of(self, address: bytes) -> Place | None:
        """Where an address is that somebody has, though it be given to nobody any more; None: on another link."""
        pool = self.pool_of(address)
        prefix = None if pool is None or self.plan.subnet is None else prefix_in(self.plan.subnet, address)
        if pool is not None and prefix is not None:
            return Place(pool, prefix)
        return next((each for each in self.leaving if each.pool.first <= address <= each.pool.last), None)

    def is_on_link(self, address: bytes) -> bool:
        """Whether the link has its prefix, or had it and some of it is left."""
        subnet = self.plan.subnet
        is_planned = subnet is not None and prefix_in(subnet, address) is not None
        return is_planned or any(address in each.prefix for each in self.leaving)

    def stateless(self, group: int) -> Stateless:
        """All that the members of a group are told in this subnet beside their addresses; 0: who is in none."""
        subnet = self.plan.subnet
        if subnet is None:
            return Stateless()
        if group not in self._told:
            name = self._names.get(group, "")
            widened = (subnet.groups.get(name), self.plan.stateless.get(name))
            self._told[group] = _narrowest(subnet, [told for told in widened if told is not None])
        return self._told[group]

    def ranges(self, pool: Pool, group: int) -> Ranges:
        """What the members of a group may have of a pool."""
        key = (pool.name, group)
        if key not in self._ranges:
            self._ranges[key] = ranges_of(pool, self.plan, group)
        return self._ranges[key]


def _narrowest(subnet: Subnet, told: Sequence[Stateless]) -> Stateless:
    """Of each item what the first of `told` says that says something of it, else what the subnet tells everybody."""
    said = {
        name: next((value for each in told if (value := getattr(each, name)) is not None), getattr(subnet, name))
        for name in ("gateways", "routes", "dns", "search", "ntp")
    }
    mtu = next((each.mtu for each in told if each.mtu), subnet.mtu)
    policy = narrowest([*(each.policy for each in told), subnet.policy])
    dhcp = dhcp_table.narrowest([*(each.dhcp for each in told), subnet.downlink.dhcp])
    return Stateless(**said, mtu=mtu, policy=policy, dhcp=dhcp)
