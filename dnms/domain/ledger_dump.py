"""A ledger's fold as bytes, from which it goes on as if it had been folded: small things, and a few large buffers."""

from __future__ import annotations

import msgspec

from dnms.domain.adopted import Adopted, Place
from dnms.domain.delegations import DelegationsDump
from dnms.domain.gateways import Gateway
from dnms.domain.given import GivenDump
from dnms.domain.horizons import HorizonsDump
from dnms.domain.leases import Binding, LeasesDump
from dnms.domain.ledger import Ledger
from dnms.domain.remembered import RememberedDump
from dnms.domain.rollouts import RollingOut, RolloutDump
from dnms.domain.sightings import SightingsDump
from dnms.domain.uplinks import Above
from dnms.events.ip import Prefix
from dnms.events.plan import AdoptedPlan


class LedgerDump(msgspec.Struct, frozen=True, kw_only=True):
    """All but the buffers. What can be told from the rest is not in it."""

    plan: AdoptedPlan
    leases: LeasesDump
    horizons: HorizonsDump
    others: tuple[tuple[Binding, tuple[bytes, ...]], ...]
    held: tuple[tuple[bytes, bytes, int], ...]  # address, client, IAID
    planned: tuple[tuple[bytes, bytes, int], ...]  # address, and whom the plan names
    remembered: RememberedDump
    blocks: tuple[tuple[bytes, bytes, int], ...]
    given: GivenDump
    gateways: dict[bytes, Gateway] = {}
    leaving: tuple[Place, ...] = ()
    rollout: RolloutDump | None = None
    delegations: DelegationsDump = DelegationsDump()
    uplinks: tuple[Above, ...] = ()
    lost: tuple[Prefix, ...] = ()
    sightings: SightingsDump = SightingsDump()


def dump(ledger: Ledger) -> tuple[LedgerDump, tuple[bytes, ...]]:
    """A ledger that is no draft; the buffers stay as they are while it goes on."""
    leases, buffers = ledger.table.dump()
    horizons, ends = ledger.horizons.dump()
    rest = LedgerDump(
        plan=ledger.plan,
        leases=leases,
        horizons=horizons,
        others=tuple(ledger.others.items()),
        held=tuple((address, *who) for address, who in ledger.held.items()),
        planned=tuple((address, *who) for address, who in ledger.planned.items()),
        remembered=ledger.remembered.dump(),
        blocks=ledger.blocks.dump(),
        given=ledger.given.dump(),
        gateways=dict(ledger.gateways),
        leaving=ledger.adopted.leaving,
        rollout=None if ledger.rollout is None else ledger.rollout.dump(),
        delegations=ledger.delegations.dump(),
        uplinks=tuple(ledger.uplinks.values()),
        lost=ledger.lost,
        sightings=ledger.sightings.dump(),
    )
    return rest, (*buffers, ends)


def load(ledger: Ledger, rest: LedgerDump, buffers: memoryview) -> None:
    """Make of an empty ledger what was dumped, its buffers one behind the other. ValueError if they do not fit.

    The buffers hold numbers in the byte order of the machine that dumped them.
    """
    leases = sum(rest.leases.sizes)
    ledger.adopted = Adopted(rest.plan, rest.leaving)
    ledger.rollout = None if rest.rollout is None else RollingOut.load(rest.rollout)
    ledger.table.load(rest.leases, buffers[:leases])
    ledger.horizons.load(rest.horizons, buffers[leases:])
    for lease in ledger.table.drained():
        ledger.drains.note(lease)
    ledger.others.update(rest.others)
    for address, client, iaid in rest.held:
        ledger.keep(address, client, iaid)
    ledger.planned.update({address: (client, iaid) for address, client, iaid in rest.planned})
    ledger.remembered.load(rest.remembered)
    ledger.blocks.load(rest.blocks)
    ledger.given.load(rest.given)
    ledger.gateways = rest.gateways
    ledger.delegations.load(rest.delegations)
    ledger.uplinks = {each.prefix: each for each in rest.uplinks}
    ledger.lost = rest.lost
    ledger.sightings.load(rest.sightings)
