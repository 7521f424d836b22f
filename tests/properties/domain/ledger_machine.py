"""Any sequence of requests to a ledger, settled in commits of any size, against a model of plain dicts.

Beside the ledger that decides are others that only fold what it has committed, as other agents do: one from the
beginning, and one that is started now and then. All decide alike, so drafts that were thrown away have left no trace.
"""

from __future__ import annotations

import random
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dnms.domain.aggregate import Answer, Fold, Question, Refused, resettle, settle
from dnms.domain.document import from_toml
from dnms.domain.ledger import Ledger
from dnms.domain.plan import PlanState
from dnms.events.codec import decode, encode
from dnms.events.commit import Commit, Stored
from dnms.events.ip import family, parse_address
from dnms.events.recorded import Request
from dnms.events.requests import (
    AdoptPlan,
    AllocateAddress,
    BlockAddress,
    DeclineAddress,
    ExpireAddresses,
    HoldAddress,
    MergeOutage,
    MoveAddress,
    ReleaseAddress,
    RenewAddress,
    UnholdAddress,
    WithdrawAddress,
)
from tests.properties.domain.ledger_model import GROUP, SECOND, UNKNOWN, Had, Model, Setting

SECRET = b"s" * 32
ABOUT_A_LEASE = (RenewAddress, ReleaseAddress, DeclineAddress, WithdrawAddress, MoveAddress)
BOUNDED = settings(max_examples=25, stateful_step_count=60, deadline=None)

clients = st.integers(0, 9).map(lambda number: number.to_bytes(16))
kinds = st.sampled_from([4, 6])
groups = st.sampled_from([0, 0, GROUP, UNKNOWN])
picks = st.lists(st.integers(0, 20), min_size=1, max_size=5)
addresses = st.one_of(
    st.integers(0, 16).map(lambda host: parse_address(f"192.0.2.{host}")),
    st.integers(0xE, 0x19).map(lambda host: parse_address(f"2001:db8::{host:x}")),
    st.integers(0, 4).map(lambda block: parse_address(f"2001:db8:0:{block}::9")),
    st.sampled_from([parse_address("2001:db8::fdff:ffff:ffff:ff81"), parse_address("2001:db8::7:0:0:9")]),
)


def adopting(setting: Setting, position: int) -> AdoptPlan:
    state = PlanState()
    for event in state.decide(from_toml(setting.text), at=0, entropy=bytes(32)):
        state.evolve(event, at=0, position=position)
    return AdoptPlan(plan=state.for_subnet("a"))


class LedgerMachine(RuleBasedStateMachine):
    """Of the plans of one strategy."""

    plans: ClassVar[tuple[Setting, ...]]

    def __init__(self) -> None:
        super().__init__()
        self.fold = Fold(Ledger(SECRET))
        self.twin = Fold(Ledger(SECRET))  # of an agent that only ever folds
        self.late = Fold(Ledger(SECRET))  # of one that starts now and then
        self.log: list[Stored] = []
        self.model = Model()
        self.now = 0
        self.adopted: dict[int, Setting] = {}  # by position of the plan
        self.waiting: list[Request] = []

    def leases(self, picks: list[int]) -> list[tuple[bytes, Had]]:
        """Some that are there; the smaller the number, the lower the address."""
        held = sorted(self.model.holders.items())
        return [held[pick % len(held)] for pick in picks] if held else []

    @initialize(index=st.integers(0, 9))
    def begin(self, index: int) -> None:
        self.adopt(index)
        self.commit()

    # -- what is asked

    @rule(who=st.lists(clients, min_size=1, max_size=8), kind=kinds, group=groups, now=st.booleans())
    def allocate(self, who: list[bytes], kind: Any, group: int, now: bool) -> None:
        self.waiting += [AllocateAddress(client=client, iaid=1, family=kind, group=group) for client in who]
        if now:
            self.commit()

    @rule(picked=picks, what=st.sampled_from(ABOUT_A_LEASE), now=st.booleans())
    def about_leases(self, picked: list[int], what: Any, now: bool) -> None:
        for address, had in self.leases(picked):
            self.waiting.append(what(client=had.client, iaid=had.iaid, address=address))
        if now:
            self.commit()

    @rule(picked=picks, what=st.sampled_from(ABOUT_A_LEASE), client=clients)
    def about_a_lease_of_perhaps_another(self, picked: list[int], what: Any, client: bytes) -> None:
        for address, _ in self.leases(picked):
            self.waiting.append(what(client=client, iaid=1, address=address))

    @rule(picked=picks, to=addresses)
    def move_to(self, picked: list[int], to: bytes) -> None:
        for address, had in self.leases(picked):
            self.waiting.append(MoveAddress(client=had.client, iaid=had.iaid, address=address, to=to))

    @rule(client=clients, kind=kinds, group=groups)
    def hold_what_it_would_have(self, client: bytes, kind: Any, group: int) -> None:
        self.waiting.append(HoldAddress(client=client, iaid=1, family=kind, group=group))

    @rule(client=clients, address=addresses)
    def hold(self, client: bytes, address: bytes) -> None:
        kind: Any = family(address)
        self.waiting.append(HoldAddress(client=client, iaid=1, family=kind, address=address))

    @rule(pick=st.integers(0, 20), client=st.one_of(st.none(), st.none(), clients))
    def unhold(self, pick: int, client: bytes | None) -> None:
        if kept := sorted(self.model.kept.items()):
            address, (whose, iaid) = kept[pick % len(kept)]
            self.waiting.append(UnholdAddress(client=client or whose, iaid=iaid, address=address))

    @rule(client=clients, address=addresses, holder=st.one_of(st.none(), clients))
    def block(self, client: bytes, address: bytes, holder: bytes | None) -> None:
        """Where nobody is named, who has it is."""
        had = self.model.holders.get(address)
        named = holder if holder is not None or had is None else had.client
        self.waiting.append(BlockAddress(client=client, address=address, cause=1, holder=named))

    @rule(picked=picks, client=clients, others=st.lists(addresses, max_size=2), seconds=st.sampled_from([-5, 100, 600]))
    def merge(self, picked: list[int], client: bytes, others: list[bytes], seconds: int) -> None:
        """What another agent gave in an outage: anything that a pool has, or what somebody has."""
        until, had = self.now + seconds * SECOND, [address for address, _ in self.leases(picked[:2])]
        for address in (*had, *others):
            if self.model.setting.has(address):
                pool = "six" if family(address) == 6 else "four"
                times = {"valid_until": until, "horizon": until, "happened": max(0, self.now - SECOND)}
                self.waiting.append(MergeOutage(client=client, iaid=1, address=address, pool=pool, **times))

    @rule(seconds=st.sampled_from([0, 1, 40, 99, 101, 250, 450]), limit=st.sampled_from([3, 100]))
    def wait(self, seconds: int, limit: int) -> None:
        self.now += seconds * SECOND
        self.waiting.append(ExpireAddresses(addresses=self.fold.state.due(self.now, limit)))
        self.commit()

    @rule(picked=picks)
    def expire_what_is_not_due(self, picked: list[int]) -> None:
        self.waiting.append(ExpireAddresses(addresses=tuple(address for address, _ in self.leases(picked))))

    @rule(index=st.integers(0, 9), often=st.integers(0, 5))
    def adopt_now_and_then(self, index: int, often: int) -> None:
        if not often:
            self.adopt(index)

    def adopt(self, index: int) -> None:
        self.commit()  # what is waiting was asked by the plan that was there
        position = len(self.adopted) + 1
        self.adopted[position] = self.plans[index % len(self.plans)]
        self.waiting.append(adopting(self.adopted[position], position))
        self.commit()

    # -- what comes of it

    @rule()
    def commit(self) -> None:
        chance = random.Random(len(self.log))
        questions = self.questions(self.waiting, chance)
        commit, answers = settle(
            self.fold.state,
            questions,
            commit_id=chance.randbytes(16),
            at=self.now,
            predecessor=len(self.log),
            actor="agent/a",
        )
        del self.waiting[: len(answers)]  # the rest want random bits by a plan that was adopted before them
        data = encode(commit)
        for fold in (self.fold, self.twin, self.late):
            if fold is not self.late or fold.sequence == len(self.log):
                assert encode(resettle(fold.state, commit)) == data, "recorded inputs reproduce the commit"
        stored = Stored(subject="l", sequence=len(self.log) + 1, stored_at=0, commit=decode(data), size=len(data))
        self.log.append(stored)
        for fold in (self.fold, self.twin):
            assert fold.take(stored)
            assert not fold.take(stored)
        self.take(commit)

    def questions(self, requests: list[Request], chance: random.Random) -> list[Question]:
        return [Question(each, chance.randbytes(self.fold.state.entropy(each))) for each in requests]

    def take(self, commit: Commit) -> None:
        sequence = len(self.log)
        for decision in commit.decisions:
            if decision.refused is not None:
                self.model.refused(decision.request, decision.refused, commit.time)
            if isinstance(decision.request, AdoptPlan):
                self.model.setting = self.adopted[decision.request.plan.position]
            for event in commit.events[decision.first : decision.first + decision.count]:
                self.model.happened(event, decision.request, commit.time, sequence)
        if commit.events:
            self.model.over(commit.time, sequence)

    @rule()
    def throw_away(self) -> None:
        """What was decided and not committed, since another agent was faster."""
        chance = random.Random(len(self.log) + 1)
        settle(
            self.fold.state,
            self.questions(self.waiting, chance),
            commit_id=bytes(16),
            at=self.now,
            predecessor=len(self.log),
            actor="agent/b",
        )

    @rule()
    def another_agent_starts(self) -> None:
        self.late = Fold(Ledger(SECRET))

    @rule(client=clients, kind=kinds, group=groups, seconds=st.sampled_from([0, 100, 500]))
    def all_agents_decide_alike(self, client: bytes, kind: Any, group: int, seconds: int) -> None:
        for stored in self.log:
            self.late.take(stored)
        requests: list[Request] = [
            AllocateAddress(client=client, iaid=1, family=kind, group=group),
            HoldAddress(client=client, iaid=1, family=kind, group=group),
            *(
                MoveAddress(client=had.client, iaid=had.iaid, address=address)
                for address, had in sorted(self.model.holders.items())[:2]
            ),
        ]
        at = self.now + seconds * SECOND
        for request in requests:
            entropy = random.Random(len(self.log)).randbytes(self.fold.state.entropy(request))
            answers = [answer(fold.state, request, at, entropy) for fold in (self.fold, self.twin, self.late)]
            assert answers[0] == answers[1] == answers[2]
        assert len({fold.state.due(at, 1000) for fold in (self.fold, self.twin, self.late)}) == 1

    @invariant()
    def the_ledger_is_the_model(self) -> None:
        for state in (self.fold.state, self.twin.state):
            held = {each.address: (each.client, each.iaid, each.horizon) for each in state.leases.values()}
            assert held == {address: (had.client, had.iaid, had.horizon) for address, had in self.model.holders.items()}
            assert dict(state.held) == self.model.kept
            assert sorted(state.due(self.now, 1000)) == sorted(
                address for address, had in self.model.holders.items() if had.horizon <= self.now
            )

    @invariant()
    def a_client_finds_what_it_has(self) -> None:
        state = self.fold.state
        found = {
            lease.address
            for client, iaid, kind in {lease.binding for lease in state.leases.values()}
            for lease in state.leases_of(client, iaid, kind)
        }
        assert found == set(self.model.holders)

    @invariant()
    def nobody_else_has_what_is_kept(self) -> None:
        for address, who in self.model.kept.items():
            had = self.model.holders.get(address)
            assert had is None or (had.client, had.iaid) == who or address in self.model.granted


def answer(state: Ledger, request: Request, at: int, entropy: bytes) -> Answer | str:
    try:
        return state.decide(request, at=at, entropy=entropy)
    except Refused as refusal:
        return refusal.why
