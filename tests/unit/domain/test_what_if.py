"""A plan that was not there, over a history that was: who moves, who is refused, when a pool is full."""

from __future__ import annotations

import tomllib

import pytest

from dnms.domain import what_if as domain
from dnms.domain.aggregate import Fold, Question, Refused, State, settle
from dnms.domain.document import from_builtins, from_toml
from dnms.domain.ledger import Ledger
from dnms.domain.nodes import NodeShard
from dnms.domain.plan import PlanState
from dnms.domain.what_if import MAX_NAMED, Imagined, WhatIf
from dnms.events import subjects
from dnms.events.address import AddressAllocated
from dnms.events.commit import Stored
from dnms.events.recorded import Event, Personal, Request
from dnms.events.requests import (
    AdoptPlan,
    AllocateAddress,
    ExpireAddresses,
    IdentifyNode,
    ReleaseAddress,
    RenewAddress,
)
from tests.unit.domain.clerk import client

SITE, SECRET = "s", b"s" * 32
SECOND = 1_000_000
HEAD = """
[site]
name = "s"
[[subnet]]
name = "office"
prefixes = ["192.0.2.0/24"]
"""
POOL = """
[[pool]]
name = "{name}"
subnet = "office"
range = "{range}"
strategy = "sequential"
valid = 100
preferred = 60
"""
WIDE = HEAD + POOL.format(name="wide", range="192.0.2.16-192.0.2.31")
NARROW = HEAD + POOL.format(name="narrow", range="192.0.2.16-192.0.2.18")
ELSEWHERE = HEAD + POOL.format(name="elsewhere", range="192.0.2.64-192.0.2.79")


class Site:
    """A log of one site, as its only writers leave it; one second a commit."""

    def __init__(self) -> None:
        self.log: list[Stored] = []
        self.plan = Fold(PlanState(SITE))
        self.ledger = Fold(Ledger(SECRET))
        self.shard = Fold(NodeShard())

    def ask(self, fold: Fold[State], subject: str, *requests: Request) -> tuple[Event, ...]:
        sequence = len(self.log) + 1
        questions = [Question(each, bytes(fold.state.entropy(each))) for each in requests]
        commit, _ = settle(
            fold.state,
            questions,
            commit_id=sequence.to_bytes(16),
            at=sequence * SECOND,
            predecessor=fold.sequence,
            actor="agent/a",
        )
        stored = Stored(subject=subject, sequence=sequence, stored_at=commit.time, commit=commit, size=1)
        fold.take(stored)
        self.log.append(stored)
        return commit.events

    def apply(self, text: str) -> None:
        self.ask(self.plan, subjects.plan(SITE), from_toml(text))  # type: ignore[arg-type]
        self.lease(AdoptPlan(plan=self.plan.state.for_subnet("office")))

    def lease(self, *requests: Request) -> tuple[Event, ...]:
        return self.ask(self.ledger, subjects.ledger(SITE, "office"), *requests)  # type: ignore[arg-type]

    def allocate(self, number: int) -> AddressAllocated:
        *_, event = self.lease(AllocateAddress(client=client(number), iaid=1, family=4))
        assert isinstance(event, AddressAllocated)
        return event

    def identify(self, number: int, name: str) -> None:
        asked = IdentifyNode(client=client(number), duid=Personal(b"d"), name=Personal(name), subnet="office")
        self.ask(self.shard, subjects.node(SITE, client(number)), asked)  # type: ignore[arg-type]


def imagined(site: Site, text: str, *, since: int) -> Imagined:
    """The plan in force from the commit `since` on."""
    what_if = WhatIf(SITE, SECRET)
    for stored in site.log:
        if stored.sequence == since:
            what_if.begin(from_builtins(tomllib.loads(text), client_of=what_if.named), at=stored.commit.time)
        what_if.take(stored)
    return what_if.result()


@pytest.fixture
def site() -> Site:
    """Six clients come; the first goes, and the second's lease expires; the others renew."""
    site = Site()
    site.apply(WIDE)  # 1 and 2
    for number in range(1, 7):
        site.identify(number, f"host-{number}")
    given = [site.allocate(number) for number in range(1, 7)]  # 9 to 14
    site.lease(ReleaseAddress(client=client(1), iaid=1, address=given[0].address))
    while site.log[-1].commit.time < given[1].horizon:
        site.identify(9, f"host-9-{len(site.log)}")
    site.lease(ExpireAddresses(addresses=(given[1].address,)))
    site.lease(*(RenewAddress(client=client(n), iaid=1, address=given[n - 1].address) for n in range(3, 7)))
    return site


def test_the_same_plan_changes_nothing(site: Site) -> None:
    for since in (3, 9, 12, 15, len(site.log)):
        found = imagined(site, WIDE, since=since)
        assert (found.otherwise, found.moved, found.refused, found.granted, found.withdrawn) == (0, 0, 0, 0, 0)
        [pool] = found.pools
        assert pool.held_last == len(site.ledger.state.leases) == 4
    assert imagined(site, WIDE, since=3).decisions == 6 + 1 + 4


def test_who_would_have_been_refused_and_when_the_pool_was_full(site: Site) -> None:
    found = imagined(site, NARROW, since=3)
    [pool] = found.pools
    assert (pool.size, pool.held_first, pool.held_most) == (3, 0, 3)
    assert pool.exhausted_at == 11 * SECOND  # by the third client
    assert pool.runs_out_at is None
    assert found.refused == 3
    assert [(each.node, each.why) for each in found.refusals] == [
        ("host-4", "exhausted"),
        ("host-5", "exhausted"),
        ("host-6", "exhausted"),
    ]
    # Two have gone, so of three who come again by renewing two are given what was theirs.
    assert pool.held_last == 3


def test_who_has_a_lease_that_the_plan_has_no_place_for_moves_at_once_and_loses_nothing(site: Site) -> None:
    found = imagined(site, ELSEWHERE, since=15)
    assert (found.withdrawn, found.moved, found.refused) == (0, 6, 0)
    assert [(move.node, move.had) for move in found.moves][:2] == [("host-1", "192.0.2.16"), ("host-2", "192.0.2.17")]
    assert all(move.would_have.startswith("192.0.2.") and move.at == 15 * SECOND for move in found.moves)
    assert all(64 <= int(move.would_have.rpartition(".")[2]) < 80 for move in found.moves)
    [pool] = found.pools
    assert (pool.held_first, pool.held_last) == (6, 4)  # one was released, one has expired there too


def test_a_growing_pool_has_a_date(site: Site) -> None:
    upto = Site()
    upto.log = site.log[:14]
    found = imagined(upto, WIDE, since=9)
    [pool] = found.pools
    assert (pool.held_first, pool.held_last, pool.exhausted_at) == (0, 6, None)
    # Six in five seconds; there is room for ten more.
    assert pool.runs_out_at == 14 * SECOND + 10 * 5 * SECOND // 6


def test_a_plan_that_is_none_is_refused(site: Site) -> None:
    with pytest.raises(Refused, match="not inside a prefix"):
        imagined(site, HEAD + POOL.format(name="x", range="198.51.100.0/28"), since=9)


def test_a_node_is_named_as_it_was_then(site: Site) -> None:
    reserving = WIDE + '[[reservation]]\naddress = "192.0.2.30"\nnode = "host-3"\n[[reservation]]\n'
    with pytest.raises(ValueError, match="no nodes were named 'host-7' then"):
        imagined(site, reserving + 'address = "192.0.2.31"\nnode = "host-7"\n', since=15)


def test_what_is_named_is_bounded() -> None:
    site = Site()
    site.apply(HEAD + POOL.format(name="wide", range="192.0.2.64-192.0.2.191"))
    for number in range(1, MAX_NAMED + 6):
        site.allocate(number)
    found = imagined(site, ELSEWHERE, since=3)
    assert (found.moved, len(found.moves)) == (0, 0)  # the first sixteen are given the same ones
    assert found.refused == MAX_NAMED + 5 - 16
    found = imagined(site, NARROW, since=3)
    assert (found.refused, len(found.refusals)) == (MAX_NAMED + 2, MAX_NAMED)


def test_what_would_be_full_after_the_last_year_does_not_run_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    [pool] = imagined(site, WIDE, since=3).pools
    assert pool.runs_out_at is not None
    monkeypatch.setattr(domain, "NEVER", pool.runs_out_at)
    assert [one.runs_out_at for one in imagined(site, WIDE, since=3).pools] == [None]
