"""Delegates prefixes by DHCPv6 to the routers of the link that have no Node Agent (RFC 8415, 18.3; RFC 6603).

Theory of operation. A message is answered out of the ledger alone, so any agent of the link answers alike (but for its
DUID), and after a restart too. A Solicit is answered by what would be given, of a draft that is thrown away; what is
requested, renewed or rebound is decided, recorded and routed before it is told. What a client speaks of and does not
have is ended (a lifetime of 0), unless another server may have given it. While the log is away, who asks for what it
has is told for how long it was promised, and nobody is denied what this agent cannot know.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

import structlog

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.delegates import NO_ROUTE, PREFIX, Delegates
from dnms.agents.subnet.link import Dhcp6, Link
from dnms.agents.subnet.newcomers import Newcomers
from dnms.bus.port import LostRace, Unanswered, Unavailable
from dnms.domain import delegating
from dnms.domain.aggregate import Refused
from dnms.domain.ledger import Ledger
from dnms.events.configuration import AssignedPrefix
from dnms.events.ip import Prefix, family, format_address, is_link_local, parse_address
from dnms.events.requests import DelegatePrefix, ReleasePrefix
from dnms.linux.errors import KernelError
from dnms.linux.multicast import Peer
from dnms.wire.dhcp6.associations import IaPrefix
from dnms.wire.dhcp6.codes import Kind
from dnms.wire.dhcp6.messages import decode, encode
from dnms.wire.dhcp6.server import Given, Question, Told, Wanted, answer, no_binding, no_prefix, over, question
from dnms.wire.errors import Code, PeerError
from dnms.wire.messages import PrefixAssociation
from dnms.wire.rates import Buckets

AT_ONCE = 256  # messages that are being answered; clients say again what was dropped
BURST, A_SECOND = 20.0, 5.0  # messages of one peer: a client sends one a second at most
MAX_PEERS = 4_096
REJOIN = 60.0  # seconds after which the group is joined again: a snooping bridge may have forgotten it

_NOT_NOW = (LostRace, Unanswered, Unavailable)

_logger = structlog.get_logger(__name__)


class Dhcp6Server:
    """Of one agent on its link."""

    def __init__(
        self,
        books: Books,
        link: Link,
        *,
        duid: bytes,
        interface: str,
        client_id: Callable[[bytes], bytes],
        newcomers: Newcomers,
        has_session: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        """`interface` leads to the link; `client_id` names a DUID in the log.

        `has_session`: whether a client is a node that asks in a session. DHCPv6 proves nothing, so whoever has heard of
        its DUID could have its prefix routed elsewhere, or give it back.
        """
        self._has_session = has_session
        self.dropped: Counter[str] = Counter()
        """What was not answered, by a stable word."""
        self.answered: Counter[str] = Counter()
        """What was, by the kind of message."""
        self._books = books
        self._link = link
        self._duid = duid
        self._interface = interface
        self._client_id = client_id
        self._newcomers = newcomers
        self._rates = Buckets(burst=BURST, per_second=A_SECOND, most=MAX_PEERS)
        self._answering: set[tuple[bytes, bytes]] = set()  # clients and transactions
        self._tasks = asyncio.TaskGroup()

    async def run(self) -> None:
        """Until cancelled. KernelError if the link cannot be heard; LogError, for what cannot be mended."""
        async with self._tasks:
            listening = self._link.dhcp6(lambda data, peer, _: self._receive(listening, data, peer))
            try:
                while True:
                    await asyncio.sleep(REJOIN)
                    listening.rejoin()
            finally:
                listening.close()

    def _receive(self, listening: Dhcp6, data: bytes, peer: Peer) -> None:
        try:
            asked = self._read(data, peer)
        except PeerError as error:
            self.dropped[error.why] += 1
            _logger.debug("a DHCPv6 message is dropped", peer=peer[0], why=error.why, reason=error.text)
            return
        self._answering.add((asked.client, asked.transaction))
        self._tasks.create_task(self._serve(listening, asked, peer))

    def _read(self, data: bytes, peer: Peer) -> Question:
        """PeerError for what is not answered."""
        if not is_link_local(parse_address(peer[0].partition("%")[0])):
            raise PeerError(Code.DIRECTION, "not from this link")
        if not self._rates.take(peer[0], asyncio.get_running_loop().time()):
            raise PeerError(Code.PEER_RATE)
        relayed = decode(data)
        if relayed.relays:
            raise PeerError(Code.DIRECTION, "a message of a relay")
        asked = question(relayed.message, server=self._duid)
        if self._has_session(self._client_id(asked.client)):
            raise PeerError(Code.CLIENT_ID, "it names a node that has a session")
        if (asked.client, asked.transaction) in self._answering:
            raise PeerError(Code.REPEATED)
        if len(self._answering) >= AT_ONCE:
            raise PeerError(Code.RATE)
        return asked

    async def _serve(self, listening: Dhcp6, asked: Question, peer: Peer) -> None:
        try:
            given = await self._given(asked, parse_address(peer[0].partition("%")[0]))
            if given is None:
                self.dropped["silent"] += 1
                return
            message = answer(asked, given, server=self._duid, told=self._told())
            listening.send(encode(message), peer)
            self.answered[asked.kind.name.lower()] += 1
        except _NOT_NOW as error:
            self.dropped[error.why] += 1
            _logger.warning("a DHCPv6 client is not answered", why=error.why, text=str(error))
        except KernelError as error:
            self.dropped[error.why] += 1
            _logger.warning("a DHCPv6 client cannot be answered", reason=str(error))
        finally:
            self._answering.discard((asked.client, asked.transaction))

    async def _given(self, asked: Question, peer: bytes) -> list[Given] | None:
        """What the client is told; None: it is told nothing. LogError."""
        client = self._client_id(asked.client)
        match asked.kind:
            case Kind.INFORMATION_REQUEST:
                return []
            case Kind.RELEASE:
                return await self._release(client, asked)
            case Kind.REBIND if not all(self._is_ours(client, each) for each in asked.wanted):
                return None  # another server's client (RFC 8415, 18.3.5)
        delegates = Delegates(self._books, interface=self._interface, next_hop=peer, excludes=asked.excludes)
        wanted = (PrefixAssociation(iaid=each.iaid, length=each.length) for each in asked.wanted)
        delegates.greet(client, wanted)
        group = self._books.group(client, "", duid=asked.client, hardware=())
        try:
            if not self._books.outage.active:
                if not asked.commits:
                    return list(self._foreseen(asked, client, group, peer))
                return await self._delegated(asked, delegates, client=client, group=group, peer=peer)
        except _NOT_NOW:
            if not self._books.outage.active:
                raise
        return _given_away(asked, delegates.told())

    async def _delegated(
        self, asked: Question, delegates: Delegates, *, client: bytes, group: int, peer: bytes
    ) -> list[Given] | None:
        """What the client has, decided, recorded and routed. LogError."""
        if not self._affords(client, asked, peer):
            self.dropped[Code.BUSY] += 1
            return None
        refused = (await delegates.ask(group)).get(PREFIX)
        told = delegates.told()
        if refused is not None:
            _logger.debug("no prefix is delegated", peer=format_address(peer), why=refused.why, text=refused.text)
            if refused.why == NO_ROUTE and not all(_prefixes(asked, each, told) for each in asked.wanted):
                return None  # it asks again, and has one by then
        return [_answered(asked, each, told, refused) for each in asked.wanted]

    def _foreseen(self, asked: Question, client: bytes, group: int, peer: bytes) -> Iterator[Given]:
        """What it would be given."""
        draft, at = self._books.ledger.draft(), self._books.now()
        for each in asked.wanted:
            request = DelegatePrefix(
                client=client,
                iaid=each.iaid,
                length=each.length,
                group=group,
                next_hop=peer,
                interface=self._interface,
                excludes=asked.excludes,
            )
            refused = None
            try:
                for event in draft.decide(request, at=at, entropy=bytes(draft.entropy(request))):
                    draft.evolve(event, at=at, position=0)
            except Refused as refusal:
                refused = refusal
            told = tuple(p for p in delegating.prefixes_of(draft, client, each.iaid, at) if p.preferred)
            yield _answered(asked, each, told, refused)

    async def _release(self, client: bytes, asked: Question) -> list[Given]:
        """What of a Release is not known (RFC 8415, 18.3.7). LogError."""
        unknown = []
        for each in asked.wanted:
            outcomes = await self._books.decide_all(
                ReleasePrefix(client=client, iaid=each.iaid, prefix=prefix) for prefix in each.prefixes
            )
            for outcome in outcomes:
                if isinstance(outcome, BaseException) and not isinstance(outcome, Refused):
                    raise outcome
            if not outcomes or all(isinstance(outcome, Refused) for outcome in outcomes):
                unknown.append(Given(iaid=each.iaid, status=no_binding()))
        return unknown

    def _is_ours(self, client: bytes, wanted: Wanted) -> bool:
        """Whether an association is, or may have been, delegated here."""
        ledger = self._books.ledger
        return bool(ledger.delegations.of(client, wanted.iaid)) or all(
            any(source.covers(prefix) for source in _sources(ledger)) for prefix in wanted.prefixes
        )

    def _affords(self, client: bytes, asked: Question, peer: bytes) -> bool:
        """Whether so many new ones may go to where this client is: whoever is on the link can invent clients."""
        now, delegations = asyncio.get_running_loop().time(), self._books.ledger.delegations
        return all(delegations.of(client, each.iaid) or self._newcomers.leases(peer, now=now) for each in asked.wanted)

    def _told(self) -> Told:
        subnet = self._books.ledger.plan.subnet
        if subnet is None:
            return Told()
        return Told(
            dns=tuple(each for each in subnet.dns if family(each) == 6),
            search=subnet.search,
            ntp=tuple(each for each in subnet.ntp if family(each) == 6),
        )


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


def _given_away(asked: Question, told: tuple[AssignedPrefix, ...]) -> list[Given] | None:
    """While the log is away: what a client has it keeps, and of the rest nothing can be said but to who looks."""
    has = [Given(iaid=each.iaid, prefixes=_prefixes(asked, each, told)) for each in asked.wanted]
    if all(each.prefixes for each in has):
        return has
    if asked.kind in (Kind.RENEW, Kind.REBIND):
        return None
    return [
        each if each.prefixes else Given(iaid=each.iaid, status=no_prefix("the log cannot be written")) for each in has
    ]
