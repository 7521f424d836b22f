"""A plan in waves: canaries, parts of all, each after the proof; what stops it, and how operators steer it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from dnms.domain import rollouts
from dnms.domain.assignment import assign
from dnms.domain.ledger import Ledger
from dnms.domain.ledger_dump import dump, load
from dnms.domain.rollouts import RollingOut, share
from dnms.events.ip import format_address
from dnms.events.recorded import Event
from dnms.events.requests import AdvanceRollout, ProveRollout, SteerRollout, StopRollout, TellRollout
from dnms.events.rollout import RolloutAborted, RolloutBegun, RolloutEnded, RolloutProven, RolloutStopped, RolloutTold
from tests.unit.domain.clerk import SECOND, Clerk, client

PLAN = """
[site]
name = "s"
[[subnet]]
name = "office"
prefixes = ["2001:db8:1:1::/64"]
dns = ["2001:db8::1"]
rollout = { canaries = 1, waves = [50, 100], pause = 60, within = 300 }
[[pool]]
name = "office-v6"
subnet = "office"
range = "2001:db8:1:1::/64"
"""
NODES = range(1, 21)
WITHIN = 300


def with_dns(address: str) -> str:
    return PLAN.replace("2001:db8::1", address)


class Site:
    """A ledger with twenty nodes, all of which have a session."""

    def __init__(self, plan: str = PLAN) -> None:
        self.clerk = Clerk(Ledger(b"k" * 32))
        self.clerk.adopt(plan)
        for number in NODES:
            self.clerk.allocate(number)

    @property
    def rollout(self) -> RollingOut:
        found = self.clerk.ledger.rollout
        assert found is not None
        return found

    def tell(self, numbers: Iterable[int] = NODES, *, at: int = 0) -> list[int]:
        request = TellRollout(position=self.rollout.position, clients=tuple(map(client, numbers)))
        told = [event for event in self.clerk.ask(request, at=at) if isinstance(event, RolloutTold)]
        return [int.from_bytes(each) for event in told for each in event.clients]

    def prove(self, numbers: Iterable[int], *, at: int = 0) -> tuple[Event, ...]:
        request = ProveRollout(position=self.rollout.position, clients=tuple(map(client, numbers)))
        return self.clerk.ask(request, at=at)

    def advance(self, *, at: int) -> tuple[Event, ...]:
        return self.clerk.ask(AdvanceRollout(position=self.rollout.position, wave=self.rollout.wave), at=at)

    def dns(self, number: int) -> str:
        ledger = self.clerk.ledger
        leases = ledger.leases_of(client(number), 1, 6)
        terms = assign(ledger, leases, client=client(number), group=0, at=0, epoch=0, position=1)
        return format_address(terms.assignment.resolver.servers[0])

    def dns_of_all(self) -> dict[int, str]:
        return {number: self.dns(number) for number in NODES}


@pytest.fixture
def site() -> Site:
    site = Site()
    events = site.clerk.adopt(with_dns("2001:db8::2"))
    assert isinstance(events[0], RolloutBegun)
    return site


def test_canaries_are_first_and_the_others_are_told_what_they_had(site: Site) -> None:
    assert set(site.dns_of_all().values()) == {"2001:db8::1"}
    [canary] = site.tell()
    assert site.tell() == []
    assert {number for number in NODES if site.dns(number) == "2001:db8::2"} == {canary}


def test_the_next_wave_comes_after_the_proof_and_the_pause_and_the_last_one_ends_it(site: Site) -> None:
    assert site.advance(at=1_000) == ()  # nobody has come that could be the canary
    [canary] = site.tell(at=1_000)
    assert site.advance(at=1_100) == ()
    assert len(site.prove([canary], at=1_010)) == 1
    assert site.prove([canary], at=1_011) == ()
    assert site.advance(at=1_069) == ()
    assert len(site.advance(at=1_070)) == 1
    half = site.tell(at=1_070)
    assert half == [n for n in NODES if n != canary and share(client(n), site.rollout.position) < 50]
    assert 0 < len(half) < len(NODES) - 1
    site.prove(half, at=1_080)
    site.advance(at=1_140)
    rest = site.tell(at=1_140)
    assert {canary, *half, *rest} == set(NODES)
    site.prove(rest, at=1_150)
    position = site.rollout.position
    assert site.advance(at=1_210) == (RolloutEnded(position=position, why="proven"),)
    assert site.clerk.ledger.rollout is None
    assert set(site.dns_of_all().values()) == {"2001:db8::2"}


def test_one_that_cannot_take_it_stops_it_and_an_operator_goes_on_or_back(site: Site) -> None:
    [canary] = site.tell()
    position = site.rollout.position
    stopped = site.clerk.ask(StopRollout(position=position, client=client(canary), why="rolled-back"))
    assert stopped == (RolloutStopped(position=position, client=client(canary), why="rolled-back"),)
    assert (site.rollout.status, site.rollout.stopped) == ("stopped", (client(canary), "rolled-back"))
    assert site.tell() == []
    assert site.advance(at=10_000) == ()
    assert site.clerk.refused(SteerRollout(to="pause")) == "not-running"
    site.clerk.ask(SteerRollout(to="resume"))
    site.advance(at=20_000)
    assert site.tell()
    assert site.clerk.ask(SteerRollout(to="abort")) == (RolloutAborted(position=position),)
    assert set(site.dns_of_all().values()) == {"2001:db8::1"}
    assert site.clerk.refused(SteerRollout(to="resume")) == "no-rollout"


def test_who_was_not_told_stops_nothing(site: Site) -> None:
    [canary] = site.tell()
    other = next(number for number in NODES if number != canary)
    asked = StopRollout(position=site.rollout.position, client=client(other), why="rolled-back")
    assert site.clerk.ask(asked) == ()
    assert site.prove([other]) == ()


def test_a_canary_that_says_nothing_stops_it_and_one_of_many_does_not(site: Site) -> None:
    [canary] = site.tell(at=0)
    silent = StopRollout(position=site.rollout.position, client=client(canary), why="silent")
    assert site.clerk.ask(silent, at=WITHIN - 1) == ()
    draft = site.clerk.ledger.draft()
    assert draft.decide(silent, at=WITHIN * SECOND, entropy=b"") != ()
    site.prove([canary], at=WITHIN)
    site.advance(at=WITHIN + 60)
    first, *others = site.tell(at=1_000)
    site.prove(others, at=1_010)
    assert site.advance(at=1_000 + WITHIN - 1) == ()
    late = StopRollout(position=site.rollout.position, client=client(first), why="silent")
    assert site.clerk.ask(late, at=1_000 + WITHIN) == ()
    assert len(site.advance(at=1_000 + WITHIN)) == 1


def test_a_pause_holds_it_and_what_is_proven_meanwhile_is_heard_after_it(site: Site) -> None:
    [canary] = site.tell()
    site.clerk.ask(SteerRollout(to="pause"))
    assert site.clerk.refused(SteerRollout(to="pause")) == "not-running"
    assert site.prove([canary]) == ()
    site.clerk.ask(SteerRollout(to="resume"))
    assert site.clerk.refused(SteerRollout(to="resume")) == "running"
    assert site.prove([canary]) == (RolloutProven(position=site.rollout.position, clients=(client(canary),)),)


def test_a_plan_that_comes_in_the_middle_begins_anew_and_each_node_goes_on_from_what_it_has(site: Site) -> None:
    [canary] = site.tell()
    site.clerk.adopt(with_dns("2001:db8::3"))
    expected = {number: "2001:db8::2" if number == canary else "2001:db8::1" for number in NODES}
    assert site.dns_of_all() == expected
    [next_canary] = site.tell([number for number in NODES if number != canary])
    assert site.dns_of_all() == {**expected, next_canary: "2001:db8::3"}


def test_no_more_plans_are_under_way_than_can_be_kept(site: Site) -> None:
    for number in range(3, 3 + rollouts.MAX_FORMER - 1):
        site.tell(list(NODES)[number - 3 :])
        site.clerk.adopt(with_dns(f"2001:db8::{number}"))
    site.tell()
    assert site.clerk.refused(site.clerk.adopting(with_dns("2001:db8::99"))) == "too-many-rollouts"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (PLAN, with_dns("2001:db8::2").replace("rollout", "# rollout")),
        (PLAN, PLAN.replace("pause = 60", "pause = 61")),
        (PLAN.replace("rollout", "# rollout"), PLAN.replace("rollout", "# rollout").replace('::1"]', '::2"]')),
        (PLAN, with_dns("2001:db8::2").replace("1:1::/64", "1:2::/64")),
    ],
    ids=["without waves", "other waves", "never had waves", "renumbered"],
)
def test_what_goes_to_all_at_once(before: str, after: str) -> None:
    site = Site(before)
    assert not any(isinstance(event, RolloutBegun) for event in site.clerk.adopt(after))
    assert site.clerk.ledger.rollout is None


def test_an_empty_subnet_has_nobody_to_wait_for() -> None:
    clerk = Clerk(Ledger(b"k" * 32))
    clerk.adopt(PLAN)
    clerk.adopt(with_dns("2001:db8::2"))
    assert clerk.ledger.rollout is None


def test_without_waves_a_running_rollout_ends(site: Site) -> None:
    site.tell()
    position = site.rollout.position
    first, *_ = site.clerk.adopt(with_dns("2001:db8::4").replace("rollout", "# rollout"))
    assert first == RolloutEnded(position=position, why="replaced")
    assert set(site.dns_of_all().values()) == {"2001:db8::4"}


def test_it_is_in_a_dump_whole(site: Site) -> None:
    [canary] = site.tell(at=5)
    rest, buffers = dump(site.clerk.ledger)
    copy = Ledger(b"k" * 32)
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(rest), type=type(rest))
    load(copy, read, memoryview(b"".join(buffers)))
    assert copy.rollout is not None
    assert copy.rollout.dump() == site.rollout.dump()
    assert rollouts.told(copy, client(canary), 0) != rollouts.told(copy, client(canary + 1), 0)


def test_a_draft_changes_nothing(site: Site) -> None:
    before = site.rollout.dump()
    draft = site.clerk.ledger.draft()
    request = TellRollout(position=site.rollout.position, clients=tuple(map(client, NODES)))
    for event in draft.decide(request, at=0, entropy=b""):
        draft.evolve(event, at=0, position=0)
    assert draft.rollout is not None
    assert draft.rollout.told
    assert site.rollout.dump() == before
