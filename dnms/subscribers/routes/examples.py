"""Logs of a router with two links, and the routes that they mean."""

from __future__ import annotations

from dnms.domain.routes import Route, delegated, on_link, unreachable
from dnms.events.ip import parse_address, parse_prefix
from dnms.events.plan import AdoptedPlan, Delegation, PlanAdopted, SiteDefined, Subnet
from dnms.events.prefix import (
    PrefixDelegated,
    PrefixDeprecated,
    PrefixExpired,
    PrefixReleased,
    PrefixRenewed,
    PrefixWithdrawn,
)
from dnms.events.recorded import Event
from dnms.events.uplink import Source, UplinkDeprecated, UplinkLost, UplinkReceived
from dnms.subscribers.subscriber import Example, Happened, Local

LOCAL = Local(site="example", interfaces={"home": "dnms-home", "guests": "dnms-guests"})
"""The router of these links; `elsewhere` is another's."""

LAPTOP, TABLET, PHONE = (bytes([number]) * 16 for number in (0xA, 0xB, 0xC))
"""Clients."""

FIRST, LAST = 1, 2
"""An instant at which delegations end, and a later one."""

ISP = Source(name="dhcpv6 00:03:00:01:02:00:00:00:00:01")
OLD, NEW = "2001:db8:1::/56", "2001:db8:2::/56"


def site() -> Happened:
    """The first commit of a plan."""
    return Happened("plan", (SiteDefined(name="example", level=1),))


def ledger(*events: Event, subnet: str = "home") -> Happened:
    """A commit of a subnet's agents."""
    return Happened(f"ledger.{subnet}", events)


def received(prefix: str, uplink: str = "wan") -> UplinkReceived:
    """A prefix from above."""
    return UplinkReceived(
        uplink=uplink, prefix=parse_prefix(prefix), preferred_until=FIRST, valid_until=LAST, source=ISP
    )


def deprecated(prefix: str, uplink: str = "wan") -> UplinkDeprecated:
    """It is not for anything new."""
    return UplinkDeprecated(uplink=uplink, prefix=parse_prefix(prefix), valid_until=LAST, source=ISP)


def lost(prefix: str, uplink: str = "wan") -> UplinkLost:
    """It is gone."""
    return UplinkLost(uplink=uplink, prefix=parse_prefix(prefix), why="expired")


def adopted(*prefixes: str, subnet: str = "home", pools: tuple[str, ...] = ()) -> PlanAdopted:
    """The plan with what the link has."""
    return PlanAdopted(
        plan=AdoptedPlan(
            position=1,
            level=1,
            subnet=Subnet(name=subnet, realm="default", prefixes=tuple(map(parse_prefix, prefixes))),
            delegations=tuple(
                Delegation(name=f"pool-{number}", subnet=subnet, length=60, prefix=parse_prefix(pool))
                for number, pool in enumerate(pools)
            ),
        )
    )


def given(client: bytes, prefix: str, next_hop: str) -> PrefixDelegated:
    """A client gets a prefix."""
    return PrefixDelegated(
        prefix=parse_prefix(prefix),
        client=client,
        iaid=1,
        delegation="to-laptops",
        next_hop=parse_address(next_hop),
        interface="eth7",
        valid_until=FIRST,
        horizon=FIRST,
    )


def renewed(client: bytes, prefix: str, next_hop: str) -> PrefixRenewed:
    """It keeps it, at this address."""
    return PrefixRenewed(
        prefix=parse_prefix(prefix),
        client=client,
        iaid=1,
        next_hop=parse_address(next_hop),
        valid_until=LAST,
        horizon=LAST,
    )


def replaced(client: bytes, prefix: str, next_hop: str) -> PrefixDeprecated:
    """It is to use another one."""
    return PrefixDeprecated(
        prefix=parse_prefix(prefix), client=client, iaid=1, next_hop=parse_address(next_hop), valid_until=LAST
    )


def ended(
    kind: type[PrefixReleased | PrefixExpired | PrefixWithdrawn], client: bytes, prefix: str, next_hop: str
) -> Event:
    """It has it no longer."""
    return kind(prefix=parse_prefix(prefix), client=client, iaid=1, next_hop=parse_address(next_hop))


def to(prefix: str, next_hop: str, interface: str = "dnms-home") -> Route:
    """The route to a delegate."""
    return delegated(parse_prefix(prefix), parse_address(next_hop), interface)


def own(prefix: str, interface: str = "dnms-home") -> Route:
    """The route to a link."""
    return on_link(parse_prefix(prefix), interface)


def nowhere(prefix: str) -> Route:
    """The route for what is not used."""
    return unreachable(parse_prefix(prefix))


EXAMPLES: list[Example[Route]] = [
    Example(
        title="a prefix from above, what is cut from it, and what comes in its place",
        log=(
            site(),
            ledger(received(OLD), adopted("2001:db8:1::/64")),
            ledger(received(OLD, "wan"), adopted("2001:db8:1:1::/64", subnet="guests"), subnet="guests"),
            ledger(given(LAPTOP, "2001:db8:1:10::/60", "fe80::a"), given(TABLET, "2001:db8:1:20::/60", "fe80::b")),
            ledger(given(PHONE, "2001:db8:1:f0::/60", "fe80::c"), subnet="guests"),
            ledger(renewed(LAPTOP, "2001:db8:1:10::/60", "fe80::a")),
            ledger(renewed(TABLET, "2001:db8:1:20::/60", "fe80::bb")),
            ledger(
                received(NEW),
                deprecated(OLD),
                adopted("2001:db8:2::/64"),
                replaced(LAPTOP, "2001:db8:1:10::/60", "fe80::a"),
                given(LAPTOP, "2001:db8:2:10::/60", "fe80::a"),
            ),
            ledger(ended(PrefixReleased, TABLET, "2001:db8:1:20::/60", "fe80::bb")),
        ),
        wanted=frozenset(
            {
                nowhere(OLD),
                nowhere(NEW),
                own("2001:db8:1::/64"),
                own("2001:db8:2::/64"),
                own("2001:db8:1:1::/64", "dnms-guests"),
                to("2001:db8:1:10::/60", "fe80::a"),
                to("2001:db8:2:10::/60", "fe80::a"),
                to("2001:db8:1:f0::/60", "fe80::c", "dnms-guests"),
            }
        ),
    ),
    Example(
        title="the old one is lost, with all that was cut from it",
        log=(
            site(),
            ledger(received(OLD), adopted("2001:db8:1::/64")),
            ledger(given(LAPTOP, "2001:db8:1:10::/60", "fe80::a"), given(TABLET, "2001:db8:1:20::/60", "fe80::b")),
            ledger(received(NEW), deprecated(OLD), adopted("2001:db8:2::/64", "2001:db8:1::/64")),
            ledger(
                lost(OLD),
                adopted("2001:db8:2::/64"),
                ended(PrefixWithdrawn, LAPTOP, "2001:db8:1:10::/60", "fe80::a"),
                ended(PrefixExpired, TABLET, "2001:db8:1:20::/60", "fe80::b"),
            ),
        ),
        wanted=frozenset({nowhere(NEW), own("2001:db8:2::/64")}),
    ),
    Example(
        title="a pool of the plan, with no uplink: the link's own prefix is not ours to route",
        log=(
            site(),
            ledger(adopted("2001:db8:5::/64", pools=("2001:db8:5:100::/56",))),
            ledger(given(LAPTOP, "2001:db8:5:110::/60", "fe80::a")),
        ),
        wanted=frozenset({nowhere("2001:db8:5:100::/56"), to("2001:db8:5:110::/60", "fe80::a")}),
    ),
    Example(
        title="two links that were given the same at different times",
        log=(
            site(),
            ledger(received(OLD), adopted("2001:db8:1::/64")),
            ledger(received(OLD), adopted("2001:db8:1::/64", subnet="guests"), subnet="guests"),
        ),
        wanted=frozenset({nowhere(OLD), own("2001:db8:1::/64", "dnms-guests")}),
    ),
    Example(
        title="what others route",
        log=(site(), ledger(given(LAPTOP, "2001:db8:1:10::/60", "fe80::a"), subnet="elsewhere")),
        wanted=frozenset(),
    ),
    Example(title="nothing", log=(), wanted=None),
    Example(title="no plan", log=(ledger(given(LAPTOP, "2001:db8:1:10::/60", "fe80::a")),), wanted=None),
]
