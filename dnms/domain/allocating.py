"""Which address a client is given: the one that it has, those that are kept for it, else a candidate of a pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from dnms.domain import renewing, uplinks
from dnms.domain.aggregate import Refused
from dnms.domain.blocks import block_of
from dnms.domain.given import MAX_INDEXED
from dnms.domain.ranges import Ranges, of_group
from dnms.domain.renewing import HORIZON
from dnms.domain.reserved import is_reserved, prefix_in
from dnms.domain.strategies import COUNTING, STRATEGIES, Asking
from dnms.events.address import (
    AddressAllocated,
    AddressDeprecated,
    AddressRenewed,
    AddressWithdrawn,
    HashMoved,
    OutageGranted,
)
from dnms.events.ip import Prefix, family
from dnms.events.plan import Family, Pool, Subnet
from dnms.events.recorded import Event
from dnms.events.requests import AllocateAddress, HoldAddress, MergeOutage
from dnms.kit.clock import MICROSECONDS

if TYPE_CHECKING:
    from dnms.domain.leases import Lease
    from dnms.domain.ledger import Ledger

TRIES: Final = 64
"""Candidates of a strategy before the index of the range is asked."""

MAX_OTHERS: Final = 8
"""Addresses of one client beside its first, secondary and to be drained; the one that is drained longest goes then."""


class Chosen(msgspec.Struct, frozen=True, gc=False):
    """A free address of a pool, and which candidate of the client's it is."""

    address: bytes
    pool: Pool
    prefix: Prefix
    counter: int
    moves: bool  # it is not the one at which the client's candidates began: an exception to the hash (RFC 7943)


def allocate(ledger: Ledger, request: AllocateAddress, *, at: int, entropy: bytes) -> Iterator[Event]:
    """What has to happen for the client to have an address. Refused."""
    if ledger.plan.subnet is None:
        raise Refused("no-subnet", "the plan has no such subnet")
    first = ledger.lease(request.client, request.iaid, request.family)
    kept = [address for address in _kept(ledger, request) if may_have(ledger, request, address, at)]
    if kept:
        yield from _give_kept(ledger, request, kept, at)
        if first is not None and first.address not in kept:
            yield from _leave(ledger, first, at)
        return
    pool = None if first is None else ledger.pool_of(first.address)
    if first is not None and pool is not None and fits(ledger, pool, first.address, request.group):
        if first.group == request.group:
            yield from renewing.renew(ledger, first, at=at)
        else:
            yield _allocated(ledger, request, first.address, pool, at, horizon=first.horizon)
        return
    check_group(ledger, request.group)
    drained = _drained_that_fits(ledger, request)
    chosen = None
    if drained is None:
        chosen = _offered(ledger, request, at=at) or choose(ledger, request, at=at, entropy=entropy)
    if first is not None:
        yield from _leave(ledger, first, at)
    if drained is not None:
        yield _renewed(ledger, drained, at)
    elif chosen is not None:
        yield from _give(ledger, request, chosen, at)


def move(ledger: Ledger, lease: Lease, to: bytes | None, *, at: int, entropy: bytes) -> Iterator[Event]:
    """Another address instead of this one: `to`, or the next one that is free. Refused."""
    if ledger.held.get(lease.address) == (lease.client, lease.iaid):
        raise Refused("held", "the address is kept for this client; end that first")
    if lease.drained_at:
        return  # another one has its place already
    request = AllocateAddress(client=lease.client, iaid=lease.iaid, family=_family(lease.address), group=lease.group)
    if to is None:
        chosen = choose(ledger, request, at=at, entropy=entropy, behind=True)
    elif to == lease.address:
        return
    else:
        chosen = named(ledger, request, to, at=at)
    yield from _leave(ledger, lease, at)
    yield from _give(ledger, request, chosen, at)


def merge(ledger: Ledger, request: MergeOutage, *, at: int, entropy: bytes) -> Iterator[Event]:
    """What was given while the log was away, and where somebody else has that meanwhile, another address.

    Never refused, since it is a fact: who cannot have another one, or had this one for a time that is over, has none.
    """
    has_it = ledger.is_open_to(request.address, request.client, request.iaid)
    fields = {name: getattr(request, name) for name in request.__struct_fields__}
    yield OutageGranted(**fields, contested=not has_it)
    kind = _family(request.address)
    pool, first = ledger.pool_of(request.address), ledger.lease(request.client, request.iaid, kind)
    if has_it and pool is None:
        yield AddressWithdrawn(address=request.address, client=request.client, iaid=request.iaid)
    if (has_it and pool is not None) or (first is not None and first.address != request.address):
        return
    if request.horizon <= at:
        return
    asking = AllocateAddress(client=request.client, iaid=request.iaid, family=kind, group=request.group)
    with suppress(Refused):
        yield from _give(ledger, asking, choose(ledger, asking, at=at, entropy=entropy, behind=True), at)


def check_group(ledger: Ledger, group: int) -> None:
    """Refused `unknown-group`."""
    if group and group not in ledger.plan.groups.values():
        raise Refused("unknown-group", f"the plan has no group with number {group:#06x}")


def choose(ledger: Ledger, request: AllocateAddress, *, at: int, entropy: bytes, behind: bool = False) -> Chosen:
    """A free address of the first pool that has one; `behind`: after the candidates that the client has come to.

    Refused `no-pool`, `no-strategy`, `exhausted`.
    """
    subnet, pools = ledger.plan.subnet, ledger.adopted.pools(request.family)
    if subnet is None or not pools:
        raise Refused("no-pool", f"the subnet has no pool for IPv{request.family}")
    for pool, prefix in pools:
        strategy = STRATEGIES.get(pool.strategy)
        if strategy is None:
            text = f"pool {pool.name!r} picks by {pool.strategy!r}; install the package that brings that strategy here"
            raise Refused("no-strategy", text)
        if not strategy.dynamic:
            continue
        known = ledger.remembered.counter((request.client, request.iaid, prefix))
        found = Search(ledger, request, pool, subnet, at=at, entropy=entropy).find(known + behind)
        if found is not None:
            return Chosen(found[0], pool, prefix, found[1], found[1] > known)
    raise Refused("exhausted", f"every address of the subnet's pools for IPv{request.family} is in use")


def _offered(ledger: Ledger, request: AllocateAddress, *, at: int) -> Chosen | None:
    """The address that the client was offered, if it may still have that."""
    if request.offered is None:
        return None
    with suppress(Refused):
        chosen = named(ledger, request, request.offered, at=at)
        strategy = STRATEGIES.get(chosen.pool.strategy)
        if strategy is not None and strategy.dynamic:
            return chosen
    return None


def named(ledger: Ledger, request: AllocateAddress, address: bytes, *, at: int, has_it: bool = False) -> Chosen:
    """This address, if the client may have it without its being kept. `has_it`: it is the one that uses it, by whatever
    name it was seen. Refused.
    """
    subnet, pool = ledger.plan.subnet, ledger.pool_of(address)
    prefix = None if subnet is None else prefix_in(subnet, address)
    if subnet is None or pool is None or prefix is None or family(address) != request.family:
        raise Refused("not-in-plan", f"no pool of the subnet for IPv{request.family} has this address")
    if is_reserved(address, subnet):
        raise Refused("reserved-address", "nobody may be given this address")
    check_block(ledger, pool, address, request.client, request.iaid)
    if not fits(ledger, pool, address, request.group):
        raise Refused("not-in-group", "it is none of the addresses of the client's group; reserve it for the client")
    search = Search(ledger, request, pool, subnet, at=at, entropy=b"", has_it=has_it)
    if not (ledger.is_open_to(address, request.client, request.iaid) and search.is_free(address)):
        raise Refused("in-use", "another client has this address, or it is kept or rests")
    return Chosen(address, pool, prefix, 0, moves=False)


def check_block(ledger: Ledger, pool: Pool, address: bytes, client: bytes, iaid: int) -> None:
    """Refused `other-block` where every host has a /64, and the client has or keeps another one than that of `address`.

    What it has for this interface alone does not count: that goes where its new address is.
    """
    if not pool.prefix_per_host:
        return
    wanted, has, kept = block_of(address), ledger.blocks.of(client, pool), ledger.kept_blocks.of(client, pool)
    if has is not None and has != wanted:
        moving = sum(block_of(each.address) == has for each in ledger.leases_of(client, iaid, 6))
        has = has if ledger.blocks.count(has) > moving else None
    other = next((each for each in (has, kept) if each not in (None, wanted)), None)
    if other is not None:
        raise Refused("other-block", f"the client's addresses of pool {pool.name!r} lie in {Prefix(other, 64)}")


def fits(ledger: Ledger, pool: Pool, address: bytes, group: int) -> bool:
    """Whether a member of the group may have this address of the pool."""
    if pool.prefix_per_host:
        return int.from_bytes(address[8:10]) == group
    return int.from_bytes(address) in ledger.adopted.ranges(pool, group)


class Search:
    """A search for a free address of one pool."""

    def __init__(
        self,
        ledger: Ledger,
        request: AllocateAddress,
        pool: Pool,
        subnet: Subnet,
        *,
        at: int,
        entropy: bytes,
        has_it: bool = False,
    ) -> None:
        self._ledger = ledger
        self._request = request
        self._pool = pool
        self._subnet = subnet
        self._at = at
        self._entropy = entropy
        self._has_it = has_it

    def find(self, begin: int) -> tuple[bytes, int] | None:
        """The address, and which candidate it is, the first being `begin`."""
        if self._pool.prefix_per_host:
            return self._in_own_block(begin)
        return self._pick(self._ledger.adopted.ranges(self._pool, self._request.group), begin, self.is_free)

    def _in_own_block(self, begin: int) -> tuple[bytes, int] | None:
        pool = self._pool
        ledger, client = self._ledger, self._request.client
        block = ledger.blocks.of(client, pool) or ledger.kept_blocks.of(client, pool)
        if block is None:
            networks = Ranges([(int.from_bytes(pool.first) >> 64, int.from_bytes(pool.last) >> 64)])
            picked = self._pick(networks, begin, self._is_free_block, shift=64)
            if picked is None:
                return None
            block, begin = picked
        found = self._pick(of_group(int.from_bytes(block), self._request.group), begin, self.is_free)
        return None if found is None else (found[0], begin)

    def _pick(
        self, ranges: Ranges, begin: int, is_free: Callable[[bytes], bool], *, shift: int = 0
    ) -> tuple[bytes, int] | None:
        """A free one of the candidates, else of those that nobody had, else the one that is free for longest."""
        if not ranges.size:
            return None
        ledger, client = self._ledger, self._request.client
        candidate = STRATEGIES[self._pool.strategy].candidate
        asking = Asking(
            secret=ledger.secret,
            pool=self._pool,
            client=client,
            iaid=self._request.iaid,
            ranges=ranges,
            entropy=self._entropy,
            behind=ledger.given.behind(ranges) if self._pool.strategy == COUNTING else 0,
        )
        former = ledger.remembered.former[6]
        number: int | None = 0
        counting, n, end = self._pool.strategy == COUNTING, begin, begin + TRIES
        is_large = counting and ranges.size > MAX_INDEXED  # no index goes past them
        while n < end and (number := candidate(asking, n)) is not None:
            address = (ranges.address(number) << shift).to_bytes(16)
            # IPv6 addresses are used once: not after another client, while anything else is free.
            # Who counts gives what nobody had, and of IPv4 what is free for longest only after all of that.
            had_before = counting and address in ledger.remembered.former[4]
            if former.get(address, client) == client and not had_before and is_free(address):
                return address, n
            n += 1
            # Who counts goes past all that are kept or offered.
            end += is_large and (address in ledger.held or address in ledger.offered)
        for address in ledger.given.reusable(ranges, shift, client=client, start=number or 0, at=self._at):
            if is_free(address):
                return address, begin
        return None

    def is_free(self, address: bytes) -> bool:
        """Whether the client may have this address now."""
        ledger, request = self._ledger, self._request
        return not (
            address in ledger.leases
            or address in ledger.offered
            or ledger.held.get(address, (request.client, request.iaid)) != (request.client, request.iaid)
            or withholds(ledger, self._pool, address, request.client, at=self._at, has_it=self._has_it)
            or is_reserved(address, self._subnet)
        )

    def _is_free_block(self, block: bytes) -> bool:
        ledger, client = self._ledger, self._request.client
        return ledger.is_block_open_to(block, client) and not ledger.remembered.withholds(block, client, at=self._at)


def _kept(ledger: Ledger, request: AllocateAddress) -> tuple[bytes, ...]:
    return ledger.holds.get((request.client, request.iaid, request.family), ())


def may_have(ledger: Ledger, request: AllocateAddress, address: bytes, at: int) -> bool:
    """Whether the client may have an address now that is kept for it."""
    pool = ledger.pool_of(address)
    return (
        pool is not None
        and ledger.is_open_to(address, request.client, request.iaid)
        and (address in ledger.leases or not withholds(ledger, pool, address, request.client, at=at))
    )


def withholds(ledger: Ledger, pool: Pool, address: bytes, client: bytes, *, at: int, has_it: bool = False) -> bool:
    """Whether an address of the pool rests, or somebody else uses it, or it or the /64 that goes with it is promised to
    another client yet. `has_it`: who uses it is the client, whoever was seen.
    """
    if not has_it and ledger.sightings.withhold(address, client, at=at):
        return True
    remembered = ledger.remembered
    return remembered.withholds(address, client, at=at) or (
        pool.prefix_per_host and remembered.withholds(block_of(address), client, at=at)
    )


def _give_kept(ledger: Ledger, request: AllocateAddress, kept: list[bytes], at: int) -> Iterator[Event]:
    for address in kept:
        lease, pool = ledger.leases.get(address), ledger.pool_of(address)
        if lease is None and pool is not None:
            yield _allocated(ledger, request, address, pool, at)
        elif lease is not None and lease.drained_at:
            yield _renewed(ledger, lease, at)
        elif lease is not None:
            yield from renewing.renew(ledger, lease, at=at)


def moved(request: AllocateAddress | HoldAddress, chosen: Chosen) -> tuple[HashMoved, ...]:
    """The exception that has to be written down for a chosen address; none for a client's first candidate."""
    if not chosen.moves:
        return ()
    return (HashMoved(client=request.client, iaid=request.iaid, prefix=chosen.prefix, counter=chosen.counter),)


def _give(ledger: Ledger, request: AllocateAddress, chosen: Chosen, at: int) -> tuple[Event, ...]:
    return *moved(request, chosen), _allocated(ledger, request, chosen.address, chosen.pool, at, counter=chosen.counter)


def _allocated(
    ledger: Ledger, request: AllocateAddress, address: bytes, pool: Pool, at: int, *, counter: int = 0, horizon: int = 0
) -> AddressAllocated:
    until = uplinks.valid_until(ledger.uplinks, address)
    return AddressAllocated(
        address=address,
        client=request.client,
        iaid=request.iaid,
        pool=pool.name,
        group=request.group,
        counter=counter,
        valid_until=min(until, at + pool.valid * MICROSECONDS),
        horizon=max(horizon, min(until, at + HORIZON[request.family] * pool.valid * MICROSECONDS)),
    )


def _leave(ledger: Ledger, lease: Lease, at: int) -> Iterator[Event]:
    """Another address takes the place of this one: both may be used until it is drained."""
    others = ledger.others.get(lease.binding, ())
    drained = [each for address in others if (each := ledger.leases[address]).drained_at]
    if len(others) >= MAX_OTHERS and drained:
        yield withdrawn(min(drained, key=lambda each: (each.drained_at, each.address)))
    place = ledger.place_of(lease.address)
    yield withdrawn(lease) if place is None else deprecated(lease, at + place.pool.drain * MICROSECONDS)


def _drained_that_fits(ledger: Ledger, request: AllocateAddress) -> Lease | None:
    """What the client still has of before, and could have again: it comes back to a group that it has left."""
    others = ledger.others.get((request.client, request.iaid, request.family), ())
    for lease in (ledger.leases[address] for address in others):
        pool = ledger.pool_of(lease.address)
        if lease.drained_at and pool is not None and fits(ledger, pool, lease.address, request.group):
            return lease
    return None


def _renewed(ledger: Ledger, lease: Lease, at: int) -> AddressRenewed:
    """The end of its being drained."""
    pool = ledger.pool_of(lease.address)
    valid = pool.valid * MICROSECONDS if pool is not None else 0
    until = uplinks.valid_until(ledger.uplinks, lease.address)
    return AddressRenewed(
        address=lease.address,
        client=lease.client,
        iaid=lease.iaid,
        valid_until=min(until, at + valid),
        horizon=max(lease.horizon, min(until, at + HORIZON[family(lease.address)] * valid)),
    )


def deprecated(lease: Lease, until: int) -> AddressDeprecated:
    """Another address takes its place: both may be used until then, or as long as this one was promised."""
    until = min(lease.horizon, until)
    return AddressDeprecated(address=lease.address, client=lease.client, iaid=lease.iaid, valid_until=until)


def withdrawn(lease: Lease) -> AddressWithdrawn:
    """Its end, whatever was promised."""
    return AddressWithdrawn(address=lease.address, client=lease.client, iaid=lease.iaid)


def _family(address: bytes) -> Family:
    return 4 if family(address) == 4 else 6
