"""What a ledger makes of many new leases at once is what it makes of one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from dnms.domain import ledger_dump
from dnms.domain.aggregate import Fold
from dnms.domain.document import from_toml
from dnms.domain.filling import FEW, LedgerFold
from dnms.domain.ledger import Ledger
from dnms.domain.plan import PlanState
from dnms.domain.ranges import Ranges
from dnms.events.address import AddressAllocated, AddressDeclined, AddressReleased, AddressWithdrawn
from dnms.events.commit import Commit, Stored
from dnms.events.ip import MAPPED
from dnms.events.plan import PlanAdopted
from dnms.events.recorded import Event

PLAN = """
[site]
name = "example"

[[subnet]]
name = "office"
prefixes = ["2001:db8:1:1::/64", "192.0.2.0/24"]

[[pool]]
name = "office-v6"
subnet = "office"
range = "2001:db8:1:1::/64"

[[pool]]
name = "office-v4"
subnet = "office"
range = "192.0.2.0/24"
{strategy}
"""
SIX = bytes.fromhex("20010db8000100010000000000000000")
ALL_FOURS = Ranges([(int.from_bytes(MAPPED + bytes([192, 0, 2, 0])), int.from_bytes(MAPPED + bytes([192, 0, 2, 255])))])
LONG = 10**15

ENDED = st.sampled_from((AddressReleased, AddressDeclined, AddressWithdrawn))
ADDRESS = st.one_of(
    st.integers(0, 60).map(lambda number: SIX[:-1] + bytes([number])),
    st.integers(0, 60).map(lambda number: MAPPED + bytes([192, 0, 2, number])),
)


@st.composite
def allocated(draw: st.DrawFn) -> AddressAllocated:
    """To few clients and of few addresses, so that many of them have one already, or it is another's."""
    address = draw(ADDRESS)
    horizon = draw(st.integers(1, 40)) * 60_000_000
    return AddressAllocated(
        address=address,
        client=draw(st.integers(0, 60)).to_bytes(16),
        iaid=draw(st.integers(1, 2)),
        pool="office-v4" if address.startswith(MAPPED) else "office-v6",
        group=draw(st.integers(0, 1)),
        counter=0,
        valid_until=horizon // 2,
        horizon=horizon,
    )


COMMITS = st.lists(st.tuples(st.lists(allocated(), max_size=4 * FEW), st.lists(ENDED, max_size=4)), max_size=6)


def start(kind: type[Fold[Ledger]], strategy: str, *, indexed: bool) -> Fold[Ledger]:
    state = PlanState()
    for event in state.decide(from_toml(PLAN.format(strategy=strategy)), at=0, entropy=bytes(32)):
        state.evolve(event, at=0, position=1)
    fold = kind(Ledger(bytes(32)))
    fold.take(_stored(fold, [PlanAdopted(plan=state.for_subnet("office"))], at=0))
    if indexed:
        _free(fold)
    return fold


def _stored(fold: Fold[Ledger], events: Sequence[Event], at: int) -> Stored:
    commit = Commit(id=bytes(16), time=at, predecessor=fold.sequence, actor="agent/a", events=tuple(events))
    return Stored(subject="ledger", sequence=fold.sequence + 1, stored_at=at, commit=commit, size=0)


def _free(fold: Fold[Ledger]) -> list[bytes]:
    return list(fold.state.given.reusable(ALL_FOURS, 0, client=bytes(16), start=0, at=fold.time))


def _ends(
    fold: Fold[Ledger], kinds: Sequence[type[AddressReleased | AddressDeclined | AddressWithdrawn]]
) -> list[Event]:
    ended: list[Event] = []
    for kind, lease in zip(kinds, sorted(fold.state.leases.values(), key=lambda each: each.address), strict=False):
        more = {"quarantined_until": 90_000_000} if kind is AddressDeclined else {}
        ended.append(kind(address=lease.address, client=lease.client, iaid=lease.iaid, **more))
    return ended


@settings(max_examples=300)
@given(COMMITS, st.sampled_from(("", 'strategy = "sequential"')), st.booleans())
def test_at_once_is_as_one_after_the_other(
    commits: list[tuple[list[AddressAllocated], list[type[AddressReleased]]]], strategy: str, indexed: bool
) -> None:
    folds = [start(Fold, strategy, indexed=indexed), start(LedgerFold, strategy, indexed=indexed)]
    for number, (new, kinds) in enumerate(commits):
        for events in (new, _ends(folds[0], kinds)):
            for fold in folds:
                fold.take(_stored(fold, events, at=number * 20_000_000))
    one, other = (ledger_dump.dump(fold.state) for fold in folds)
    assert other[1][0] == one[1][0], "the rows"
    assert msgspec.structs.replace(other[0], horizons=one[0].horizons) == one[0]
    assert dict(folds[1].state.leases) == dict(folds[0].state.leases)
    assert dict(folds[1].state.bindings) == dict(folds[0].state.bindings)
    assert _free(folds[1]) == _free(folds[0])
    assert set(folds[1].state.due(LONG, 10_000)) == set(folds[0].state.due(LONG, 10_000))


def test_many_are_taken_at_once() -> None:
    """Else the test above shows nothing."""
    fold = start(LedgerFold, "", indexed=False)
    new = [
        AddressAllocated(
            address=SIX[:-1] + bytes([number]),
            client=number.to_bytes(16),
            iaid=1,
            pool="office-v6",
            group=0,
            counter=0,
            valid_until=LONG,
            horizon=LONG,
        )
        for number in range(FEW)
    ]
    fold.state.evolve = None  # type: ignore[method-assign,assignment]  # which takes one
    fold.take(_stored(fold, new, at=0))
    assert len(fold.state.leases) == FEW
