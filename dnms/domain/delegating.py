"""Which prefix a client is delegated (RFC 8415, 6.3): the one that it has, else a free block of a delegation pool.

A block is never longer delegated than what it is cut from. Blocks are picked as addresses are: by a keyed hash of the
client, so that any number of agents agree, or the lowest free one; and what another client had is given last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from dnms.domain import uplinks
from dnms.domain.aggregate import Refused
from dnms.domain.allocating import TRIES, check_group
from dnms.domain.delegations import Delegated, Delegations, delegated
from dnms.domain.renewing import HORIZON
from dnms.domain.strategies import COUNTING
from dnms.domain.uplinks import LINK, Uplinks
from dnms.events.configuration import AssignedPrefix
from dnms.events.ip import Prefix
from dnms.events.plan import AdoptedPlan, Delegation
from dnms.events.prefix import (
    PrefixDelegated,
    PrefixDeprecated,
    PrefixExpired,
    PrefixReleased,
    PrefixRenewed,
    PrefixWithdrawn,
)
from dnms.events.recorded import Event
from dnms.events.requests import DelegatePrefix, ReleasePrefix
from dnms.kit.clock import MICROSECONDS

if TYPE_CHECKING:
    from dnms.domain.ledger import Ledger

MAX_LOOKS: Final = 4_096
"""Blocks that are free and still cannot be given, past which a pool counts as exhausted."""

MAX_ASSOCIATIONS: Final = 8
"""Of one client, for which it holds prefixes: what a message of either protocol asks for. Who invents one after the
other would have all blocks of a link."""

MAX_ASSOCIATION: Final = 4
"""Prefixes of one association: the one that lasts, and those that are drained; more are withdrawn."""


Happened = PrefixDelegated | PrefixRenewed | PrefixReleased | PrefixExpired | PrefixDeprecated | PrefixWithdrawn


def delegate(ledger: Ledger, request: DelegatePrefix, *, at: int) -> Iterator[Event]:
    """What has to happen for the client to have a prefix. Refused."""
    if ledger.plan.subnet is None:
        raise Refused("no-subnet", "the plan has no such subnet")
    if not ledger.plan.delegations:
        raise Refused("no-delegation", "the plan delegates no prefixes on this link")
    check_group(ledger, request.group)
    held = ledger.delegations.of(request.client, request.iaid)
    kept = next((each for each in held if is_given(ledger.plan, ledger.uplinks, each)), None)
    if kept is not None:
        yield from _renewed(ledger, request, kept, at)
        return
    if not held and ledger.delegations.associations(request.client) >= MAX_ASSOCIATIONS:
        raise Refused(
            "too-many-associations", f"a client may have prefixes for {MAX_ASSOCIATIONS} associations on a link"
        )
    yield from _chosen(ledger, request, at)
    drained = [each for each in held if each.drained_at]
    for each in drained[: max(0, len(held) + 1 - MAX_ASSOCIATION)]:
        yield withdrawn(each)
    for each in held:
        if not each.drained_at:
            yield deprecated(ledger.plan, ledger.uplinks, each, at)


def release(ledger: Ledger, request: ReleasePrefix) -> PrefixReleased:
    """Refused `no-binding`."""
    there = ledger.delegations.all.get(request.prefix)
    if there is None or (there.client, there.iaid) != (request.client, request.iaid):
        raise Refused("no-binding", "the client does not hold this prefix")
    return PrefixReleased(prefix=there.prefix, client=there.client, iaid=there.iaid, next_hop=there.next_hop)


def expire(ledger: Ledger, prefixes: tuple[Prefix, ...], at: int) -> Iterator[Event]:
    """The ends of those whose time is over."""
    for prefix in dict.fromkeys(prefixes):
        there = ledger.delegations.all.get(prefix)
        if there is not None and there.horizon <= at:
            yield PrefixExpired(prefix=prefix, client=there.client, iaid=there.iaid, next_hop=there.next_hop)
        elif there is not None and there.drained_at and there.drained_at <= at:
            yield withdrawn(there)


def contradicted(ledger: Ledger, plan: AdoptedPlan, after: Uplinks, *, at: int) -> Iterator[Event]:
    """What becomes of delegations for which a plan, with these uplinks, has no place: make before break."""
    before = ledger.cut_from
    for each in ledger.delegations.all.values():
        if is_given(plan, after, each):
            continue
        is_lost = uplinks.is_lost(before, after, each.prefix.network)
        if is_lost or plan.subnet is None or not plan.delegations:
            yield withdrawn(each)
        elif not each.drained_at:
            yield deprecated(plan, after, each, at)


def evolve(delegations: Delegations, event: Happened, *, at: int, position: int) -> None:
    """Take in one event."""
    there = delegations.all.get(event.prefix)
    match event:
        case PrefixDelegated():
            delegations.put(delegated(event, position))
        case PrefixRenewed() if there is not None:
            delegations.put(
                msgspec.structs.replace(
                    there,
                    next_hop=event.next_hop,
                    interface=event.interface,
                    group=event.group,
                    valid_until=event.valid_until,
                    horizon=event.horizon,
                    routed=there.routed if event.next_hop == there.next_hop else position,
                    drained_at=0,
                )
            )
        case PrefixDeprecated() if there is not None:
            delegations.put(msgspec.structs.replace(there, drained_at=event.valid_until))
        case PrefixReleased() | PrefixExpired():
            delegations.end(event.prefix)
        case PrefixWithdrawn():
            delegations.end(event.prefix, rests=True)
    if position:
        delegations.forget(at)


def is_given(plan: AdoptedPlan, above: Uplinks, each: Delegated) -> bool:
    """Whether the plan gives this block now, so that who has it keeps it."""
    return pool_of(plan, above, each) is not None


def pool_of(plan: AdoptedPlan, above: Uplinks, each: Delegated) -> Delegation | None:
    """The pool that a block is given from; None if the plan, with these uplinks, has none."""
    for pool in plan.delegations:
        source = source_of(pool, above)
        if source is not None and source.covers(each.prefix):
            overlapping = [taken for taken in kept(plan, pool, above) if taken.overlaps(each.prefix)]
            return None if overlapping and overlapping != [each.exclude] else pool
    return None


def source_of(pool: Delegation, above: Uplinks) -> Prefix | None:
    """What a pool cuts its blocks from; None: nothing has come from above yet."""
    if pool.prefix is not None:
        return pool.prefix
    best = uplinks.newest(above)
    return None if best is None else best.prefix


def kept(plan: AdoptedPlan, pool: Delegation, above: Uplinks) -> Iterator[Prefix]:
    """What of a pool is not delegated: what its own links have, and what belongs to the link above (RFC 6603)."""
    source = source_of(pool, above)
    if source is None:
        return
    if pool.prefix is not None:
        own = () if plan.subnet is None else plan.subnet.prefixes
        yield from (prefix for prefix in own if prefix.overlaps(source))
        return
    best = uplinks.newest(above)
    yield from _first(source, pool.keep)
    for each in above.values():  # where one lies in the other, as while a delegation from above grows
        if each is not best and each.prefix.overlaps(source):
            yield from (link for link in _first(each.prefix, pool.keep) if link not in _first(source, pool.keep))
    if best is not None and best.exclude is not None:
        yield best.exclude


def _first(prefix: Prefix, number: int) -> Iterator[Prefix]:
    """The first /64s of a prefix, as the largest prefixes that lie there."""
    first, left = prefix.first, min(number, 1 << (LINK - prefix.length))
    while left:
        size = 1 << (left.bit_length() - 1)
        yield Prefix(first.to_bytes(16), LINK - (size.bit_length() - 1))
        first, left = first + (size << LINK), left - size


def withdrawn(each: Delegated) -> PrefixWithdrawn:
    """Its end, whatever was promised."""
    return PrefixWithdrawn(prefix=each.prefix, client=each.client, iaid=each.iaid, next_hop=each.next_hop)


def deprecated(plan: AdoptedPlan, above: Uplinks, each: Delegated, at: int) -> PrefixDeprecated:
    """Another one takes its place: both may be used for the drain of its pool, and as long as what it is cut from."""
    drain = next((pool.drain for pool in plan.delegations if pool.name == each.delegation), plan.delegations[0].drain)
    until = min(at + drain * MICROSECONDS, each.horizon, uplinks.valid_until(above, each.prefix.network))
    return PrefixDeprecated(
        prefix=each.prefix, client=each.client, iaid=each.iaid, next_hop=each.next_hop, valid_until=until
    )


def prefixes_of(ledger: Ledger, client: bytes, iaid: int, at: int) -> tuple[AssignedPrefix, ...]:
    """What a client is told of what it holds for an association, with lifetimes that begin at `at`."""
    return told_of(ledger, ledger.delegations.of(client, iaid), at)


def told_of(ledger: Ledger, held: Iterable[Delegated], at: int) -> tuple[AssignedPrefix, ...]:
    """What who holds these is told of them."""
    told = []
    for each in held:
        pool = pool_of(ledger.plan, ledger.uplinks, each) or _former_pool(ledger.plan, each)
        cut_from = uplinks.above(ledger.uplinks, each.prefix.network)
        ends = [each.ends] if cut_from is None else [each.ends, cut_from.valid_until]
        left = max(0, min(ends) - at) // MICROSECONDS
        valid = min(left, pool.valid) if pool is not None else left
        if not valid:
            continue
        preferred = 0 if each.drained_at or pool is None else min(pool.preferred, valid)
        if cut_from is not None:
            preferred = min(preferred, max(0, cut_from.preferred_until - at) // MICROSECONDS)
        told.append(
            AssignedPrefix(
                prefix=each.prefix,
                iaid=each.iaid,
                preferred=preferred,
                valid=valid,
                exclude=each.exclude,
                position=each.position,
            )
        )
    return tuple(told)


def _former_pool(plan: AdoptedPlan, each: Delegated) -> Delegation | None:
    return next((pool for pool in plan.delegations if pool.name == each.delegation), None)


def _renewed(ledger: Ledger, request: DelegatePrefix, there: Delegated, at: int) -> Iterator[Event]:
    """What is needed for the client to have it for another lifetime, and to be reached where it is now. Refused."""
    pool = pool_of(ledger.plan, ledger.uplinks, there)
    assert pool is not None
    until = uplinks.valid_until(ledger.uplinks, there.prefix.network)
    valid_until = min(until, at + pool.valid * MICROSECONDS)
    strict = ledger.plan.subnet is not None and ledger.plan.subnet.strict
    known = there.valid_until if strict else there.horizon
    is_the_same = (there.next_hop, there.group, there.drained_at) == (request.next_hop, request.group, 0)
    if is_the_same and (valid_until <= known or until <= known):
        return
    yield PrefixRenewed(
        prefix=there.prefix,
        client=there.client,
        iaid=there.iaid,
        next_hop=request.next_hop,
        interface=request.interface,
        group=request.group,
        valid_until=max(valid_until, at),
        horizon=max(there.horizon, min(until, at + HORIZON[6] * pool.valid * MICROSECONDS)),
    )


def _chosen(ledger: Ledger, request: DelegatePrefix, at: int) -> Iterator[Event]:
    """A free block of the first pool that has one. Refused `no-prefix`, `exhausted`."""
    sources = [(pool, source) for pool in ledger.plan.delegations if (source := source_of(pool, ledger.uplinks))]
    if not sources:
        raise Refused("no-prefix", "no prefix has come from above yet, of which one could be delegated")
    for pool, source in sources:
        until = uplinks.valid_until(ledger.uplinks, source.network)
        if until <= at or source.length > pool.longest:  # what came from above may be smaller than any block
            continue
        found = _Search(ledger, request, pool, source, at).find()
        if found is not None:
            block, counter, exclude = found
            yield PrefixDelegated(
                prefix=block,
                client=request.client,
                iaid=request.iaid,
                delegation=pool.name,
                next_hop=request.next_hop,
                interface=request.interface,
                group=request.group,
                counter=counter,
                exclude=exclude,
                valid_until=min(until, at + pool.valid * MICROSECONDS),
                horizon=min(until, at + HORIZON[6] * pool.valid * MICROSECONDS),
            )
            return
    names = ", ".join(repr(pool.name) for pool, _ in sources)
    raise Refused("exhausted", f"no block is free in delegation {names}")


class _Search:
    """A search for a free block of one pool."""

    def __init__(self, ledger: Ledger, request: DelegatePrefix, pool: Delegation, source: Prefix, at: int) -> None:
        self._delegations = ledger.delegations
        self._secret = ledger.secret
        self._client, self._iaid = request.client, request.iaid
        self._pool, self._source, self._at = pool, source, at
        shortest = max(pool.shortest or pool.length, source.length)
        self._length = min(max(request.length or pool.length, shortest), pool.longest)
        self._kept = tuple(kept(ledger.plan, pool, ledger.uplinks))
        self._excludes = pool.exclude and request.excludes

    def find(self) -> tuple[Prefix, int, Prefix | None] | None:
        """A block, which candidate it is, and what is excluded of it."""
        delegations, client = self._delegations, self._client
        if self._pool.strategy != COUNTING:
            for n in range(TRIES):
                block = self._candidate(n)
                if delegations.former.get(block, client) == client and (found := self._given(block)):
                    return block, n, *found
        for block in islice(delegations.free(self._source, self._length), MAX_LOOKS):
            if delegations.former.get(block, client) == client and (found := self._given(block)):
                return block, 0, *found
        for block in delegations.former:  # what is free for longest
            if block.length == self._length and self._source.covers(block) and (found := self._given(block)):
                return block, 0, *found
        for block in islice(delegations.free(self._source, self._length), MAX_LOOKS):  # parts of what others had
            if found := self._given(block):
                return block, 0, *found
        return None

    def _candidate(self, n: int) -> Prefix:
        """By a keyed hash of what is cut, the client, its association and a counter (RFC 7943)."""
        bits = self._length - self._source.length
        message = (
            self._source.network
            + bytes([self._source.length, self._length])
            + self._client
            + self._iaid.to_bytes(4)
            + n.to_bytes(4)
        )
        digest = hashlib.blake2b(message, key=self._secret, digest_size=8, person=b"dnms-prefix").digest()
        number = int.from_bytes(digest) >> (64 - bits) if bits else 0
        return Prefix((self._source.first | number << (128 - self._length)).to_bytes(16), self._length)

    def _given(self, block: Prefix) -> tuple[Prefix | None] | None:
        """What is excluded of a block, if that is free for the client."""
        overlapping = [taken for taken in self._kept if taken.overlaps(block)]
        excluded = overlapping[0] if overlapping else None
        if len(overlapping) > 1 or (excluded is not None and not self._may_exclude(block, excluded)):
            return None
        return (excluded,) if self._delegations.is_free(block, self._client, self._at) else None

    def _may_exclude(self, block: Prefix, link: Prefix) -> bool:
        return self._excludes and block.covers(link) and block != link
