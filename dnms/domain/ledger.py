"""A subnet's ledger: who holds which address, as a fold of subject `ledger.<subnet>`, and the decisions on it.

A decision reads the ledger's fold and the plan that the ledger has adopted, and nothing else. Memory follows what was
handed out, never the size of a pool. Here is the state, and what is decided about one lease; how an address is chosen
stands in `allocating`, who has one kept in `holding`.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, MutableMapping, Set

import msgspec

from dnms.domain import (
    adopting,
    allocating,
    declining,
    delegating,
    gateways,
    holding,
    leaving,
    planned,
    renewing,
    rollouts,
    uplinks,
)
from dnms.domain.adopted import Adopted, Place
from dnms.domain.aggregate import Refused
from dnms.domain.blocks import Blocks, KeptBlocks, block_of
from dnms.domain.delegations import Delegations
from dnms.domain.document import LEVEL
from dnms.domain.drains import Drains, is_over
from dnms.domain.given import Given
from dnms.domain.horizons import Horizons
from dnms.domain.importing import Imported, imported
from dnms.domain.leases import Binding, Lease, Leases, leased, without
from dnms.domain.remembered import NOTHING, Remembered
from dnms.domain.sightings import LinkAsked, LinkHappened, Sightings
from dnms.domain.strategies import COUNTING, ENTROPY
from dnms.events.address import (
    AddressAllocated,
    AddressBlocked,
    AddressDeclined,
    AddressDeprecated,
    AddressExpired,
    AddressHeld,
    AddressReleased,
    AddressRenewed,
    AddressUnheld,
    AddressWithdrawn,
    HashMoved,
    OutageGranted,
)
from dnms.events.gateway import GatewayAppeared, GatewayVanished
from dnms.events.ip import Prefix, family
from dnms.events.plan import AdoptedPlan, PlanAdopted, Pool
from dnms.events.recorded import Event, Request
from dnms.events.requests import (
    AdoptPlan,
    AllocateAddress,
    BlockAddress,
    ClaimReserved,
    DeclineAddress,
    DelegatePrefix,
    ExpireAddresses,
    ExpirePrefixes,
    HoldAddress,
    JoinAddresses,
    MergeOutage,
    MoveAddress,
    ReleaseAddress,
    ReleasePrefix,
    RenewAddress,
    ReportGateway,
    ReportUplink,
    UnholdAddress,
    WithdrawAddress,
)
from dnms.kit.overlay import Overlay, overlaid


class Ledger:
    """The leases of one subnet. Implements `aggregate.State`. `secret` keys the hash strategy."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.adopted = Adopted(AdoptedPlan(position=0, level=0))
        self.table = Leases()
        self.leases: MutableMapping[bytes, Lease] = self.table  # by address
        self.bindings: MutableMapping[Binding, bytes] = self.table.bindings  # to the address, of several to the first
        self.others: MutableMapping[Binding, tuple[bytes, ...]] = {}  # beside the first: secondary, and to be drained
        self.held: MutableMapping[bytes, tuple[bytes, int]] = {}  # by address: client and IAID
        self.holds: MutableMapping[Binding, tuple[bytes, ...]] = {}  # the same, by whom they are kept for
        self.planned: MutableMapping[bytes, tuple[bytes, int]] = {}  # of the held ones what the plan says, and for whom
        self.remembered = Remembered()
        self.blocks, self.kept_blocks = Blocks(), KeptBlocks()
        self.given = Given(self)
        self.horizons, self.drains = Horizons(), Drains()
        self.gateways: gateways.Gateways = {}
        self.rollout: rollouts.RollingOut | None = None
        self.delegations = Delegations()
        self.uplinks: uplinks.Uplinks = {}
        self.lost: tuple[Prefix, ...] = ()  # of what was above, the last
        self.sightings = Sightings()
        self.offered: Container[bytes] = frozenset()  # of a draft: what others are to be given, and nobody else is

    @property
    def plan(self) -> AdoptedPlan:
        """The adopted plan."""
        return self.adopted.plan

    @property
    def plan_position(self) -> int:
        """Position of the adopted plan."""
        return self.plan.position

    @property
    def cut_from(self) -> tuple[Prefix, ...]:
        """What is above and what was, but for what the plan gives by itself."""
        plan = self.plan
        own = [each.prefix for each in plan.delegations if each.prefix is not None]
        own += plan.subnet.prefixes[len(plan.cut) :] if plan.subnet is not None else ()
        return (*self.uplinks, *(each for each in self.lost if not any(map(each.overlaps, own))))

    @property
    def quarantine(self) -> MutableMapping[bytes, int]:
        """Declined and blocked addresses, and until when nobody gets them."""
        return self.remembered.quarantine

    def draft(self) -> Ledger:
        """A copy that may be thrown away; it reads what this one has made of its ranges and does not write it."""
        draft = Ledger(self.secret)
        draft.adopted, draft.gateways, draft.uplinks = self.adopted, self.gateways, self.uplinks
        draft.delegations, draft.lost, draft.sightings = self.delegations.draft(), self.lost, self.sightings.draft()
        draft.rollout = None if self.rollout is None else self.rollout.draft()
        draft.leases, draft.bindings, draft.others = Overlay(self.leases), Overlay(self.bindings), overlaid(self.others)
        draft.held, draft.holds = overlaid(self.held), overlaid(self.holds)
        draft.planned, draft.remembered = overlaid(self.planned), self.remembered.draft()
        draft.blocks, draft.kept_blocks = self.blocks.draft(), self.kept_blocks.draft()
        draft.given = Given(draft, base=self.given)
        return draft

    def lease(self, client: bytes, iaid: int, kind: int) -> Lease | None:
        """What the client holds for this interface, of family `kind` (4 or 6); of several the first."""
        address = self.bindings.get((client, iaid, kind))
        return None if address is None else self.leases[address]

    def leases_of(self, client: bytes, iaid: int, kind: int) -> tuple[Lease, ...]:
        """All that the client holds for this interface, of family `kind`."""
        binding = (client, iaid, kind)
        first = self.bindings.get(binding)
        addresses = (() if first is None else (first,)) + self.others.get(binding, ())
        return tuple(self.leases[address] for address in addresses)

    def due(self, now: int, limit: int, kinds: Set[int] = frozenset({4, 6})) -> tuple[bytes, ...]:
        """Up to `limit` addresses of these families whose horizon has passed at `now`, for `ExpireAddresses`."""
        return self.horizons.due(self.leases, now, limit, kinds)

    def drained(self, now: int, limit: int) -> tuple[bytes, ...]:
        """Up to `limit` addresses that were to be used until now or before, for `ExpireAddresses` too."""
        return self.drains.due(self.leases, now, limit)

    def pool_of(self, address: bytes) -> Pool | None:
        """The adopted plan's pool that the address is given from; None if the plan has no place for it."""
        return self.adopted.pool_of(address)

    def place_of(self, address: bytes) -> Place | None:
        """Where an address is that somebody has, in the adopted plan or in one before it; None: on another link."""
        return self.adopted.place_of(address)

    # -- decide ------------------------------------------------------------------------------------------------------

    def entropy(self, request: Request) -> int:
        """How many random bytes a decision on this looks at."""
        return ENTROPY if request.ENTROPY and self.adopted.draws else 0

    def decide(self, request: Request, *, at: int, entropy: bytes) -> tuple[Event, ...]:  # noqa: PLR0911, PLR0912
        """The outcome of one request at the instant `at`.

        Refused: `no-subnet`, `no-pool`, `no-strategy`, `unknown-group`, `exhausted`, `no-binding`, `not-in-plan`,
        `in-use`, `held`, `not-held`, `reserved-address`, `not-in-group`, `other-block`, `too-many-holds`,
        `too-many-declines`, `too-many-gateways`, `too-many-sightings`, `too-many-alarms`, `too-many-agents`,
        `too-many-rollouts`, `no-rollout`, `running`, `not-running`, `level`, `no-delegation`, `no-prefix`,
        `not-planned`, `over`, `has-another`, `not-for-ledger`.
        """
        if self.plan.level > LEVEL and not isinstance(request, AdoptPlan):
            raise Refused("level", f"the site is at level {self.plan.level}; this release knows {LEVEL}: upgrade it")
        match request:
            case AllocateAddress():
                return tuple(allocating.allocate(self, request, at=at, entropy=entropy))
            case RenewAddress():
                return renewing.renew(self, self.bound(request), at=at)
            case ReleaseAddress():
                lease = self.bound(request)
                return (AddressReleased(address=lease.address, client=lease.client, iaid=lease.iaid),)
            case DeclineAddress():
                return declining.decline(self, self.bound(request), at=at)
            case ExpireAddresses():
                return tuple(self._expire(request.addresses, at))
            case AdoptPlan():
                return tuple(adopting.adopt(self, request.plan, at=at))
            case HoldAddress():
                return tuple(holding.hold(self, request, at=at, entropy=entropy))
            case UnholdAddress():
                return tuple(holding.unhold(self, request))
            case JoinAddresses():
                return tuple(holding.join(self, request))
            case ClaimReserved():
                return tuple(planned.claim(self, request))
            case MoveAddress():
                return tuple(allocating.move(self, self.bound(request), request.to, at=at, entropy=entropy))
            case WithdrawAddress():
                return (allocating.withdrawn(self.bound(request)),)
            case BlockAddress():
                return tuple(holding.block(self, request, at=at))
            case ReportGateway():
                return tuple(gateways.report(self, request))
            case _ if isinstance(request, LinkAsked):
                return tuple(self.sightings.decide(request, at=at, leased=self.leases))
            case _ if isinstance(request, rollouts.Asked):
                return tuple(rollouts.decide(self, request, at=at))
            case DelegatePrefix():
                return tuple(delegating.delegate(self, request, at=at))
            case ReleasePrefix():
                return (delegating.release(self, request),)
            case ExpirePrefixes():
                return tuple(delegating.expire(self, request.prefixes, at))
            case ReportUplink():
                return tuple(adopting.report(self, request, at=at))
            case _ if isinstance(request, Imported):
                return tuple(imported(self, request, at=at))
            case MergeOutage():
                return tuple(allocating.merge(self, request, at=at, entropy=entropy))
        raise Refused("not-for-ledger", f"a ledger does not decide {request.NAME}")

    def bound(self, request: RenewAddress | ReleaseAddress | DeclineAddress | MoveAddress | WithdrawAddress) -> Lease:
        """The lease that a request is about. Refused `no-binding`."""
        lease = self.leases.get(request.address)
        if lease is None or (lease.client, lease.iaid) != (request.client, request.iaid):
            raise Refused("no-binding", "the client does not hold this address")
        return lease

    def is_open_to(self, address: bytes, client: bytes, iaid: int) -> bool:
        """Whether nobody else has the address, or has its /64 for itself."""
        pool, lease = self.pool_of(address), self.leases.get(address)
        if lease is not None:
            return (lease.client, lease.iaid) == (client, iaid)
        if pool is None or not pool.prefix_per_host:
            return True
        if self.held.get(address) == (client, iaid):  # of two for whom one /64 is kept, as once was done, the first
            return self.blocks.owner(address) in (None, client)
        return self.is_block_open_to(address, client)

    def is_block_open_to(self, address: bytes, client: bytes) -> bool:
        """Whether nobody else has anything in the /64 of an address, and nothing in it is kept for anybody else."""
        return self.blocks.owner(address) in (None, client) and self.kept_blocks.is_open_to(address, client)

    def _expire(self, addresses: tuple[bytes, ...], at: int) -> Iterator[Event]:
        for address in dict.fromkeys(addresses):
            lease = self.leases.get(address)
            if lease is not None and lease.horizon <= at:
                yield AddressExpired(address=address, client=lease.client, iaid=lease.iaid)
            elif lease is not None and is_over(lease, at):
                yield allocating.withdrawn(lease)

    # -- evolve ------------------------------------------------------------------------------------------------------

    def evolve(self, event: Event, *, at: int, position: int) -> None:  # noqa: PLR0912, PLR0915  # one case an event
        """Take in one event."""
        durable = position > 0
        match event:
            case AddressAllocated():
                self._hold(leased(event), durable=durable)
            case AddressRenewed():
                self._renew(event, durable=durable)
            case AddressDeclined():
                lease, block = self._end(event.address)
                self.remembered.decline(lease.address, lease.client, event.quarantined_until, durable=durable)
                self._end_block(block, lease.client, durable=durable)
            case AddressWithdrawn():
                lease, block = self._end(event.address)
                self.remembered.withdraw(lease.address, lease.client, lease.horizon, durable=durable)
                self._end_block(block, lease.client, durable=durable)
            case AddressReleased() | AddressExpired():
                lease, block = self._end(event.address)
                self.given.free(lease.address)
                self._end_block(block, lease.client, durable=durable)
            case AddressDeprecated():
                self._drain(self.leases[event.address], event.valid_until, durable=durable)
            case AddressHeld():
                self.keep(event.address, event.client, event.iaid, planned.holder_of(event))
            case AddressUnheld():
                del self.held[event.address]
                self.planned.pop(event.address, None)
                without(self.holds, (event.client, event.iaid, family(event.address)), event.address)
                self.kept_blocks.leave(event.address, event.client)
                self.given.end_keeping(event.address)
                self.given.end_keeping(block_of(event.address))
            case AddressBlocked():
                if self.remembered.has_had(event.address):  # of one that nobody had, nothing is kept
                    self.given.hold(event.address)  # until its quarantine is over
                self.remembered.decline(event.address, event.client, event.blocked_until, durable=durable)
            case OutageGranted():
                self._grant(event, durable=durable)
            case HashMoved():
                self.remembered.move((event.client, event.iaid, event.prefix), event.counter)
            case GatewayAppeared() | GatewayVanished():
                self.gateways = gateways.evolve(self.gateways, event)
            case _ if isinstance(event, LinkHappened):
                self.sightings.evolve(event, at=at)
            case _ if isinstance(event, rollouts.Happened):
                rollouts.evolve(self, event, at=at, position=position)
            case _ if isinstance(event, delegating.Happened):
                delegating.evolve(self.delegations, event, at=at, position=position)
            case _ if isinstance(event, uplinks.Happened):
                self.uplinks, self.lost = uplinks.evolve(self.uplinks, event), uplinks.lost(self.lost, event)
            case PlanAdopted():
                self._follow(event.plan)
        if durable:
            self._forget(at)

    def _hold(self, lease: Lease, *, durable: bool) -> None:
        """Somebody has it from now on, as the first one of its binding if that has none."""
        address = lease.address
        if (promised := self.remembered.promised(address, lease.client)) > lease.horizon:
            lease = msgspec.structs.replace(lease, horizon=promised)  # no promise ends by being given again
        first = self.table.add(lease) if durable else None  # one look for most of what is in a log
        if first is None:
            first = self._put(lease)
        else:
            self._take(lease)
        if first != address and address not in (others := self.others.get(lease.binding, ())):
            self.others[lease.binding] = (*others, address)
        if durable:
            self.horizons.note(lease, self.table)

    def _put(self, lease: Lease) -> bytes:
        """The same whatever was there, and in a draft. The first address of its binding."""
        address, binding = lease.address, lease.binding
        there = self.leases.get(address)
        if there is not None and there.binding != binding:
            self._end(address)  # which no decision of ours leads to; whoever wrote it, the newest is true
            there = None
        if there is None:
            self._take(lease)
        self.leases[address] = lease
        first = self.bindings.get(binding)  # not setdefault: in a draft a miss would raise, and be caught
        if first is None:
            self.bindings[binding] = first = address
        return first

    def _take(self, lease: Lease) -> None:
        self.remembered.hold(lease.address)
        self.given.hold(lease.address)
        pool = self.pool_of(lease.address) if self.adopted.has_special else None
        if pool is not None and pool.prefix_per_host:
            block = self.blocks.take(lease.address, lease.client)
            if block is not None:
                self.remembered.hold(block)
                self.given.hold(block)
        elif pool is not None and self._counts(lease.address, pool):
            self.given.note(lease.address, self.adopted.ranges(pool, lease.group))

    def _counts(self, address: bytes, pool: Pool) -> bool:
        """Whether the pool counts on from this one: what an operator has kept for somebody may stand anywhere."""
        return pool.strategy == COUNTING and address not in self.held

    def _renew(self, event: AddressRenewed, *, durable: bool) -> None:
        """It lasts longer; one that was to be drained is the first one of its binding again."""
        old = self.leases[event.address]
        lease = msgspec.structs.replace(old, valid_until=event.valid_until, horizon=event.horizon, drained_at=0)
        self.leases[event.address] = lease
        if old.drained_at:
            without(self.others, lease.binding, event.address)
            before = self.bindings.get(lease.binding)
            if before is not None:
                self.others[lease.binding] = (before, *self.others.get(lease.binding, ()))
            self.bindings[lease.binding] = event.address
        if durable:
            self.horizons.note(lease, self.table)

    def _drain(self, lease: Lease, until: int, *, durable: bool) -> None:
        drained = msgspec.structs.replace(lease, drained_at=until)
        self.leases[lease.address] = drained
        if durable:
            self.drains.note(drained)
        if self.bindings.get(lease.binding) == lease.address:
            self._promote(lease.binding)
            self.others[lease.binding] = (*self.others.get(lease.binding, ()), lease.address)

    def _promote(self, binding: Binding) -> None:
        """The first one of a binding is no more: the next that lasts takes its place."""
        others = self.others.get(binding, ())
        lasting = next((each for each in others if not self.leases[each].drained_at), None)
        if lasting is None:
            del self.bindings[binding]
        else:
            self.bindings[binding] = lasting
            without(self.others, binding, lasting)

    def _end(self, address: bytes) -> tuple[Lease, bytes | None]:
        """Nobody has it any more. The lease, and its block if that is nobody's either."""
        lease = self.leases[address]
        if self.bindings.get(lease.binding) == address:
            self._promote(lease.binding)
        else:
            without(self.others, lease.binding, address)
        del self.leases[address]  # after its binding, see `Leases`
        self.remembered.end(address, lease.client)
        block = self.blocks.leave(address) if self.adopted.has_special else None
        if block is not None:
            self.remembered.end(block, lease.client)
        return lease, block

    def _end_block(self, block: bytes | None, client: bytes, *, durable: bool) -> None:
        """A block, if one is nobody's now, is its last client's as long as that is promised an address of it."""
        if block is None:
            return
        promised = (each for each in self.remembered.promised_to(client) if block_of(each) == block)
        until = max((self.remembered.promised(each, client) for each in promised), default=0)
        if until:
            self.remembered.withdraw(block, client, until, durable=durable)
        else:
            self.given.free(block)

    def keep(self, address: bytes, client: bytes, iaid: int, reserved_for: tuple[bytes, int] | None = None) -> None:
        """The address is kept for this client from now on; the plan says so, if it is `reserved_for` it or another."""
        binding = (client, iaid, family(address))
        if self.held.get(address) != (client, iaid):
            self.held[address] = client, iaid
            self.holds[binding] = (*self.holds.get(binding, ()), address)
            self.given.hold(address)
            self._keep_block(address, client)
        if reserved_for is not None:
            self.planned[address] = reserved_for

    def _keep_block(self, address: bytes, client: bytes) -> None:
        pool = self.pool_of(address) if self.adopted.has_special else None
        if pool is not None and pool.prefix_per_host:
            self.kept_blocks.keep(address, client)
            self.given.hold(block_of(address))

    def _grant(self, event: OutageGranted, *, durable: bool) -> None:
        """A fact; who has the address in the log keeps it. Beside another one of the same client it is drained."""
        if event.contested:
            return
        lease, there = leased(event), self.leases.get(event.address)
        if there is not None:
            longest = max(there.horizon, lease.horizon)
            lease = msgspec.structs.replace(
                there, valid_until=max(there.valid_until, lease.valid_until), horizon=longest
            )
            if there.drained_at and there.binding not in self.bindings:  # the one in whose favour it was is no more
                lease = msgspec.structs.replace(lease, drained_at=0)
                without(self.others, lease.binding, lease.address)
        elif lease.binding in self.bindings:
            lease = msgspec.structs.replace(lease, drained_at=event.valid_until)
        self._hold(lease, durable=durable)
        if durable and lease.drained_at:
            self.drains.note(lease)

    def _follow(self, plan: AdoptedPlan) -> None:
        """Another plan: what was made of the pools' ranges is made anew."""
        self.adopted = Adopted(plan, leaving.after(self, plan))
        self.gateways = gateways.wanted(self.gateways, plan)
        self.blocks, self.kept_blocks, self.given = Blocks(), KeptBlocks(), Given(self)
        for address, (client, _) in self.held.items():
            self._keep_block(address, client)
        for address in sorted(self.leases) if self.adopted.has_special else ():
            lease, pool = self.leases[address], self.pool_of(address)
            if pool is not None and pool.prefix_per_host:
                self.blocks.take(address, lease.client)
            elif pool is not None and self._counts(address, pool):
                self.given.note(lease.address, self.adopted.ranges(pool, lease.group))

    def _forget(self, at: int) -> None:
        """Forget what is over, and what is too much, as every agent does at this event."""
        if (forgotten := self.remembered.forget(at)) is NOTHING:
            return
        for address in forgotten.free:
            self.given.free(address)
        for address in forgotten.as_new:
            self.given.forget(address)
