"""`what-if` over a log whose names are sealed: it is told of nodes by name, and tells of them by name."""

from __future__ import annotations

import tomllib
from collections.abc import Callable

import msgspec

from dnms.bus.memory import MemoryLog
from dnms.domain.document import from_builtins
from dnms.events import codec
from dnms.events.requests import ApplyPlan
from dnms.projections.replay.imagined import imagine
from dnms.projections.replay.wanted import Bound
from tests.unit.domain.clerk import client
from tests.unit.domain.test_what_if import ELSEWHERE, SECRET, SITE, Site


async def sealed(site: Site) -> MemoryLog:
    """The log of a site as its bus has it."""
    log = MemoryLog(SITE, log_id="one", now=lambda: 0)
    for stored in site.log:
        commit = stored.commit
        requests = await log.keys.seal([one.request for one in commit.decisions], patience=1)
        decisions = zip(commit.decisions, requests, strict=True)
        commit = msgspec.structs.replace(
            commit,
            events=tuple(await log.keys.seal(commit.events, patience=1)),
            decisions=tuple(msgspec.structs.replace(one, request=request) for one, request in decisions),
        )
        await log.store(stored.subject, codec.encode(commit), expected=commit.predecessor)
    return log


def planned(text: str) -> Callable[[Callable[[str], bytes]], ApplyPlan]:
    return lambda named: from_builtins(tomllib.loads(text), client_of=named)


async def test_nodes_have_their_names_and_are_found_by_them() -> None:
    site = Site()
    site.apply(ELSEWHERE.replace("192.0.2.64-192.0.2.79", "192.0.2.16-192.0.2.31"))
    for number in (1, 2):
        site.identify(number, f"host-{number}")
        site.allocate(number)
    log = await sealed(site)
    assert all(b"host-" not in record.data for record in log.records)
    reserving = ELSEWHERE + '[[reservation]]\naddress = "192.0.2.70"\nnode = "host-1"\n'
    found = await imagine(log, SITE, SECRET, since=Bound(len(site.log) + 1), plan_of=planned(reserving))
    assert sorted((move.node, move.client) for move in found.moves) == [
        ("host-1", client(1).hex()),
        ("host-2", client(2).hex()),
    ]
