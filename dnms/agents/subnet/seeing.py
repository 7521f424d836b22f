"""Sees who is on the link without having asked DNMS for anything, and what is wrong there (`--watch`).

Theory of operation. Every frame by which hosts say to all who they are goes into a table (`seeing_table`), and once a
second what is new there is compared with the ledger, which several agents of a link share: what it does not have yet it
is asked to record, and the first agent is who did. An address that the ledger gave somebody is nothing new, nor is what
a node with a Node Agent has, since that tells all of it itself.

An address of a pool is kept from everybody else once it is recorded. So of these the link is asked first, and what
nobody answers for is not recorded: who only says that it has them all takes nothing from the pool. Addresses that are
not heard of for a day are asked for too, and have vanished if nobody answers.

Who is on the link can invent machines as fast as the link is. How many new ones, and how many addresses, come into the
log is bounded by buckets, and how many are there at once by the ledger.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping

import structlog

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.link import SeeingLink
from dnms.agents.subnet.seeing_alarms import Alarms
from dnms.agents.subnet.seeing_owners import Owners
from dnms.agents.subnet.seeing_table import MAX_A_MACHINE, Table
from dnms.bus.port import LostRace, Unanswered, Unavailable
from dnms.domain import sightings
from dnms.domain.aggregate import Refused
from dnms.domain.sightings import is_news
from dnms.events.ip import Prefix, format_address, is_link_local
from dnms.events.requests import LoseAddresses, SightAddress, Unseen
from dnms.kit.clock import MICROSECONDS
from dnms.linux.errors import KernelError
from dnms.wire.errors import PeerError
from dnms.wire.rates import Bucket, Buckets
from dnms.wire.seen import Claim, Wanted, facts
from dnms.wire.seen_forms import form_of

LOOK = 1.0  # seconds between two looks at what was heard
AT_ONCE = 128  # addresses that are looked at in one, and asked for at once
OWN = 10.0  # seconds between two looks at the addresses of this machine
LOSE = 60.0  # seconds between two looks for what is not heard of any more
REPORT = 60.0  # seconds between two lines about what was dropped
TOGETHER = 60.0  # seconds within which a host makes the addresses that belong together
LATER = 60.0  # seconds until what could not be recorded now is tried again

ADDRESSES_AT_ONCE, ADDRESSES_A_SECOND = 4_096, 0.5
"""Addresses that the ledger does not have, of all machines: then 43 200 a day, of some 250 bytes each."""
OWN_AT_ONCE, OWN_A_SECOND = MAX_A_MACHINE, 1 / 120
"""And of one machine, that may have a new one every hour, in a few prefixes."""
MAX_MACHINES = 4_096  # of which is known how many addresses they had lately

_logger = structlog.get_logger(__name__)

_NOT_NOW = (Unavailable, Unanswered, LostRace)


class Seeing:
    """Of one agent on its link."""

    def __init__(self, books: Books, link: SeeingLink, *, client_id: Callable[[bytes], bytes]) -> None:
        """`client_id` names a DUID in the log."""
        self.dropped: Counter[str] = Counter()
        """Frames that were not believed, and what was not recorded, by a stable word."""
        self._books = books
        self._link = link
        self._owners = Owners(books, client_id)
        self.table = Table(self._dark)
        self._alarms = Alarms(books, link, self.table, self._owners, client_id=client_id)
        now = asyncio.get_running_loop().time()
        self._addresses = Bucket(burst=ADDRESSES_AT_ONCE, per_second=ADDRESSES_A_SECOND, now=now)
        self._agents: dict[bytes, bytes] = {}  # by its link-local address the hardware address of each other agent
        self._agents_at = now - OWN  # when it was asked for them
        self._of_each = Buckets(burst=OWN_AT_ONCE, per_second=OWN_A_SECOND, most=MAX_MACHINES)

    async def run(self) -> None:
        """Until cancelled. KernelError if the link cannot be heard; LogError, for what cannot be mended."""
        self.table.own = await self._link.own()
        watching = self._link.watch(self._hear)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._look())
                tasks.create_task(self._look_for_lost())
                while True:
                    await asyncio.sleep(REPORT)
                    watching.count()
                    self._report(watching.dropped + self.table.dropped + self.dropped)
        finally:
            watching.close()

    def _hear(self, frame: bytes) -> None:
        try:
            said = facts(frame)
        except PeerError as error:
            self.dropped[error.why] += 1
            return
        now = asyncio.get_running_loop().time()
        for fact in said:
            self.table.hear(fact, now)

    def _report(self, dropped: Counter[str]) -> None:
        if dropped - self._reported:
            _logger.info("not seen", **dict(dropped - self._reported))
        self._reported = dropped

    _reported: Counter[str] = Counter()

    # -- sightings

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        own_at = loop.time()
        while True:
            await asyncio.sleep(LOOK)
            try:
                if own_at + OWN <= loop.time():
                    self.table.own, own_at = await self._link.own(), loop.time()
                self.table.age(loop.time())
                if self._books.caught_up.is_set() and not self._books.outage.active:
                    await self._learn_agents(loop.time())
                    await self._owners.learn()
                    await self._sight(self.table.due(loop.time(), AT_ONCE))
                    await self._alarms.look()
            except KernelError as error:
                _logger.warning("the link cannot be asked who uses an address", reason=str(error))
            except _NOT_NOW as error:
                _logger.warning("what is seen on the link is not recorded yet", why=error.why)

    async def _learn_agents(self, now: float) -> None:
        """Ask the link for the hardware addresses of the other agents, when there are more, and from time to time.

        KernelError.
        """
        told = {each for agent in self._books.ledger.sightings.agents.values() for each in agent.addresses}
        others = {each for each in told - self.table.own.keys() if is_link_local(each)}
        if others <= self._agents.keys() and now < self._agents_at + OWN:
            return
        answers = await self._link.users(others) if others else {}
        # One that does not answer now has what it had: it may be gone, or the question was lost.
        self._agents = {each: min(answers.get(each, ()), default=self._agents.get(each, b"")) for each in others}
        self._agents_at = now
        self.table.agents = frozenset(filter(None, self._agents.values()))

    async def _sight(self, due: Collection[bytes]) -> None:
        """Have the ledger record these, as far as they are new. LogError, KernelError."""
        # In a flood the table forgets them while the link is asked.
        heard = {address: self.table.heard[address].hardware for address in due}
        news = {address: request for address in due if (request := self._news(address)) is not None}
        in_pools = [address for address in news if self._books.ledger.pool_of(address) is not None]
        try:
            answers = await self._link.users(in_pools) if in_pools else {}
            for address in in_pools:
                if heard[address] not in answers.get(address, frozenset()):
                    del news[address]
                    self.dropped["unanswered"] += 1
            strangers = await self._introduced({heard[address] for address in news})
            for address in [each for each in news if heard[each] in strangers]:
                del news[address]
                self.dropped["too-many-machines"] += 1
                self._later(address)
            outcomes = await self._books.decide_all(news.values())
        except (*_NOT_NOW, KernelError):
            for address in news:
                self._later(address)
            raise
        for request, outcome in zip(news.values(), outcomes, strict=True):
            if isinstance(outcome, Refused):
                self.dropped[outcome.why] += 1
                self._later(request.address)
            elif isinstance(outcome, BaseException):
                raise outcome

    async def _introduced(self, machines: Collection[bytes]) -> set[bytes]:
        """Have the log say who these are; those of which it does not. LogError."""
        # Side by side, since most are in a shard of their own, and each commit waits for the disk.
        outcomes = await asyncio.gather(*map(self._owners.introduce, machines), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return {each for each, outcome in zip(machines, outcomes, strict=True) if not outcome}

    def _news(self, address: bytes) -> SightAddress | None:
        """What there is to report of an address now; None: nothing."""
        books, known = self._books, self.table.heard.get(address)
        if known is None or address in books.ledger.leases:
            return None
        seen = books.ledger.sightings
        client, recorded = self._owners.of(known.hardware), seen.all.get(address)
        if seen.is_ours(address) or not is_news(recorded, client, at=books.now()):
            return None
        if books.has_agent(client) and (recorded is None or recorded.client == client):
            return (
                None  # it tells it itself; but what it had before its agent came is kept from others, and not from it
            )
        if recorded is None and seen.number >= sightings.MAX_SIGHTED:
            self.dropped["too-many-sightings"] += 1
            self._later(address)
            return None
        now = asyncio.get_running_loop().time()
        if not (self._of_each.take(known.hardware, now) and self._addresses.take(now)):
            self.dropped["rate"] += 1
            self._later(address)
            return None
        of_machine = ((each, self.table.heard[each].first) for each in self.table.of(known.hardware))
        earlier = [each for each, first in of_machine if first + TOGETHER <= known.first]
        form = form_of(address, known.hardware, earlier)
        return SightAddress(address=address, client=client, form=form.form, lasting=form.lasting, sure=form.sure)

    def _later(self, address: bytes) -> None:
        self.table.look_again(address, asyncio.get_running_loop().time() + LATER)

    def _dark(self, asked: Wanted) -> Prefix | None:
        """The prefix of the link in which an address lies that is asked for, and that nobody has by the ledger; None:
        there is none, or one of our agents asks.
        """
        address, ledger = asked.address, self._books.ledger
        subnet, seen = ledger.plan.subnet, ledger.sightings
        if subnet is None or address in ledger.leases or address in ledger.held or address in seen.all:
            return None
        if address in subnet.gateways or seen.is_ours(address) or seen.is_ours(asked.source):
            return None
        return next((prefix for prefix in subnet.prefixes if address in prefix), None)

    # -- what has vanished

    async def _look_for_lost(self) -> None:
        while True:
            await asyncio.sleep(LOSE)
            if not self._books.caught_up.is_set() or self._books.outage.active:
                continue
            try:
                await self._lose()
            except KernelError as error:
                _logger.warning("the link cannot be asked who uses an address", reason=str(error))
            except _NOT_NOW as error:
                _logger.warning("what has vanished from the link is not recorded yet", why=error.why)
            except Refused as refusal:
                _logger.error("what has vanished from the link is not recorded", why=refusal.why, text=refusal.text)

    async def _lose(self) -> None:
        """Ask for what was not heard of for a day, and record what has vanished. LogError, KernelError, Refused."""
        books, table = self._books, self.table
        at = books.now()
        quiet = [
            address
            for address, known in books.ledger.sightings.all.items()
            if at - max(known.recorded, self._last_seen(address)) >= sightings.UNSEEN * MICROSECONDS
        ][:AT_ONCE]
        if not quiet:
            return
        given = [address for address in quiet if address in books.ledger.leases]  # the ledger says who has it
        answers = await self._link.users([address for address in quiet if address not in given])
        there = self._still_there(answers)
        gone = [address for address in quiet if address not in there]
        if gone:
            unseen = tuple(Unseen(address=address, last_seen=self._last_seen(address)) for address in gone)
            await books.decide(LoseAddresses(unseen=unseen))
        for address in gone:
            table.forget(address)
            _logger.debug("an address has vanished from the link", address=format_address(address))

    def _still_there(self, answers: Mapping[bytes, Collection[bytes]]) -> set[bytes]:
        """Those for which the machine answers that the ledger has with it; they are heard of."""
        there: set[bytes] = set()
        now, recorded = asyncio.get_running_loop().time(), self._books.ledger.sightings.all
        for address, several in answers.items():
            for hardware in several:
                if address in recorded and self._owners.of(hardware) == recorded[address].client:
                    self.table.hear(Claim(address, hardware), now)
                    there.add(address)
        return there

    def _last_seen(self, address: bytes) -> int:
        """In microseconds of the log's clock; 0: not since the agent began."""
        known = self.table.heard.get(address)
        if known is None:
            return 0
        return self._books.now() - int((asyncio.get_running_loop().time() - known.last) * MICROSECONDS)
