"""A subnet's ledger: who holds which address, as a fold of subject `ledger.<subnet>`, and the decisions on it.

A decision reads the ledger's fold and the plan that the ledger has adopted, and nothing else. Memory follows what was
handed out, never the size of a pool.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, MutableMapping
from typing import Final

import msgspec

from dnms.domain.aggregate import Refused
from dnms.domain.document import LEVEL
from dnms.domain.free_index import FreeIndex
from dnms.domain.reserved import is_reserved, prefix_in
from dnms.domain.strategies import STRATEGIES
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
"""Candidates of a strategy before the free index is asked."""

MAX_DECLINES: Final = 8
"""Addresses that one client may have in quarantine, so that a broken one cannot eat the pool."""

MAX_FORMER: Final = 65_536
"""Released addresses that are remembered, the newest ones: for IPv6 so that another client does not get them soon, for
IPv4 so that the longest free one is reused first."""

MAX_WITHDRAWN: Final = 4_000
"""Leases that one adoption ends; who adopts asks again until none is left."""

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
        self.leases: MutableMapping[bytes, Lease] = {}  # by address
        self.bindings: MutableMapping[Binding, bytes] = {}  # to the address
        self.quarantine: MutableMapping[bytes, int] = {}  # address, until when
        self._counters: MutableMapping[tuple[bytes, int, Prefix], int] = {}
        self._declines: MutableMapping[bytes, tuple[int, ...]] = {}  # client, until when each
        self._former: dict[int, MutableMapping[bytes, bytes]] = {4: {}, 6: {}}  # address, last client; oldest first
        self._indexes: dict[tuple[bytes, bytes], FreeIndex] = {}  # by range; made when first needed
        self._horizons: list[tuple[int, bytes]] = []  # a heap; entries that no longer hold are dropped when met

    @property
    def plan_position(self) -> int:
        """Position of the adopted plan."""
        return self.plan.position

    def draft(self) -> Ledger:
        """A copy that may be thrown away; it reads this one's indexes and does not write them."""
        draft = Ledger(self._secret)
        draft.plan = self.plan
        draft.leases, draft.bindings = Overlay(self.leases), Overlay(self.bindings)
        draft.quarantine, draft._counters = Overlay(self.quarantine), Overlay(self._counters)
        draft._declines = Overlay(self._declines)
        draft._former = {kind: Overlay(former) for kind, former in self._former.items()}
        draft._index = self._index  # type: ignore[method-assign]  # one index a range, made by whoever needs it first
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

    def next_horizon(self) -> int | None:
        """When the next lease may expire, or somewhat before; None if nothing is held."""
        return self._horizons[0][0] if self._horizons else None

    def pool_of(self, address: bytes) -> Pool | None:
        """The adopted plan's pool that the address lies in."""
        return next((pool for pool in self.plan.pools if pool.first <= address <= pool.last), None)

    # -- decide ------------------------------------------------------------------------------------------------------

    def decide(self, request: Request, *, at: int, entropy: bytes) -> tuple[Event, ...]:
        """The outcome of one request at the instant `at`.

        Refused: `no-subnet`, `no-pool`, `unknown-group`, `exhausted`, `no-binding`, `not-in-plan`, `too-many-declines`,
        `level`, `not-for-ledger`.
        """
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
        if plan.position > self.plan.position:
            if plan.level > LEVEL:
                raise Refused("level", f"the site is at level {plan.level}; this release knows {LEVEL}: upgrade it")
            yield PlanAdopted(plan=plan)
        ranges = [(pool.first, pool.last) for pool in plan.pools]
        withdrawn = 0
        for lease in self.leases.values():
            if withdrawn == MAX_WITHDRAWN:
                return
            if not any(first <= lease.address <= last for first, last in ranges):
                yield AddressWithdrawn(address=lease.address, client=lease.client, iaid=lease.iaid)
                withdrawn += 1

    def _allocate(self, request: AllocateAddress, at: int) -> tuple[Event, ...]:
        subnet = self.plan.subnet
        if subnet is None:
            raise Refused("no-subnet", "the plan has no such subnet")
        held = self.lease(request.client, request.iaid, request.family)
        if held is not None and (pool := self.pool_of(held.address)) is not None:
            return self._renew(held, pool, at)
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
            if counter <= self._counters.get((request.client, request.iaid, prefix), 0):
                return (*left, allocated)
            moved = HashMoved(client=request.client, iaid=request.iaid, prefix=prefix, counter=counter)
            return (*left, moved, allocated)
        raise Refused("exhausted", f"every address of the subnet's pools for IPv{request.family} is in use")

    def _candidate(
        self, request: AllocateAddress, pool: Pool, prefix: Prefix, subnet: Subnet, at: int
    ) -> tuple[bytes, int] | None:
        """A free address of the pool, and which candidate it is; from the free index it is the client's present one."""
        strategy = STRATEGIES[pool.strategy]
        begin = self._counters.get((request.client, request.iaid, prefix), 0)
        first = int.from_bytes(pool.first)
        start = first
        for n in range(begin, begin + TRIES):
            number = strategy(self._secret, pool, request.client, request.iaid, group=request.group, n=n)
            address = number.to_bytes(16)
            if self._is_free(address, request.client, subnet, at):
                return address, n
            start = number
        if request.family == 6:
            return None  # 64 collisions in 2^48 addresses are a broken strategy and not a full pool
        index = self._index(pool)
        offset = index.find(start - first)
        seen_first = offset
        while offset is not None:
            address = (first + offset).to_bytes(16)
            if self._is_free(address, request.client, subnet, at):
                return address, begin
            # Taken in a draft that the index does not know, or reserved, or in quarantine: go on behind it.
            offset = index.find((offset + 1) % (int.from_bytes(pool.last) - first + 1))
            if offset == seen_first:
                break
        for address in self._former[4]:  # the longest free first
            if pool.first <= address <= pool.last and self._is_free(address, request.client, subnet, at):
                return address, begin
        return None

    def _is_free(self, address: bytes, client: bytes, subnet: Subnet, at: int) -> bool:
        if address in self.leases or self.quarantine.get(address, 0) > at or is_reserved(address, subnet):
            return False
        # IPv6 addresses are used once: not after another client.
        return family(address) == 4 or self._former[6].get(address, client) == client

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
        if sum(until > at for until in self._declines.get(lease.client, ())) >= MAX_DECLINES:
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
        counter = self._counters.get((lease.client, lease.iaid, prefix), 0) + 1
        return declined, HashMoved(client=lease.client, iaid=lease.iaid, prefix=prefix, counter=counter)

    def _expire(self, addresses: tuple[bytes, ...], at: int) -> Iterator[Event]:
        for address in dict.fromkeys(addresses):
            lease = self.leases.get(address)
            if lease is not None and lease.horizon <= at:
                yield AddressExpired(address=address, client=lease.client, iaid=lease.iaid)

    # -- evolve ------------------------------------------------------------------------------------------------------

    def evolve(self, event: Event, *, at: int, position: int) -> None:
        """Take in one event."""
        match event:
            case AddressAllocated():
                self._hold(event, position)
            case AddressRenewed():
                old = self.leases[event.address]
                self.leases[event.address] = msgspec.structs.replace(
                    old, valid_until=event.valid_until, horizon=event.horizon
                )
                if position:
                    heapq.heappush(self._horizons, (event.horizon, event.address))
            case AddressDeclined():
                self._end(event.address, position)
                self.quarantine[event.address] = event.quarantined_until
                active = [until for until in self._declines.get(event.client, ()) if until > at]
                self._declines[event.client] = (*active, event.quarantined_until)
            case AddressReleased() | AddressExpired() | AddressWithdrawn():
                self._end(event.address, position)
            case HashMoved():
                self._counters[event.client, event.iaid, event.prefix] = event.counter
            case PlanAdopted():
                self.plan = event.plan
                if position:
                    self._indexes.clear()  # ranges may have changed; made anew when needed

    def _hold(self, event: AddressAllocated, position: int) -> None:
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
        kind = family(address)
        self.bindings[event.client, event.iaid, kind] = address
        self._former[kind].pop(address, None)
        self.quarantine.pop(address, None)
        if position:
            heapq.heappush(self._horizons, (event.horizon, address))
            for (first, last), index in self._indexes.items():
                if first <= address <= last:
                    index.take(int.from_bytes(address) - int.from_bytes(first))

    def _end(self, address: bytes, position: int) -> None:
        lease = self.leases.pop(address)
        kind = family(address)
        del self.bindings[lease.client, lease.iaid, kind]
        former = self._former[kind]
        former[address] = lease.client
        if position and len(former) > MAX_FORMER:
            oldest = next(iter(former))
            del former[oldest]
            for (first, last), index in self._indexes.items():
                if first <= oldest <= last:
                    index.free(int.from_bytes(oldest) - int.from_bytes(first))

    def _index(self, pool: Pool) -> FreeIndex:
        """The never used addresses of an IPv4 pool: all but the held ones and the former ones that are remembered."""
        key = (pool.first, pool.last)
        if key not in self._indexes:
            first = int.from_bytes(pool.first)
            index = self._indexes[key] = FreeIndex(int.from_bytes(pool.last) - first + 1)
            for addresses in (self.leases, self._former[4]):
                for address in addresses:
                    if pool.first <= address <= pool.last:
                        index.take(int.from_bytes(address) - first)
        return self._indexes[key]


def _withdrawn(lease: Lease) -> AddressWithdrawn:
    return AddressWithdrawn(address=lease.address, client=lease.client, iaid=lease.iaid)
