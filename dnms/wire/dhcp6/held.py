"""The prefixes that a client has, and what a Reply makes of them (RFC 8415, 18.2.10.1)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from dnms.events.ip import Prefix, is_link_local
from dnms.wire.dhcp6.associations import IaPd, IaPrefix
from dnms.wire.dhcp6.codes import Status

MAX_PREFIXES = 16
"""Of one association. A line has one or two, and while it is renumbered twice as many; more is a broken server."""

MIN_T1 = 1.0
"""Seconds after which a client renews at the earliest, whatever a server says."""

_T1_PART, _T2_PART = 0.5, 0.8  # of the preferred lifetime (RFC 8415, 21.21)
_SHORTEST, _LONGEST = 8, 64  # bits of a prefix that somebody can have, and of which a link can be made


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A delegated prefix. Instants are seconds of its client's clock."""

    prefix: Prefix
    preferred_until: float
    valid_until: float
    exclude: Prefix | None = None  # of it, what stays with the delegating router (RFC 6603)


def offered(pd: IaPd) -> tuple[IaPrefix, ...]:
    """Those of an association that can be used, each once."""
    found = {each.prefix: each for each in pd.prefixes if each.valid and _is_usable(each)}
    return tuple(found.values())[:MAX_PREFIXES]


def merged(held: Iterable[Held], pd: IaPd, now: float) -> tuple[Held, ...]:
    """What a client has after a Reply: new ones first, then those that it had and that were not ended.

    What a server does not speak of lives on until its time.
    """
    told = {each.prefix for each in pd.prefixes if _is_usable(each)}
    stays = tuple(each for each in held if each.prefix not in told)
    given = tuple(
        Held(
            prefix=each.prefix,
            preferred_until=now + each.preferred,
            valid_until=now + each.valid,
            exclude=each.exclude,
        )
        for each in offered(pd)
    )
    return (*given, *stays)[:MAX_PREFIXES]


def timers(pd: IaPd) -> tuple[float, float]:
    """T1 and T2 in seconds: as the server says, else as RFC 8415, 21.21 has them; never too soon."""
    given = offered(pd)
    shortest = min((each.preferred for each in given if each.preferred), default=0)
    shortest = shortest or min((each.valid for each in given), default=0)  # all deprecated: look for others in time
    t1 = pd.t1 or min(_T1_PART * shortest, pd.t2 or shortest)
    t2 = pd.t2 or max(_T2_PART * shortest, t1)
    t1 = max(MIN_T1, float(t1))
    return t1, max(t1, float(t2))


def is_sound(pd: IaPd) -> bool:
    """Whether T1 and T2 can be meant (RFC 8415, 21.21)."""
    return not (pd.t1 and pd.t2) or pd.t1 <= pd.t2


def _is_usable(each: IaPrefix) -> bool:
    """Whether it was given or ended, can be anybody's, and has lifetimes that can be meant (RFC 8415, 21.22)."""
    prefix = each.prefix
    return (
        (each.status is None or each.status.code == Status.SUCCESS)
        and each.preferred <= each.valid
        and _SHORTEST <= prefix.length <= _LONGEST
        and prefix.network[0] not in (0x00, 0xFF)
        and not is_link_local(prefix.network)
    )
