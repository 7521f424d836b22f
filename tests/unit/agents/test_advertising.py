"""What an agent advertises on its link, of which plan and of what is above, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from random import Random

import msgspec
import pytest

from dnms.agents.subnet.advertising import MAX_PREF64, STAYS, Advertising, advertisement
from dnms.agents.subnet.books import Books
from dnms.domain.ledger import Ledger
from dnms.events.ip import Prefix, parse_address, parse_prefix
from dnms.events.plan import Advertise
from dnms.events.requests import ReportUplink, UplinkPrefix
from dnms.events.uplink import Source
from dnms.linux.errors import KernelError
from dnms.wire.nd import (
    PrefixInformation,
    RouteInformation,
    RouterAdvertisement,
    encode_advertisement,
    router_advertisement,
)
from tests.unit.agents.conftest import Clock, Site
from tests.unit.domain.clerk import Clerk
from tests.virtual_time import pass_time

SECOND = 1_000_000
OWN, OLD, NEW = (parse_prefix(text) for text in ("2001:db8:5::/64", "2001:db8:100::/56", "2001:db8:200::/56"))
OLD_LINK, NEW_LINK = parse_prefix("2001:db8:100::/64"), parse_prefix("2001:db8:200::/64")
HARDWARE = bytes.fromhex("020000000001")
PLAN = """
[site]
name = "s"
[[uplink]]
name = "wan"
protocol = "dhcpv6"
[[subnet]]
name = "office"
uplink = "wan"
prefixes = ["2001:db8:5::/64", "192.0.2.0/24"]
dns = ["2001:db8:5::53", "192.0.2.53"]
search = ["home.example"]
mtu = 1_400
advertise = { lifetime = 1_800, preferred = 600, valid = 900 }
"""
WITHOUT_UPLINK = PLAN.replace('[[uplink]]\nname = "wan"\nprotocol = "dhcpv6"\n', "").replace('uplink = "wan"\n', "")
QUIET = PLAN.replace("advertise =", "# ")


def above(*prefixes: tuple[Prefix, int, int], at: int = 0) -> ReportUplink:
    """Each with the seconds for which it is preferred and valid."""
    several = tuple(
        UplinkPrefix(prefix=prefix, preferred_until=at + preferred * SECOND, valid_until=at + valid * SECOND)
        for prefix, preferred, valid in prefixes
    )
    return ReportUplink(uplink="wan", prefixes=several, source=Source(name="dhcpv6 00:01"))


def say(
    ledger: Ledger, *, told: Mapping[Prefix, int] | None = None, at: int = 0, forwards: bool = True
) -> RouterAdvertisement:
    assert ledger.plan.subnet is not None
    wanted = ledger.plan.subnet.downlink.advertise
    assert wanted is not None
    return advertisement(ledger, wanted, told or {}, at * SECOND, hardware=HARDWARE, forwards=forwards)


def lifetimes(said: RouterAdvertisement) -> dict[Prefix, tuple[int, int]]:
    return {each.prefix: (each.preferred, each.valid) for each in said.prefixes}


@pytest.fixture
def clerk() -> Clerk:
    clerk = Clerk(Ledger(b"k" * 32))
    clerk.adopt(PLAN)
    return clerk


def test_all_that_the_plan_says(clerk: Clerk) -> None:
    clerk.ask(above((OLD, 10_000, 20_000)))
    assert say(clerk.ledger) == RouterAdvertisement(
        lifetime=1_800,
        hop_limit=64,
        hardware=HARDWARE,
        mtu=1_400,
        prefixes=tuple(
            PrefixInformation(prefix=prefix, on_link=True, autonomous=True, valid=900, preferred=600)
            for prefix in (OLD_LINK, OWN)
        ),
        dns=((parse_address("2001:db8:5::53"), 600),),
        search=(("home.example", 600),),
    )


def test_managed_addresses_alone(clerk: Clerk) -> None:
    clerk.adopt(PLAN.replace("lifetime =", "managed = true, other = true, autonomous = false, lifetime ="))
    clerk.ask(above((OLD, 10_000, 20_000)))
    said = say(clerk.ledger)
    assert (said.managed, said.other, {each.autonomous for each in said.prefixes}) == (True, True, {False})


def test_no_lifetime_is_longer_than_above(clerk: Clerk) -> None:
    clerk.ask(above((OLD, 500, 700)))
    assert lifetimes(say(clerk.ledger, at=100)) == {OLD_LINK: (400, 600), OWN: (600, 900)}
    assert lifetimes(say(clerk.ledger, at=600)) == {OLD_LINK: (0, 100), OWN: (600, 900)}


def test_a_deprecated_prefix_and_the_one_that_takes_its_place(clerk: Clerk) -> None:
    clerk.ask(above((OLD, 10_000, 20_000)))
    clerk.ask(above((OLD, 0, 300), (NEW, 10_000, 20_000)), at=1)
    assert lifetimes(say(clerk.ledger)) == {NEW_LINK: (600, 900), OLD_LINK: (0, 300), OWN: (600, 900)}


@pytest.mark.parametrize(("left", "told"), [(900, 900), (50_000, STAYS), (0, None)])
def test_what_is_lost_is_deprecated_for_as_long_as_hosts_have_it(clerk: Clerk, left: int, told: int | None) -> None:
    clerk.ask(above((NEW, 10_000, 20_000)))
    said = lifetimes(say(clerk.ledger, told={OLD_LINK: left * SECOND, NEW_LINK: 900 * SECOND}))
    assert said.get(OLD_LINK) == (None if told is None else (0, told))
    assert said[NEW_LINK] == (600, 900)


def test_who_does_not_forward_or_has_no_way_out_is_no_router(clerk: Clerk) -> None:
    assert say(clerk.ledger).lifetime == 0  # nothing has come from above
    clerk.ask(above((OLD, 10_000, 20_000)))
    assert say(clerk.ledger).lifetime == 1_800
    assert say(clerk.ledger, forwards=False).lifetime == 0
    clerk.adopt(WITHOUT_UPLINK)
    assert say(clerk.ledger).lifetime == 1_800


# --- on a link


class Cable:
    """A link, and what a host hears there."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, RouterAdvertisement]] = []
        self.ask: Callable[[], None] | None = None
        self.up = True
        self.broken = False
        self.hardware, self.forwards = HARDWARE, True

    def advertiser(self, solicited: Callable[[], None]) -> Cable:
        if self.broken:
            raise KernelError("no-interface", "it is gone")
        self.ask = solicited
        return self

    def send(self, advertisement: RouterAdvertisement) -> bool:
        if self.up:
            self.heard.append((asyncio.get_running_loop().time(), advertisement))
        return self.up

    def close(self) -> None:
        self.ask = None


class Remembered:
    """What hosts were told, in memory."""

    def __init__(self) -> None:
        self.prefixes: dict[Prefix, int] = {}

    def read(self) -> dict[Prefix, int]:
        return self.prefixes

    def write(self, prefixes: Mapping[Prefix, int]) -> None:
        self.prefixes = dict(prefixes)


@pytest.fixture
def cable() -> Cable:
    return Cable()


@pytest.fixture
def kept() -> Remembered:
    return Remembered()


@pytest.fixture
async def advertising(books: Books, cable: Cable, kept: Remembered) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(Advertising(books, cable, kept=kept, chance=Random(1)).run())
    yield task
    task.cancel()
    await asyncio.wait((task,))
    assert cable.ask is None


async def test_nothing_is_said_before_the_plan_has_it_and_then_at_once(
    site: Site, books: Books, cable: Cable, advertising: asyncio.Task[None]
) -> None:
    await pass_time(1_000)
    assert cable.heard == []
    began = asyncio.get_running_loop().time()
    await site.apply(PLAN)
    await pass_time(1)
    ((at, said),) = cable.heard
    assert at - began < 1
    assert lifetimes(said) == {OWN: (600, 900)}
    await pass_time(3_600)
    assert 10 < len(cable.heard) < 60
    assert not advertising.done()


async def test_what_changes_above_is_said_at_once_and_several_times(
    site: Site, books: Books, clock: Clock, cable: Cable, advertising: asyncio.Task[None]
) -> None:
    await site.apply(PLAN)
    await pass_time(1)
    await books.decide(above((OLD, 10_000, 20_000), at=clock.now()))
    await pass_time(200)
    assert set(lifetimes(cable.heard[-1][1])) == {OLD_LINK, OWN}
    began = asyncio.get_running_loop().time()
    cable.heard.clear()
    await books.decide(above((NEW, 10_000, 20_000), at=clock.now()))
    await pass_time(40)
    assert cable.heard[0][0] - began < 0.1
    assert len(cable.heard) >= 3
    for _, said in cable.heard:
        preferred, valid = lifetimes(said)[OLD_LINK]
        assert preferred == 0
        assert 0 < valid <= 900
        assert lifetimes(said)[NEW_LINK] == (600, 900)
    clock.micros += 100 * SECOND
    await books.decide(above((NEW, 10_000, 20_000), at=clock.now()))
    assert OLD not in books.ledger.uplinks
    await pass_time(600)
    preferred, valid = lifetimes(cable.heard[-1][1])[OLD_LINK]
    assert preferred == 0
    assert 700 < valid <= 800  # as long as hosts have it, which heed no shorter time
    clock.micros += 1_000 * SECOND
    await pass_time(600)
    assert OLD_LINK not in lifetimes(cable.heard[-1][1])  # no host has it any more


async def test_a_host_that_asks_is_answered(
    site: Site, books: Books, cable: Cable, advertising: asyncio.Task[None]
) -> None:
    await site.apply(PLAN)
    await pass_time(1_000)
    count = len(cable.heard)
    assert cable.ask is not None
    cable.ask()
    cable.ask()
    await pass_time(0.6)
    assert len(cable.heard) == count + 1


async def test_at_its_end_it_takes_leave_and_what_hosts_have_of_the_prefixes_stays(
    site: Site, books: Books, cable: Cable, advertising: asyncio.Task[None]
) -> None:
    await site.apply(PLAN)
    await pass_time(1)
    await books.decide(above((OLD, 10_000, 20_000), at=books.now()))
    await pass_time(100)
    assert cable.heard[-1][1].lifetime == 1_800
    advertising.cancel()
    await asyncio.wait((advertising,))
    last = cable.heard[-1][1]
    assert last.lifetime == 0
    assert lifetimes(last) == {OLD_LINK: (600, 900), OWN: (600, 900)}


async def test_where_the_plan_wants_none_any_more_hosts_are_told_so(
    site: Site, books: Books, cable: Cable, advertising: asyncio.Task[None]
) -> None:
    await site.apply(PLAN)
    await pass_time(100)
    await site.apply(QUIET)
    await pass_time(1)
    last = cable.heard[-1][1]
    assert last.lifetime == 0
    assert lifetimes(last)[OWN][0] == 0
    assert lifetimes(last)[OWN][1] > 0
    assert cable.ask is None
    count = len(cable.heard)
    await pass_time(10_000)
    assert len(cable.heard) == count


async def test_a_router_that_was_off_ends_what_it_began_before(
    site: Site, books: Books, cable: Cable, kept: Remembered
) -> None:
    kept.prefixes = {OLD_LINK: books.now() + 500 * SECOND}
    await site.apply(PLAN)
    task = asyncio.create_task(Advertising(books, cable, kept=kept, chance=Random(1)).run())
    await pass_time(1)
    assert lifetimes(cable.heard[0][1])[OLD_LINK] == (0, 499)
    assert set(kept.prefixes) == {OLD_LINK, OWN}
    task.cancel()
    await asyncio.wait((task,))


async def test_a_link_that_is_down_for_a_while_hears_of_it_afterwards(
    site: Site, books: Books, cable: Cable, advertising: asyncio.Task[None]
) -> None:
    cable.broken = True
    await site.apply(PLAN)
    await pass_time(30)
    cable.broken, cable.up = False, False
    await pass_time(30)
    assert cable.heard == []
    cable.up = True
    await pass_time(4)
    assert len(cable.heard) == 1


def test_a_plan_says_it_with_these_words() -> None:
    assert Advertise() == Advertise(lifetime=1_800, autonomous=True, preferred=2_700, valid=3_600)


FURTHER = WITHOUT_UPLINK.replace(
    "lifetime = 1_800,",
    'lifetime = 1_800, preference = "high", delegated = true, nat64 = ["64:ff9b::/96", "2001:db8:64::/48"], '
    'routes = [{ destination = "2001:db8:f::/48", preference = "low", lifetime = 900 }],',
)
ROUTE = RouteInformation(prefix=parse_prefix("2001:db8:f::/48"), preference=-1, lifetime=900)
NAT64 = (parse_prefix("64:ff9b::/96"), parse_prefix("2001:db8:64::/48"))


def further(*, forwards: bool = True, text: str = FURTHER) -> RouterAdvertisement:
    clerk = Clerk(Ledger(b"k" * 32))
    clerk.adopt(text)
    return say(clerk.ledger, forwards=forwards)


def test_preference_routes_nat64_and_that_hosts_had_better_ask_for_prefixes() -> None:
    said = further()
    assert (said.preference, said.routes) == (1, (ROUTE,))
    assert said.pref64 == tuple((prefix, 600) for prefix in NAT64)  # three intervals, in eights
    assert [each.delegated for each in said.prefixes] == [True]
    assert router_advertisement(encode_advertisement(said)) == said


def test_who_is_no_router_has_neither_preference_nor_routes() -> None:
    """RFC 4191, 2.2; but NAT64 may be another box's."""
    said = further(forwards=False)
    assert (said.lifetime, said.preference, said.routes) == (0, 0, ())
    assert len(said.pref64) == 2
    said = further(text=FURTHER.replace("lifetime = 1_800, pref", "lifetime = 0, pref"))
    assert (said.lifetime, said.preference, said.routes) == (0, 0, (ROUTE,))


def test_nat64_lasts_as_long_as_can_be_said_at_most() -> None:
    assert MAX_PREF64 > 3 * 600  # which is longer than three of the longest intervals
    said = further(text=FURTHER.replace("preferred = 600", "preferred = 604").replace("valid = 900", "valid = 604"))
    assert {seconds % 8 for _, seconds in said.pref64} == {0}
    assert min(seconds for _, seconds in said.pref64) >= 604


async def test_what_is_no_more_is_said_to_be_over_three_times(
    site: Site, cable: Cable, advertising: asyncio.Task[None]
) -> None:
    await site.apply(FURTHER)
    await pass_time(40)
    assert cable.heard[-1][1].routes == (ROUTE,)
    cable.heard.clear()
    await site.apply(WITHOUT_UPLINK)
    await pass_time(600)
    over = msgspec.structs.replace(ROUTE, lifetime=0)
    said = [(each.routes, [seconds for _, seconds in each.pref64]) for _, each in cable.heard]
    assert said[:4] == [((over,), [0, 0])] * 3 + [((), [])]
    await site.apply(FURTHER)
    await pass_time(5)
    assert cable.heard[-1][1].routes == (ROUTE,)
    advertising.cancel()
    await asyncio.wait((advertising,))
    assert (cable.heard[-1][1].routes, cable.heard[-1][1].preference) == ((over,), 0)
