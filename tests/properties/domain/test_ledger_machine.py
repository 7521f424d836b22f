"""Any sequence of requests, settled in commits of any size: the promises of the ledger hold after each."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dnms.domain.aggregate import Fold, Question, Refused, resettle, settle
from dnms.domain.document import from_toml
from dnms.domain.ledger import Ledger
from dnms.domain.plan import PlanState
from dnms.domain.reusable import Reusable
from dnms.events.address import (
    AddressAllocated,
    AddressDeclined,
    AddressExpired,
    AddressReleased,
    AddressRenewed,
)
from dnms.events.codec import decode, encode
from dnms.events.commit import Stored
from dnms.events.ip import family
from dnms.events.recorded import Event, Request
from dnms.events.requests import (
    AdoptPlan,
    AllocateAddress,
    DeclineAddress,
    ExpireAddresses,
    ReleaseAddress,
    RenewAddress,
)

SECOND = 1_000_000
PLANS = [
    f"""
[site]
name = "s"
[[group]]
name = "g"
number = 7
[[subnet]]
name = "a"
prefixes = ["2001:db8::/64", "192.0.2.0/{prefix}"]
gateways = ["192.0.2.{gateway}"]
[[pool]]
name = "six"
subnet = "a"
range = "{six}"
valid = 100
preferred = 50
[[pool]]
name = "four"
subnet = "a"
range = "192.0.2.0/{prefix}"
valid = 100
preferred = 50
quarantine = 200
"""
    for prefix, six, gateway in (
        (29, "2001:db8::/64", 1),
        (28, "2001:db8::/64", 5),
        (29, "2001:db8::10-2001:db8::17", 2),
    )
]


def adopted(index: int, position: int) -> AdoptPlan:
    state = PlanState()
    for event in state.decide(from_toml(PLANS[index]), at=0, entropy=bytes(32)):
        state.evolve(event, at=0, position=position)
    return AdoptPlan(plan=state.for_subnet("a"))


clients = st.integers(0, 9).map(lambda number: number.to_bytes(16))


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.fold = Fold(Ledger(b"s" * 32))
        self.twin = Fold(Ledger(b"s" * 32))  # another agent, which only ever folds
        self.now = 0
        self.sequence = 0
        self.positions = 0
        self.waiting: list[Question] = []
        self.promised: dict[bytes, tuple[bytes, int]] = {}  # address, client, until when
        self.ask(adopted(0, self.position()))
        self.commit()

    def position(self) -> int:
        self.positions += 1
        return self.positions

    def ask(self, request: Request) -> None:
        self.waiting.append(Question(request))

    def held(self, data: st.DataObject) -> Any:
        leases = sorted(self.fold.state.leases.values(), key=lambda lease: lease.address)
        return data.draw(st.sampled_from(leases)) if leases else None

    @rule(client=clients, kind=st.sampled_from([4, 6]), group=st.sampled_from([0, 7, 8]))
    def allocate(self, client: bytes, kind: Any, group: int) -> None:
        self.ask(AllocateAddress(client=client, iaid=1, family=kind, group=group))

    @rule(data=st.data(), what=st.sampled_from([RenewAddress, ReleaseAddress, DeclineAddress]), client=clients)
    def about_a_lease(self, data: st.DataObject, what: Any, client: bytes) -> None:
        lease = self.held(data)
        if lease:
            who = data.draw(st.sampled_from([lease.client, client]))
            self.ask(what(client=who, iaid=lease.iaid, address=lease.address))

    @rule(index=st.integers(0, len(PLANS) - 1))
    def adopt(self, index: int) -> None:
        self.ask(adopted(index, self.position()))

    @rule(seconds=st.sampled_from([0, 1, 40, 99, 101, 250]))
    def wait(self, seconds: int) -> None:
        self.now += seconds * SECOND
        self.ask(ExpireAddresses(addresses=self.fold.state.due(self.now, 3)))

    @rule()
    def commit(self) -> None:
        before = dict(self.fold.state.leases)
        commit, answers = settle(
            self.fold.state,
            self.waiting,
            commit_id=random.Random(self.sequence).randbytes(16),
            at=self.now,
            predecessor=self.fold.sequence,
            actor="agent/a",
        )
        assert len(answers) == len(self.waiting)
        assert dict(self.fold.state.leases) == before, "deciding changes nothing"
        assert encode(resettle(self.fold.state, commit)) == encode(commit), "recorded inputs reproduce the commit"
        self.waiting.clear()
        assert all(not isinstance(answer, Refused) or answer.why for answer in answers)
        self.sequence += 1
        for event in commit.events:
            self.check(event)
        for fold in (self.fold, self.twin):
            stored = Stored(subject="l", sequence=self.sequence, stored_at=0, commit=decode(encode(commit)), size=0)
            assert fold.take(stored)
            assert not fold.take(stored)

    def check(self, event: Event) -> None:
        """Nobody is given what another was promised; a withdrawal ends no promise, since nobody may have heard it."""
        match event:
            case AddressAllocated() | AddressRenewed():
                client, until = self.promised.get(event.address, (event.client, 0))
                assert client == event.client or until <= self.now
                assert event.horizon >= event.valid_until
                self.promised[event.address] = (event.client, event.horizon)
            case AddressExpired():
                assert self.promised.pop(event.address)[1] <= self.now
            case AddressReleased() | AddressDeclined():
                del self.promised[event.address]

    @invariant()
    def what_is_free_in_a_range_is_the_same_for_who_folds_it_now(self) -> None:
        for key, reusable in self.fold.state._ranges.items():
            memory, kind = self.fold.state.remembered, family(key[0])
            fresh = Reusable(*key, held=[*self.fold.state.leases, *memory.former[kind]], former=list(memory.free(kind)))
            assert list(reusable.longest_free()) == list(fresh.longest_free())
            assert list(reusable.never_given(0)) == list(fresh.never_given(0))

    @invariant()
    def bindings_and_leases_say_the_same(self) -> None:
        state = self.fold.state
        assert {
            (lease.client, lease.iaid, family(address)): address for address, lease in state.leases.items()
        } == dict(state.bindings)
        assert dict(state.leases) == dict(self.twin.state.leases)
        assert dict(state.quarantine) == dict(self.twin.state.quarantine)

    @invariant()
    def every_lease_lies_in_a_pool_and_is_due_at_its_horizon(self) -> None:
        state = self.fold.state
        assert all(state.pool_of(address) for address in state.leases)
        due = state.due(1 << 60, 1000)
        assert sorted(due) == sorted(state.leases)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
