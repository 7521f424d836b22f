"""Gives addresses by DHCPv4 to the machines of the link that have no Node Agent (RFC 2131, 4.3).

Theory of operation. A client is answered out of the ledger, so any agent of the link answers alike (but for its own
address, by which a client names it). A Discover is answered by what would be given, of a draft that is thrown away, and
what was offered is kept for that client for a minute, in memory; what is requested is decided and recorded before it is
told. Who has not what it thinks is told so (NAK) by a ledger that is folded to its end, and only if that says so: of
addresses of which the plan gives none, another server may know. While the log is away a client keeps what it was
promised, and there is silence for everything else.

Of a pool that gives one address after the other the link is asked whether somebody has it, before it is offered: where
a hash picks, a machine that DNMS does not know is rarely hit, and the client looks itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

import structlog

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp4_names import Names, Who
from dnms.agents.subnet.dhcp4_offers import Offers
from dnms.agents.subnet.link import Dhcp4, Dhcp4Link
from dnms.agents.subnet.newcomers import Newcomers
from dnms.agents.subnet.reserving import Reserving
from dnms.bus.port import LostRace, Unanswered, Unavailable
from dnms.domain import declining, rollouts
from dnms.domain.aggregate import Refused
from dnms.domain.assignment import assign
from dnms.domain.dhcp_table import boot_of
from dnms.domain.identity import identity_of
from dnms.domain.leases import Lease
from dnms.domain.ledger import Ledger
from dnms.domain.strategies import COUNTING
from dnms.events.address import AddressAllocated
from dnms.events.ip import MAPPED, MAPPED_BITS, Prefix, family, format_address
from dnms.events.requests import AllocateAddress, DeclineAddress, ReleaseAddress
from dnms.linux.errors import KernelError
from dnms.wire.dhcp4.codes import Kind
from dnms.wire.dhcp4.messages import NOBODY, Message, decode, encode
from dnms.wire.dhcp4.server import Question, State, Told, acknowledge, deny, offer, question, way
from dnms.wire.errors import Code, PeerError
from dnms.wire.rates import Buckets

AT_ONCE = 256  # messages that are being answered; clients say again what was dropped
BURST, A_SECOND = 20.0, 5.0  # messages of one client: it sends one a second at most
MAX_PEERS = 4_096
ASKED_AT_ONCE = 16  # addresses of which the link is asked: each takes a socket for a second
TRIES = 16
"""Addresses that are offered to others, or that somebody uses, before a client has to ask again."""

T1, T2 = 1 / 2, 7 / 8
"""When a client renews and rebinds at the latest, as parts of its lease (RFC 2131, 4.4.5)."""

_NOT_NOW = (LostRace, Unanswered, Unavailable)
_DEFAULT = Prefix(MAPPED + bytes(4), MAPPED_BITS)

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
        self._client_id = client_id
        self._newcomers = newcomers
        self._random = random
        self._offers = Offers()
        self._names = Names(books)
        self._reserving = Reserving(books, client_id)
        self._rates = Buckets(burst=BURST, per_second=A_SECOND, most=MAX_PEERS)
        self._answering: set[tuple[bytes, bytes]] = set()  # clients and transactions
        self._asking = asyncio.Semaphore(ASKED_AT_ONCE)
        self._tasks = asyncio.TaskGroup()

    async def run(self) -> None:
        """Until cancelled. KernelError if the link cannot be heard; LogError, for what cannot be mended."""
        async with self._tasks:
            listening = self._link.dhcp4(lambda data: self._receive(listening, data))
            try:
                await asyncio.get_running_loop().create_future()
            finally:
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
            if answer is None:
                if asked.kind not in (Kind.RELEASE, Kind.DECLINE):
                    self.dropped["silent"] += 1
                return
            to = way(asked, answer)
            data = encode(answer, size=asked.size, wanted=asked.requested)
            if not sockets.send(data, to.address, to.port, to.hardware):
                self.dropped["unsent"] += 1
                return
            self.answered[Kind(answer.kind).name.lower()] += 1
            if answer.kind == Kind.ACK and answer.yours != NOBODY and not self._books.outage.active:
                await self._names.record(who)
        except _NOT_NOW as error:
            self.dropped[error.why] += 1
            _logger.warning("a DHCPv4 client is not answered", why=error.why, text=str(error))
        except KernelError as error:
            self.dropped[error.why] += 1
            _logger.warning("a DHCPv4 client cannot be answered", reason=str(error))
        except ValueError as error:
            self.dropped["unwritable"] += 1
            _logger.warning("the plan has what no DHCPv4 client can be told", reason=str(error))
        finally:
            self._answering.discard((asked.hardware, asked.transaction))

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
                return acknowledge(asked, self._told(ledger, asked, who, None), server=server)
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
            draft, given = self._foresee(who)
            lease = draft.lease(*who.binding)
            if lease is None:
                return None
            if given is not None:
                is_offered = self._offers.of(who.binding, now=now) is not None
                if not is_offered and not self._affords(who):
                    return None
                # Before the link is asked, so that nobody else is offered it meanwhile.
                self._offers.add(who.binding, given, now=now)
                if not is_offered and await self._is_used(server, asked, who, draft, given.address):
                    await self._avoid(who, given.address)
                    continue
            told = self._told(draft, asked, who, lease)
            if asked.rapid_commit and not (told.ipv6_only and asked.is_ready_for_ipv6_only):
                return await self._commit(server, asked, who, given.address if given is not None else lease.address)
            return None if told.address == NOBODY else offer(asked, told, server=server)
        return None

    def _foresee(self, who: Who) -> tuple[Ledger, AddressAllocated | None]:
        """A ledger as it would be if the client had an address; and what it would be given, if it has none. Refused."""
        draft, at, now = self._books.ledger.draft(), self._books.now(), asyncio.get_running_loop().time()
        request = self._request(who)
        self._reserving.foresee(draft, self._reserving.names(who.client, (who.hardware,)), who.client, who.iaid, 4)
        for _ in range(TRIES):
            events = draft.decide(request, at=at, entropy=self._random(draft.entropy(request)))
            given = next((each for each in events if isinstance(each, AddressAllocated)), None)
            other = None if given is None else self._offers.to_others(given.address, who.binding, now=now)
            for event in events if other is None else (other.given,):
                draft.evolve(event, at=at, position=0)
            if other is None:
                return draft, given
        raise Refused("offered", f"{TRIES} addresses that are free are offered to others at the moment")

    def _request(self, who: Who) -> AllocateAddress:
        found = self._offers.of(who.binding, now=asyncio.get_running_loop().time())
        offered = None if found is None else found.given.address
        return AllocateAddress(client=who.client, iaid=who.iaid, family=4, group=who.group, offered=offered)

    async def _is_used(self, server: bytes, asked: Question, who: Who, draft: Ledger, address: bytes) -> bool:
        """Whether this agent has the address, or somebody of the link says that it has. KernelError."""
        pool = draft.pool_of(address)
        if address == server:
            return True
        if pool is None or pool.strategy != COUNTING or asked.relay != NOBODY:
            return False
        async with self._asking:
            users = await self._link.users([address])
        return bool(users.get(address, frozenset()) - {who.hardware})

    async def _avoid(self, who: Who, address: bytes) -> None:
        """Have an address given to nobody that somebody uses, as if the client had found that. Refused; LogError."""
        _logger.warning("an address of a pool is used by somebody", address=format_address(address))
        declining.check(self._books.ledger, who.client, at=self._books.now())
        await self._books.decide(self._request(who))
        self._offers.remove(who.binding)
        if any(lease.address == address for lease in self._leases(who)):
            await self._books.decide(DeclineAddress(client=who.client, iaid=who.iaid, address=address))

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
        if self._is_new(who) and self._offers.of(who.binding, now=asyncio.get_running_loop().time()) is None:
            if not self._affords(who):
                return None
            if await self._is_used(server, asked, who, books.ledger, asked.wanted):
                await self._avoid(who, asked.wanted)
                return deny(asked, "somebody else uses this address", server=server)
        return await self._commit(server, asked, who, asked.wanted)

    def _deny(self, server: bytes, asked: Question, who: Who) -> Message | None:
        """By a ledger that is folded to its end; None where another server can have given what the client wants
        (RFC 2131, 4.3.2).
        """
        ledger = self._books.ledger
        if not ledger.adopted.is_on_link(asked.wanted):
            return deny(asked, "this address is of another link", server=server)
        is_known = asked.state is State.SELECTING or not self._is_new(who)
        if is_known or asked.wanted in ledger.leases or ledger.place_of(asked.wanted) is not None:
            return deny(asked, "this address is not the client's", server=server)
        return None

    async def _commit(self, server: bytes, asked: Question, who: Who, wanted: bytes) -> Message | None:
        """Refused; LogError."""
        await self._reserving.claim(self._reserving.names(who.client, (who.hardware,)), who.client, who.iaid, 4)
        try:
            await self._books.decide(self._request(who))
        except Refused as refused:
            if not any(lease.address == wanted for lease in self._leases(who)):
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
        told = self._told(self._books.ledger, asked, who, lease)
        return acknowledge(asked, told, server=server) if told.lease else None

    def _may_have(self, asked: Question, who: Who) -> bool:
        """Whether the client has what it wants, or would be given just that."""
        if any(lease.address == asked.wanted for lease in self._leases(who)):
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

    def _is_new(self, who: Who) -> bool:
        return who.binding not in self._books.ledger.bindings

    def _leases(self, who: Who) -> tuple[Lease, ...]:
        return self._books.ledger.leases_of(*who.binding)

    # -- what is told

    def _told(self, ledger: Ledger, asked: Question, who: Who, lease: Lease | None) -> Told:
        """All that a client is told in this subnet, and its address, if it has that yet."""
        terms = assign(
            ledger,
            () if lease is None else (lease,),
            client=who.client,
            group=who.group,
            at=self._books.now(),
            epoch=0,
            position=self._books.position,
        )
        all_of_it, address = terms.assignment, NOBODY
        valid = t1 = t2 = 0
        prefixes = () if ledger.plan.subnet is None else ledger.plan.subnet.prefixes
        mask = next((each.length for each in prefixes if each.family == 4), None)
        for each in all_of_it.addresses:
            address, mask, valid = each.address, each.prefix_length, each.valid
            t1, t2 = min(terms.renew_after, int(valid * T1)), min(terms.rebind_after, int(valid * T2))
        routers = _ipv4(all_of_it.gateways)
        routes = tuple(
            (each.destination, each.gateway)
            for each in all_of_it.routes
            if each.destination.family == 4 and family(each.gateway) == 4
        )
        # Who heeds these heeds no other router (RFC 3442).
        default = tuple((_DEFAULT, each) for each in routers[:1]) if routes else ()
        dhcp = rollouts.told(ledger, who.client, who.group).dhcp
        boot = boot_of(dhcp, 4, asked.architectures)
        return Told(
            address=address,
            lease=valid,
            t1=t1,
            t2=t2,
            mask=mask,
            routers=routers,
            routes=(*routes, *default),
            dns=_ipv4(all_of_it.resolver.servers),
            search=all_of_it.resolver.search,
            ntp=_ipv4(all_of_it.ntp),
            mtu=all_of_it.mtu,
            ipv6_only=dhcp.ipv6_only or 0,
            boot_server=NOBODY if boot is None or boot.server is None else boot.server,
            boot_file="" if boot is None else boot.file,
            others=tuple((each.code, each.value) for each in dhcp.options or () if each.family == 4),
        )


def _ipv4(addresses: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(each for each in addresses if family(each) == 4)
