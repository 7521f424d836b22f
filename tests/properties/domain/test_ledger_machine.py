"""Any sequence of requests, settled in commits of any size: the promises of the ledger hold after each."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dnms.domain import ledger_dump
from dnms.domain.aggregate import Fold, Question, Refused, resettle, settle
from dnms.domain.document import from_toml
from dnms.domain.drains import is_over
from dnms.domain.ledger import Ledger
from dnms.domain.plan import PlanState
from dnms.domain.reusable import Reusable
from dnms.events.address import (
    AddressAllocated,
    AddressDeclined,
    AddressExpired,
    AddressReleased,
    AddressRenewed,
    AddressWithdrawn,
    OutageGranted,
)
from dnms.events.codec import decode, encode
from dnms.events.commit import Stored
from dnms.events.ip import family, parse_address
from dnms.events.recorded import Event, Request
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
)

SECOND = 1_000_000
PLANS = [
    f"""
[site]
name = "s"
[[group]]
name = "g"
number = 7
{ranges}
[[subnet]]
name = "a"
prefixes = ["2001:db8::/62", "192.0.2.0/{prefix}"]
gateways = ["192.0.2.{gateway}"]
[[pool]]
name = "six"
subnet = "a"
range = "{six}"
strategy = "{strategy}"
prefix_per_host = {per_host}
valid = 100
preferred = 50
drain = 30
[[pool]]
name = "four"
subnet = "a"
range = "192.0.2.0/{prefix}"
strategy = "{strategy}"
valid = 100
preferred = 50
quarantine = 200
"""
    for prefix, six, gateway, strategy, per_host, ranges in (
        (29, "2001:db8::/64", 1, "hash", "false", ""),
        (28, "2001:db8::/64", 5, "hash", "false", 'ranges = ["192.0.2.8/30"]'),
        (29, "2001:db8::10-2001:db8::17", 2, "hash", "false", 'ranges = ["2001:db8::10/126"]'),
        (29, "2001:db8::/64", 2, "random", "false", ""),
        (28, "2001:db8::10-2001:db8::17", 2, "sequential", "false", 'ranges = ["192.0.2.4/31", "192.0.2.8/31"]'),
        (29, "2001:db8::/62", 1, "hash", "true", ""),
        (29, "2001:db8::/62", 1, "sequential", "true", ""),
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
        self.holders: dict[bytes, bytes] = {}
        self.granted: set[bytes] = set()  # in outages, in which nobody knew what is held
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

    @rule(
        data=st.data(),
        what=st.sampled_from([RenewAddress, ReleaseAddress, DeclineAddress, MoveAddress]),
        client=clients,
    )
    def about_a_lease(self, data: st.DataObject, what: Any, client: bytes) -> None:
        lease = self.held(data)
        if lease:
            who = data.draw(st.sampled_from([lease.client, client]))
            self.ask(what(client=who, iaid=lease.iaid, address=lease.address))

    @rule(client=clients, kind=st.sampled_from([4, 6]), group=st.sampled_from([0, 7]))
    def hold_what_it_would_have(self, client: bytes, kind: Any, group: int) -> None:
        self.ask(HoldAddress(client=client, iaid=1, family=kind, group=group))

    @rule(client=clients, host=st.integers(0, 16))
    def hold(self, client: bytes, host: int) -> None:
        address = parse_address(f"192.0.2.{host}" if host % 2 else f"2001:db8::{host + 8:x}")
        self.ask(HoldAddress(client=client, iaid=1, family=4 if host % 2 else 6, address=address))

    @rule(data=st.data())
    def unhold(self, data: st.DataObject) -> None:
        if self.fold.state.held:
            address, (client, iaid) = data.draw(st.sampled_from(sorted(self.fold.state.held.items())))
            self.ask(UnholdAddress(client=client, iaid=iaid, address=address))

    @rule(client=clients, host=st.integers(0, 16), holder=st.none() | clients)
    def block(self, client: bytes, host: int, holder: bytes | None) -> None:
        address = parse_address(f"192.0.2.{host}" if host % 2 else f"2001:db8::{host + 8:x}")
        self.ask(BlockAddress(client=client, address=address, cause=1, holder=holder))

    @rule(data=st.data(), client=clients, holder=st.none() | clients)
    def claim(self, data: st.DataObject, client: bytes, holder: bytes | None) -> None:
        """Of what somebody has, or seems to have; nobody loses it who is not named."""
        if (lease := self.held(data)) is not None:
            self.ask(BlockAddress(client=client, address=lease.address, cause=1, holder=holder))
            if holder != lease.client:
                assert self.fold.state.leases[lease.address] == lease

    @rule(data=st.data(), client=clients)
    def merge(self, data: st.DataObject, client: bytes) -> None:
        """What another agent gave in an outage: the next candidate as it knew the ledger, or what somebody has."""
        lease = self.held(data)
        address = lease.address if lease else parse_address("2001:db8::a")
        until = self.now + 100 * SECOND
        self.ask(
            MergeOutage(
                client=client,
                iaid=1,
                address=address,
                pool="six" if family(address) == 6 else "four",
                valid_until=until,
                horizon=until,
                happened=self.now,
            )
        )

    @rule(index=st.integers(0, len(PLANS) - 1))
    def adopt(self, index: int) -> None:
        self.ask(adopted(index, self.position()))

    @rule(seconds=st.sampled_from([0, 1, 40, 99, 101, 250]))
    def wait(self, seconds: int) -> None:
        self.now += seconds * SECOND
        state = self.fold.state
        self.ask(ExpireAddresses(addresses=state.drained(self.now, 3) + state.due(self.now, 3)))

    @rule()
    def begin_again(self) -> None:
        """The twin is started again, from its snapshot."""
        rest, buffers = ledger_dump.dump(self.twin.state)
        again = msgspec.msgpack.decode(msgspec.msgpack.encode(rest), type=ledger_dump.LedgerDump)
        self.twin.state = Ledger(b"s" * 32)
        ledger_dump.load(self.twin.state, again, memoryview(b"".join(buffers)))
        assert ledger_dump.dump(self.twin.state) == (rest, buffers)

    @rule()
    def commit(self) -> None:
        before = dict(self.fold.state.leases)
        chance = random.Random(self.sequence)
        self.waiting = [
            Question(each.request, chance.randbytes(self.fold.state.entropy(each.request))) for each in self.waiting
        ]
        commit, answers = settle(
            self.fold.state,
            self.waiting,
            commit_id=chance.randbytes(16),
            at=self.now,
            predecessor=self.fold.sequence,
            actor="agent/a",
        )
        assert answers or not self.waiting
        assert dict(self.fold.state.leases) == before, "deciding changes nothing"
        for fold in (self.fold, self.twin):
            assert encode(resettle(fold.state, commit)) == encode(commit), "recorded inputs reproduce the commit"
        del self.waiting[: len(answers)]  # the rest wants random bits after a new plan
        assert all(not isinstance(answer, Refused) or answer.why for answer in answers)
        self.sequence += 1
        draft = self.fold.state.draft()
        for event in commit.events:
            draft.evolve(event, at=self.now, position=0)
            self.check(event, draft)
        for fold in (self.fold, self.twin):
            stored = Stored(subject="l", sequence=self.sequence, stored_at=0, commit=decode(encode(commit)), size=0)
            assert fold.take(stored)
            assert not fold.take(stored)

    def check(self, event: Event, after: Ledger) -> None:
        """Nobody is given what another was promised; a withdrawal ends no promise, since nobody may have heard it.

        What was given in an outage is a fact: it may be what another has, and then it promises nothing.
        """
        match event:
            case AddressAllocated() | AddressRenewed():
                client, until = self.promised.get(event.address, (event.client, 0))
                assert client == event.client or until <= self.now
                assert event.horizon >= event.valid_until
                self.holders[event.address] = event.client
                self.promised[event.address] = (event.client, event.horizon)
            case AddressExpired():
                del self.holders[event.address]
                assert self.promised.pop(event.address)[1] <= self.now
            case AddressReleased() | AddressDeclined():
                del self.holders[event.address]
                del self.promised[event.address]
            case AddressWithdrawn():
                del self.holders[event.address]
            case OutageGranted():
                self.granted.add(event.address)
                lease = after.leases.get(event.address)
                if lease is not None and lease.client == event.client:
                    assert self.holders.setdefault(event.address, event.client) == event.client
                    client, until = self.promised.get(event.address, (event.client, 0))
                    self.promised[event.address] = event.client, max(until * (client == event.client), event.horizon)

    @invariant()
    def what_is_free_in_a_range_is_the_same_for_who_folds_it_now(self) -> None:
        state = self.fold.state
        for (ranges, shift), grown in state.given._indexes.items():
            memory, kind = state.remembered, 4 if ranges.is_mapped else 6
            taken = [*state.blocks.taken(), *state.kept_blocks] if shift else [*state.leases, *state.held]
            free = [each for each in memory.free(kind) if each not in state.held and each not in state.kept_blocks]
            fresh = Reusable(ranges, shift, held=[*taken, *memory.former[kind]], former=free)
            assert list(fresh.longest_free()) == list(grown.longest_free())
            assert list(fresh.never_given(0)) == list(grown.never_given(0))

    @invariant()
    def bindings_and_leases_say_the_same(self) -> None:
        state, twin = self.fold.state, self.twin.state
        first = {binding: (address,) for binding, address in state.bindings.items()}
        every = [address for each in (first, state.others) for addresses in each.values() for address in addresses]
        assert sorted(every) == sorted(state.leases), "each lease stands in one place"
        for where in (first, state.others):
            for binding, addresses in where.items():
                assert all(state.leases[address].binding == binding for address in addresses)
        assert not any(state.leases[address].drained_at for address in state.bindings.values())
        assert {address: (client, iaid) for (client, iaid, _), all_ in state.holds.items() for address in all_} == dict(
            state.held
        )
        for name in ("leases", "bindings", "others", "held", "holds", "quarantine"):
            assert dict(getattr(state, name)) == dict(getattr(twin, name))

    @invariant()
    def a_block_belongs_to_one_client(self) -> None:
        state = self.fold.state
        owners: dict[bytes, set[bytes]] = {}
        for lease in state.leases.values():
            pool = state.pool_of(lease.address)
            if pool is not None and pool.prefix_per_host:
                owners.setdefault(lease.address[:8], set()).add(lease.client)
        assert {block[:8]: {state.blocks.owner(block)} for block in state.blocks.taken()} == owners

    @invariant()
    def nobody_else_has_what_is_held_unless_it_had_it_before(self) -> None:
        for address, (client, iaid) in self.fold.state.held.items():
            lease = self.fold.state.leases.get(address)
            assert lease is None or (lease.client, lease.iaid) == (client, iaid) or address in self.granted

    @invariant()
    def every_lease_lies_in_a_pool_or_is_drained_and_is_due_at_its_horizon(self) -> None:
        state = self.fold.state
        assert all(state.pool_of(each.address) or each.drained_at for each in state.leases.values())
        assert all(state.place_of(address) for address in state.leases), "the node can be told its prefix"
        assert state.adopted.leaving == self.twin.state.adopted.leaving
        over = [each.address for each in state.leases.values() if is_over(each, 1 << 60)]
        assert sorted(state.drained(1 << 60, 1000)) == sorted(self.twin.state.drained(1 << 60, 1000)) == sorted(over)
        due = state.due(1 << 60, 1000)
        assert sorted(due) == sorted(state.leases)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)
