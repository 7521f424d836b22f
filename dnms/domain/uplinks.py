"""What a router has from above, and the plan of its link with that: a fold of `uplink.*`.

A plan says of a link with an uplink that its prefix is the n-th /64 of what comes there, and gives the ranges of its
pools in ::/64. What a ledger decides by is that plan resolved: so a change above is a change of the plan here, and what
is given below is drained, or ends, as it does when an operator changes a prefix.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from dnms.domain.plan_delegation import is_relative
from dnms.events.ip import Prefix
from dnms.events.plan import AdoptedPlan, Pool
from dnms.events.requests import ReportUplink, UplinkPrefix
from dnms.events.uplink import Source, UplinkDeprecated, UplinkLost, UplinkReceived
from dnms.kit.clock import MICROSECONDS

LINK: Final = 64
"""Bits of a link's prefix."""

JITTER: Final = 2 * MICROSECONDS
"""What was told in seconds and took a while to come is told again as the same instant, more or less."""

GAIN: Final = 10
"""The part of a lifetime by which it has to be longer than is recorded, to be recorded anew."""

LINGER: Final = 60 * MICROSECONDS
"""For how long a prefix that was cut above is deprecated here before it is lost. Nobody below can be reached by it any
more; but who loses its address before it has another one cannot even be told that (RFC 9096, 3.4 and 3.5)."""

CUT: Final = "cut"
"""Why a prefix is no more of which nobody has said anything."""

MAX_LOST: Final = 16
"""Prefixes that are lost and remembered: what is cut from one may take several commits to end."""

ENDLESS: Final = (1 << 63) - 1
"""The end of what does not come from above."""

Happened = UplinkReceived | UplinkDeprecated | UplinkLost


class Above(msgspec.Struct, frozen=True):
    """A prefix that this router has. Instants are microseconds since 1970-01-01 UTC."""

    uplink: str
    prefix: Prefix
    preferred_until: int
    valid_until: int
    source: Source
    exclude: Prefix | None = None
    agent: str = ""  # whose machine has it
    deprecated: bool = False


Uplinks = Mapping[Prefix, Above]
"""All that a router has from above, in the order in which it came. It never changes: `evolve` makes another one."""


def evolve(uplinks: Uplinks, event: Happened) -> Uplinks:
    """With one event more."""
    there = dict(uplinks)
    match event:
        case UplinkReceived():
            fields = {name: getattr(event, name) for name in event.__struct_fields__}
            there[event.prefix] = Above(**fields)
        case UplinkDeprecated():
            before = there.get(event.prefix)
            exclude = None if before is None else before.exclude
            there[event.prefix] = Above(
                event.uplink, event.prefix, 0, event.valid_until, event.source, exclude, event.agent, deprecated=True
            )
        case UplinkLost():
            there.pop(event.prefix, None)
    return there


def above(uplinks: Uplinks, address: bytes) -> Above | None:
    """What an address, or a prefix that begins with it, is cut from; None: it does not come from above.

    Where one prefix from above lies in another, as it does while a delegation above grows, it is what lasts longest.
    """
    found = (each for each in uplinks.values() if address in each.prefix)
    return max(found, key=lambda each: (each.valid_until, each.preferred_until), default=None)


def valid_until(uplinks: Uplinks, address: bytes) -> int:
    """Until when what begins with this address can be promised."""
    return ENDLESS if (cut_from := above(uplinks, address)) is None else cut_from.valid_until


def is_lost(before: Iterable[Prefix], after: Uplinks, address: bytes) -> bool:
    """Whether it was cut from one of these prefixes, and comes from above no longer."""
    return any(address in prefix for prefix in before) and above(after, address) is None


def lost(before: tuple[Prefix, ...], event: Happened) -> tuple[Prefix, ...]:
    """What is lost, with one event more: a fold."""
    if not isinstance(event, UplinkLost):
        return before
    return (*(prefix for prefix in before if prefix != event.prefix), event.prefix)[-MAX_LOST:]


def newest(uplinks: Uplinks) -> Above | None:
    """Of which the pools give: what came last of those that are not deprecated, else of all."""
    several = list(uplinks.values())
    return next((each for each in reversed(several) if not each.deprecated), several[-1] if several else None)


def happened(uplinks: Uplinks, request: ReportUplink, *, at: int) -> Iterator[Happened]:
    """What has become of what is above, by what is reported of that."""
    reported = {each.prefix: each for each in request.prefixes if each.valid_until > at}
    for each in reported.values():
        known = uplinks.get(each.prefix)
        if each.preferred_until <= at:
            if known is None or not known.deprecated or _moved(known.valid_until, each.valid_until):
                yield UplinkDeprecated(
                    uplink=request.uplink,
                    prefix=each.prefix,
                    valid_until=each.valid_until,
                    source=_source(request, each),
                    agent=request.agent,
                )
        elif known is None or known.deprecated or _is_news(known, each, at):
            yield UplinkReceived(
                uplink=request.uplink,
                prefix=each.prefix,
                preferred_until=each.preferred_until,
                valid_until=each.valid_until,
                source=_source(request, each),
                exclude=each.exclude,
                agent=request.agent,
            )
    for known in uplinks.values():
        is_others = known.agent not in ("", request.agent) and known.valid_until > at + JITTER
        if known.prefix in reported or is_others:
            continue
        if known.valid_until <= at + JITTER or request.why != CUT:
            why = "expired" if known.valid_until <= at + JITTER else request.why
            yield UplinkLost(uplink=request.uplink, prefix=known.prefix, why=why)
        elif not known.deprecated or known.valid_until > at + LINGER:
            until = min(known.valid_until, at + LINGER)
            yield UplinkDeprecated(
                uplink=request.uplink,
                prefix=known.prefix,
                valid_until=until,
                source=known.source,
                agent=known.agent,
            )


def shortens(uplinks: Uplinks, event: Happened) -> bool:
    """Whether what is cut from a prefix ends sooner by this than before."""
    known = uplinks.get(event.prefix)
    if known is None or not isinstance(event, UplinkReceived):
        return known is not None
    return event.valid_until < known.valid_until or event.preferred_until < known.preferred_until


def _source(request: ReportUplink, each: UplinkPrefix) -> Source:
    if not each.position:
        return request.source
    return msgspec.structs.replace(request.source, position=each.position)


def left(uplinks: Uplinks, plan: AdoptedPlan) -> Iterator[UplinkLost]:
    """The ends of what came from an uplink that a plan has no more."""
    for each in uplinks.values():
        if plan.uplink is None or plan.uplink.name != each.uplink:
            yield UplinkLost(uplink=each.uplink, prefix=each.prefix, why="not-planned")


def _is_news(known: Above, told: UplinkPrefix, at: int) -> bool:
    if known.exclude != told.exclude:
        return True
    ends = (known.preferred_until, told.preferred_until), (known.valid_until, told.valid_until)
    # A server may have itself asked every second, and each time it lasts a second longer.
    return any(_moved(*each) and each[1] - each[0] not in range((each[1] - at) // GAIN) for each in ends)


def _moved(one: int, other: int) -> bool:
    return abs(one - other) > JITTER


def planned(plan: AdoptedPlan) -> AdoptedPlan:
    """As operators wrote it: without what came from above."""
    subnet = plan.subnet
    if subnet is None or not (plan.cut or plan.relative):
        return plan
    pools = plan.relative or plan.pools
    subnet = msgspec.structs.replace(subnet, prefixes=subnet.prefixes[len(plan.cut) :])
    return msgspec.structs.replace(plan, subnet=subnet, pools=pools, cut=(), relative=())


def resolved(plan: AdoptedPlan, uplinks: Uplinks) -> AdoptedPlan:
    """With the link's /64 of each prefix from above, and the pools of ::/64 in the one that is given of."""
    subnet = plan.subnet
    has_relative = any(map(is_relative, plan.pools))
    if subnet is None or not (has_relative or subnet.downlink.uplink):
        return plan
    best = newest(uplinks)
    ordered = sorted(uplinks.values(), key=lambda each: each is not best)
    cut = tuple(link for each in ordered if (link := nth_link(each.prefix, subnet.downlink.nth)) is not None)
    first = None if best is None else nth_link(best.prefix, subnet.downlink.nth)
    return msgspec.structs.replace(
        plan,
        subnet=msgspec.structs.replace(subnet, prefixes=(*cut, *subnet.prefixes)),
        pools=tuple(_placed(plan.pools, first)),
        cut=cut,
        relative=plan.pools if has_relative else (),
    )


def nth_link(prefix: Prefix, nth: int) -> Prefix | None:
    """The n-th /64 of a prefix; None if it has not so many."""
    if prefix.length > LINK or nth >> (LINK - prefix.length):
        return None
    return Prefix((prefix.first + (nth << LINK)).to_bytes(16), LINK)


def _placed(pools: Iterable[Pool], link: Prefix | None) -> Iterator[Pool]:
    """The pools, those of ::/64 in a link's prefix; without that they give nothing."""
    for pool in pools:
        if not is_relative(pool):
            yield pool
        elif link is not None:
            network = link.network[:8]
            yield msgspec.structs.replace(pool, first=network + pool.first[8:], last=network + pool.last[8:])
