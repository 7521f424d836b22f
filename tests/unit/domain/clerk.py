"""Decides and evolves, as a log with one writer would; and clients with numbers."""

from __future__ import annotations

from typing import cast

import pytest

from dnms.domain.aggregate import Question, Refused, settle
from dnms.domain.document import from_toml
from dnms.domain.ledger import Ledger
from dnms.domain.plan import PlanState
from dnms.events.address import AddressAllocated
from dnms.events.ip import parse_address
from dnms.events.plan import Family
from dnms.events.recorded import Event, Request
from dnms.events.requests import AdoptPlan, AllocateAddress, HoldAddress

SECOND = 1_000_000


def client(number: int) -> bytes:
    return number.to_bytes(16)


def hold(number: int, address: str, iaid: int = 1) -> HoldAddress:
    packed = parse_address(address)
    return HoldAddress(client=client(number), iaid=iaid, family=6 if ":" in address else 4, address=packed)


class Clerk:
    """One ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.position = 10

    def ask(self, request: Request, *, at: int = 0, entropy: bytes = b"") -> tuple[Event, ...]:
        wanted = self.ledger.entropy(request)
        question = Question(request, (entropy or bytes(wanted))[:wanted])
        _, [answer] = settle(
            self.ledger, [question], commit_id=bytes(16), at=at * SECOND, predecessor=self.position, actor="agent/a"
        )
        if isinstance(answer, Refused):
            raise answer
        self.position += 1
        for event in answer:
            self.ledger.evolve(event, at=at * SECOND, position=self.position)
        return answer

    def allocate(
        self, number: int, kind: int = 6, *, at: int = 0, group: int = 0, entropy: bytes = b""
    ) -> AddressAllocated:
        request = AllocateAddress(client=client(number), iaid=1, family=cast(Family, kind), group=group)
        event = self.ask(request, at=at, entropy=entropy)[-1]
        assert isinstance(event, AddressAllocated)
        return event

    def adopting(self, text: str) -> AdoptPlan:
        state = PlanState()
        for event in state.decide(from_toml(text), at=0, entropy=bytes(32)):
            state.evolve(event, at=0, position=self.position + 1)
        return AdoptPlan(plan=state.for_subnet("office"))

    def adopt(self, text: str) -> tuple[Event, ...]:
        return self.ask(self.adopting(text))

    def refused(self, request: Request, *, at: int = 0) -> str:
        with pytest.raises(Refused) as refusal:
            self.ask(request, at=at)
        return refusal.value.why
