"""The complete configuration that a node is assigned on a link, out of the ledger's fold."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

import msgspec

from dnms.domain import gateways, rollouts, uplinks
from dnms.domain.leases import Lease
from dnms.domain.ledger import Ledger
from dnms.domain.plan import PlanState
from dnms.domain.policy import policy_of
from dnms.events.configuration import AssignedAddress, AssignedPrefix, Assignment, Generation, Mode, Resolver
from dnms.kit.clock import MICROSECONDS

T1, T2 = 0.5, 0.8
"""When a client renews and rebinds, as fractions of the shortest preferred lifetime (RFC 8415, 14.2)."""


OWN_PREFIX = 64
"""Bits of the prefix that is on the link of a host that has one of its own (RFC 8273)."""

RETRY = 60
"""Seconds after which a node that got nothing asks again."""


OBSERVED = 7_200
"""Seconds of which T1 is told to a node that is only observed: when it is to be managed, it is told at once."""


class Terms(msgspec.Struct, frozen=True):
    """An assignment, and the seconds after which its node asks again."""

    assignment: Assignment
    renew_after: int
    rebind_after: int


def assign(
    ledger: Ledger,
    leases: Iterable[Lease],
    *,
    client: bytes,
    group: int,
    at: int,
    epoch: int,
    position: int,
    prefixes: Iterable[AssignedPrefix] = (),
    log: str = "",
) -> Terms:
    """What this `client`, the holder of `leases`, is told at the instant `at`, by a ledger folded up to `position`.

    `prefixes` are what it is delegated, `log` the id of the log that has that.
    Stateless data are those of its `group` (a number; 0: it is in none), whatever groups its addresses are of.

    A client is never told a lifetime past its lease's horizon. An address that is to be drained is deprecated
    (RFC 4862, 5.5.4): what it is used for goes on, and nothing new begins with it.
    """
    subnet = ledger.plan.subnet
    generation = Generation(epoch, ledger.plan_position, position)
    if subnet is None:
        return Terms(Assignment(generation=generation), RETRY, RETRY)
    addresses = addresses_of(ledger, leases, at=at)
    told = rollouts.told(ledger, client, group)
    policy = policy_of(told.policy)
    delegated = tuple(prefixes)
    renew_after, rebind_after = times_of(
        policy.mode, [*(each.preferred for each in addresses), *(each.preferred for each in delegated)]
    )
    assignment = Assignment(
        generation=generation,
        addresses=addresses,
        gateways=gateways.told(ledger.gateways, told.gateways or ()),
        routes=told.routes or (),
        resolver=Resolver(servers=told.dns or (), search=told.search or ()),
        ntp=told.ntp or (),
        mtu=told.mtu,
        policy=policy,
        prefixes=delegated,
        log=log if delegated else "",
    )
    return Terms(assignment, renew_after, rebind_after)


def times_of(mode: Mode | None, preferred: Iterable[int]) -> tuple[int, int]:
    """After how many seconds a node asks again, one agent and then any, by how long what it has is preferred."""
    again = OBSERVED if mode == "observe" else 2 * RETRY
    shortest = min([each for each in preferred if each], default=again)
    return max(1, int(shortest * T1)), max(1, int(shortest * T2))


def addresses_of(ledger: Ledger, leases: Iterable[Lease], *, at: int) -> tuple[AssignedAddress, ...]:
    """The addresses of these leases, with lifetimes from the instant `at` on: see `assign`."""
    if ledger.plan.subnet is None:
        return ()
    addresses = []
    for lease in leases:
        place = ledger.place_of(lease.address)
        if place is None:
            continue
        pool = place.pool
        until = min(lease.horizon, lease.drained_at) if lease.drained_at else lease.horizon
        cut_from = uplinks.above(ledger.uplinks, lease.address)
        if cut_from is not None:
            until = min(until, cut_from.valid_until)
        valid = min(pool.valid, max(0, until - at) // MICROSECONDS)
        preferred = 0 if lease.drained_at else min(pool.preferred, valid)
        if cut_from is not None:
            preferred = min(preferred, max(0, cut_from.preferred_until - at) // MICROSECONDS)
        if lease.drained_at and not valid:
            continue
        addresses.append(
            AssignedAddress(
                address=lease.address,
                prefix_length=OWN_PREFIX if pool.prefix_per_host else place.prefix.length,
                iaid=lease.iaid,
                preferred=preferred,
                valid=valid,
            )
        )
    return tuple(addresses)


def group_of(
    plan: PlanState, name: str, *, duid: bytes = b"", hardware: Iterable[bytes] = (), entered: str = ""
) -> int:
    """The number of the first group with a pattern that a node matches; 0 if there is none.

    The group with which an operator has `entered` the node wins, as long as the plan has it.
    A pattern is of its name, or with `duid:` or `hardware:` before it of one of these, as colons and hex digits.
    """
    if entered in plan.groups:
        return plan.groups[entered].number
    texts: tuple[str, ...] = ()
    for group in plan.groups.values():
        if group.nodes and not texts:  # as in few plans, and this is asked for each message
            texts = (name, f"duid:{duid.hex(':')}", *(f"hardware:{address.hex(':')}" for address in hardware))
        if any(fnmatchcase(text, pattern) for pattern in group.nodes for text in texts):
            return group.number
    return 0
