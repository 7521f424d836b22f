"""The firewall's fold keeps what is wanted as it changes: at any moment it is what all of it, worked out anew, says."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from dnms.events.address import AddressReleased
from dnms.events.commit import Stored
from dnms.events.node import NodeForgotten, NodeIdentified
from dnms.events.plan import AdoptedPlan, GroupDefined, GroupWithdrawn, PlanAdopted, SiteDefined
from dnms.events.recorded import Event, Personal
from dnms.events.rule import RuleDefined
from dnms.subscribers.firewall.examples import (
    CALLS,
    DESK,
    PHONE,
    SALES,
    VOIP,
    delegated,
    ended,
    entered,
    group,
    leased,
    ledger,
    named,
    pool,
    returned,
)
from dnms.subscribers.firewall.items import Member, Rule
from dnms.subscribers.firewall.membership import Holding, Key, Membership
from dnms.subscribers.firewall.options import Options
from dnms.subscribers.subscriber import Happened
from tests.contracts.subscribers.logs import SITE, commits

CLIENTS = st.sampled_from([DESK, PHONE])
ADDRESSES = st.sampled_from(["2001:db8:1:1:5a1e::1", "2001:db8:1:1:701::2", "2001:db8:3:7::1", "192.0.2.1"])
PREFIXES = st.sampled_from(["2001:db8:2:10::/60", "2001:db8:2:17::/64", "2001:db8:2:20::/60"])
NUMBERS = st.sampled_from([0, SALES, VOIP])
SUBNETS = st.sampled_from(["office", "lab"])
POOLS = st.sampled_from(["six", "own"])
OPTIONS = Options(guard={"office": ("eth1",)}, bridge=True)


def known(client: bytes, name: str, hardware: bool) -> Happened:
    said = (Personal(client[:6]),) if hardware else ()
    event = NodeIdentified(client=client, duid=Personal(client), name=Personal(name), hardware=said)
    return Happened(f"node.{client[0]:02x}", (event,))


def on_ledger(event: Event, subnet: str) -> Happened:
    return ledger(event, subnet=subnet)


def adopted(prefixes: list[str]) -> PlanAdopted:
    pools = tuple(pool(f"p{number}", text).pool for number, text in enumerate(prefixes))
    return PlanAdopted(plan=AdoptedPlan(position=1, level=1, pools=pools))


happenings = st.one_of(
    st.builds(known, CLIENTS, st.sampled_from(["desk-1", "phone-1", "other"]), st.booleans()),
    st.builds(entered, CLIENTS, st.just("x"), st.sampled_from(["", "sales", "voip"])),
    st.builds(lambda client: Happened(f"node.{client[0]:02x}", (NodeForgotten(client=client),)), CLIENTS),
    st.builds(
        lambda client, address, number, pool, subnet: ledger(
            leased(client, address, group=number, pool=pool), subnet=subnet
        ),
        CLIENTS,
        ADDRESSES,
        NUMBERS,
        POOLS,
        SUBNETS,
    ),
    st.builds(lambda address, subnet: ledger(ended(AddressReleased, address), subnet=subnet), ADDRESSES, SUBNETS),
    st.builds(
        lambda client, prefix, subnet: ledger(delegated(client, prefix), subnet=subnet), CLIENTS, PREFIXES, SUBNETS
    ),
    st.builds(lambda prefix, subnet: ledger(returned(DESK, prefix), subnet=subnet), PREFIXES, SUBNETS),
    st.builds(on_ledger, st.builds(adopted, st.lists(st.just("2001:db8:1:1::/64"), max_size=1)), SUBNETS),
    st.builds(lambda number: Happened("plan", (group("sales", number, "desk-*"),)), st.sampled_from([SALES, 0x77])),
)
BEGIN = Happened(
    "plan",
    (
        SiteDefined(name=SITE, level=1),
        group("sales", SALES, "desk-*"),
        group("voip", VOIP, "phone-*"),
        pool("six", "2001:db8:1:1::/64"),
        pool("own", "2001:db8:3::/48", prefix_per_host=True),
        RuleDefined(rule=CALLS),
    ),
)


@given(st.lists(happenings, max_size=25))
def test_what_is_kept_is_what_would_be_worked_out_anew(happened: list[Happened]) -> None:
    folding = Membership(SITE, OPTIONS)
    for stored in commits([BEGIN, *happened]):
        folding.take(stored)
        kept = folding.wanted()
        folding._recount()
        assert kept == folding.wanted()
    wanted = folding.wanted()
    assert wanted is not None
    for item in wanted:
        if isinstance(item, Member):
            assert 0 < folding.cause(item) <= 1 + len(happened)


def test_each_thing_knows_the_commit_it_comes_from() -> None:
    folding = Membership(SITE, OPTIONS)
    log = [
        BEGIN,
        named(DESK, "desk-1"),
        ledger(leased(DESK, "192.0.2.1")),
        ledger(delegated(DESK, "2001:db8:2:10::/60")),
        Happened("plan", (GroupDefined(group=group("voip", VOIP, "phone-*").group), GroupWithdrawn(name="sales"))),
        Happened("plan", (group("sales", SALES, "*"),)),
    ]
    for stored in commits(log):
        folding.take(stored)
    causes = {str(item): folding.cause(item) for item in folding.wanted() or ()}
    assert causes["192.0.2.1 in sales-4"] == 3
    assert causes["2001:db8:2:10::/60 in sales-6/60"] == 4
    assert causes["2001:db8:2:10::/60 in held_office-6/60"] == 4
    [rule] = {
        item
        for item in folding.wanted() or ()
        if isinstance(item, Rule) and item.about == CALLS.name and item.table == "inet"
    }
    assert folding.cause(rule) == 1
    assert causes["set sales-4"] == 6


def test_a_prefix_from_above_costs_nothing_of_what_is_held() -> None:
    """Each is a plan that is adopted, on every level."""
    held = [ledger(leased(bytes([n // 250, n % 250]) * 8, f"192.0.{n // 250}.{n % 250}")) for n in range(1_000)]
    renumbered = on_ledger(adopted(["2001:db8:1:1::/64"]), "office")
    *log, last = commits([BEGIN, *held, renumbered])
    folding = Membership(SITE, OPTIONS)
    for stored in log:
        folding.take(stored)
    counted = Counting(folding)
    assert counted.take(last)
    assert counted.members == 0


class Counting:
    """Counts how often it is asked of something that is held what it means."""

    def __init__(self, folding: Membership) -> None:
        self.members = 0
        self._folding, self._members = folding, folding._members
        folding._members = self._count  # type: ignore[method-assign]

    def _count(self, ledger: str, key: Key, holding: Holding) -> Iterator[Member]:
        self.members += 1
        return self._members(ledger, key, holding)

    def take(self, stored: Stored) -> bool:
        return self._folding.take(stored)
