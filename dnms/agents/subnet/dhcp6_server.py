"""Serves what has no Node Agent by DHCPv6: addresses, prefixes, and what the link tells (RFC 8415, 18.3).

Theory of operation. A message is answered out of the ledger alone, so any agent of the link answers alike, and after a
restart too. Only the server id differs: a client renews with one server, and another discards what names that one
(RFC 8415, 16.8); with one id for all, each would act on everything, and a DUID is one machine's (RFC 8415, 11). When
that one is gone, its clients rebind, and hear from any other what it would have said. A Solicit is answered by what
would be given, of a draft that is thrown away; what is requested, renewed or rebound is decided and recorded, and a
prefix routed, before it is told. A message through relays is answered where the link of its client is this agent's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import NamedTuple

import msgspec
import structlog

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.budget import DECISIONS_A_SECOND, DECISIONS_AT_ONCE
from dnms.agents.subnet.dhcp6_addresses import Addresses, Look
from dnms.agents.subnet.dhcp6_clients import MAX_RECORDED, Clients, Who
from dnms.agents.subnet.dhcp6_heard import Heard, heard
from dnms.agents.subnet.dhcp6_neighbours import Neighbours
from dnms.agents.subnet.dhcp6_prefixes import Prefixes
from dnms.agents.subnet.dhcp6_probing import Probing
from dnms.agents.subnet.dhcp6_reconfiguring import Reconfiguring
from dnms.agents.subnet.dhcp6_registrations import Registrations
from dnms.agents.subnet.link import Dhcp6, Dhcp6Link
from dnms.agents.subnet.newcomers import Newcomers
from dnms.agents.subnet.reserving import Reserving
from dnms.bus.port import LogError, LostRace, Unanswered, Unavailable
from dnms.domain import rollouts
from dnms.domain.aggregate import Refused
from dnms.domain.dhcp_table import boot_of
from dnms.events.ip import family, is_link_local, prefix_of
from dnms.events.plan import Stateless
from dnms.events.recorded import Event
from dnms.events.seen import HardwareContested
from dnms.linux.errors import KernelError
from dnms.linux.multicast import Peer
from dnms.wire.dhcp6.codes import Kind
from dnms.wire.dhcp6.identities import hardware_of
from dnms.wire.dhcp6.messages import Message, Relay, encode_reply
from dnms.wire.dhcp6.server import Answer, Given, GivenAddresses, Question, Told, acknowledged, answer, success
from dnms.wire.errors import Code, PeerError
from dnms.wire.rates import Buckets

AT_ONCE = 1_024  # messages that are being answered; clients say again what was dropped
BURST, A_SECOND = 20.0, 5.0  # messages of one client's address: a client sends one a second at most
RELAY_BURST, RELAY_A_SECOND = 2_000.0, 500.0  # of one relay, which has many clients
MAX_PEERS = 4_096
REJOIN = 60.0  # seconds after which the groups are joined again: a snooping bridge may have forgotten them

_AT_ONCE = frozenset({Kind.SOLICIT, Kind.REQUEST, Kind.RENEW, Kind.REBIND, Kind.INFORMATION_REQUEST})
_ASKS = (Kind.SOLICIT, Kind.REQUEST, Kind.RENEW, Kind.REBIND)
_NOT_NOW = (LostRace, Unanswered, Unavailable)

_logger = structlog.get_logger(__name__)


class _Exchange(NamedTuple):
    """A message that is being answered, and what the plan tells its client."""

    listening: Dhcp6
    message: Heard
    peer: Peer
    who: Who
    addresses: Addresses
    told: Stateless


class Dhcp6Server:
    """Of one agent on its link."""

    def __init__(
        self,
        books: Books,
        link: Dhcp6Link,
        *,
        duid: bytes,
        interface: str,
        client_id: Callable[[bytes], bytes],
        newcomers: Newcomers,
        alarm: Callable[[HardwareContested], Awaitable[None]],
        has_session: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        """`interface` leads to the link; `client_id` names a DUID in the log; `alarm` records an event once.

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
        client_id = lru_cache(maxsize=MAX_RECORDED)(client_id)  # of one client several times in a moment
        self._clients = Clients(books, client_id=client_id, newcomers=newcomers, alarm=alarm)
        self._neighbours = Neighbours(link)
        self._probing = Probing(books, link)
        self._reserving = Reserving(books, client_id)
        self._reconfiguring = Reconfiguring(books, server=duid, foresee=self._foreseen)
        self._registrations = Registrations(books, newcomers)
        self._client_id = client_id
        self._newcomers = newcomers
        share = newcomers.share
        self._rates = Buckets(burst=share * BURST, per_second=share * A_SECOND, most=MAX_PEERS)
        self._relays = Buckets(burst=share * RELAY_BURST, per_second=share * RELAY_A_SECOND, most=MAX_PEERS)
        self._decisions = Buckets(
            burst=share * DECISIONS_AT_ONCE, per_second=share * DECISIONS_A_SECOND, most=MAX_PEERS
        )
        self._answering: set[tuple[bytes, bytes, bytes]] = set()  # keys of messages
        self._tasks = asyncio.TaskGroup()
        self._is_serving = False

    async def run(self) -> None:
        """Until cancelled. KernelError if the link cannot be heard; LogError, for what cannot be mended."""
        async with self._tasks:
            self._tasks.create_task(self._clients.recording.run())
            self._is_serving = True
            listening = self._link.dhcp6(lambda data, peer, _: self._receive(listening, data, peer))
            reconfiguring = self._tasks.create_task(
                self._reconfiguring.run(lambda data, relays, peer: _send(listening, data, relays, peer))
            )
            ending = self._tasks.create_task(self._registrations.run())
            try:
                while True:
                    await asyncio.sleep(REJOIN)
                    listening.rejoin()
            finally:
                self._is_serving = False
                reconfiguring.cancel()
                ending.cancel()
                listening.close()

    @property
    def is_answering(self) -> bool:
        """Whether there are messages whose answers it does not have yet."""
        return bool(self._answering)

    def _receive(self, listening: Dhcp6, data: bytes, peer: Peer) -> None:
        try:
            message = self._read(data, peer)
        except PeerError as error:
            self.dropped[error.why] += 1
            _logger.debug("a DHCPv6 message is dropped", peer=peer[0], why=error.why, reason=error.text)
            return
        if not self._serve_at_once(listening, message, peer):
            self._answering.add(message.key)
            self._tasks.create_task(self._serve(listening, message, peer))

    def _read(self, data: bytes, peer: Peer) -> Heard:
        """PeerError for what is not answered."""
        now = asyncio.get_running_loop().time()
        message = heard(data, peer[0], server=self._duid, is_on_link=self._books.ledger.adopted.is_on_link)
        if message.relays and not self._relays.take(peer[0], now):
            raise PeerError(Code.RATE, "too many messages of one relay")
        if not self._rates.take(message.peer, now):
            raise PeerError(Code.PEER_RATE)
        if (duid := message.asked.client) and self._clients.has_agent(duid, self._has_session):
            raise PeerError(Code.CLIENT_ID, "it names a node with a Node Agent")
        if (registered := message.asked.registered) is not None and not self._is_here(registered.address, duid):
            raise PeerError(Code.NOT_ON_LINK, "an address of another link is registered")
        if message.key in self._answering:
            raise PeerError(Code.REPEATED)
        if len(self._answering) >= AT_ONCE:
            raise PeerError(Code.RATE)
        if (decisions := message.asked.decisions) and not self._decisions.take(message.peer, now, decisions):
            raise PeerError(Code.BUSY, "too many decisions are asked for from there")
        return message

    def _is_here(self, address: bytes, duid: bytes) -> bool:
        """Whether a client of this DUID can have the address on this link, or of what it was delegated (RFC 9686)."""
        ledger = self._books.ledger
        if is_link_local(address) or ledger.adopted.is_on_link(address):
            return not is_link_local(address)
        blocks = (ledger.delegations.all.get(prefix_of(address, length)) for length in range(1, 65))
        client = self._client_id(duid)
        return any(each is not None and each.client == client for each in blocks)

    async def _serve(self, listening: Dhcp6, message: Heard, peer: Peer) -> None:
        asked = message.asked
        try:
            hardware = await self._hardware(message)
            if hardware is None and self._may_be_reserved(asked):
                self.dropped[Code.BUSY] += 1
                return
            who = await self._clients.meet(asked, message.peer, hardware or b"")
            if asked.registered is not None:
                await self._register(listening, message, who, peer)
                return
            answered = await self._answer(asked, who, look=self._look(message, who))
            if answered is None:
                self.dropped["silent"] += 1
                return
            self._reply(listening, message, peer, who, answered)
        except _NOT_NOW as error:
            self.dropped[error.why] += 1
            _logger.warning("a DHCPv6 client is not answered", why=error.why, text=str(error))
        finally:
            self._answering.discard(message.key)

    def _serve_at_once(self, listening: Dhcp6, message: Heard, peer: Peer) -> bool:
        """Whether it is answered by what is known here, or will be by one decision, as most: that needs no task."""
        asked = message.asked
        if self._books.outage.active or asked.kind not in _AT_ONCE or (asked.wanted and asked.commits):
            return False
        hardware = self._known_hardware(message)
        who = None if hardware is None else self._clients.met(asked, message.peer, hardware)
        if who is None or (asked.addresses and self._clients.is_expected(who)):
            return False
        group = self._clients.group(who)
        told = rollouts.told(self._books.ledger, who.client, group)
        if self._reserving.names(who.client, who.hardware):
            return False
        addresses = Addresses(self._books, asked, self._reserving, client=who.client, names=(), group=group)
        exchange = _Exchange(listening, message, peer, who, addresses, told)
        answered = self._known(exchange)
        if answered is None:
            return told.policy.mode != "observe" and self._ask(exchange)
        self._reply(listening, message, peer, who, answered)
        return True

    def _known(self, exchange: _Exchange) -> Answer | None:
        """What a client is told without that anything is decided; None: nothing."""
        asked, addresses, told = exchange.message.asked, exchange.addresses, exchange.told
        if asked.kind is Kind.INFORMATION_REQUEST:
            return Answer(told=_of_link(told, asked))
        if told.policy.mode == "observe":
            return None
        if asked.wanted:
            return self._foreseen(asked, exchange.who)
        if not asked.commits:
            return Answer(addresses=addresses.foreseen(), told=_of_link(told, asked))
        if asked.kind in (Kind.RENEW, Kind.REBIND) and addresses.are_settled:
            return Answer(addresses=addresses.settled(), told=_of_link(told, asked))
        return None

    def _ask(self, exchange: _Exchange) -> bool:
        """Have the first address of a client decided, and answer then; whether it asks for that alone."""
        message = exchange.message
        if message.asked.kind not in (Kind.REQUEST, Kind.SOLICIT) or (first := exchange.addresses.first) is None:
            return False
        if self._look(message, exchange.who) is not None:
            return False
        if not self._affords(1, exchange.who.peer):
            self.dropped[Code.BUSY] += 1
            return True
        try:
            waiting = self._books.asked(first)
        except LogError:
            return False
        self._answering.add(message.key)
        waiting.add_done_callback(partial(self._decided, exchange))
        return True

    def _decided(self, exchange: _Exchange, done: asyncio.Future[tuple[tuple[Event, ...], int]]) -> None:
        """Answer by what was decided; where nothing could be, as any other."""
        if not self._is_serving:
            return
        listening, message, peer, who, addresses, told = exchange
        error = None if done.cancelled() else done.exception()
        if isinstance(error, _NOT_NOW) and not self._books.outage.active:
            self._answering.discard(message.key)
            self.dropped[error.why] += 1
            _logger.warning("a DHCPv6 client is not answered", why=error.why, text=str(error))
        elif done.cancelled() or not (error is None or isinstance(error, Refused)):
            self._tasks.create_task(self._serve(listening, message, peer))
        else:
            self._answering.discard(message.key)
            answered = Answer(addresses=addresses.given_first(error), told=_of_link(told, message.asked))
            self._reply(listening, message, peer, who, answered)

    def _reply(self, listening: Dhcp6, message: Heard, peer: Peer, who: Who, answered: Answer) -> None:
        asked = message.asked
        if asked.accepts_reconfigure and asked.client:
            key = self._reconfiguring.authentication(asked.client)
            answered = msgspec.structs.replace(answered, authentication=key)
        if not self._is_sent(listening, answer(asked, answered, server=self._duid), message, peer):
            return
        self._reconfiguring.answered(message, who, answered, peer)
        if asked.commits and answered.gives:
            self._clients.record(who)

    def _is_sent(self, listening: Dhcp6, answered: Message, message: Heard, peer: Peer) -> bool:
        """Send an answer; whether the kernel takes it: it refuses a client while its table of neighbours is full."""
        try:
            _send(listening, encode_reply(answered, message.relays), message.relays, peer)
        except KernelError as error:
            self.dropped[error.why] += 1
            _logger.warning("a DHCPv6 client cannot be answered", reason=str(error))
            return False
        self.answered[message.asked.kind.name.lower()] += 1
        return True

    def _known_hardware(self, message: Heard) -> bytes | None:
        """As `_hardware`; None if the link has to be asked."""
        if message.relays or not message.asked.client:
            return hardware_of(message.link_layer)
        return self._neighbours.known(message.peer)

    async def _register(self, listening: Dhcp6, message: Heard, who: Who, peer: Peer) -> None:
        """Record an address that a client has made itself, and tell it so. LogError."""
        assert message.asked.registered is not None
        # Each address of a machine would be another one: those of one hardware address are one, and so are the others.
        who = msgspec.structs.replace(who, peer=who.hardware[0] if who.hardware else b"")
        if not await self._registrations.take(who, message.asked.registered):
            self.dropped["silent"] += 1
            return
        self._clients.record(who)
        self._is_sent(listening, acknowledged(message.asked), message, peer)

    async def _hardware(self, message: Heard) -> bytes | None:
        """The client's hardware address, as its relay or the link has it; empty if neither has, None: ask later."""
        if message.relays or not message.asked.client:
            return hardware_of(message.link_layer)
        return await self._neighbours.hardware(message.peer)

    def _may_be_reserved(self, asked: Question) -> bool:
        """Whether it is to be given something new, and the plan may reserve something else for its hardware address."""
        ledger = self._books.ledger
        if not ledger.adopted.reserved or not asked.commits or asked.kind not in _ASKS:
            return False
        client = self._client_id(asked.client)
        return any((client, each.iaid, 6) not in ledger.bindings for each in asked.addresses)

    def _foreseen(self, asked: Question, who: Who) -> Answer | None:
        """What the client would be told now, if it asked this; None: nothing."""
        group = self._clients.group(who)
        told = rollouts.told(self._books.ledger, who.client, group)
        if asked.kind is Kind.INFORMATION_REQUEST:
            return Answer(told=_of_link(told, asked))
        if told.policy.mode == "observe":
            return None
        addresses, prefixes = self._parts(asked, who, group)
        return Answer(addresses=addresses.foreseen(), prefixes=prefixes.foreseen(), told=_of_link(told, asked))

    def _look(self, message: Heard, who: Who) -> Look | None:
        """How the link is asked for an address before the client is given it; None: it is not."""
        if message.relays or not self._probing.is_wanted:
            return None
        return partial(self._probing.looked, hardware=who.hardware)

    def _parts(self, asked: Question, who: Who, group: int, look: Look | None = None) -> tuple[Addresses, Prefixes]:
        names = self._reserving.names(who.client, who.hardware) if asked.kind in _ASKS else ()
        addresses = Addresses(
            self._books, asked, self._reserving, client=who.client, names=names, group=group, look=look
        )
        prefixes = Prefixes(
            self._books, asked, client=who.client, group=group, interface=self._interface, peer=who.peer
        )
        return addresses, prefixes

    async def _answer(self, asked: Question, who: Who, *, look: Look | None) -> Answer | None:
        """What the client is told; None: it is told nothing. LogError."""
        if asked.kind in _ASKS and asked.addresses:
            await self._join(asked, who)
        group = self._clients.group(who)
        told = rollouts.told(self._books.ledger, who.client, group)
        if asked.kind is Kind.INFORMATION_REQUEST:
            return Answer(told=_of_link(told, asked))
        addresses, prefixes = self._parts(asked, who, group, look)
        if asked.kind not in _ASKS:
            return await _ended(asked, addresses, prefixes)
        if told.policy.mode == "observe":
            return None  # another server's to answer
        if asked.kind is Kind.REBIND and not (addresses.are_ours and prefixes.are_ours):
            return None  # another server's client (RFC 8415, 18.3.5)
        given = await self._given(asked, addresses, prefixes, who.peer)
        if given is None:
            return None
        return Answer(addresses=given[0], prefixes=given[1], told=_of_link(told, asked))

    async def _join(self, asked: Question, who: Who) -> None:
        """Have it be what an operator entered. LogError."""
        if not self._clients.is_expected(who):
            return
        try:
            if not self._books.outage.active:
                await self._clients.join(who, [each.iaid for each in asked.addresses])
        except _NOT_NOW:
            if not self._books.outage.active:
                raise

    async def _given(
        self, asked: Question, addresses: Addresses, prefixes: Prefixes, peer: bytes
    ) -> tuple[tuple[GivenAddresses, ...], tuple[Given, ...]] | None:
        """What it has of each association now, or would have. LogError."""
        if asked.commits and not self._affords(addresses.new + prefixes.new, peer):
            self.dropped[Code.BUSY] += 1
            return None
        try:
            if not self._books.outage.active:
                if not asked.commits:
                    return addresses.foreseen(), prefixes.foreseen()
                given = await addresses.given()
                delegated = await prefixes.given()
                return None if delegated is None else (given, delegated)
        except _NOT_NOW:
            if not self._books.outage.active:
                raise
        delegated = prefixes.given_away()
        away = None if delegated is None else await addresses.given_away()
        return None if delegated is None or away is None else (away, delegated)

    def _affords(self, new: int, peer: bytes) -> bool:
        """Whether so many new ones may go to where this client is: whoever is on the link can invent clients."""
        now = asyncio.get_running_loop().time()
        return all(self._newcomers.leases(peer, now=now) for _ in range(new))


async def _ended(asked: Question, addresses: Addresses, prefixes: Prefixes) -> Answer | None:
    """What is said to a client that asks for nothing. LogError."""
    if asked.kind is Kind.CONFIRM:
        status = addresses.confirmed()
        return None if status is None else Answer(status=status)
    if asked.kind is Kind.DECLINE:
        unknown = await addresses.declined()
        return None if unknown is None else Answer(addresses=unknown, status=success("declined"))
    return Answer(addresses=await addresses.released(), prefixes=await prefixes.released(), status=success("released"))


def _send(listening: Dhcp6, data: bytes, relays: tuple[Relay, ...], peer: Peer) -> None:
    """KernelError."""
    if relays:
        listening.send_to_relay(data, peer)
    else:
        listening.send(data, peer)


def _of_link(told: Stateless, asked: Question) -> Told:
    """Of what the members of a group are told, what DHCPv6 can carry."""
    boot = boot_of(told.dhcp, 6, asked.architectures)
    return Told(
        dns=tuple(each for each in told.dns or () if family(each) == 6),
        search=told.search or (),
        ntp=tuple(each for each in told.ntp or () if family(each) == 6),
        boot_file="" if boot is None else boot.url,
        boot_parameters=() if boot is None else boot.parameters,
        others=tuple((each.code, each.value) for each in told.dhcp.options or () if each.family == 6),
    )
