"""What an agent may give while the log is away: what a hash over a range so large chooses that nobody else has it.

The ledger that is asked is a draft: the fold as the agent has it, with what its own journal gave since. It may be
behind, so nothing here denies anything; what cannot be given is refused `outage`, and asked for again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dnms.domain.aggregate import Refused
from dnms.domain.allocating import Search, fits, may_have
from dnms.domain.reserved import prefix_in
from dnms.events.ip import family
from dnms.events.plan import AdoptedPlan, Pool
from dnms.events.requests import AllocateAddress, MergeOutage
from dnms.kit.clock import MICROSECONDS

if TYPE_CHECKING:
    from dnms.domain.leases import Lease
    from dnms.domain.ledger import Ledger

OUTAGE: Final = "outage"
"""Not now: the log cannot be reached, and what is asked for needs it."""

LIFETIME: Final = 600
"""Seconds for which an address is given at a time, so that one that two clients have is soon one's alone."""

SMALLEST: Final = 1 << 40
"""Addresses of a range. With 10 000 clients on either side of a partition two of them get one address of such a range
once in 10 000 outages; of a whole /64, where 48 bits are hashed, once in 2 000 000."""

HASH: Final = "hash"


def grant(ledger: Ledger, request: AllocateAddress, *, at: int, since: int = 0) -> MergeOutage:
    """What the client is given at the instant `at`, for the journal; what it has is given again, first at `since`.

    Refused `outage`.
    """
    subnet = ledger.plan.subnet
    if subnet is None or subnet.strict:
        raise Refused(OUTAGE, "the plan gives nothing here while the log is away")
    lease = ledger.lease(request.client, request.iaid, request.family)
    if lease is not None:
        return _granted(ledger, request, _giving(ledger, lease.address, lease.group), lease, at=at, since=since)
    kept = ledger.holds.get((request.client, request.iaid, request.family), ())
    address = next((each for each in kept if may_have(ledger, request, each, at)), None)
    if address is not None:
        return _granted(ledger, request, _giving(ledger, address, request.group), address, at=at)
    if request.group and request.group not in ledger.plan.groups.values():
        raise Refused(OUTAGE, f"the plan has no group with number {request.group:#06x} yet")
    for pool in ledger.plan.pools:
        prefix = prefix_in(subnet, pool.first)
        if prefix is None or family(pool.first) != request.family or not gives(ledger, pool, request.group):
            continue
        begin = ledger.remembered.counter((request.client, request.iaid, prefix))
        found = Search(ledger, request, pool, subnet, at=at, entropy=b"").find(begin)
        if found is not None:
            return _granted(ledger, request, pool, found[0], at=at, counter=found[1])
    raise Refused(OUTAGE, f"while the log is away nothing of IPv{request.family} is given here")


def gives(ledger: Ledger, pool: Pool, group: int) -> bool:
    """Whether members of the group may be given addresses of the pool while the log is away."""
    return (
        pool.outage
        and pool.strategy == HASH
        and family(pool.first) == 6
        and not pool.prefix_per_host
        and ledger.adopted.ranges(pool, group).size >= SMALLEST
    )


def longest(plan: AdoptedPlan) -> int:
    """Seconds for which an address may have been given at most while the log was away."""
    may_give = (pool for pool in plan.pools if pool.outage and pool.strategy == HASH and family(pool.first) == 6)
    return max((min(pool.valid, LIFETIME) for pool in may_give), default=0)


def _giving(ledger: Ledger, address: bytes, group: int) -> Pool:
    """The pool of an address that is given again, or was kept for who asks. Refused `outage`."""
    pool = ledger.pool_of(address)
    if pool is None or not gives(ledger, pool, group) or not fits(ledger, pool, address, group):
        raise Refused(OUTAGE, "this address is given with the log alone")
    return pool


def _granted(
    ledger: Ledger,
    request: AllocateAddress,
    pool: Pool,
    what: bytes | Lease,
    *,
    at: int,
    counter: int = 0,
    since: int = 0,
) -> MergeOutage:
    address, group = (what, request.group) if isinstance(what, bytes) else (what.address, what.group)
    until = at + min(pool.valid, LIFETIME) * MICROSECONDS
    return MergeOutage(
        client=request.client,
        iaid=request.iaid,
        address=address,
        pool=pool.name,
        group=group,
        counter=counter,
        valid_until=until,
        horizon=until,
        happened=since or at,
    )
