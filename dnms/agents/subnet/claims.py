"""What nodes say that they have of somebody else than DNMS, and what becomes of who was given that.

Theory of operation. A node registers its whole configuration. An address of a pool in it that nobody has by the log is
given to nobody from then on. One that is another node's by the log is a conflict, if it is true; and a node says what
it likes. So the link is asked: who answers for the address? Only if that is hardware of the node that claims it, and
not of the one that was given it, the ledger is told whose lease the claim ends. The lease is withdrawn then, its holder
is moved to its next candidate and told at once, and the address rests. Hardware of neither, such as a router's that
answers for others, proves nothing; nor does silence.

Who can answer for an address of another on the link can take its traffic anyway. How many addresses one claimant can
keep from others is bounded by the ledger, and how often it is asked here by its session's budget and by the queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping

import msgspec
import structlog

from dnms.agents.subnet.books import Books
from dnms.bus.port import LostRace, Unanswered, Unavailable
from dnms.domain.aggregate import Refused
from dnms.domain.declining import MAX_DECLINES
from dnms.domain.holding import owner_of
from dnms.events.configuration import Snapshot
from dnms.events.ip import format_address
from dnms.events.requests import BlockAddress
from dnms.linux.errors import KernelError

FOREIGN = frozenset({"other", "dhcp"})
"""The origins of addresses that a person or another program has set."""

MAX_CLAIMS = 256  # that wait: some sessions with all that one may claim; more is an attack, or a broken plan
PAUSE = 3.0
"""Seconds until the link is asked. An address that was given just now may still be probed for, and our question be
taken for another's probe."""

Users = Callable[[Collection[bytes]], Awaitable[Mapping[bytes, frozenset[bytes]]]]
"""Asks the link: by address the hardware addresses that answer for it. KernelError."""

_logger = structlog.get_logger(__name__)


class Claim(msgspec.Struct, frozen=True):
    """A node says that it has what another was given."""

    client: bytes
    hardware: frozenset[bytes]  # of the same registration
    address: bytes
    cause: int  # sequence of the commit on `seen` with the registration
    at: float  # seconds of the event loop's clock


class Claims:
    """Those that an agent has heard."""

    def __init__(self, books: Books, users: Users) -> None:
        self._books = books
        self._users = users
        self._waiting: deque[Claim] = deque()
        self._more = asyncio.Event()

    def add(self, client: bytes, hardware: frozenset[bytes], addresses: Collection[bytes], *, cause: int) -> None:
        """Look into these, unless too many wait for that."""
        now = asyncio.get_running_loop().time()
        known = {(each.client, each.address) for each in self._waiting}
        new = [address for address in addresses if (client, address) not in known]
        if len(self._waiting) + len(new) > MAX_CLAIMS:
            _logger.warning("claims not looked into", claims=len(new), waiting=len(self._waiting))
            return
        self._waiting.extend(Claim(client, hardware, address, cause, now) for address in new)
        self._more.set()

    async def run(self) -> None:
        """Look into them, until cancelled. LogError, for what cannot be mended."""
        loop = asyncio.get_running_loop()
        while True:
            await self._more.wait()
            self._more.clear()
            while self._waiting:
                await asyncio.sleep(max(0.0, self._waiting[0].at + PAUSE - loop.time()))
                due = [each for each in self._waiting if each.at + PAUSE <= loop.time()][:MAX_DECLINES]
                try:
                    await self._look_into(due)
                except KernelError as error:
                    _logger.warning("the link cannot be asked who uses an address", reason=str(error))
                for _ in due:
                    self._waiting.popleft()

    async def _look_into(self, claims: Collection[Claim]) -> None:
        """Ask the link about all of them at once. KernelError."""
        seen = await self._users({each.address for each in claims})
        for each in claims:
            holder = owner_of(self._books.ledger, each.address)
            if holder is None or holder == each.client:
                continue
            known = await self._books.hardware(holder)
            if known and seen.get(each.address, frozenset()) & (each.hardware - known):
                await self._end(each, holder)
            else:
                # It is said of an address of another link too, or its node gave it up meanwhile.
                _logger.info("a claim that the link does not confirm", address=format_address(each.address))

    async def _end(self, claim: Claim, holder: bytes) -> None:
        request = BlockAddress(client=claim.client, address=claim.address, cause=claim.cause, holder=holder)
        address = format_address(claim.address)
        try:
            events = await self._books.decide(request)
        except Refused as refusal:
            _logger.error("another uses what a node was given, and it is not moved", address=address, why=refusal.why)
        except (Unavailable, Unanswered, LostRace) as error:
            _logger.warning("another uses what a node was given; the log is away", address=address, why=error.why)
        else:
            if events:
                _logger.error(
                    "another uses what a node was given, and that one is moved",
                    address=address,
                    user=claim.client.hex(),
                    holder=holder.hex(),
                )


async def block(
    books: Books,
    claims: Claims | None,
    *,
    client: bytes,
    snapshot: Snapshot,
    seen: int,
    affords: Callable[[int], bool],
) -> None:
    """Have addresses given to nobody that a node has of somebody else than DNMS; `seen` is where it said so. LogError.

    What is another's is looked into. `affords` says whether the node may have so many more decided.
    """
    ledger = books.ledger
    used = [each.address for each in snapshot.addresses if each.origin in FOREIGN and ledger.pool_of(each.address)]
    owners = {address: owner_of(ledger, address) for address in used}
    theirs = [address for address, owner in owners.items() if owner not in (None, client)][:MAX_DECLINES]
    free = [address for address, owner in owners.items() if owner is None][:MAX_DECLINES]
    if not affords(len(theirs) + len(free)):
        return
    if theirs and claims is not None:
        told = (link.hardware.value for link in snapshot.links if link.hardware is not None)
        claims.add(client, frozenset(each for each in told if isinstance(each, bytes)), theirs, cause=seen)
    requests = [BlockAddress(client=client, address=address, cause=seen) for address in free]
    for outcome in await books.decide_all(requests):
        if isinstance(outcome, Refused):
            _logger.warning("not blocked", why=outcome.why, text=outcome.text)
        elif isinstance(outcome, BaseException):
            raise outcome
