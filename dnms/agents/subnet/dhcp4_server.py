"""Gives addresses by DHCPv4 to the machines of the link that have no Node Agent (RFC 2131, 4.3).

Theory of operation. A client is answered out of the ledger, so any agent of the link answers alike (but for its own
address, by which a client names it). A Discover is answered by what would be given, of a draft that is thrown away, and
what was offered is kept for that client for a minute, in memory; what is requested is decided and recorded before it is
told. Who has not what it thinks is told so (NAK) by a ledger that is folded to its end, and only if that says so: of
addresses of which the plan gives none, another server may know. While the log is away a client keeps what it was
promised, and there is silence for everything else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import lru_cache, partial

import structlog

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp4_names import MAX_KNOWN, Names, Who
from dnms.agents.subnet.dhcp4_probing import Probing
from dnms.agents.subnet.dhcp4_told import Telling
from dnms.agents.subnet.dhcp_offers import Offers
from dnms.agents.subnet.granted import is_granted
from dnms.agents.subnet.link import Dhcp4, Dhcp4Link
from dnms.agents.subnet.newcomers import Newcomers
from dnms.agents.subnet.reserving import Reserving
from dnms.bus.port import LogError, LostRace, Unanswered, Unavailable
from dnms.domain import rollouts
from dnms.domain.aggregate import Refused
from dnms.domain.identity import identity_of
from dnms.domain.leases import Lease, leased
from dnms.domain.ledger import Ledger
from dnms.events.address import AddressAllocated
from dnms.events.ip import format_address
from dnms.events.recorded import Event
from dnms.events.requests import AllocateAddress, DeclineAddress, ReleaseAddress
from dnms.linux.errors import KernelError
from dnms.wire.dhcp4.codes import Kind
from dnms.wire.dhcp4.messages import NOBODY, Message, decode, encode
from dnms.wire.dhcp4.server import Question, State, acknowledge, deny, offer, question, way
from dnms.wire.errors import Code, PeerError
from dnms.wire.rates import Buckets

AT_ONCE = 1_024  # messages that are being answered; clients say again what was dropped
BURST, A_SECOND = 20.0, 5.0  # messages of one client: it sends one a second at most
MAX_PEERS = 4_096
TRIES = 16
"""Addresses that somebody uses before a client has to ask again."""

_NOT_NOW = (LostRace, Unanswered, Unavailable)

_logger = structlog.get_logger(__name__)


class Dhcp4Server:
    """Of one agent on its link."""

    def __init__(
        self,
        books: Books,
        link: Dhcp4Link,
        *,
        client_id: Callable[[bytes], bytes],
        newcomers: Newcomers,
        random: Callable[[int], bytes],
    ) -> None:
        """`client_id` names a DUID in the log, `random` draws bytes."""
        self.dropped: Counter[str] = Counter()
        """What was not answered, by a stable word."""
        self.answered: Counter[str] = Counter()
        """What was told, by the kind of message."""
        self._books = books
        self._link = link
        self._client_id = lru_cache(maxsize=MAX_KNOWN)(client_id)  # of one client several times in a moment
        self._newcomers = newcomers
        self._random = random
        self._offers = Offers()
        self._probing = Probing(books, link, self._offers)
        self._names = Names(books, self._client_id)
        self._telling = Telling(books)
        self._reserving = Reserving(books, self._client_id)
        self._rates = Buckets(burst=BURST, per_second=A_SECOND, most=MAX_PEERS)
        self._answering: set[tuple[bytes, bytes]] = set()  # clients and transactions
        self._tasks = asyncio.TaskGroup()
        self._is_serving = False

    async def run(self) -> None:
        """Until cancelled. KernelError if the link cannot be heard; LogError, for what cannot be mended."""
        async with self._tasks:
            self._tasks.create_task(self._names.recording.run())
            self._is_serving = True
            listening = self._link.dhcp4(lambda data: self._receive(listening, data))
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self._is_serving = False
                listening.close()

    @property
    def is_answering(self) -> bool:
        """Whether there are messages whose answers it does not have yet."""
        return bool(self._answering)

    def _receive(self, sockets: Dhcp4, data: bytes) -> None:
        try:
            asked = self._read(sockets, data)
        except PeerError as error:
            self.dropped[error.why] += 1
            _logger.debug("a DHCPv4 message is dropped", why=error.why, reason=error.text)
            return
        if not self._serve_at_once(sockets, asked):
            self._answering.add((asked.hardware, asked.transaction))
            self._tasks.create_task(self._serve(sockets, asked))

    def _read(self, sockets: Dhcp4, data: bytes) -> Question:
        """PeerError for what is not answered."""
        asked = question(decode(data), server=sockets.address)
        if not self._rates.take(asked.hardware, asyncio.get_running_loop().time()):
            raise PeerError(Code.PEER_RATE)
        is_on_link = self._books.ledger.adopted.is_on_link
        if asked.relay != NOBODY and not is_on_link(asked.relay):
            raise PeerError(Code.NOT_ON_LINK, "a relay on another link")
        if asked.kind is Kind.INFORM and not is_on_link(asked.client):
            raise PeerError(Code.NOT_ON_LINK, "a client on another link")
        if (asked.hardware, asked.transaction) in self._answering:
            raise PeerError(Code.REPEATED)
        if len(self._answering) >= AT_ONCE:
            raise PeerError(Code.RATE)
        return asked

    async def _serve(self, sockets: Dhcp4, asked: Question) -> None:
        who = self._who(asked)
        try:
            answer = await self._answer(sockets.address, asked, who)
            if answer is not None:
                self._reply(sockets, asked, who, answer)
            elif asked.kind not in (Kind.RELEASE, Kind.DECLINE):
                self.dropped["silent"] += 1
        except _NOT_NOW as error:
            self._not_now(error)
        except KernelError as error:
            self._not_sent(error)
        finally:
            self._answering.discard((asked.hardware, asked.transaction))

    def _not_now(self, error: LostRace | Unanswered | Unavailable) -> None:
        self.dropped[error.why] += 1
        _logger.warning("a DHCPv4 client is not answered", why=error.why, text=str(error))

    def _not_sent(self, error: KernelError) -> None:
        self.dropped[error.why] += 1
        _logger.warning("a DHCPv4 client cannot be answered", reason=str(error))

    def _reply(self, sockets: Dhcp4, asked: Question, who: Who, answer: Message) -> None:
        to = way(asked, answer)
        try:
            data = encode(answer, size=asked.size, wanted=asked.requested)
            if not sockets.send(data, to.address, to.port, to.hardware):
                self.dropped["unsent"] += 1
                return
        except KernelError as error:
            self._not_sent(error)
        except ValueError as error:
            self.dropped["unwritable"] += 1
            _logger.warning("the plan has what no DHCPv4 client can be told", reason=str(error))
        else:
            self.answered[Kind(answer.kind).name.lower()] += 1
            if answer.kind == Kind.ACK and answer.yours != NOBODY and not self._books.outage.active:
                self._names.record(who)

    # -- what takes no task --------------------------------------------------------------------------------------------

    def _serve_at_once(self, sockets: Dhcp4, asked: Question) -> bool:
        """Whether it is answered by what is known here, or will be by one decision, as most."""
        if self._books.outage.active or asked.kind not in (Kind.DISCOVER, Kind.REQUEST):
            return False
        who, server = self._who(asked), sockets.address
        if self._probing.is_looking(who) or self._names_of(who):
            return False
        if rollouts.told(self._books.ledger, who.client, who.group).policy.mode == "observe":
            return False
        if asked.kind is Kind.REQUEST and asked.state is State.SELECTING and self._is_taken_up(asked, who):
            return self._ask(sockets, asked, who)
        if is_granted(self._books, self._request(who)):
            if asked.kind is Kind.DISCOVER and not asked.rapid_commit:
                told = self._telling.told(self._books.ledger, asked, who, self._books.ledger.lease(*who.binding))
                answer = None if told.address == NOBODY else offer(asked, told, server=server)
            else:
                answer = self._acknowledge(server, asked, who) if asked.state is State.RENEWING else None
        elif asked.kind is Kind.DISCOVER and not asked.rapid_commit:
            try:
                answer = self._offer_anew(server, asked, who)
            except Refused:
                self.dropped["silent"] += 1
                return True
        else:
            answer = None
        if answer is not None:
            self._reply(sockets, asked, who, answer)
        return answer is not None

    def _offer_anew(self, server: bytes, asked: Question, who: Who) -> Message | None:
        """What one is offered that has nothing, where no draft is needed to know that; None where one is. Refused."""
        ledger, request, now = self._books.ledger, self._request(who), asyncio.get_running_loop().time()
        if not self._is_new(who):
            return None
        try:
            events = ledger.decide(request, at=self._books.now(), entropy=self._random(ledger.entropy(request)))
        except Refused:
            return None
        given = events[0]
        if len(events) != 1 or not isinstance(given, AddressAllocated) or given.address == server:
            return None
        if self._offers.to_others(given.address, who.binding, now=now) is not None:
            return None
        if not self._is_offered(who, given.address):
            if self._probing.is_wanted(asked, given.address):
                return None
            if not self._affords(who):
                raise Refused(Code.BUSY)
        self._offers.add(who.binding, given, now=now)
        return offer(asked, self._telling.told(ledger, asked, who, leased(given)), server=server)

    def _is_taken_up(self, asked: Question, who: Who) -> bool:
        """Whether one that has nothing wants what it was offered here."""
        return self._is_new(who) and self._is_offered(who, asked.wanted)

    def _ask(self, sockets: Dhcp4, asked: Question, who: Who) -> bool:
        """Have it decided that a client has what it was offered, and answer then; false if it cannot be asked now."""
        try:
            waiting = self._books.asked(self._request(who))
        except LogError:
            return False
        self._answering.add((asked.hardware, asked.transaction))
        waiting.add_done_callback(partial(self._decided, sockets, asked, who))
        return True

    def _decided(
        self, sockets: Dhcp4, asked: Question, who: Who, done: asyncio.Future[tuple[tuple[Event, ...], int]]
    ) -> None:
        """Answer by what was decided; where nothing could be, as any other."""
        if not self._is_serving:
            return
        error = None if done.cancelled() else done.exception()
        if isinstance(error, _NOT_NOW) and not self._books.outage.active:
            self._answering.discard((asked.hardware, asked.transaction))
            self._not_now(error)
        elif done.cancelled() or error is not None:
            self._tasks.create_task(self._serve(sockets, asked))
        else:
            self._answering.discard((asked.hardware, asked.transaction))
            self._offers.remove(who.binding)
            answer = self._acknowledge(sockets.address, asked, who)
            if answer is None:
                answer = deny(asked, "another client has this address", server=sockets.address)
            self._reply(sockets, asked, who, answer)

    # -- what takes one ------------------------------------------------------------------------------------------------

    def _who(self, asked: Question) -> Who:
        duid, iaid = identity_of(asked.client_id, asked.hardware)
        client = self._client_id(duid)
        group = self._books.group(client, asked.name, duid=duid, hardware=(asked.hardware,))
        return Who(client=client, iaid=iaid, duid=duid, hardware=asked.hardware, name=asked.name, group=group)

    async def _answer(self, server: bytes, asked: Question, who: Who) -> Message | None:
        """None: it is told nothing. LogError, KernelError."""
        ledger = self._books.ledger
        match asked.kind:
            case Kind.INFORM:
                return acknowledge(asked, self._telling.told(ledger, asked, who, None), server=server)
            case Kind.RELEASE | Kind.DECLINE:
                await self._end(asked, who)
                return None
        if rollouts.told(ledger, who.client, who.group).policy.mode == "observe":
            return None  # another server's to answer
        return await self._give(server, asked, who)

    async def _give(self, server: bytes, asked: Question, who: Who) -> Message | None:
        """What it is offered or has. LogError, KernelError."""
        books = self._books
        try:
            if not books.outage.active:
                if self._probing.is_looking(who):
                    return None
                if asked.kind is Kind.DISCOVER:
                    return await self._offer(server, asked, who)
                return await self._grant(server, asked, who)
        except _NOT_NOW:
            if not books.outage.active:
                raise
        except Refused as refused:
            _logger.debug("no address is given", hardware=who.hardware.hex(":"), why=refused.why, text=refused.text)
            return None
        # Nothing new, and nothing is denied: the ledger may be behind.
        return self._acknowledge(server, asked, who) if asked.kind is Kind.REQUEST else None

    async def _end(self, asked: Question, who: Who) -> None:
        """What a client gives back, or found in use. LogError."""
        if self._books.has_agent(who.client):
            self.dropped[Code.CLIENT_ID] += 1  # DHCPv4 proves nothing, and whoever has heard of its DUID can say it
            return
        kind = ReleaseAddress if asked.kind is Kind.RELEASE else DeclineAddress
        self._offers.remove(who.binding)
        if not self._has(who, asked.wanted):
            # Not asked of the ledger, which records what it refuses: whoever is on the link can invent clients.
            self.dropped[Code.NO_BINDING] += 1
            return
        try:
            await self._books.decide(kind(client=who.client, iaid=who.iaid, address=asked.wanted))
        except Refused as refused:
            self.dropped[refused.why] += 1
            return
        self.answered[asked.kind.name.lower()] += 1
        if asked.kind is Kind.DECLINE:
            address = format_address(asked.wanted)
            _logger.warning("a client found its address in use", address=address, hardware=who.hardware.hex(":"))

    # -- offers

    async def _offer(self, server: bytes, asked: Question, who: Who) -> Message | None:
        """Refused; LogError, KernelError."""
        now = asyncio.get_running_loop().time()
        for _ in range(TRIES):
            # First, since what is offered to thousands that somebody invented is passed for each that he invents.
            if self._offers.of(who.binding, now=now) is None and not self._affords(who):
                return None
            draft, given = self._foresee(who)
            lease = draft.lease(*who.binding)
            if lease is None:
                return None
            if given is not None:
                is_offered = self._is_offered(who, given.address)
                # Before the link is asked, so that nobody else is offered it meanwhile.
                self._offers.add(who.binding, given, now=now)
                if not is_offered and not await self._probing.is_free(
                    server, asked, who, self._request(who), given.address
                ):
                    continue
            told = self._telling.told(draft, asked, who, lease)
            if asked.rapid_commit and not (told.ipv6_only and asked.is_ready_for_ipv6_only):
                return await self._commit(server, asked, who, given.address if given is not None else lease.address)
            return None if told.address == NOBODY else offer(asked, told, server=server)
        return None

    def _foresee(self, who: Who) -> tuple[Ledger, AddressAllocated | None]:
        """A ledger as it would be if the client had an address; and what it would be given, if it has none. Refused."""
        draft, at, request = self._books.ledger.draft(), self._books.now(), self._request(who)
        draft.offered = self._offers.others(who.binding, now=asyncio.get_running_loop().time())
        self._reserving.foresee(draft, self._names_of(who), who.client, who.iaid, 4)
        events = draft.decide(request, at=at, entropy=self._random(draft.entropy(request)))
        for event in events:
            draft.evolve(event, at=at, position=0)
        return draft, next((each for each in events if isinstance(each, AddressAllocated)), None)

    def _request(self, who: Who) -> AllocateAddress:
        found = self._offers.of(who.binding, now=asyncio.get_running_loop().time())
        offered = None if found is None else found.given.address
        return AllocateAddress(client=who.client, iaid=who.iaid, family=4, group=who.group, offered=offered)

    # -- grants

    async def _grant(self, server: bytes, asked: Question, who: Who) -> Message | None:
        """Refused; LogError, KernelError."""
        books = self._books
        if not books.ledger.plan.position:
            return None  # nobody can say yet where the client is
        if not self._may_have(asked, who):
            await books.catch_up()
            if not self._may_have(asked, who):
                return self._deny(server, asked, who)
        if self._is_new(who) and not self._is_offered(who, asked.wanted):
            if not self._affords(who):
                return None
            if not await self._probing.is_free(server, asked, who, self._request(who), asked.wanted):
                return deny(asked, "somebody else uses this address", server=server)
        return await self._commit(server, asked, who, asked.wanted)

    def _deny(self, server: bytes, asked: Question, who: Who) -> Message | None:
        """By a ledger that is folded to its end; None where another server can have given what the client wants
        (RFC 2131, 4.3.2).
        """
        ledger, subnet = self._books.ledger, self._books.ledger.plan.subnet
        is_ours = asked.state is State.SELECTING  # it names this server
        if not ledger.adopted.is_on_link(asked.wanted):
            # Without a prefix of IPv4 in the plan, every address of another server would be.
            if is_ours or (subnet is not None and any(each.family == 4 for each in subnet.prefixes)):
                return deny(asked, "this address is of another link", server=server)
            return None
        is_known = is_ours or not self._is_new(who)
        if is_known or asked.wanted in ledger.leases or ledger.place_of(asked.wanted) is not None:
            return deny(asked, "this address is not the client's", server=server)
        return None

    async def _commit(self, server: bytes, asked: Question, who: Who, wanted: bytes) -> Message | None:
        """Refused; LogError."""
        await self._reserving.claim(self._names_of(who), who.client, who.iaid, 4)
        try:
            await self._books.decide(self._request(who))
        except Refused as refused:
            if not self._has(who, wanted):
                return deny(asked, refused.text, server=server) if asked.kind is Kind.REQUEST else None
        self._offers.remove(who.binding)
        if asked.kind is Kind.DISCOVER:
            wanted = next((lease.address for lease in self._leases(who)), NOBODY)
        answer = self._acknowledge(server, asked, who, wanted)
        if answer is None and asked.kind is Kind.REQUEST:
            return deny(asked, "another client has this address", server=server)
        return answer

    def _acknowledge(self, server: bytes, asked: Question, who: Who, wanted: bytes = NOBODY) -> Message | None:
        """That the client has what it wants, for as long as the ledger has promised; None if it does not."""
        wanted = asked.wanted if wanted == NOBODY else wanted
        lease = next((each for each in self._leases(who) if each.address == wanted), None)
        if lease is None:
            return None
        told = self._telling.told(self._books.ledger, asked, who, lease)
        return acknowledge(asked, told, server=server) if told.lease else None

    def _may_have(self, asked: Question, who: Who) -> bool:
        """Whether the client has what it wants, or would be given just that."""
        if self._has(who, asked.wanted):
            return True
        try:
            _, given = self._foresee(who)
        except Refused:
            return False
        return given is not None and given.address == asked.wanted

    def _affords(self, who: Who) -> bool:
        """Whether one more new client may come: whoever is on the link can invent them."""
        if self._is_new(who) and not self._newcomers.leases_anywhere(
            who.hardware, now=asyncio.get_running_loop().time()
        ):
            self.dropped[Code.BUSY] += 1
            return False
        return True

    def _names_of(self, who: Who) -> tuple[bytes, ...]:
        """The clients for which the plan reserves what this one is to have."""
        return self._reserving.names(who.client, (who.hardware,))

    def _is_new(self, who: Who) -> bool:
        return who.binding not in self._books.ledger.bindings

    def _is_offered(self, who: Who, address: bytes) -> bool:
        found = self._offers.of(who.binding, now=asyncio.get_running_loop().time())
        return found is not None and found.given.address == address

    def _has(self, who: Who, address: bytes) -> bool:
        return any(lease.address == address for lease in self._leases(who))

    def _leases(self, who: Who) -> tuple[Lease, ...]:
        return self._books.ledger.leases_of(*who.binding)
