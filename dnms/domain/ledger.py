"""A subnet's ledger: who holds which address, as a fold of subject `ledger.<subnet>`, and the decisions on it.

A decision reads the ledger's fold and the plan that the ledger has adopted, and nothing else. Memory follows what was
handed out, never the size of a pool.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, MutableMapping
from itertools import chain, islice
from typing import Final

import msgspec

from dnms.domain.aggregate import Refused
from dnms.domain.document import LEVEL
from dnms.domain.remembered import Remembered
from dnms.domain.reserved import fixed_addresses, is_reserved, prefix_in
from dnms.domain.reusable import MAX_INDEXED, Reusable
from dnms.domain.strategies import STRATEGIES, is_whole_64
from dnms.events.address import (
    AddressAllocated,
    AddressDeclined,
    AddressExpired,
    AddressReleased,
    AddressRenewed,
    AddressWithdrawn,
    HashMoved,
)
from dnms.events.ip import Prefix, family
from dnms.events.plan import AdoptedPlan, PlanAdopted, Pool, Subnet
from dnms.events.recorded import Event, Request
from dnms.events.requests import (
    AdoptPlan,
    AllocateAddress,
    DeclineAddress,
    ExpireAddresses,
    ReleaseAddress,
    RenewAddress,
)
from dnms.kit.clock import MICROSECONDS
from dnms.kit.overlay import Overlay

TRIES: Final = 64
"""Candidates of a strategy before the index of the range is asked."""

MAX_DECLINES: Final = 8
"""Addresses that one client may have in quarantine, so that a broken one cannot eat the pool."""

MAX_WITHDRAWN: Final = 4_000
"""Leases that one adoption ends; who adopts asks again until none is left."""

SLACK: Final = 1_024
"""Entries of the heap of horizons beyond two a lease, so that a small ledger does not sort all the time."""

HORIZON: Final = {4: 1, 6: 4}
"""For how many valid lifetimes the log promises an address by family: a renewal that ends before needs no event."""


class Lease(msgspec.Struct, frozen=True):
    """One address held by one client."""

    address: bytes
    client: bytes
    iaid: int
    pool: str
    group: int
    valid_until: int
    horizon: int


Binding = tuple[bytes, int, int]
"""Client id, IAID and family: what holds at most one address."""


class Ledger:
    """The leases of one subnet. Implements `aggregate.State`. `secret` keys the hash strategy."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.plan = AdoptedPlan(position=0, level=0)
        self._fixed: frozenset[bytes] = frozenset()  # the subnet's addresses that the plan gives to nobody
        self.leases: MutableMapping[bytes, Lease] = {}  # by address
        self.bindings: MutableMapping[Binding, bytes] = {}  # to the address
        self.remembered = Remembered()
        self._ranges: dict[tuple[bytes, bytes], Reusable] = {}  # made when first needed
        self._ended: list[bytes] = []  # in this draft, whose ranges are another's
        self._horizons: list[tuple[int, bytes]] = []  # a heap; entries that no longer hold are dropped when met

    @property
    def plan_position(self) -> int:
        """Position of the adopted plan."""
        return self.plan.position

    @property
    def quarantine(self) -> MutableMapping[bytes, int]:
        """Declined addresses, and until when nobody gets them."""
        return self.remembered.quarantine

    def draft(self) -> Ledger:
        """A copy that may be thrown away; it reads this one's ranges and does not write them."""
        draft = Ledger(self._secret)
        draft.plan, draft._fixed = self.plan, self._fixed
        draft.leases, draft.bindings = Overlay(self.leases), Overlay(self.bindings)
        draft.remembered = self.remembered.draft()
        draft._range = self._range  # type: ignore[method-assign]  # made of what is durable, by whoever needs it first
        return draft

    def lease(self, client: bytes, iaid: int, kind: int) -> Lease | None:
        """What the client holds for this interface, of family `kind` (4 or 6)."""
        address = self.bindings.get((client, iaid, kind))
        return None if address is None else self.leases[address]

    def due(self, now: int, limit: int) -> tuple[bytes, ...]:
        """Up to `limit` addresses whose horizon has passed at `now`, for `ExpireAddresses`."""
        found: list[tuple[int, bytes]] = []
        while self._horizons and self._horizons[0][0] <= now and len(found) < limit:
            entry = heapq.heappop(self._horizons)
            lease = self.leases.get(entry[1])
            if lease is not None and lease.horizon == entry[0] and entry not in found[-1:]:
                found.append(entry)
        for entry in found:
            heapq.heappush(self._horizons, entry)  # until the log has said that they expired
        return tuple(address for _, address in found)

    def pool_of(self, address: bytes) -> Pool | None:
        """The adopted plan's pool that the address is given from; None if the plan has no place for it."""
        if address in self._fixed:
            return None
        return next((pool for pool in self.plan.pools if pool.first <= address <= pool.last), None)

    # -- decide ------------------------------------------------------------------------------------------------------

    def decide(self, request: Request, *, at: int, entropy: bytes) -> tuple[Event, ...]:
        """The outcome of one request at the instant `at`.

        Refused: `no-subnet`, `no-pool`, `unknown-group`, `exhausted`, `no-binding`, `not-in-plan`, `too-many-declines`,
        `level`, `not-for-ledger`.
        """
        if self.plan.level > LEVEL and not isinstance(request, AdoptPlan):
            raise Refused("level", f"the site is at level {self.plan.level}; this release knows {LEVEL}: upgrade it")
        match request:
            case AdoptPlan():
                return tuple(self._adopt(request.plan))
            case AllocateAddress():
                return self._allocate(request, at)
            case RenewAddress():
                lease = self._held(request)
                return self._renew(lease, self._pool_in_plan(lease), at)
            case ReleaseAddress():
                lease = self._held(request)
                return (AddressReleased(address=lease.address, client=lease.client, iaid=lease.iaid),)
            case DeclineAddress():
                return self._decline(self._held(request), at)
            case ExpireAddresses():
                return tuple(self._expire(request.addresses, at))
        raise Refused("not-for-ledger", f"a ledger does not decide {request.NAME}")

    def _held(self, request: RenewAddress | ReleaseAddress | DeclineAddress) -> Lease:
        lease = self.leases.get(request.address)
        if lease is None or (lease.client, lease.iaid) != (request.client, request.iaid):
            raise Refused("no-binding", "the client does not hold this address")
        return lease

    def _pool_in_plan(self, lease: Lease) -> Pool:
        pool = self.pool_of(lease.address)
        if pool is None:
            raise Refused("not-in-plan", "no pool of the plan has this address any more")
        return pool

    def _adopt(self, plan: AdoptedPlan) -> Iterator[Event]:
        if plan.position < self.plan.position:
            return  # this ledger has a newer one already
        if plan.level > LEVEL:
            raise Refused("level", f"the site is at level {plan.level}; this release knows {LEVEL}: upgrade it")
        if plan.position > self.plan.position:
            yield PlanAdopted(plan=plan)
        ranges = [(pool.first, pool.last) for pool in plan.pools]
        fixed = fixed_addresses(plan.subnet)
        contradicted = (
            lease
            for lease in self.leases.values()
            if lease.address in fixed or not any(first <= lease.address <= last for first, last in ranges)
        )
        yield from map(_withdrawn, islice(contradicted, MAX_WITHDRAWN))

    def _allocate(self, request: AllocateAddress, at: int) -> tuple[Event, ...]:
        subnet = self.plan.subnet
        if subnet is None:
            raise Refused("no-subnet", "the plan has no such subnet")
        held = self.lease(request.client, request.iaid, request.family)
        of_held = None if held is None else self.pool_of(held.address)
        if held is not None and of_held is not None and not _moves(held, of_held, request.group):
            return self._renew(held, of_held, at)
        if request.group and request.group not in self.plan.groups.values():
            raise Refused("unknown-group", f"the plan has no group with number {request.group:#06x}")
        pools = [pool for pool in self.plan.pools if family(pool.first) == request.family]
        if not pools:
            raise Refused("no-pool", f"the subnet has no pool for IPv{request.family}")
        for pool in pools:
            prefix = prefix_in(subnet, pool.first)
            if prefix is None:
                continue
            found = self._candidate(request, pool, prefix, subnet, at)
            if found is None:
                continue
            address, counter = found
            valid_until = at + pool.valid * MICROSECONDS
            allocated = AddressAllocated(
                address=address,
                client=request.client,
                iaid=request.iaid,
                pool=pool.name,
                group=request.group,
                counter=counter,
                valid_until=valid_until,
                horizon=at + HORIZON[request.family] * pool.valid * MICROSECONDS,
            )
            left = () if held is None else (_withdrawn(held),)
            if counter <= self.remembered.counter((request.client, request.iaid, prefix)):
                return (*left, allocated)
            moved = HashMoved(client=request.client, iaid=request.iaid, prefix=prefix, counter=counter)
            return (*left, moved, allocated)
        raise Refused("exhausted", f"every address of the subnet's pools for IPv{request.family} is in use")

    def _candidate(
        self, request: AllocateAddress, pool: Pool, prefix: Prefix, subnet: Subnet, at: int
    ) -> tuple[bytes, int] | None:
        """A free address of the pool, and which candidate it is; from the free index it is the client's present one."""
        strategy = STRATEGIES[pool.strategy]
        begin = self.remembered.counter((request.client, request.iaid, prefix))
        number = 0
        for n in range(begin, begin + TRIES):
            number = strategy(self._secret, pool, request.client, request.iaid, group=request.group, n=n)
            address = number.to_bytes(16)
            # IPv6 addresses are used once: not after another client, while anything else is free.
            last = self.remembered.former[6].get(address, request.client)
            if last == request.client and self._is_free(address, request.client, subnet, at):
                return address, n
        reusable = self._range(pool)
        if reusable is None:
            return None
        for address in chain(
            reusable.never_given(number), reusable.longest_free(), self._ended, self.remembered.over(at)
        ):
            # Taken in this draft, reserved, in quarantine: of these the range does not know.
            if pool.first <= address <= pool.last and self._is_free(address, request.client, subnet, at):
                return address, begin
        return None

    def _is_free(self, address: bytes, client: bytes, subnet: Subnet, at: int) -> bool:
        return not (
            address in self.leases or self.remembered.withholds(address, client, at=at) or is_reserved(address, subnet)
        )

    def _renew(self, lease: Lease, pool: Pool, at: int) -> tuple[Event, ...]:
        valid_until = at + pool.valid * MICROSECONDS
        if valid_until <= lease.horizon:
            return ()
        horizon = at + HORIZON[family(lease.address)] * pool.valid * MICROSECONDS
        return (
            AddressRenewed(
                address=lease.address,
                client=lease.client,
                iaid=lease.iaid,
                valid_until=valid_until,
                horizon=horizon,
            ),
        )

    def _decline(self, lease: Lease, at: int) -> tuple[Event, ...]:
        if self.remembered.declines(lease.client, at=at) >= MAX_DECLINES:
            raise Refused("too-many-declines", f"the client has declined {MAX_DECLINES} addresses already")
        pool = self.pool_of(lease.address)
        quarantine = pool.quarantine if pool else 0
        declined = AddressDeclined(
            address=lease.address,
            client=lease.client,
            iaid=lease.iaid,
            quarantined_until=at + quarantine * MICROSECONDS,
        )
        prefix = prefix_in(self.plan.subnet, lease.address) if self.plan.subnet else None
        if prefix is None:
            return (declined,)
        counter = self.remembered.counter((lease.client, lease.iaid, prefix)) + 1
        return declined, HashMoved(client=lease.client, iaid=lease.iaid, prefix=prefix, counter=counter)

    def _expire(self, addresses: tuple[bytes, ...], at: int) -> Iterator[Event]:
        for address in dict.fromkeys(addresses):
            lease = self.leases.get(address)
            if lease is not None and lease.horizon <= at:
                yield AddressExpired(address=address, client=lease.client, iaid=lease.iaid)

    # -- evolve ------------------------------------------------------------------------------------------------------

    def evolve(self, event: Event, *, at: int, position: int) -> None:
        """Take in one event."""
        durable = position > 0
        match event:
            case AddressAllocated():
                self._hold(event)
                self._note_horizon(event, durable=durable)
            case AddressRenewed():
                old = self.leases[event.address]
                self.leases[event.address] = msgspec.structs.replace(
                    old, valid_until=event.valid_until, horizon=event.horizon
                )
                self._note_horizon(event, durable=durable)
            case AddressDeclined():
                lease = self._end(event.address)
                self.remembered.decline(lease.address, lease.client, event.quarantined_until, durable=durable)
            case AddressWithdrawn():
                lease = self._end(event.address)
                self.remembered.withdraw(lease.address, lease.client, lease.horizon, durable=durable)
            case AddressReleased() | AddressExpired():
                self._free(self._end(event.address).address, durable=durable)
            case HashMoved():
                self.remembered.move((event.client, event.iaid, event.prefix), event.counter)
            case PlanAdopted():
                self.plan, self._fixed = event.plan, fixed_addresses(event.plan.subnet)
                self._ranges.clear()  # they may have changed; made anew when needed
        if durable:
            self._forget(at)

    def _hold(self, event: AddressAllocated) -> None:
        address = event.address
        self.leases[address] = Lease(
            address=address,
            client=event.client,
            iaid=event.iaid,
            pool=event.pool,
            group=event.group,
            valid_until=event.valid_until,
            horizon=event.horizon,
        )
        self.bindings[event.client, event.iaid, family(address)] = address
        self.remembered.hold(address)
        for reusable in self._ranges.values():
            reusable.hold(address)

    def _end(self, address: bytes) -> Lease:
        lease = self.leases.pop(address)
        del self.bindings[lease.client, lease.iaid, family(address)]
        self.remembered.end(address, lease.client)
        return lease

    def _free(self, address: bytes, *, durable: bool) -> None:
        if not durable:
            self._ended.append(address)
        for reusable in self._ranges.values():
            reusable.end(address)

    def _forget(self, at: int) -> None:
        """Forget what is over, and what is too much, as every agent does at this event."""
        forgotten = self.remembered.forget(at)
        for address in forgotten.free:
            self._free(address, durable=True)
        for address in forgotten.as_new:
            for reusable in self._ranges.values():
                reusable.forget(address)

    def _note_horizon(self, event: AddressAllocated | AddressRenewed, *, durable: bool) -> None:
        if not durable:
            return
        heapq.heappush(self._horizons, (event.horizon, event.address))
        if len(self._horizons) > 2 * len(self.leases) + SLACK:
            # Who renews or comes and goes all the time leaves entries until their horizons.
            self._horizons = [(lease.horizon, lease.address) for lease in self.leases.values()]
            heapq.heapify(self._horizons)

    def _range(self, pool: Pool) -> Reusable | None:
        """What is free in a pool's range by what is durable; None if the range is too large to keep that."""
        if int.from_bytes(pool.last) - int.from_bytes(pool.first) >= MAX_INDEXED:
            return None
        key = (pool.first, pool.last)
        if key not in self._ranges:
            kind = family(pool.first)
            self._ranges[key] = Reusable(
                pool.first,
                pool.last,
                held=chain(self.leases, self.remembered.former[kind]),
                former=self.remembered.free(kind),
            )
        return self._ranges[key]


def _moves(held: Lease, pool: Pool, group: int) -> bool:
    """Whether the holder has to have another address: where the address says the group, it is in another one now."""
    return held.group != group and is_whole_64(pool)


def _withdrawn(lease: Lease) -> AddressWithdrawn:
    return AddressWithdrawn(address=lease.address, client=lease.client, iaid=lease.iaid)
