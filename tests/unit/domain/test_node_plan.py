from __future__ import annotations

import msgspec

from dnms.domain.node_plan import DEFAULT4, DEFAULT6, KERNEL, METRIC, PROTOCOL, RA, NodePlan, WantedRoute, plan_node
from dnms.events.configuration import (
    AssignedAddress,
    Assignment,
    Generation,
    InterfaceAddress,
    Link,
    Policy,
    Resolver,
    Route,
    Snapshot,
)
from dnms.events.ip import parse_address, parse_prefix

LINK = 2
WANTED6 = parse_address("2001:db8:1::77")
WANTED4 = parse_address("192.0.2.77")
SLAAC = parse_address("2001:db8:1::ff:fe00:1")
ASSIGNMENT = Assignment(
    generation=Generation(0, 1, 2),
    addresses=(
        AssignedAddress(address=WANTED6, prefix_length=64, iaid=1, preferred=60, valid=120),
        AssignedAddress(address=WANTED4, prefix_length=120, iaid=1, preferred=60, valid=120),
    ),
    gateways=(parse_address("fe80::1"), parse_address("192.0.2.1")),
    resolver=Resolver(servers=(parse_address("2001:db8::53"),)),
)


def held(text: str, interface: int = LINK, origin: str = "slaac") -> InterfaceAddress:
    return InterfaceAddress(interface=interface, address=parse_address(text), prefix_length=64, origin=origin)


def route(destination: str, protocol: int, gateway: str | None = None, metric: int = 256) -> Route:
    return Route(
        destination=parse_prefix(destination),
        interface=LINK,
        gateway=parse_address(gateway) if gateway else None,
        metric=metric,
        protocol=protocol,
    )


def test_strays_go_and_link_local_stays() -> None:
    fe80, slaac, elsewhere = held("fe80::5"), held("2001:db8:1::ff:fe00:1"), held("2001:db8:9::1", interface=3)
    plan = plan_node(Snapshot(addresses=(fe80, slaac, elsewhere)), LINK, ASSIGNMENT)
    assert plan.deprecate == plan.leave_addresses == (slaac,)
    assert plan.remove_addresses == ()
    assert plan.add_addresses == ASSIGNMENT.addresses


def test_what_is_to_be_kept_is_kept_with_its_route() -> None:
    slaac = held("2001:db8:2::5")
    keeping = msgspec.structs.replace(ASSIGNMENT, policy=Policy(keep=(parse_prefix("2001:db8:2::/64"),)))
    snapshot = Snapshot(addresses=(slaac,), routes=(route("2001:db8:2::/64", KERNEL),))
    plan = plan_node(snapshot, LINK, keeping)
    assert plan.leave_addresses == plan.remove_addresses == ()
    assert plan.leave_routes == plan.remove_routes == ()
    assert plan.deprecate == (slaac,)  # so that it is no source of what begins


def test_routes_of_advertisements_and_of_the_kernel_go_and_those_of_people_stay() -> None:
    ra_default = route("::/0", RA, "fe80::1", 1024)
    onlink = route("2001:db8:1::/64", KERNEL)
    snapshot = Snapshot(
        routes=(
            ra_default,
            onlink,
            route("fe80::/64", KERNEL),
            route("ff00::/8", KERNEL),
            route("2001:db8:5::/48", 4, "fe80::9"),
            route("198.51.100.0/24", 3, "192.0.2.9", 0),
        )
    )
    plan = plan_node(snapshot, LINK, ASSIGNMENT)
    assert plan.leave_routes == (ra_default, onlink)
    assert plan.remove_routes == ()


def test_our_own_routes_stay_while_they_are_wanted() -> None:
    wanted = route("::/0", PROTOCOL, "fe80::1", METRIC)
    old = route("::/0", PROTOCOL, "fe80::2", METRIC)
    plan = plan_node(Snapshot(routes=(wanted, old)), LINK, ASSIGNMENT)
    assert plan.remove_routes == (old,)


def test_every_family_gets_its_gateways_and_its_prefix_on_the_link() -> None:
    plan = plan_node(Snapshot(), LINK, ASSIGNMENT)
    assert set(plan.add_routes) == {
        WantedRoute(parse_prefix("2001:db8:1::/64"), LINK),
        WantedRoute(parse_prefix("192.0.2.0/24"), LINK, source=WANTED4),
        WantedRoute(DEFAULT6, LINK, parse_address("fe80::1")),
        WantedRoute(DEFAULT4, LINK, parse_address("192.0.2.1"), source=WANTED4),
    }


def test_a_family_of_which_nothing_is_assigned_is_left_alone() -> None:
    only4 = Assignment(generation=Generation(0, 1, 2), addresses=ASSIGNMENT.addresses[1:])
    slaac = held("2001:db8:1::ff:fe00:1")
    plan = plan_node(Snapshot(addresses=(slaac,), routes=(route("::/0", RA, "fe80::1"),)), LINK, only4)
    assert plan.leave_addresses == plan.remove_addresses == plan.deprecate == ()
    assert plan.leave_routes == plan.remove_routes == ()


def test_what_was_assigned_before_goes_when_nothing_of_its_family_is_assigned_any_more() -> None:
    only4 = Assignment(generation=Generation(0, 1, 2), addresses=ASSIGNMENT.addresses[1:])
    ours, own = held("2001:db8:1::77", origin="managed"), held("2001:db8:1::ff:fe00:1")
    default = route("::/0", PROTOCOL, "fe80::1", METRIC)
    plan = plan_node(Snapshot(addresses=(ours, own), routes=(default,)), LINK, only4)
    assert plan.remove_addresses == (ours,)
    assert plan.remove_routes == (default,)


def test_resolver_and_mtu_change_only_where_they_differ() -> None:
    snapshot = Snapshot(links=(Link(index=LINK, name="eth0", mtu=1500),), resolver=ASSIGNMENT.resolver)
    assert plan_node(snapshot, LINK, ASSIGNMENT).resolver is None
    assert plan_node(Snapshot(), LINK, ASSIGNMENT).resolver == ASSIGNMENT.resolver
    dotted = msgspec.structs.replace(
        ASSIGNMENT, resolver=Resolver(servers=ASSIGNMENT.resolver.servers * 2, search=("lab.", "lab"))
    )
    said = msgspec.structs.replace(snapshot, resolver=Resolver(servers=ASSIGNMENT.resolver.servers, search=("lab",)))
    assert plan_node(said, LINK, dotted).resolver is None  # systemd-resolved says each once, and no dot
    assert plan_node(snapshot, LINK, ASSIGNMENT).mtu is None
    narrow = Assignment(generation=Generation(), addresses=ASSIGNMENT.addresses, mtu=1400)
    assert plan_node(snapshot, LINK, narrow).mtu == 1400
    assert plan_node(snapshot, LINK, narrow).resolver is None  # nothing was said about it


def test_one_address_of_a_family_is_preferred() -> None:
    """So its source is the node's: the first that is not to be drained."""
    drained, main, secondary = (
        AssignedAddress(address=parse_address(f"2001:db8:1::{n}"), prefix_length=64, iaid=1, preferred=p, valid=120)
        for n, p in ((1, 0), (2, 60), (3, 60))
    )
    assignment = Assignment(generation=Generation(), addresses=(drained, main, secondary, *ASSIGNMENT.addresses[1:]))
    plan = plan_node(Snapshot(), LINK, assignment)
    assert [each.preferred for each in plan.add_addresses] == [0, 60, 0, 60]


def test_who_is_only_observed_is_not_touched() -> None:
    observed = msgspec.structs.replace(ASSIGNMENT, policy=Policy(mode="observe"))
    snapshot = Snapshot(addresses=(held("2001:db8:1::ff:fe00:1"),), routes=(route("::/0", RA, "fe80::1"),))
    assert plan_node(snapshot, LINK, observed) == NodePlan()


def test_where_gateways_come_by_advertisements_they_stay_and_ours_goes_when_there_is_one() -> None:
    soft = msgspec.structs.replace(ASSIGNMENT, policy=Policy(mode="manage-ra-gateway"))
    theirs, ours = route("::/0", RA, "fe80::1", 1024), route("::/0", PROTOCOL, "fe80::1", METRIC)
    eth0 = Link(index=LINK, name="eth0", mtu=1500)
    plan = plan_node(Snapshot(links=(eth0,), routes=(theirs, ours)), LINK, soft)
    assert plan.leave_routes == ()
    assert plan.remove_routes == (ours,)
    assert DEFAULT6 not in [each.destination for each in plan.add_routes]
    assert plan.settings["net/ipv6/conf/eth0/accept_ra"] == "1"
    assert plan.settings["net/ipv6/conf/eth0/autoconf"] == "0"
    assert plan_node(Snapshot(links=(eth0,), routes=(ours,)), LINK, soft).remove_routes == ()
    forwards = Snapshot(links=(eth0,), sysctls={"net/ipv6/conf/default/forwarding": "1"})
    assert plan_node(forwards, LINK, soft).settings["net/ipv6/conf/eth0/accept_ra"] == "2"
