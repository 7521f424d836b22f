from __future__ import annotations

import pytest

from dnms.domain.aggregate import Refused
from dnms.domain.document import DocumentError, from_builtins, from_toml, to_builtins
from dnms.domain.plan import PlanState, says_the_same
from dnms.domain.plan_difference import differences
from dnms.domain.reserved import RESERVED_GROUPS
from dnms.events.ip import parse_address
from dnms.events.plan import GroupDefined, PoolWithdrawn, SubnetDefined
from dnms.events.requests import ApplyPlan

SITE = '[site]\nname = "example"\n'
SUBNET = '[[subnet]]\nname = "a"\nprefixes = ["2001:db8:1::/64", "192.0.2.0/24"]\n'
OF_GROUP = '[[subnet.group]]\nname = "g"\n'
POOL = '[[pool]]\nname = "p"\nsubnet = "a"\nrange = "192.0.2.10-192.0.2.20"\n'


def problems(text: str) -> str:
    with pytest.raises(Refused) as refusal:
        PlanState().decide(from_toml(text), at=0, entropy=bytes(32))
    assert refusal.value.why == "invalid-plan"
    return refusal.value.text


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("", "`$`", "Expected a [site] table"),
        ("[site", "", "not TOML"),
        (SITE + "[sight]\n", "`$`", "unknown field `sight`"),
        (SITE + SUBNET.replace("name =", "nmae ="), "`$.subnet[0]`", "unknown field `nmae`"),
        (SITE + SUBNET + "mtu = 'big'\n", "`$.subnet[0].mtu`", "Expected `int"),
        (SITE + SUBNET + 'search = ["a\\nnameserver 192.0.2.66"]\n', "`$.subnet[0].search[0]`", "Expected a domain"),
        (SITE + SUBNET + 'search = ["a.example\\n"]\n', "`$.subnet[0].search[0]`", "Expected a domain"),
        (SITE + SUBNET + 'search = ["-a b-"]\n', "`$.subnet[0].search[0]`", "Expected a domain"),
        (SITE.replace("example", "example\\n"), "`$.site.name`", "Expected a name"),
        (SITE + SUBNET + "mtu = 100\n", "`$.subnet[0].mtu`", "1280"),
        (SITE + SUBNET + 'dns = ["nowhere"]\n', "`$.subnet[0].dns[0]`", "an IPv4 or IPv6 address"),
        (SITE + SUBNET.replace("/64", "/129"), "`$.subnet[0].prefixes[0]`", "a prefix such as"),
        (SITE + SUBNET.replace("1::/64", "1::1/64"), "`$.subnet[0].prefixes[0]`", "host bits"),
        (SITE + SUBNET + POOL.replace("10-", "x-"), "`$.pool[0].range`", "a prefix, or first-last"),
        (SITE + '[[group]]\nname = "g"\nnumber = 65536\n', "`$.group[0].number`", "65535"),
        (SITE.replace("example", "Not A Name"), "`$.site.name`", "Expected a name"),
    ],
)
def test_a_broken_document_names_the_place_and_what_was_expected(text: str, place: str, expected: str) -> None:
    with pytest.raises(DocumentError) as error:
        from_toml(text)
    assert place in str(error.value)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (SITE + SUBNET + SUBNET, "$.subnet[1].name: 'a' stands here twice"),
        (SITE + SUBNET + SUBNET.replace('"a"', '"b"').replace("::/64", "::/48"), "overlaps"),
        (SITE + SUBNET + 'realm = "x"\n', "$.subnet[0].realm: there is no realm 'x'"),
        (SITE + SUBNET.replace("::/64", "::/80"), "$.subnet[0].prefixes[0]: 2001:db8:1::/80 is smaller than a /64"),
        (SITE + SUBNET + 'gateways = ["198.51.100.1"]\n', "$.subnet[0].gateways[0]: 198.51.100.1 is not on the link"),
        (SITE + POOL, "$.pool[0].subnet: there is no subnet 'a'"),
        (SITE + SUBNET + POOL.replace("0.2.20", "0.3.20"), "$.pool[0].range: 192.0.2.10-192.0.3.20 is not inside"),
        (SITE + SUBNET + POOL + POOL.replace('"p"', '"q"'), "$.pool[1].range: overlaps the range of pool 'p'"),
        (SITE + SUBNET + POOL + 'strategy = "dice"\n', "$.pool[0].strategy: there is no strategy 'dice'"),
        (SITE + SUBNET + POOL + "preferred = 9999\n", "$.pool[0].preferred: 9999 s is longer"),
        (SITE + SUBNET + POOL.replace("10-192.0.2.20", "20-192.0.2.10"), "expected the first address before the last"),
        (SITE + SUBNET + OF_GROUP, "$.subnet[0].group[0].name: there is no group 'g'"),
        (
            SITE + '[[group]]\nname = "g"\n' + SUBNET + OF_GROUP + 'gateways = ["fe80::7", "198.51.100.1"]\n',
            "$.subnet[0].group[0].gateways[1]: 198.51.100.1 is not on the link",
        ),
        (SITE + "level = 2\n", "$.site.level: expected 1 to 1"),
        (SITE + '[[group]]\nname = "g"\nnumber = 0x0200\n', "$.group[0].number: 0x0200 is reserved"),
        (SITE + '[[group]]\nname = "g"\nnumber = 7\n[[group]]\nname = "h"\nnumber = 7\n', "is the number of group 'g'"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused_with_the_place(text: str, problem: str) -> None:
    assert problem in problems(text)


@pytest.mark.parametrize("state", [PlanState("home"), PlanState()])
def test_a_plan_cannot_rename_its_site(state: PlanState) -> None:
    home = from_toml('[site]\nname = "home"\n')
    for event in state.decide(home, at=0, entropy=bytes(32)):
        state.evolve(event, at=0, position=1)
    for wrong in (state, PlanState("home")):
        with pytest.raises(Refused, match=r"\$\.site\.name: the site is 'home'"):
            wrong.draft().decide(from_toml(SITE), at=0, entropy=bytes(32))


def test_all_problems_are_told_at_once() -> None:
    assert len(problems(SITE + POOL + POOL.replace('"p"', '"q"')).splitlines()) == 3


def test_prefixes_of_two_realms_may_overlap() -> None:
    realms = '[[realm]]\nname = "red"\n[[realm]]\nname = "blue"\n'
    both = SUBNET + 'realm = "red"\n' + SUBNET.replace('"a"', '"b"') + 'realm = "blue"\n'
    assert PlanState().decide(from_toml(SITE + realms + both), at=0, entropy=bytes(32))


def test_group_numbers_are_drawn_once_and_kept(plan: PlanState, document: ApplyPlan) -> None:
    more = from_toml(SITE + '[[group]]\nname = "sales"\n[[group]]\nname = "lab"\n')
    events = plan.decide(more, at=0, entropy=b"e" * 32)
    for event in events:
        plan.evolve(event, at=0, position=9)
    numbers = {event.group.name: event.group.number for event in events if isinstance(event, GroupDefined)}
    assert set(numbers) == {"sales", "lab"}
    assert len(set(numbers.values()) | {0x5A1E}) == 3
    assert not set(numbers.values()) & RESERVED_GROUPS
    assert plan.decide(more, at=0, entropy=b"f" * 32) == ()


def test_only_the_difference_becomes_events(plan: PlanState, document: ApplyPlan) -> None:
    assert plan.decide(document, at=0, entropy=bytes(32)) == ()
    fewer = ApplyPlan(site="example", level=1, realms=document.realms, groups=document.groups, subnets=document.subnets)
    assert plan.decide(fewer, at=0, entropy=bytes(32)) == (
        PoolWithdrawn(name="office-v6"),
        PoolWithdrawn(name="office-v4"),
    )


def test_a_changed_subnet_is_defined_anew(plan: PlanState, document: ApplyPlan) -> None:
    shown = to_builtins(document)
    shown["subnet"][0]["mtu"] = 1400
    (event,) = plan.decide(from_builtins(shown), at=0, entropy=bytes(32))
    assert isinstance(event, SubnetDefined)
    assert event.subnet.mtu == 1400


def test_a_plan_shown_and_applied_again_changes_nothing(plan: PlanState) -> None:
    assert from_builtins(to_builtins(plan.document())) == plan.document()


def test_all_subnets_of_a_strict_site_are_strict_until_it_is_no_more() -> None:
    usual = from_toml(SITE + SUBNET + POOL)
    strict = from_toml(SITE + "strict = true\n" + SUBNET + POOL)
    assert from_builtins(to_builtins(strict)) == strict
    assert [(each.part, each.fields) for each in differences(usual, strict)] == [("site", {"strict": [None, True]})]
    state = PlanState()
    for document, expected in ((usual, False), (strict, True), (usual, False)):
        for event in state.decide(document, at=0, entropy=bytes(32)):
            state.evolve(event, at=0, position=1)
        adopted = state.for_subnet("a").subnet
        assert adopted is not None
        assert adopted.strict is expected
        assert state.document() == document
        assert not state.decide(document, at=0, entropy=bytes(32))
        loaded = PlanState()
        loaded.load(document, 1)
        assert loaded.for_subnet("a") == state.for_subnet("a")


def test_what_may_be_given_while_the_log_is_away_is_shown_where_it_is_not_as_usual() -> None:
    usual, other = (
        from_toml(SITE + SUBNET + POOL),
        from_toml(SITE + SUBNET + "strict = true\n" + POOL + "outage = false\n"),
    )
    assert (usual.subnets[0].strict, usual.pools[0].outage) == (False, True)
    assert (other.subnets[0].strict, other.pools[0].outage) == (True, False)
    for document in (usual, other):
        assert from_builtins(to_builtins(document)) == document
    assert "strict" not in to_builtins(usual)["subnet"][0]
    assert "outage" not in to_builtins(usual)["pool"][0]


def test_what_a_ledger_adopts_names_no_nodes(plan: PlanState) -> None:
    adopted = plan.for_subnet("office")
    assert adopted.groups == {"voip": 0x5A1E}
    assert plan.for_subnet("elsewhere").subnet is None


def test_what_a_group_is_told_reaches_every_ledger_that_may_have_its_members(plan: PlanState) -> None:
    before = plan.for_subnet("office")
    shown = to_builtins(plan.document())
    shown["group"][0]["ntp"] = ["2001:db8::123"]
    for event in plan.decide(from_builtins(shown), at=0, entropy=bytes(32)):
        plan.evolve(event, at=0, position=2)
    assert not says_the_same(before, plan.for_subnet("office"))
    assert plan.for_subnet("office").stateless["voip"].ntp == (parse_address("2001:db8::123"),)
