"""The prefixes of a DHCPv6 client (IA_PD; RFC 8415, 18.3; RFC 6603): decided, recorded and routed before it is told.

What a client speaks of and does not have is ended (a lifetime of 0), unless another server may have given it. While the
log is away, who asks for what it has is told for how long it was promised, and nobody is denied what this agent cannot
know.
"""

from __future__ import annotations

from collections.abc import Iterator

import structlog

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.delegates import NO_ROUTE, PREFIX, Delegates
from dnms.domain import delegating
from dnms.domain.aggregate import Refused
from dnms.domain.delegations import delegated
from dnms.domain.ledger import Ledger
from dnms.events.configuration import AssignedPrefix
from dnms.events.ip import Prefix, format_address
from dnms.events.prefix import PrefixDelegated
from dnms.events.requests import DelegatePrefix, ReleasePrefix
from dnms.wire.dhcp6.associations import IaPrefix
from dnms.wire.dhcp6.codes import Kind
from dnms.wire.dhcp6.server import Given, Question, Wanted, no_binding, no_prefix, over
from dnms.wire.messages import PrefixAssociation

_logger = structlog.get_logger(__name__)


class Prefixes:
    """What one message asks for, of one client at `peer`, its link-local address."""

    def __init__(
        self, books: Books, asked: Question, *, client: bytes, group: int, interface: str, peer: bytes
    ) -> None:
        """`interface` leads to the link."""
        self._books = books
        self._asked = asked
        self._client = client
        self._group = group
        self._interface = interface
        self._peer = peer
        self._delegates = Delegates(books, interface=interface, next_hop=peer, excludes=asked.excludes)
        self._delegates.greet(client, (PrefixAssociation(iaid=each.iaid, length=each.length) for each in asked.wanted))

    @property
    def are_ours(self) -> bool:
        """Whether all that is rebound is, or may have been, delegated here (RFC 8415, 18.3.5)."""
        ledger = self._books.ledger
        return all(
            ledger.delegations.of(self._client, each.iaid)
            or all(any(source.covers(prefix) for source in _sources(ledger)) for prefix in each.prefixes)
            for each in self._asked.wanted
        )

    @property
    def new(self) -> int:
        """How many of the associations have nothing yet."""
        delegations = self._books.ledger.delegations
        return sum(not delegations.of(self._client, each.iaid) for each in self._asked.wanted)

    async def given(self) -> tuple[Given, ...] | None:
        """What it has now, decided, recorded and routed; None: there is no route yet, and it asks again. LogError."""
        asked = self._asked
        if not asked.wanted:
            return ()
        refused = (await self._delegates.ask(self._group)).get(PREFIX)
        told = self._delegates.told()
        if refused is not None:
            peer = format_address(self._peer)
            _logger.debug("no prefix is delegated", peer=peer, why=refused.why, text=refused.text)
            if refused.why == NO_ROUTE and not all(_prefixes(asked, each, told) for each in asked.wanted):
                return None
        return tuple(_answered(asked, each, told, refused) for each in asked.wanted)

    def foreseen(self) -> tuple[Given, ...]:
        """What it would have."""
        if not self._asked.wanted:
            return ()
        if len(self._asked.wanted) == 1 and (given := self._first(self._asked.wanted[0])) is not None:
            return (given,)
        return tuple(self._foreseen())

    def _first(self, each: Wanted) -> Given | None:
        """What one without anything would have of one association, as most that ask: it needs no draft."""
        ledger, at = self._books.ledger, self._books.now()
        if ledger.delegations.of(self._client, each.iaid):
            return None
        request = self._request(each)
        try:
            events = ledger.decide(request, at=at, entropy=bytes(ledger.entropy(request)))
        except Refused:
            return None
        if len(events) != 1 or not isinstance(events[0], PrefixDelegated):
            return None
        return _answered(self._asked, each, delegating.told_of(ledger, (delegated(events[0], 0),), at), None)

    def _foreseen(self) -> Iterator[Given]:
        draft, at = self._books.ledger.draft(), self._books.now()
        for each in self._asked.wanted:
            request = self._request(each)
            refused = None
            try:
                for event in draft.decide(request, at=at, entropy=bytes(draft.entropy(request))):
                    draft.evolve(event, at=at, position=0)
            except Refused as refusal:
                refused = refusal
            told = tuple(p for p in delegating.prefixes_of(draft, self._client, each.iaid, at) if p.preferred)
            yield _answered(self._asked, each, told, refused)

    def _request(self, each: Wanted) -> DelegatePrefix:
        return DelegatePrefix(
            client=self._client,
            iaid=each.iaid,
            length=each.length,
            group=self._group,
            next_hop=self._peer,
            interface=self._interface,
            excludes=self._asked.excludes,
        )

    def given_away(self) -> tuple[Given, ...] | None:
        """While the log is away: what it has it keeps, and of the rest nothing can be said but to who looks."""
        told = self._delegates.told()
        has = [Given(iaid=each.iaid, prefixes=_prefixes(self._asked, each, told)) for each in self._asked.wanted]
        if self._asked.kind in (Kind.RENEW, Kind.REBIND) and not all(each.prefixes for each in has):
            return None
        return tuple(
            each if each.prefixes else Given(iaid=each.iaid, status=no_prefix("the log cannot be written"))
            for each in has
        )

    async def released(self) -> tuple[Given, ...]:
        """Have what it gives back be free; what of that is not known (RFC 8415, 18.3.7). LogError."""
        unknown = []
        for each in self._asked.wanted:
            outcomes = await self._books.decide_all(
                ReleasePrefix(client=self._client, iaid=each.iaid, prefix=prefix) for prefix in each.prefixes
            )
            for outcome in outcomes:
                if isinstance(outcome, BaseException) and not isinstance(outcome, Refused):
                    raise outcome
            if not outcomes or all(isinstance(outcome, Refused) for outcome in outcomes):
                unknown.append(Given(iaid=each.iaid, status=no_binding()))
        return tuple(unknown)


def _sources(ledger: Ledger) -> Iterator[Prefix]:
    """What blocks are cut from here."""
    for pool in ledger.plan.delegations:
        if pool.prefix is not None:
            yield pool.prefix
    yield from ledger.uplinks


def _prefixes(asked: Question, wanted: Wanted, told: tuple[AssignedPrefix, ...]) -> tuple[IaPrefix, ...]:
    return tuple(
        IaPrefix(prefix=each.prefix, preferred=each.preferred, valid=each.valid, exclude=each.exclude)
        for each in told
        if each.iaid == wanted.iaid and (each.exclude is None or asked.excludes)
    )


def _answered(asked: Question, wanted: Wanted, told: tuple[AssignedPrefix, ...], refused: Refused | None) -> Given:
    """What a client has for an association, and what it thought that it had."""
    has = _prefixes(asked, wanted, told)
    ended: tuple[IaPrefix, ...] = ()
    if asked.kind in (Kind.RENEW, Kind.REBIND):
        known = {each.prefix for each in has}
        ended = tuple(over(prefix) for prefix in wanted.prefixes if prefix not in known)
    if has or ended:
        return Given(iaid=wanted.iaid, prefixes=(*has, *ended))
    text = "none is free" if refused is None else refused.text
    return Given(iaid=wanted.iaid, status=no_prefix(text))
