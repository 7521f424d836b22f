"""The life of one lease as a table: in each state of an address, what each request of its client comes to."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dnms.domain.aggregate import Refused
from dnms.domain.ledger import Ledger
from dnms.events.ip import parse_address
from dnms.events.recorded import Request
from dnms.events.requests import (
    AllocateAddress,
    DeclineAddress,
    ExpireAddresses,
    HoldAddress,
    MoveAddress,
    ReleaseAddress,
    RenewAddress,
    UnholdAddress,
    WithdrawAddress,
)
from tests.properties.domain.ledger_machine import SECRET, adopting
from tests.properties.domain.ledger_model import DRAIN, HORIZON, QUARANTINE, SECOND, VALID, WHOLE, Setting

CLIENT, OTHER, IAID = (1).to_bytes(16), (2).to_bytes(16), 1
ADDRESS = parse_address("2001:db8::77")
FREE, LEASED, DRAINED, RESTING, PROMISED = "free", "leased", "drained", "resting", "promised"

LIFE: dict[tuple[str, type[Request]], tuple[tuple[str, ...] | str, str]] = {
    (FREE, RenewAddress): ("no-binding", FREE),
    (FREE, ReleaseAddress): ("no-binding", FREE),
    (FREE, DeclineAddress): ("no-binding", FREE),
    (FREE, WithdrawAddress): ("no-binding", FREE),
    (FREE, MoveAddress): ("no-binding", FREE),
    (LEASED, ReleaseAddress): (("address.released",), FREE),
    (LEASED, DeclineAddress): (("address.declined", "hash.moved"), RESTING),
    (LEASED, WithdrawAddress): (("address.withdrawn",), PROMISED),
    (LEASED, MoveAddress): (("address.deprecated", "hash.moved", "address.allocated"), DRAINED),
    (DRAINED, RenewAddress): ((), DRAINED),
    (DRAINED, ReleaseAddress): (("address.released",), FREE),
    (DRAINED, DeclineAddress): (("address.declined", "hash.moved"), RESTING),
    (DRAINED, WithdrawAddress): (("address.withdrawn",), PROMISED),
    (DRAINED, MoveAddress): ((), DRAINED),
    **{
        (state, what): ("no-binding", state)
        for state in (RESTING, PROMISED)
        for what in (RenewAddress, ReleaseAddress, DeclineAddress, WithdrawAddress, MoveAddress)
    },
}
"""By state of the address and request: the events or the word that refuses it, and the state behind it."""


class LeaseMachine(RuleBasedStateMachine):
    """Of an IPv6 address that a client moves to whenever it may; what it has beside that one is given back at once."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(SECRET)
        self.state, self.now, self.position = FREE, 0, 0
        self.horizon = self.until = 0  # of the lease; of its quarantine, or of what it was promised
        self.drained = 0  # until when it is drained
        self.ask(adopting(Setting("hash", WHOLE), 1))

    def ask(self, request: Request) -> tuple[str, ...] | str:
        try:
            events = self.ledger.decide(request, at=self.now, entropy=bytes(16))
        except Refused as refusal:
            return refusal.why
        self.position += 1
        for event in events:
            self.ledger.evolve(event, at=self.now, position=self.position)
        return tuple(event.NAME for event in events)

    def over(self) -> None:
        if self.state in (RESTING, PROMISED) and self.until <= self.now:
            self.state = FREE

    @rule(seconds=st.sampled_from([1, 49, 101, 199, 401]))
    def wait(self, seconds: int) -> None:
        self.now += seconds * SECOND
        self.over()

    @rule(who=st.sampled_from([CLIENT, OTHER]))
    def come(self, who: bytes) -> None:
        """Somebody is brought to the address: its last client may, the others only when it is free."""
        lease = self.ledger.leases.get(ADDRESS)
        if lease is not None and lease.client == who:
            return
        self.ask(AllocateAddress(client=who, iaid=IAID, family=6))
        first = self.ledger.lease(who, IAID, 6)
        assert first is not None
        answer = self.ask(MoveAddress(client=who, iaid=IAID, address=first.address, to=ADDRESS))
        if self.state == FREE or (self.state == PROMISED and who == CLIENT):
            assert answer[-1] == "address.allocated"
            before = self.until if self.state == PROMISED else 0
            self.state, self.horizon = LEASED, max(self.now + HORIZON[6], before)
            self.ask(ReleaseAddress(client=who, iaid=IAID, address=first.address))
            if who == OTHER:  # and it leaves again: the table is of one client
                assert self.ask(ReleaseAddress(client=who, iaid=IAID, address=ADDRESS)) == ("address.released",)
                self.state = FREE
        else:
            assert answer == "in-use"
        for each in self.ledger.leases_of(who, IAID, 6):
            if each.address != ADDRESS:
                self.ask(ReleaseAddress(client=who, iaid=IAID, address=each.address))

    @rule(what=st.sampled_from([RenewAddress, ReleaseAddress, DeclineAddress, WithdrawAddress, MoveAddress]))
    def step(self, what: Any) -> None:
        request = what(client=CLIENT, iaid=IAID, address=ADDRESS)
        if self.state == LEASED and what is RenewAddress:
            needed = self.now + VALID * SECOND > self.horizon
            assert self.ask(request) == (("address.renewed",) if needed else ())
            self.horizon = self.now + HORIZON[6] if needed else self.horizon
            return
        answer = self.ask(request)
        if what is DeclineAddress and answer == "too-many-declines":
            return
        expected, after = LIFE[self.state, what]
        assert answer == expected
        if after != self.state and after in (RESTING, PROMISED):
            self.until = self.now + QUARANTINE * SECOND if after == RESTING else self.horizon
        if after == DRAINED and self.state == LEASED:
            self.drained = min(self.horizon, self.now + DRAIN * SECOND)
        self.state = after
        self.over()

    @rule()
    def expire(self) -> None:
        """At any time, by an agent whose clock may be wrong: only what has come to its horizon, or is drained."""
        answer = self.ask(ExpireAddresses(addresses=(ADDRESS,)))
        ends = self.state in (LEASED, DRAINED) and self.horizon <= self.now
        if self.is_over() and not ends:
            assert answer == ("address.withdrawn",), "it is kept from others until its horizon"
            self.state, self.until = PROMISED, self.horizon
            return
        assert answer == (("address.expired",) if ends else ())
        self.state = FREE if ends else self.state

    def is_over(self) -> bool:
        """Whether it is drained, and long before its horizon."""
        return self.state == DRAINED and self.drained <= min(self.now, self.horizon - 60 * SECOND)

    @rule()
    def other_clients_requests_change_nothing(self) -> None:
        for what in (RenewAddress, ReleaseAddress, DeclineAddress, WithdrawAddress):
            assert self.ask(what(client=OTHER, iaid=IAID, address=ADDRESS)) == "no-binding"
        held = self.ask(HoldAddress(client=OTHER, iaid=IAID, family=6, address=ADDRESS))
        assert (held == "in-use") == (self.state in (LEASED, DRAINED))
        if held == ("address.held",):
            assert self.ask(UnholdAddress(client=OTHER, iaid=IAID, address=ADDRESS)) == ("address.unheld",)

    @invariant()
    def the_ledger_says_the_same(self) -> None:
        lease = self.ledger.leases.get(ADDRESS)
        assert (lease is not None) == (self.state in (LEASED, DRAINED))
        if lease is not None:
            assert (lease.client, lease.horizon) == (CLIENT, self.horizon)
            assert bool(lease.drained_at) == (self.state == DRAINED)
        assert (ADDRESS in self.ledger.drained(self.now, 1000)) == self.is_over()
        assert (ADDRESS in self.ledger.due(self.now, 1000)) == (lease is not None and self.horizon <= self.now)


TestLease = LeaseMachine.TestCase
TestLease.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
