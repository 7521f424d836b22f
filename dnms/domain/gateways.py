"""Which gateways the nodes of a link are told, and in which order.

The plan names them, or has them learned from the routers that advertise themselves on the link (RFC 4861, 6.3.4). One
that does not answer any more comes last, and is never taken away: where all are silent, the link may be. A learned one
goes when its router says so, or when its advertisement is over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from dnms.domain.aggregate import Refused
from dnms.events.gateway import GatewayAppeared, GatewayVanished
from dnms.events.plan import AdoptedPlan
from dnms.events.recorded import Event
from dnms.events.requests import ReportGateway

if TYPE_CHECKING:
    from dnms.domain.ledger import Ledger

MAX_LEARNED: Final = 8
"""Routers that are learned on one link: anybody there can advertise as many as they like."""


class Gateway(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a gateway beside the plan."""

    learned: bool
    preference: int
    silent: bool


Gateways = Mapping[bytes, Gateway]
"""By address, in the order in which they appeared; of those in the plan only the silent ones."""


def report(ledger: Ledger, request: ReportGateway) -> Iterator[Event]:
    """What is new in what an agent has seen of a router. Refused `too-many-gateways`."""
    address, known, plan = request.address, ledger.gateways.get(request.address), ledger.plan
    match request.seen:
        case "advertised":
            is_new = known is None or (not known.silent and known.preference != request.preference)
            if is_learning(plan) and is_new and address not in named(plan):
                if known is None and sum(each.learned for each in ledger.gateways.values()) >= MAX_LEARNED:
                    raise Refused("too-many-gateways", f"{MAX_LEARNED} routers of the link are known already")
                yield GatewayAppeared(address=address, learned=True, preference=request.preference)
        case "answers":
            if known is not None and known.silent:
                yield GatewayAppeared(address=address, learned=known.learned, preference=known.preference)
        case "silent":
            if (known is None and address in named(plan)) or (known is not None and not known.silent):
                yield GatewayVanished(address=address, why=request.seen)
        case "farewell" | "expired":
            if known is not None and known.learned:
                yield GatewayVanished(address=address, why=request.seen)


def evolve(gateways: Gateways, event: GatewayAppeared | GatewayVanished) -> Gateways:
    """What is known after an event; the former stays as it was, since drafts share it."""
    after, address = dict(gateways), event.address
    if isinstance(event, GatewayAppeared):
        if event.learned:
            after[address] = Gateway(True, event.preference, False)
        else:
            after.pop(address, None)
    elif event.why == "silent":
        known = gateways.get(address, Gateway(False, 0, False))
        after[address] = Gateway(known.learned, known.preference, True)
    else:
        after.pop(address, None)
    return after


def wanted(gateways: Gateways, plan: AdoptedPlan) -> Gateways:
    """Those that another plan has a use for."""
    names, learning = named(plan), is_learning(plan)
    return {
        address: known
        for address, known in gateways.items()
        if (known.learned and learning and address not in names) or (not known.learned and address in names)
    }


def told(gateways: Gateways, configured: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """In the order of preference: what is configured, then what is learned; what is silent behind both."""
    learned = [address for address, known in gateways.items() if known.learned and address not in configured]
    learned.sort(key=lambda address: -gateways[address].preference)
    return tuple(sorted((*configured, *learned), key=lambda address: address in gateways and gateways[address].silent))


def is_learning(plan: AdoptedPlan) -> bool:
    """Whether nodes are told of routers that the plan does not name."""
    return plan.subnet is not None and plan.subnet.learn_gateways


def named(plan: AdoptedPlan) -> frozenset[bytes]:
    """Those that the plan tells anybody on the link."""
    if plan.subnet is None:
        return frozenset()
    of_groups = (address for told in plan.subnet.groups.values() for address in told.gateways or ())
    return frozenset((*plan.subnet.gateways, *of_groups))
