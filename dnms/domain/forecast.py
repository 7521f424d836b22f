"""What another plan would do to the leases of a subnet: decided on a draft of its ledger, and then thrown away."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from dnms.domain import uplinks
from dnms.domain.adopting import consequences
from dnms.domain.aggregate import Refused
from dnms.domain.allocating import fits
from dnms.domain.leases import Lease
from dnms.domain.ledger import Ledger
from dnms.domain.plan import says_the_same
from dnms.domain.reserved import fixed_addresses
from dnms.domain.strategies import ENTROPY
from dnms.events.address import AddressDeprecated, AddressWithdrawn
from dnms.events.ip import family, format_address
from dnms.events.plan import AdoptedPlan, Family, PlanAdopted, Pool, Subnet
from dnms.events.recorded import Event
from dnms.events.requests import AllocateAddress

MAX_DECIDED: Final = 10_000
"""Addresses that are chosen on one draft, half a second's work; beyond, it is counted for how many nobody looked."""

MAX_NAMED: Final = 20
"""Addresses that are named and not only counted."""

EXHAUSTED: Final = "exhausted"


class PoolForecast(msgspec.Struct, frozen=True, kw_only=True):
    """A pool of the subnet before and after."""

    pool: str
    size: int  # how many addresses can be given of it
    held_before: int  # of the pool of this name as it is now
    held: int  # of the new one, when all have moved; those that are drained are held until they are over
    too_small: bool  # fewer can be given than are held now
    runs_out: bool  # none is left, or somebody would be refused one


class SubnetForecast(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of the leases of one subnet."""

    subnet: str
    leases: int  # now
    withdrawn: int  # end at once, since the plan has no place for them
    moved: int  # clients that go to another address, of another pool or group; both are used until the old is drained
    without: int  # of those two, associations that would get no other address
    undecided: int  # of those two, associations for which nobody has looked
    unplaced: int = 0  # addresses that are kept for somebody now, and could be given to nobody any more
    kept: int = 0  # addresses that are kept for clients that come into a group that has others
    kept_first: tuple[str, ...] = ()  # of these the lowest, up to MAX_NAMED
    pools: tuple[PoolForecast, ...] = ()


def foresee(  # all that it depends on
    ledger: Ledger, subnet: str, before: AdoptedPlan, after: AdoptedPlan, *, groups: Mapping[bytes, int], at: int
) -> SubnetForecast:
    """What `after` would do to a ledger that should follow `before`, at the instant `at` (microseconds).

    `groups`: the numbers of the groups of those clients that come into another one.
    """
    draft = ledger.draft()
    if not says_the_same(before, uplinks.planned(draft.plan)):
        _adopt(draft, before, at=at)
    held_before = _held(draft)
    leases, placed = len(draft.leases), _placed(draft)
    ended, drained = ((), ()) if says_the_same(before, after) else _adopt(draft, after, at=at)
    leaving = [lease for lease in draft.leases.values() if groups.get(lease.client, lease.group) != lease.group]
    kept = sorted(_staying(draft, groups))
    asking = dict.fromkeys(lease.binding for lease in (*ended, *drained, *leaving) if not lease.drained_at)
    own = {lease.client: lease.group for lease in (*ended, *drained, *leaving)}
    replaced = {lease.binding for lease in drained}
    moved: set[bytes] = set()
    refused: Counter[int] = Counter()
    for client, iaid, kind in list(asking)[:MAX_DECIDED]:
        group = groups.get(client, own[client])
        try:
            events = _ask(draft, client, iaid, 4 if kind == 4 else 6, group, at=at)
        except Refused as refusal:
            refused[kind] += 1
            if refusal.why != EXHAUSTED:
                continue  # of a family that has no pool any more
        else:
            moved |= {event.client for event in events if isinstance(event, AddressDeprecated | AddressWithdrawn)}
            moved |= {client} if (client, iaid, kind) in replaced else set()
    return SubnetForecast(
        subnet=subnet,
        leases=leases,
        withdrawn=len(ended),
        moved=len(moved),
        without=refused.total(),
        undecided=max(0, len(asking) - MAX_DECIDED),
        unplaced=max(0, placed - _placed(draft)),
        kept=len(kept),
        kept_first=tuple(map(format_address, kept[:MAX_NAMED])),
        pools=tuple(_pools(after, held_before, _held(draft), refused)),
    )


def _adopt(draft: Ledger, plan: AdoptedPlan, *, at: int) -> tuple[tuple[Lease, ...], tuple[Lease, ...]]:
    """Have the draft follow a plan; the leases that end by it, and those that are drained."""
    plan = uplinks.resolved(uplinks.planned(plan), draft.uplinks)
    events = tuple(consequences(draft, plan, draft.uplinks, at=at))
    ended, drained = (
        tuple(draft.leases[event.address] for event in events if isinstance(event, kind))
        for kind in (AddressWithdrawn, AddressDeprecated)
    )
    for event in (PlanAdopted(plan=plan), *events):
        draft.evolve(event, at=at, position=0)
    return ended, drained


def _ask(draft: Ledger, client: bytes, iaid: int, kind: Family, group: int, *, at: int) -> tuple[Event, ...]:
    request = AllocateAddress(client=client, iaid=iaid, family=kind, group=group)
    chance = hashlib.blake2b(client + iaid.to_bytes(4), digest_size=ENTROPY).digest()  # how many is all that is asked
    events = draft.decide(request, at=at, entropy=chance)
    for event in events:
        draft.evolve(event, at=at, position=0)
    return events


def _staying(ledger: Ledger, groups: Mapping[bytes, int]) -> Iterable[bytes]:
    """The addresses that are kept for clients whose new group has others: they are given to them all the same."""
    for address, (client, _) in ledger.held.items():
        pool = ledger.pool_of(address) if client in groups else None
        if pool is not None and not fits(ledger, pool, address, groups[client]):
            yield address


def _placed(ledger: Ledger) -> int:
    """How many of the addresses that are kept for somebody the plan has a place for."""
    return sum(ledger.pool_of(address) is not None for address in ledger.held)


def _held(ledger: Ledger) -> Counter[str]:
    held: Counter[str] = Counter()
    for address in ledger.leases:
        pool = ledger.pool_of(address)
        if pool is not None:
            held[pool.name] += 1
    return held


def _pools(
    plan: AdoptedPlan, before: Mapping[str, int], after: Mapping[str, int], refused: Mapping[int, int]
) -> Iterable[PoolForecast]:
    for pool in plan.pools:
        size, held = room(pool, plan.subnet), after.get(pool.name, 0)
        yield PoolForecast(
            pool=pool.name,
            size=size,
            held_before=before.get(pool.name, 0),
            held=held,
            too_small=size < before.get(pool.name, 0),
            runs_out=held >= size or bool(refused.get(family(pool.first))),
        )


def room(pool: Pool, subnet: Subnet | None) -> int:
    """How many addresses (of a pool of /64s: how many of these) can be given of a pool at once."""
    first, last = int.from_bytes(pool.first), int.from_bytes(pool.last)
    if pool.prefix_per_host:
        return (last - first + 1) >> 64
    fixed = sum(pool.first <= address <= pool.last for address in fixed_addresses(subnet))
    return last - first + 1 - fixed
