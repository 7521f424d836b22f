"""Which of the link's gateways can be used: each agent asks and listens, and the ledger makes one answer of it.

Theory of operation. Nodes that are managed heed no Router Advertisement, so somebody has to notice in their place when
a router goes. Where there is a choice, each gateway is asked now and then who answers for it; where the plan has
gateways learned, advertisements are heard. What an agent sees otherwise than the ledger has it, it reports; whoever is
first has it recorded, and all nodes are told. Anybody on the link can advertise, so reports wait a little, are few, and
the ledger bounds how many routers it learns.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable

import msgspec
import structlog

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.link import GatewaysLink, Hearing
from dnms.bus.port import LostRace, Unanswered, Unavailable
from dnms.domain.aggregate import Refused
from dnms.domain.gateways import MAX_LEARNED, is_learning, named
from dnms.events.ip import family, format_address
from dnms.events.requests import ReportGateway
from dnms.linux.errors import KernelError
from dnms.wire.nd import RouterAdvertisement

LOOK = 10.0  # seconds between two questions
SILENT = 3  # questions without an answer, after which a gateway is silent
COALESCE = 0.5  # seconds in which what several routers say becomes one report
AT_MOST = 10.0  # seconds between two reports of one router

_logger = structlog.get_logger(__name__)


class Advertised(msgspec.Struct):
    """What a router advertised last."""

    advertisement: RouterAdvertisement
    until: float  # seconds of the event loop's clock


class Gateways:
    """The watch of one agent over its link's gateways."""

    def __init__(self, books: Books, link: GatewaysLink) -> None:
        self._books = books
        self._link = link
        self._heard: dict[bytes, Advertised] = {}
        self._misses: Counter[bytes] = Counter()  # questions in a row that each gateway did not answer
        self._answering: set[bytes] = set()
        self._reported: dict[bytes, float] = {}  # when
        self._hearing: Hearing | None = None
        self._changed = asyncio.Event()  # there may be something to report

    async def run(self) -> None:
        """Until cancelled. LogError, for what cannot be mended."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._look())
                while True:
                    await self._changed.wait()
                    await asyncio.sleep(COALESCE)
                    self._changed.clear()
                    await self._report()
        finally:
            self._stop_listening()

    async def _look(self) -> None:
        while True:
            try:
                self._listen()
                await self._ask()
            except KernelError as error:
                _logger.warning("the link's routers are not known", reason=str(error))
            self._changed.set()
            await asyncio.sleep(LOOK)

    def _listen(self) -> None:
        """Hear advertisements if the plan has them heard. KernelError."""
        if not is_learning(self._books.ledger.plan):
            self._stop_listening()
        elif self._hearing is None:
            self._hearing = self._link.advertisements(self._take)

    def _stop_listening(self) -> None:
        if self._hearing is not None:
            self._hearing.close()
            self._hearing = None
        self._heard.clear()

    def _take(self, router: bytes, advertisement: RouterAdvertisement) -> None:
        if router in self._heard or len(self._heard) < 2 * MAX_LEARNED:
            until = asyncio.get_running_loop().time() + advertisement.lifetime
            self._heard[router] = Advertised(advertisement, until)
            self._changed.set()

    async def _ask(self) -> None:
        """Count for how long each has not answered, of a family that has several. KernelError."""
        gateways = {*named(self._books.ledger.plan), *self._books.ledger.gateways}
        families = Counter(map(family, gateways))
        asked = {each for each in gateways if families[family(each)] > 1}
        answering = set(await self._link.answering(sorted(asked))) if asked else set()
        self._misses = Counter({each: self._misses[each] + 1 for each in asked - answering})
        self._answering = answering

    async def _report(self) -> None:
        """Tell the ledger what it does not know. LogError."""
        loop = asyncio.get_running_loop()
        for request in tuple(self._news(loop.time())):
            if self._reported.get(request.address, -AT_MOST) + AT_MOST > loop.time():
                continue
            self._reported[request.address] = loop.time()
            router = format_address(request.address)
            try:
                events = await self._books.decide(request)
            except Refused as refusal:
                _logger.warning("a router of the link is not taken", router=router, why=refusal.why)
            except (Unavailable, Unanswered, LostRace) as error:
                _logger.warning("what became of a router is not recorded", router=router, why=error.why)
            else:
                if events:
                    _logger.warning("a gateway of the link changed", router=router, seen=request.seen)
        self._reported = {each: at for each, at in self._reported.items() if at + AT_MOST > loop.time()}

    def _news(self, now: float) -> Iterable[ReportGateway]:
        """What was seen otherwise than the ledger has it, or may have it."""
        known, names = self._books.ledger.gateways, named(self._books.ledger.plan)
        has_room = sum(each.learned for each in known.values()) < MAX_LEARNED
        for router, heard in list(self._heard.items()):
            said, there = heard.advertisement, known.get(router)
            if router not in names and heard.until > now:
                is_new = has_room if there is None else not there.silent and there.preference != said.preference
                if is_new:
                    yield ReportGateway(address=router, seen="advertised", preference=said.preference)
            elif there is not None and there.learned:
                yield ReportGateway(address=router, seen="expired" if said.lifetime else "farewell")
            else:
                del self._heard[router]
        for gateway in sorted(self._answering):
            if gateway in known and known[gateway].silent:
                yield ReportGateway(address=gateway, seen="answers")
        for gateway, misses in sorted(self._misses.items()):
            if misses >= SILENT and not (gateway in known and known[gateway].silent):
                yield ReportGateway(address=gateway, seen="silent")
