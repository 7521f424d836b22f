"""The Router Advertisements of a link, as the adopted plan and what is above have them (RFC 4861, 6.2; RFC 9096, 3.4).

Theory of operation. What is advertised follows from the ledger alone, so every agent of a link says the same but for
being a router: that a machine is which forwards, and has something from above where the plan says that it comes from
there. A prefix lasts for hosts as the plan says, and never longer than above. One that is advertised no more is said
to be deprecated until no host can have it: for two hours at most, since a host heeds no shorter time at once (RFC 4862,
5.5.3). What hosts were told is kept on the disk, since a router that was off has to end what it began before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from random import SystemRandom
from typing import Protocol

import msgspec
import structlog

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.link import Advertiser, AdvertisingLink
from dnms.disk.advertised import AdvertisedError
from dnms.domain import uplinks
from dnms.domain.ledger import Ledger
from dnms.events.ip import Prefix, family
from dnms.events.plan import Advertise
from dnms.kit.clock import MICROSECONDS
from dnms.linux.errors import KernelError
from dnms.wire.advertising import INITIAL, Times, longest_interval
from dnms.wire.discovery import Chance
from dnms.wire.nd import PrefixInformation, RouteInformation, RouterAdvertisement

HOP_LIMIT = 64  # that hosts begin with
STAYS = 7_200  # seconds for which a prefix that is gone is said to be, at most
AGAIN = 10.0  # seconds until a link that cannot be heard is tried again
MAX_PREF64 = 65_528  # seconds, of 13 bits times 8 (RFC 8781, 4)
TIMES_THE_INTERVAL = 3  # that servers and domains last (RFC 8106, 5.1)

_logger = structlog.get_logger(__name__)


class Kept(Protocol):
    """Where is kept what hosts were told; `disk.advertised` is one."""

    def read(self) -> dict[Prefix, int]:
        """Until when hosts have each prefix, in microseconds since 1970-01-01 UTC. AdvertisedError."""
        ...

    def write(self, prefixes: Mapping[Prefix, int]) -> None:
        """Keep these. AdvertisedError."""


class Advertising:
    """Of one agent on its link."""

    def __init__(
        self, books: Books, link: AdvertisingLink, *, kept: Kept | None = None, chance: Chance | None = None
    ) -> None:
        self._books = books
        self._link = link
        self._kept = kept
        self._chance = chance or SystemRandom()
        self._told: dict[Prefix, int] = {}  # until when hosts have it by what they were told
        self._said: RouterAdvertisement | None = None  # last
        self._ends: tuple[RouterAdvertisement, int] = RouterAdvertisement(), 0  # and how often that is to be said yet
        self._times: Times | None = None
        self._advertiser: Advertiser | None = None

    async def run(self) -> None:
        """Until cancelled; then it takes leave of the link."""
        self._read()
        try:
            while True:
                self._books.link_changed.clear()
                try:
                    wait = self._look()
                except KernelError as error:
                    _logger.warning("the link is not advertised on", reason=str(error))
                    self._close()
                    wait = AGAIN
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._books.link_changed.wait()
        finally:
            with suppress(KernelError):
                self._take_leave()

    def _look(self) -> float | None:
        """Say what is due; for how long nothing is, where nothing changes: in seconds, None for ever. KernelError."""
        wanted = _wanted(self._books.ledger)
        if wanted is None:
            if self._advertiser is not None:
                self._told = gone(self._told, self._books.now())
                self._take_leave()
            return None
        now = asyncio.get_running_loop().time()
        if self._advertiser is None or self._times is None:
            self._advertiser = self._link.advertiser(self._solicited)
            self._times = Times(self._chance, now)
        at, router = self._books.now(), self._advertiser
        saying = advertisement(
            self._books.ledger,
            wanted,
            self._told,
            at,
            hardware=router.hardware,
            forwards=router.forwards,
        )
        if self._said is not None and _what(saying) != _what(self._said):
            self._times.changed(now)
            self._ends = _ended(self._said, saying), INITIAL
        ended, times = self._ends
        if times:
            saying = _with(saying, ended)
        if now >= self._times.due:
            if router.send(saying):
                self._note(saying, at)
                self._ends = ended, max(0, times - 1)
                self._times.sent(now, interval(saying))
            else:
                self._times.failed(now)
        return self._times.due - now

    def _solicited(self) -> None:
        if self._times is not None:
            self._times.solicited(asyncio.get_running_loop().time())
            self._books.link_changed.set()

    def _note(self, said: RouterAdvertisement, at: int) -> None:
        self._said = said
        before = gone(self._told, at)
        self._told = {
            each.prefix: max(before.get(each.prefix, 0), at + each.valid * MICROSECONDS) for each in said.prefixes
        }
        if self._kept is not None:
            try:
                self._kept.write(self._told)
            except AdvertisedError as error:
                _logger.warning("what hosts are told is not kept", reason=str(error))

    def _read(self) -> None:
        if self._kept is not None:
            try:
                self._told = self._kept.read()
            except AdvertisedError as error:
                _logger.warning("what hosts were told before is not known", reason=str(error))

    def _take_leave(self) -> None:
        """No default router any more (RFC 4861, 6.2.5); what hosts have made of the prefixes stays. KernelError."""
        said, advertiser = self._said, self._advertiser
        try:
            if advertiser is not None and said is not None:
                at = self._books.now()
                wanted = _wanted(self._books.ledger)
                last = msgspec.structs.replace(said, lifetime=0, preference=0, routes=_over(said.routes))
                if wanted is None:
                    autonomous = any(each.autonomous for each in said.prefixes)
                    ending = tuple(_ending(self._told, (), at, autonomous=autonomous))
                    last = msgspec.structs.replace(
                        last, prefixes=ending, dns=(), search=(), pref64=_no_more(said.pref64)
                    )
                advertiser.send(last)
        finally:
            self._close()

    def _close(self) -> None:
        if self._advertiser is not None:
            self._advertiser.close()
        self._advertiser = self._times = self._said = None


def advertisement(
    ledger: Ledger, wanted: Advertise, told: Mapping[Prefix, int], at: int, *, hardware: bytes, forwards: bool
) -> RouterAdvertisement:
    """What is to be said at the instant `at`, by a machine that `forwards` or does not.

    `told` is until when hosts have each prefix by what they were told before.
    """
    subnet = ledger.plan.subnet
    assert subnet is not None
    prefixes = tuple(_prefixes(ledger, wanted, at))
    prefixes += tuple(_ending(told, {each.prefix for each in prefixes}, at, autonomous=wanted.autonomous))
    has_way_out = not subnet.downlink.uplink or any(each.valid_until > at for each in ledger.uplinks.values())
    lifetime = wanted.lifetime if forwards and has_way_out else 0
    said = RouterAdvertisement(
        managed=wanted.managed,
        other=wanted.other,
        preference=wanted.preference if lifetime else 0,  # RFC 4191, 2.2
        lifetime=lifetime,
        hop_limit=HOP_LIMIT,
        hardware=hardware,
        mtu=subnet.mtu,
        prefixes=prefixes,
        routes=tuple(
            RouteInformation(prefix=each.destination, preference=each.preference, lifetime=each.lifetime)
            for each in wanted.routes
            if forwards
        ),
    )
    seconds = int(TIMES_THE_INTERVAL * interval(said))
    return msgspec.structs.replace(
        said,
        dns=tuple((server, seconds) for server in subnet.dns if family(server) == 6),
        search=tuple((domain, seconds) for domain in subnet.search),
        pref64=tuple((prefix, min(MAX_PREF64, -(-seconds // 8) * 8)) for prefix in wanted.nat64),
    )


def interval(said: RouterAdvertisement) -> float:
    """Seconds until this is to be said again, at most."""
    lifetimes = (life for each in said.prefixes if each.preferred for life in (each.preferred, each.valid))
    return longest_interval(said.lifetime, *lifetimes, *(each.lifetime for each in said.routes))


def gone(told: Mapping[Prefix, int], at: int) -> dict[Prefix, int]:
    """Until when hosts have each, whatever shorter time they are told at this instant (RFC 4862, 5.5.3)."""
    return {prefix: min(until, at + STAYS * MICROSECONDS) for prefix, until in told.items()}


def _wanted(ledger: Ledger) -> Advertise | None:
    subnet = ledger.plan.subnet
    return None if subnet is None else subnet.downlink.advertise


def _prefixes(ledger: Ledger, wanted: Advertise, at: int) -> Iterator[PrefixInformation]:
    subnet = ledger.plan.subnet
    for prefix in () if subnet is None else subnet.prefixes:
        if prefix.length != uplinks.LINK or prefix.family != 6:
            continue  # hosts make addresses in no other (RFC 4862, 5.5.3)
        preferred, valid = wanted.preferred, wanted.valid
        if (above := uplinks.above(ledger.uplinks, prefix.network)) is not None:
            preferred = min(preferred, max(0, above.preferred_until - at) // MICROSECONDS)
            valid = min(valid, max(0, above.valid_until - at) // MICROSECONDS)
        if valid:
            yield PrefixInformation(
                prefix=prefix,
                on_link=True,
                autonomous=wanted.autonomous,
                delegated=wanted.delegated,
                valid=valid,
                preferred=min(preferred, valid),
            )


def _ending(
    told: Mapping[Prefix, int], still: Collection[Prefix], at: int, *, autonomous: bool
) -> Iterator[PrefixInformation]:
    """What hosts have, and is advertised no more."""
    for prefix, until in gone(told, at).items():
        if prefix not in still and until - at >= MICROSECONDS:
            valid = (until - at) // MICROSECONDS
            yield PrefixInformation(prefix=prefix, on_link=True, autonomous=autonomous, valid=valid, preferred=0)


def _over(routes: Iterable[RouteInformation]) -> tuple[RouteInformation, ...]:
    """That these are no more (RFC 4191, 2.3)."""
    return tuple(msgspec.structs.replace(each, lifetime=0) for each in routes)


def _no_more(pref64: Iterable[tuple[Prefix, int]]) -> tuple[tuple[Prefix, int], ...]:
    """That these are no more (RFC 8781, 4)."""
    return tuple((prefix, 0) for prefix, _ in pref64)


def _ended(before: RouterAdvertisement, now: RouterAdvertisement) -> RouterAdvertisement:
    """The routes and the prefixes of NAT64 that were said and are not any more."""
    still, nat64 = {each.prefix for each in now.routes}, {prefix for prefix, _ in now.pref64}
    return RouterAdvertisement(
        routes=_over(each for each in before.routes if each.prefix not in still),
        pref64=_no_more(each for each in before.pref64 if each[0] not in nat64),
    )


def _with(said: RouterAdvertisement, ended: RouterAdvertisement) -> RouterAdvertisement:
    routes, pref64 = (*said.routes, *ended.routes), (*said.pref64, *ended.pref64)
    return msgspec.structs.replace(said, routes=routes, pref64=pref64)


def _what(said: RouterAdvertisement) -> object:
    """What of it is not lifetimes that run down, or that follow from these."""
    prefixes = {(each.prefix, each.autonomous, each.delegated, each.preferred > 0) for each in said.prefixes}
    routes = {each for each in said.routes if each.lifetime}
    nat64 = {prefix for prefix, seconds in said.pref64 if seconds}
    names = (tuple(server for server, _ in said.dns), tuple(domain for domain, _ in said.search))
    return prefixes, routes, nat64, names, said.managed, said.other, said.lifetime, said.preference, said.mtu
