"""DNMS with one defect each, to see that the simulation notices. Each is a context in which the defect is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from dnms.agents.subnet import agent
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.folds import Folds
from dnms.agents.subnet.joining import Claim, Comer, Joining
from dnms.agents.subnet.notes import Notes
from dnms.bus import committer
from dnms.bus.clock import LogClock
from dnms.bus.committer import Committer
from dnms.bus.drafting import Draft
from dnms.bus.port import Log, LogError, Record, Unanswered
from dnms.domain import allocating, renewing
from dnms.domain.adopted import Adopted
from dnms.domain.allocating import Chosen, Search
from dnms.domain.leases import Lease
from dnms.domain.ledger import Ledger
from dnms.domain.nodes import Node, NodeShard
from dnms.domain.remembered import Remembered
from dnms.events.address import AddressExpired
from dnms.events.commit import Commit, Stored
from dnms.events.ip import family
from dnms.events.node import NodeJoined
from dnms.events.recorded import Event
from dnms.events.requests import JoinNode, MergeOutage
from dnms.events.seen import ConfigurationRegistered, OutageEnded
from tests.simulation.journal import SimulatedJournal
from tests.simulation.log import SimulatedLog

_take, _draft, _fail, _answer = Committer.take, Committer._draft, Committer._fail, Committer._answer
_observe = Notes.observe
_store, _followed, _is_free, _drafted = SimulatedLog.store, Books._take, Search.is_free, Ledger.draft
_renew, _choose = renewing.renew, allocating.choose


def _place(writer: Any, commit: Commit) -> int:
    """Where a commit is in the log, or would be if it were stored now: a defect is not to be found by less."""
    records: list[Record] = getattr(writer._log, "_server", writer._log).records
    return next((each.sequence for each in records if commit.id in each.data), len(records) + 1)


@contextmanager
def no_sequence_check() -> Iterator[None]:
    """The log stores whatever comes, whichever message its writer has seen last."""

    async def store(self: SimulatedLog, subject: str, data: bytes, *, expected: int) -> int:
        last = self._sequences.get(subject) or [0]
        return await _store(self, subject, data, expected=last[-1])

    with patch.object(SimulatedLog, "store", store):
        yield


@contextmanager
def own_events_applied_on_a_timeout() -> Iterator[None]:
    """A commit without an acknowledgement is believed to be stored: it is folded, and who asked is answered."""

    async def append(log: Log, subject: str, data: bytes, *, expected: int, patience: float) -> int:
        return await log.store(subject, data, expected=expected)

    def draft(self: Any) -> Draft:
        self.drafted = _draft(self)
        return self.drafted  # type: ignore[no-any-return]

    def fail(self: Any, error: LogError) -> None:
        if isinstance(error, Unanswered) and self._batch:
            commit = self.drafted.commit
            place = _place(self, commit)
            for event in commit.events:
                self.fold.state.evolve(event, at=commit.time, position=place)
            _answer(self, self.drafted.waiting, place)
        _fail(self, error)

    with (
        patch.object(committer, "append", append),
        patch.object(Committer, "_draft", draft),
        patch.object(Committer, "_fail", fail),
    ):
        yield


@contextmanager
def followed_events_dropped_before_the_acknowledgement() -> Iterator[None]:
    """What others commit between our commit and its acknowledgement is not folded."""

    def take(self: Committer[Any], stored: Stored) -> bool:
        if self._batch and stored.commit.actor != self._actor:
            self.fold.sequence, self.fold.time = stored.sequence, stored.commit.time
            self._folded.set()
            return True
        return _take(self, stored)

    with patch.object(Committer, "take", take):
        yield


@contextmanager
def answered_before_it_is_in_the_log() -> Iterator[None]:
    """Whoever asked is answered by what is decided, whether the log takes it or not."""

    def draft(self: Committer[Any]) -> Draft:
        drafted = _draft(self)
        _answer(self, drafted.waiting, _place(self, drafted.commit))
        return drafted

    with patch.object(Committer, "_draft", draft):
        yield


@contextmanager
def decision_that_reads_seen() -> Iterator[None]:
    """A ledger gives no address that its own agent has seen in use, which no other agent and no replay knows."""

    def followed(self: Any, stored: Stored) -> None:
        _followed(self, stored)
        seen = self.ledger.__dict__.setdefault("seen", set())
        for event in stored.commit.events:
            if isinstance(event, ConfigurationRegistered):
                seen.update(each.address for each in event.snapshot.addresses)

    def draft(self: Any) -> Ledger:
        drafted = _drafted(self)
        drafted.__dict__["seen"] = self.__dict__.get("seen", set())
        return drafted

    def is_free(self: Search, address: bytes) -> bool:
        return address not in self._ledger.__dict__.get("seen", ()) and _is_free(self, address)

    with (
        patch.object(Books, "_take", followed),
        patch.object(Ledger, "draft", draft),
        patch.object(Search, "is_free", is_free),
    ):
        yield


@contextmanager
def decision_that_reads_the_plan() -> Iterator[None]:
    """A ledger decides by the newest plan that its agent has seen, whether the ledger has adopted it or not."""

    def followed(self: Any, stored: Stored) -> None:
        _followed(self, stored)
        if stored.subject == self._plan_subject:
            self._ledger.fold.state.__dict__["newest"] = Adopted(self.plan.for_subnet(self.subnet))

    def draft(self: Any) -> Ledger:
        drafted = _drafted(self)
        drafted.__dict__["newest"] = self.__dict__.get("newest")
        return drafted

    def choose(ledger: Any, *arguments: Any, **more: Any) -> Chosen:
        newest, adopted = ledger.__dict__.get("newest"), ledger.adopted
        ledger.adopted = newest or adopted
        try:
            return _choose(ledger, *arguments, **more)
        finally:
            ledger.adopted = adopted

    with (
        patch.object(Books, "_take", followed),
        patch.object(Ledger, "draft", draft),
        patch.object(allocating, "choose", choose),
    ):
        yield


@contextmanager
def decision_that_reads_a_clock() -> Iterator[None]:
    """A lease is renewed from the moment at which that is decided, and not from that which is recorded."""

    def renew(ledger: Ledger, lease: Lease, *, at: int) -> tuple[Event, ...]:
        return _renew(ledger, lease, at=at + round(asyncio.get_running_loop().time() * 1_000))

    with patch.object(renewing, "renew", renew):
        yield


@contextmanager
def expiry_by_what_the_client_was_told() -> Iterator[None]:
    """A lease ends when its client was told that it ends, and not when the log says: not every renewal is there."""

    def expire(self: Ledger, addresses: tuple[bytes, ...], at: int) -> Iterator[Event]:
        for address in dict.fromkeys(addresses):
            lease = self.leases.get(address)
            if lease is not None and lease.valid_until <= at:
                yield AddressExpired(address=address, client=lease.client, iaid=lease.iaid)

    def due(self: Ledger, now: int, limit: int, kinds: Set[int] = frozenset({4, 6})) -> tuple[bytes, ...]:
        ended = [each for each, lease in self.leases.items() if lease.valid_until <= now and family(each) in kinds]
        return tuple(ended[:limit])

    with patch.object(Ledger, "_expire", expire), patch.object(Ledger, "due", due):
        yield


@contextmanager
def expiry_by_a_clock_that_was_set() -> Iterator[None]:
    """What has ended by the log's clock expires, though somebody has set that forward and no node's."""

    with patch.object(Books, "suspend_expiry", lambda self: None):
        yield


@contextmanager
def expiry_as_if_no_clock_was_set_while_it_was_away() -> Iterator[None]:
    """An agent with a snapshot lets expire at once what has ended by the log's clock, wherever that is now."""

    def waits(folds: Folds | None, clock: LogClock) -> dict[int, float] | None:
        return None if folds is None else {4: 0.0, 6: 0.0}

    with patch.object(agent, "waits", waits):
        yield


@contextmanager
def withdrawn_is_free() -> Iterator[None]:
    """An address that was withdrawn or declined is given to the next who asks, whoever may use it yet."""

    with patch.object(Remembered, "withholds", lambda self, address, client, *, at: False):
        yield


@contextmanager
def damaged_journal_taken_for_an_empty_one() -> Iterator[None]:
    """An agent starts with a damaged journal as if nothing stood there."""

    def opened(self: SimulatedJournal) -> None:
        if self.damaged:
            self.damaged = False
            self._kept.clear()

    with patch.object(SimulatedJournal, "open", opened):
        yield


@contextmanager
def journal_that_keeps_nothing() -> Iterator[None]:
    """A grant of an outage is in no journal: who is killed has told of it, and nobody else knows."""

    async def write(self: SimulatedJournal, entry: MergeOutage) -> None:
        await self.remove()

    with patch.object(SimulatedJournal, "write", write):
        yield


@contextmanager
def merged_without_a_look_at_who_has_it() -> Iterator[None]:
    """What an agent gave in an outage is its client's in the log, whoever has it there."""

    with patch.object(Ledger, "is_open_to", lambda self, address, client, iaid: True):
        yield


@contextmanager
def entry_that_is_never_used_up() -> Iterator[None]:
    """Whoever comes with the hardware address of an entry is the one that was entered by it."""

    def join(self: NodeShard, request: JoinNode) -> tuple[Event, ...]:
        return (NodeJoined(client=request.client, into=request.into, hardware=request.hardware),)

    async def take(self: Joining, claim: Claim, entry: Node, who: Comer) -> None:
        await self._books.tell(JoinNode(client=claim.entry, into=who.client, hardware=claim.hardware))

    with patch.object(NodeShard, "_join", join), patch.object(Joining, "_take", take):
        yield


@contextmanager
def back_from_an_outage_before_anything_is_stored() -> Iterator[None]:
    """An agent is back as soon as the log can be read."""

    async def observe(self: Notes, events: Sequence[Event]) -> int:
        return 0 if isinstance(events[0], OutageEnded) else await _observe(self, events)

    with patch.object(Notes, "observe", observe):
        yield


Mutant = Callable[[], AbstractContextManager[None]]

MUTANTS: Mapping[Mutant, Sequence[str]] = {
    no_sequence_check: (),
    own_events_applied_on_a_timeout: (),
    followed_events_dropped_before_the_acknowledgement: (),
    answered_before_it_is_in_the_log: (),
    decision_that_reads_seen: (),
    decision_that_reads_the_plan: ("plan",) * 6,
    decision_that_reads_a_clock: (),
    expiry_by_what_the_client_was_told: (),
    expiry_by_a_clock_that_was_set: ("log-clock",) * 4,
    expiry_as_if_no_clock_was_set_while_it_was_away: ("log-clock", "stop-agent") * 4,
    withdrawn_is_free: ("operate",) * 8,
    journal_that_keeps_nothing: (),
    damaged_journal_taken_for_an_empty_one: ("cut-agent",) * 8,
    merged_without_a_look_at_who_has_it: ("cut-agent",) * 4,
    entry_that_is_never_used_up: (),
    back_from_an_outage_before_anything_is_stored: ("log-away",) * 6,
}
"""With what a schedule needs more of for the defect to show soon."""
