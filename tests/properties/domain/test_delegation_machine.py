"""Any sequence of requests for prefixes, against a list that is searched from end to end."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dnms.domain.aggregate import Refused
from dnms.domain.delegations import Delegations
from dnms.domain.ledger import Ledger
from dnms.events.ip import Prefix, parse_address, prefix_of
from dnms.events.prefix import PrefixDelegated, PrefixExpired, PrefixReleased, PrefixWithdrawn
from dnms.events.recorded import Event, Request
from dnms.events.requests import DelegatePrefix, ExpirePrefixes, ReleasePrefix, ReportUplink, UplinkPrefix
from dnms.events.uplink import Source
from tests.properties.domain.delegation_model import Model, Setting
from tests.unit.domain.clerk import SECOND, Clerk

VALID = 100
LATE = 10_000_000  # seconds: what comes from above lasts
PLAN = """
[site]
name = "s"
[[uplink]]
name = "wan"
[[subnet]]
name = "office"
{subnet}
"""
DELEGATION = """
[[delegation]]
name = "blocks"
subnet = "office"
{source}
length = {length}
shortest = {shortest}
longest = {longest}
exclude = {exclude}
strategy = "{strategy}"
valid = {valid}
preferred = 60
"""
WHOLE = parse_address("2001:db8:0:ff00::")

clients = st.integers(0, 7).map(lambda number: number.to_bytes(16))
iaids = st.sampled_from([1, 1, 1, 2])
hints = st.sampled_from([0, 0, 0, 1, 56, 57, 58, 59, 60, 61, 62, 63, 64])


@st.composite
def pools(draw: st.DrawFn) -> Setting:
    cut = draw(st.booleans())
    length = draw(st.integers(57, 62))
    shortest, longest = draw(st.integers(57, length)), draw(st.integers(length, 64))
    bits = draw(st.sampled_from([56, 57, 58, 60, 61, 62, 64, 72] if cut else list(range(56, shortest + 1))))
    source = prefix_of(WHOLE, bits)
    kept = Prefix(source.network, 64) if bits <= 64 else None
    if not cut:  # the link has one somewhere in it
        kept = prefix_of((source.first | draw(st.integers(0, (1 << (64 - bits)) - 1)) << 64).to_bytes(16), 64)
    return Setting(source, kept, length, shortest, longest, draw(st.booleans()) and not cut, draw(st.booleans()), cut)


class DelegationMachine(RuleBasedStateMachine):
    """One ledger with one pool."""

    def __init__(self) -> None:
        super().__init__()
        self.clerk = Clerk(Ledger(b"k" * 32))
        self.now = 0
        self.model: Model

    @initialize(setting=pools())
    def begin(self, setting: Setting) -> None:
        self.model = Model(setting)
        self.adopt(delegates=True)
        if setting.cut:
            self.ask(self.report(setting.source))

    def adopt(self, *, delegates: bool) -> None:
        setting = self.model.setting
        text = PLAN.format(subnet='uplink = "wan"' if setting.cut else f'prefixes = ["{setting.kept}"]')
        if delegates:
            text += DELEGATION.format(
                source="" if setting.cut else f'prefix = "{setting.source}"',
                length=setting.length,
                shortest=setting.shortest,
                longest=setting.longest,
                exclude="true" if setting.exclude else "false",
                strategy="sequential" if setting.sequential else "hash",
                valid=VALID,
            )
        self.ask(self.clerk.adopting(text))

    def report(self, *prefixes: Prefix) -> ReportUplink:
        several = tuple(
            UplinkPrefix(prefix=prefix, preferred_until=LATE * SECOND, valid_until=LATE * SECOND) for prefix in prefixes
        )
        return ReportUplink(uplink="wan", prefixes=several, source=Source(name="isp"), why="released")

    def ask(self, request: Request) -> tuple[Event, ...]:
        """Refused."""
        events = self.clerk.ask(request, at=self.now)
        wrong = [line for event in events for line in self.model.take(event)]
        self.model.resting = [each for each in self.model.resting if each[2] > self.now * SECOND]
        assert not wrong
        return events

    @rule(client=clients, iaid=iaids, hint=hints, excludes=st.booleans())
    def delegate(self, client: bytes, iaid: int, hint: int, excludes: bool) -> None:
        model, at = self.model, self.now * SECOND
        has, length = model.of(client, iaid), model.setting.asked(hint)
        free = model.free(client, length, at, excludes=excludes)
        choices = model.choices(client, free)
        request = DelegatePrefix(
            client=client, iaid=iaid, length=hint, next_hop=bytes(16), interface="e", excludes=excludes
        )
        try:
            events = self.ask(request)
        except Refused as refusal:
            assert refusal.why == "exhausted"
            assert has is None and not free
            return
        given = [event for event in events if isinstance(event, PrefixDelegated)]
        if has is not None:
            assert not given and model.of(client, iaid) is has
            return
        [event] = given
        assert event.prefix in choices
        kept = model.setting.kept
        assert event.exclude == (kept if kept is not None and kept.overlaps(event.prefix) else None)
        assert at < event.valid_until <= event.horizon <= at + 4 * VALID * SECOND

    @rule(client=clients, iaid=iaids)
    def release(self, client: bytes, iaid: int) -> None:
        has = self.model.of(client, iaid)
        if has is not None:
            events = self.ask(ReleasePrefix(client=client, iaid=iaid, prefix=has.prefix))
            assert [type(event) for event in events] == [PrefixReleased]

    @rule(seconds=st.sampled_from([1, 50, 200, 399, 400]))
    def let_time_pass(self, seconds: int) -> None:
        self.now += seconds
        over = sorted(each.prefix for each in self.model.held if each.until <= self.now * SECOND)
        due = self.clerk.ledger.delegations.due(self.now * SECOND, 1_000)
        assert sorted(due) == over
        events = self.ask(ExpirePrefixes(prefixes=due))
        assert [type(event) for event in events] == [PrefixExpired] * len(over)

    @rule(comes_back_after=st.sampled_from([0, 0, 1, 150, 500]))
    def withdraw(self, comes_back_after: int) -> None:
        """All of them, since the pool is gone for a while."""
        held = len(self.model.held)
        before = self.clerk.position
        if self.model.setting.cut:
            events = self.ask(self.report())
        else:
            self.adopt(delegates=False)
            events = ()
        assert not self.model.held and self.clerk.position > before
        if self.model.setting.cut:
            assert len([event for event in events if isinstance(event, PrefixWithdrawn)]) == held
        self.now += comes_back_after
        if self.model.setting.cut:
            self.ask(self.report(self.model.setting.source))
        else:
            self.adopt(delegates=True)

    @rule()
    def start_again(self) -> None:
        """From a snapshot."""
        loaded = Delegations()
        loaded.load(self.clerk.ledger.delegations.dump())
        self.clerk.ledger.delegations = loaded

    @invariant()
    def it_knows_what_is_delegated(self) -> None:
        ledger, model = self.clerk.ledger, getattr(self, "model", None)
        if model is None:
            return
        found = [(each.prefix, each.client, each.iaid, each.horizon) for each in ledger.delegations.all.values()]
        assert sorted(found) == sorted((each.prefix, each.client, each.iaid, each.until) for each in model.held)
        for length in range(model.setting.source.length, min(model.setting.longest, 62) + 1):
            assert list(ledger.delegations.free(model.setting.source, length)) == model.undelegated(length)


DelegationMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestDelegations: Any = DelegationMachine.TestCase
