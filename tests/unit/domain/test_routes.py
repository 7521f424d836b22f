"""Which routes a ledger means, and by which commit each of them is wanted."""

from __future__ import annotations

from dnms.domain.routes import LinkRoutes, causes, delegated, of_links, on_link, unreachable
from dnms.events.ip import parse_address, parse_prefix
from dnms.events.plan import AdoptedPlan, PlanAdopted, Subnet
from dnms.events.prefix import PrefixDelegated, PrefixDeprecated, PrefixReleased, PrefixRenewed
from dnms.events.recorded import Event
from dnms.events.seen import SessionOpened
from dnms.events.uplink import Source, UplinkDeprecated, UplinkLost, UplinkReceived

CLIENT, HOP, OTHER = b"\x0a" * 16, parse_address("fe80::a"), parse_address("fe80::b")
PREFIX, ABOVE, OWN = (
    parse_prefix("2001:db8:1:10::/60"),
    parse_prefix("2001:db8:1::/56"),
    parse_prefix("2001:db8:1::/64"),
)
NEXT = parse_prefix("2001:db8:1:1::/64")
SOURCE = Source(name="dnms example/home")
RECEIVED = UplinkReceived(uplink="wan", prefix=ABOVE, preferred_until=1, valid_until=2, source=SOURCE)
LOST = UplinkLost(uplink="wan", prefix=ABOVE, why="cut")
DELEGATED = PrefixDelegated(
    prefix=PREFIX, client=CLIENT, iaid=1, delegation="all", next_hop=HOP, valid_until=1, horizon=1
)


def renewed(next_hop: bytes) -> PrefixRenewed:
    return PrefixRenewed(prefix=PREFIX, client=CLIENT, iaid=1, next_hop=next_hop, valid_until=2, horizon=2)


def adopted(*prefixes: str) -> PlanAdopted:
    subnet = Subnet(name="home", realm="default", prefixes=tuple(map(parse_prefix, prefixes)))
    return PlanAdopted(plan=AdoptedPlan(position=1, level=1, subnet=subnet))


def folded(*events: Event) -> LinkRoutes:
    """Each event in a commit of its own, from position 1 on."""
    routes = LinkRoutes("eth1")
    for position, event in enumerate(events, start=1):
        routes.evolve(event, position)
    return routes


def test_a_route_is_wanted_by_the_commit_that_last_changed_it() -> None:
    assert folded(DELEGATED, renewed(HOP)).wanted() == {delegated(PREFIX, HOP, "eth1"): 1}
    assert folded(DELEGATED, renewed(HOP), renewed(OTHER)).wanted() == {delegated(PREFIX, OTHER, "eth1"): 3}
    old = PrefixDeprecated(prefix=PREFIX, client=CLIENT, iaid=1, next_hop=HOP, valid_until=1)
    assert folded(DELEGATED, old).wanted() == {delegated(PREFIX, HOP, "eth1"): 1}
    assert folded(adopted(str(OWN)), RECEIVED, RECEIVED).wanted() == {
        unreachable(ABOVE): 2,
        on_link(OWN, "eth1"): 2,
    }


def test_what_a_link_had_stays_until_what_it_came_from_is_lost() -> None:
    deprecated = UplinkDeprecated(uplink="wan", prefix=ABOVE, valid_until=2, source=SOURCE)
    before = folded(RECEIVED, adopted(str(OWN)), adopted(str(NEXT)), deprecated)
    assert before.wanted() == {unreachable(ABOVE): 1, on_link(OWN, "eth1"): 2, on_link(NEXT, "eth1"): 3}
    before.evolve(LOST, 5)
    assert before.wanted() == {}
    before.evolve(RECEIVED, 6)  # it is back, and the plan still says what of it is the link's
    assert before.wanted() == {unreachable(ABOVE): 6, on_link(NEXT, "eth1"): 6}


def test_what_another_uplink_has_as_well_is_not_lost_by_one() -> None:
    other = UplinkReceived(uplink="mobile", prefix=ABOVE, preferred_until=1, valid_until=2, source=SOURCE)
    assert folded(RECEIVED, other, adopted(str(OWN)), adopted(), LOST).wanted().keys() == {
        unreachable(ABOVE),
        on_link(OWN, "eth1"),
    }


def test_every_event_of_a_prefix_concerns_a_router_and_others_do_not() -> None:
    released = PrefixReleased(prefix=PREFIX, client=CLIENT, iaid=1, next_hop=HOP)
    routes = LinkRoutes("eth1")
    for event in (RECEIVED, adopted(), DELEGATED, renewed(HOP), released, LOST):
        assert routes.evolve(event, 1)
    assert not routes.evolve(SessionOpened(client=CLIENT, peer=HOP), 1)
    assert routes.wanted() == {}


def test_of_two_routes_of_one_place_the_one_that_was_wanted_last_is_chosen() -> None:
    here, there = LinkRoutes("eth1"), LinkRoutes("eth2")
    for link, position in ((there, 3), (here, 5)):
        for event in (RECEIVED, adopted(str(OWN))):
            link.evolve(event, position)
    chosen = {on_link(OWN, "eth1"): 5, unreachable(ABOVE): 3}
    assert causes([here, there]) == causes([there, here]) == chosen
    assert of_links([here, there]) == of_links([there, here]) == chosen.keys()
    for position, link in enumerate((here, there), start=7):
        link.evolve(DELEGATED, position)
    assert of_links([here, there]) == {*chosen, delegated(PREFIX, HOP, "eth2")}
    own = folded(RECEIVED, adopted(str(PREFIX)), DELEGATED)
    assert of_links([own]) == causes([own]).keys() == {delegated(PREFIX, HOP, "eth1"), unreachable(ABOVE)}


def test_what_all_links_need_is_what_each_needs() -> None:
    here, there = folded(RECEIVED, adopted(str(OWN)), DELEGATED), LinkRoutes("eth2")
    there.evolve(renewed(OTHER), 1)
    assert of_links([here]) == here.routes() == here.wanted().keys()
    assert of_links([]) == frozenset()
    there.evolve(PrefixReleased(prefix=PREFIX, client=CLIENT, iaid=1, next_hop=OTHER), 2)
    assert of_links([here, there]) == here.routes()


def test_a_route_reads_as_ip_route_has_it() -> None:
    assert str(delegated(PREFIX, HOP, "eth1")) == "2001:db8:1:10::/60 via fe80::a dev eth1 metric 1025"
    assert str(on_link(OWN, "eth1")) == "2001:db8:1::/64 dev eth1 metric 1025"
    assert str(unreachable(ABOVE)) == "unreachable 2001:db8:1::/56 metric 4096"
