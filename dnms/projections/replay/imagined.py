"""Another plan over the log of a site: from the first commit on, a commit at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from dnms.bus.port import Log
from dnms.domain.what_if import Imagined, WhatIf
from dnms.events.requests import ApplyPlan
from dnms.projections.replay.reading import commits
from dnms.projections.replay.wanted import Bound, is_ahead
from dnms.projections.text import microseconds


async def imagine(
    log: Log, site: str, secret: bytes, *, since: Bound, plan_of: Callable[[Callable[[str], bytes]], ApplyPlan]
) -> Imagined:
    """What would have come of a plan that is in force from `since` on.

    `plan_of` makes the plan, given who finds the client of a node by its name as of then. Refused, if the plan cannot
    be; what `plan_of` raises, Unfoldable, and what is wrong with the log.
    """
    await log.keys.load()  # the plan names nodes, and people want to read names; what is decided stays sealed
    what_if = WhatIf(site, secret, opened=log.keys.open)
    at = 0
    async with aclosing(commits(log, site)) as whole:
        async for stored in whole:
            if not what_if.begun and not is_ahead(stored, 0, since):
                at = stored.commit.time if since.time is None else microseconds(since.time)
                what_if.begin(plan_of(what_if.named), at=at)
            at = max(at, stored.commit.time)
            what_if.take(stored)
    if not what_if.begun:  # at the end of the log: what it would do to those that are there
        what_if.begin(plan_of(what_if.named), at=at)
    return what_if.result()
