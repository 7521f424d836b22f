"""What was asked is decided again, on the state that the log gives before it."""

from __future__ import annotations

import pytest

from dnms.domain.aggregate import Fold, Question, resettle, settle
from dnms.domain.document import from_toml
from dnms.domain.ledger import Ledger
from dnms.domain.plan import PlanState
from dnms.domain.replay import Divergence, Replay, Unfoldable
from dnms.events.address import AddressAllocated, AddressReleased
from dnms.events.commit import Commit, Decision, Stored
from dnms.events.recorded import Request
from dnms.events.requests import AdoptPlan, AllocateAddress, ReleaseAddress
from tests.unit.domain.clerk import client

SITE, SECRET = "s", b"s" * 32
PLAN = """
[site]
name = "s"
[[subnet]]
name = "office"
prefixes = ["2001:db8::/64"]
[[pool]]
name = "hashed"
subnet = "office"
range = "2001:db8::/64"
"""


class Recorder:
    """A log of one ledger, as its only writer leaves it."""

    def __init__(self) -> None:
        self.fold = Fold(Ledger(SECRET))
        self.log: list[Stored] = []

    def settle(self, *requests: Request) -> Stored:
        sequence = len(self.log) + 1
        questions = [Question(each, bytes(self.fold.state.entropy(each))) for each in requests]
        commit, _ = settle(
            self.fold.state,
            questions,
            commit_id=sequence.to_bytes(16),
            at=sequence * 1_000_000,
            predecessor=self.fold.sequence,
            actor="agent/a",
        )
        return self.write(commit)

    def write(self, commit: Commit) -> Stored:
        stored = Stored(
            subject="dnms.s.ledger.office", sequence=len(self.log) + 1, stored_at=commit.time, commit=commit, size=1
        )
        self.fold.take(stored)
        self.log.append(stored)
        return stored


def adopting() -> AdoptPlan:
    state = PlanState()
    for event in state.decide(from_toml(PLAN), at=0, entropy=bytes(32)):
        state.evolve(event, at=0, position=1)
    return AdoptPlan(plan=state.for_subnet("office"))


def allocating(number: int) -> AllocateAddress:
    return AllocateAddress(client=client(number), iaid=1, family=6)


@pytest.fixture
def recorder() -> Recorder:
    recorder = Recorder()
    recorder.settle(adopting())
    given = recorder.settle(allocating(1), allocating(2), AllocateAddress(client=client(3), iaid=1, family=4))
    first = given.commit.events[0]
    assert isinstance(first, AddressAllocated)
    recorder.settle(ReleaseAddress(client=client(1), iaid=1, address=first.address), allocating(1))
    return recorder


def divergences(log: list[Stored]) -> list[Divergence]:
    replay, found = Replay(SITE, SECRET), list[Divergence]()
    for stored in log:
        found += replay.divergences(stored)
        replay.take(stored)
    return found


def test_the_same_release_decides_alike(recorder: Recorder) -> None:
    assert [len(each.commit.decisions) for each in recorder.log] == [1, 3, 2]
    assert divergences(recorder.log) == []


def test_every_part_of_a_decision_is_compared(recorder: Recorder) -> None:
    """Whatever `resettle` would give otherwise is found, and it alone."""
    replay = Replay(SITE, SECRET)
    replay.take(recorder.log[0])
    stored = recorder.log[1]
    commit = stored.commit
    one, two, three = commit.decisions

    def changed(**changes: object) -> Stored:
        other = Commit(**{**{name: getattr(commit, name) for name in Commit.__struct_fields__}, **changes})
        assert resettle(replay.ledgers[stored.subject], other) != other
        return Stored(subject=stored.subject, sequence=2, stored_at=0, commit=other, size=1)

    def again(decision: Decision, **changes: object) -> Decision:
        return Decision(**{**{name: getattr(decision, name) for name in Decision.__struct_fields__}, **changes})

    [found] = replay.divergences(changed(decisions=(one, two, again(three, refused="exhausted"))))
    assert (found.index, found.recorded.refused, found.decided.refused) == (2, "exhausted", "no-pool")
    [found] = replay.divergences(changed(decisions=(one, again(two, first=1, count=0, refused="exhausted"), three)))
    assert (found.index, found.decided.events) == (1, commit.events[1:2])
    swapped = changed(events=commit.events[::-1])
    assert [each.index for each in replay.divergences(swapped)] == [0, 1]
    assert [each.decided.plan for each in replay.divergences(changed(plan=7))] == [1, 1, 1]
    assert list(replay.divergences(stored)) == []


def test_one_that_differs_does_not_make_others_differ(recorder: Recorder) -> None:
    """The recorded outcomes are what the next decision finds, in its own commit and in later ones."""
    replay = Replay(SITE, SECRET)
    replay.take(recorder.log[0])
    commit = recorder.log[1].commit
    ours, _, _ = commit.decisions
    elsewhere = AddressAllocated(
        address=bytes.fromhex("20010db8" + 23 * "0" + "9"),
        client=client(1),
        iaid=1,
        pool="hashed",
        valid_until=9,
        horizon=9,
    )
    released = ReleaseAddress(client=client(1), iaid=1, address=elsewhere.address)
    other = Commit(
        id=commit.id,
        time=commit.time,
        predecessor=1,
        actor="agent/of-another-release",
        plan=1,
        decisions=(ours, Decision(request=released, at=commit.time, first=1, count=1)),
        events=(elsewhere, AddressReleased(address=elsewhere.address, client=client(1), iaid=1)),
    )
    [found] = replay.divergences(Stored(subject="dnms.s.ledger.office", sequence=2, stored_at=0, commit=other, size=1))
    assert found.index == 0


def broken(*_: object, **__: object) -> None:
    raise KeyError("defect")


def test_a_decision_that_fails_or_lacks_its_chance_is_told(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    replay = Replay(SITE, SECRET)
    replay.take(recorder.log[0])
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "entropy", lambda *_: 16)
        assert {each.decided.failed for each in replay.divergences(recorder.log[1])} == {
            "wants 16 random bytes, and 0 are recorded"
        }
    with monkeypatch.context() as patch:
        patch.setattr("dnms.domain.allocating.allocate", broken)
        assert {each.decided.failed for each in replay.divergences(recorder.log[1])} == {
            "fails with KeyError('defect')"
        }


def test_what_was_merely_seen_is_not_decided(recorder: Recorder) -> None:
    commit = recorder.log[1].commit
    bare = Commit(id=commit.id, time=commit.time, predecessor=1, actor="a", events=commit.events)
    replay = Replay(SITE, SECRET)
    replay.take(recorder.log[0])
    for subject in ("dnms.s.ledger.office", "dnms.s.seen.office.east", "dnms.s.effect.firewall.a"):
        stored = Stored(subject=subject, sequence=2, stored_at=0, commit=bare, size=1)
        assert list(replay.divergences(stored)) == []
    assert replay.state("dnms.s.seen.office.east") is None


def test_an_event_that_cannot_be_folded_is_named() -> None:
    gone = AddressReleased(address=bytes(16), client=client(1), iaid=1)
    commit = Commit(id=bytes(16), time=0, predecessor=0, actor="a", events=(gone,))
    stored = Stored(subject="dnms.s.ledger.office", sequence=5, stored_at=0, commit=commit, size=1)
    with pytest.raises(
        Unfoldable, match=r"ledger\.office: this release cannot fold address\.released .* at 5: KeyError"
    ):
        Replay(SITE, SECRET).take(stored)
