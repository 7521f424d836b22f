"""The state that a part of a log begins with: folded again, it is what was folded."""

from __future__ import annotations

from dnms.domain.document import from_toml
from dnms.domain.folded import folded
from dnms.domain.ledger_dump import dump
from dnms.domain.replay import Replay
from dnms.events import subjects
from dnms.events.commit import Commit, Stored
from dnms.events.recorded import Event, Request
from dnms.events.requests import AdoptPlan, ClaimReserved, ReleasePrefix
from tests.unit.domain.clerk import SECOND, client
from tests.unit.domain.conftest import PLAN as OFFICE
from tests.unit.domain.delegations import CUT, NEW, OLD, above, wants

SITE, SECRET = "s", b"k" * 32
PLAN, LEDGER = subjects.plan(SITE), subjects.ledger(SITE, "office")


class Log:
    """Commits, folded as they come."""

    def __init__(self) -> None:
        self.replay = Replay(SITE, SECRET)
        self.position = 0

    def put(self, subject: str, *events: Event, at: int = 0) -> None:
        self.position += 1
        commit = Commit(id=bytes(16), time=at * SECOND, predecessor=0, actor="a", events=events)
        self.replay.take(Stored(subject=subject, sequence=self.position, stored_at=0, commit=commit, size=1))

    def ask(self, subject: str, request: Request, *, at: int = 0) -> tuple[Event, ...]:
        state = self.replay.state(subject)
        assert state is not None
        events = state.decide(request, at=at * SECOND, entropy=bytes(state.entropy(request)))
        self.put(subject, *events, at=at)
        return events


def test_what_is_above_and_what_is_delegated_is_in_it() -> None:
    log = Log()
    log.ask(PLAN, from_toml(CUT))
    log.ask(LEDGER, AdoptPlan(plan=log.replay.plan.for_subnet("office")))
    log.ask(LEDGER, above((OLD, 1_000, 2_000)))
    for number in range(4):
        log.ask(LEDGER, wants(number))
    log.ask(LEDGER, above((OLD, 0, 1_500), (NEW, 1_000, 2_000)), at=10)
    log.ask(LEDGER, wants(2), at=11)
    [held] = log.replay.ledgers[LEDGER].delegations.of(client(3), 1)
    log.ask(LEDGER, ReleasePrefix(client=client(3), iaid=1, prefix=held.prefix), at=12)
    again = Log()
    for subject, event in folded(log.replay):
        again.put(subject, event, at=12)
    (before, _), (after, _) = (dump(each.replay.ledgers[LEDGER]) for each in (log, again))
    assert len(after.uplinks) == 2
    assert after.uplinks == before.uplinks
    assert after.plan == before.plan
    assert sorted(map(_without_places, after.delegations.all)) == sorted(map(_without_places, before.delegations.all))
    assert again.replay.plan.uplinks == log.replay.plan.uplinks != {}
    assert again.replay.plan.delegations == log.replay.plan.delegations != {}


def test_for_whom_it_is_reserved_and_who_has_come_for_that_is_in_it() -> None:
    log = Log()
    reservation = f'[[reservation]]\naddress = "2001:db8:1:1::77"\nnode = "{client(1).hex()}"\ninterface = "*"\n'
    log.ask(PLAN, from_toml(OFFICE.replace("example", SITE) + reservation))
    log.ask(LEDGER, AdoptPlan(plan=log.replay.plan.for_subnet("office")))
    log.ask(LEDGER, ClaimReserved(client=client(5), iaid=3, family=6, reserved_for=client(1)))
    again = Log()
    for subject, event in folded(log.replay):
        again.put(subject, event)
    before, after = (each.replay.ledgers[LEDGER] for each in (log, again))
    assert (after.planned, after.held, after.holds) == (before.planned, before.held, before.holds)
    assert list(after.held.values()) == [(client(5), 3)]


def _without_places(each: object) -> str:
    fields = {name: getattr(each, name) for name in each.__struct_fields__}  # type: ignore[attr-defined]
    return repr({name: value for name, value in fields.items() if name not in ("position", "routed")})
