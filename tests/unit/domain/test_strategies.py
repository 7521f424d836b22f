"""How each strategy picks, and that the hash does so in every release."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dnms.domain.aggregate import Question, Refused, resettle, settle
from dnms.domain.document import from_toml
from dnms.domain.ledger import Ledger
from dnms.domain.plan import PlanState
from dnms.domain.ranges import Ranges, ranges_of
from dnms.domain.strategies import STRATEGIES, Asking, hashed
from dnms.events.ip import format_address, parse_address
from dnms.events.plan import AdoptedPlan, Pool
from dnms.events.requests import AdoptPlan, AllocateAddress, HoldAddress, ReleaseAddress
from tests.unit.domain.clerk import Clerk, client

ROOT = Path(__file__).parents[3]

FOUR = """
[site]
name = "example"
[[group]]
name = "voip"
number = 7
ranges = ["192.0.2.24/29"]
[[group]]
name = "none"
number = 8
[[subnet]]
name = "office"
prefixes = ["2001:db8:1:1::/64", "192.0.2.0/24"]
[[pool]]
name = "four"
subnet = "office"
range = "192.0.2.16-192.0.2.47"
strategy = "{strategy}"
[[pool]]
name = "six"
subnet = "office"
range = "2001:db8:1:1::/64"
strategy = "{strategy}"
"""


def pool(first: str, last: str) -> Pool:
    return Pool(name="p", subnet="s", first=parse_address(first), last=parse_address(last))


@pytest.mark.parametrize(
    ("first", "last", "who", "group", "n", "address"),
    [
        ("2001:db8:1:1::", "2001:db8:1:1:ffff:ffff:ffff:ffff", 1, 0, 0, "2001:db8:1:1:0:41ee:75bc:7cc0"),
        ("2001:db8:1:1::", "2001:db8:1:1:ffff:ffff:ffff:ffff", 1, 0x5A1E, 0, "2001:db8:1:1:5a1e:41ee:75bc:7cc0"),
        ("2001:db8:1:1::", "2001:db8:1:1:ffff:ffff:ffff:ffff", 2, 0x5A1E, 1, "2001:db8:1:1:5a1e:79ea:7c08:4c21"),
        ("10.0.0.0", "10.255.255.255", 1, 0, 0, "10.31.93.237"),
    ],
)
def test_the_hash_is_the_same_in_every_release(  # noqa: PLR0917  # one row of the table
    first: str, last: str, who: int, group: int, n: int, address: str
) -> None:
    """A changed line here would move every node of every site."""
    of = pool(first, last)
    ranges = ranges_of(of, AdoptedPlan(position=1, level=1), group)
    asking = Asking(secret=b"s" * 32, pool=of, client=client(who), iaid=1, ranges=ranges)
    assert format_address(ranges.address(hashed(asking, n)).to_bytes(16)) == address


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_the_hash_is_the_same_in_every_process(hash_seed: str) -> None:
    program = """
from dnms.domain.ranges import ranges_of
from dnms.domain.strategies import Asking, hashed
from dnms.events.plan import AdoptedPlan
from tests.unit.domain.test_strategies import client, pool
for first, last in (("2001:db8:1:1::", "2001:db8:1:1:ffff:ffff:ffff:ffff"), ("10.0.0.0", "10.255.255.255")):
    of = pool(first, last)
    ranges = ranges_of(of, AdoptedPlan(position=1, level=1), 7)
    asking = [Asking(secret=b"s" * 32, pool=of, client=client(who), iaid=1, ranges=ranges) for who in range(50)]
    print([hashed(each, n) for each in asking for n in range(3)])
"""
    here = io.StringIO()
    with contextlib.redirect_stdout(here):
        exec(program, {})  # the same text there
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    there = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert there.stdout == here.getvalue()


def test_sequential_gives_the_next_that_nobody_had_and_then_the_longest_free(clerk: Clerk) -> None:
    clerk.adopt(FOUR.format(strategy="sequential"))
    given = [format_address(clerk.allocate(number, 4).address) for number in range(24)]
    assert given == [f"192.0.2.{host}" for host in (*range(16, 24), *range(32, 48))]  # without voip's
    for number in (9, 3, 5):
        address = parse_address(given[number])
        clerk.ask(ReleaseAddress(client=client(number), iaid=1, address=address))
    assert [format_address(clerk.allocate(number, 4).address) for number in (50, 51, 52)] == [
        given[9],
        given[3],
        given[5],
    ]
    with pytest.raises(Refused, match="in use"):
        clerk.allocate(53, 4)


def test_sequential_counts_in_a_range_without_an_index_too(clerk: Clerk) -> None:
    clerk.adopt(FOUR.format(strategy="sequential"))
    given = [format_address(clerk.allocate(number).address) for number in range(3)]
    assert given == ["2001:db8:1:1::1", "2001:db8:1:1::2", "2001:db8:1:1::3"]  # ::0 is the routers' anycast address
    assert format_address(clerk.allocate(9, group=7).address) == "2001:db8:1:1:7::"
    clerk.ask(ReleaseAddress(client=client(2), iaid=1, address=parse_address(given[2])))
    assert format_address(clerk.allocate(4).address) == "2001:db8:1:1::4"  # used once, and thrown away
    clerk.adopt(FOUR.format(strategy="sequential"))  # what it counts from does not come of the order of events alone
    assert format_address(clerk.allocate(5).address) == "2001:db8:1:1::5"


def test_sequential_counts_on_behind_any_number_of_addresses_that_are_kept_for_others(clerk: Clerk) -> None:
    clerk.adopt(FOUR.format(strategy="sequential"))
    for number in range(100):
        clerk.ask(HoldAddress(client=client(number), iaid=1, family=6))
    assert format_address(clerk.allocate(200).address) == "2001:db8:1:1::65"
    assert format_address(clerk.allocate(201).address) == "2001:db8:1:1::66"


@pytest.mark.parametrize("kept", ["2001:db8:1:1:7::1", "2001:db8:1:1:0:ffff:ffff:ffff"])
def test_sequential_does_not_count_what_is_kept(clerk: Clerk, kept: str) -> None:
    """Else who reserves an address of another group, or the last one, uses up the pool."""
    clerk.adopt(FOUR.format(strategy="sequential"))
    clerk.ask(HoldAddress(client=client(1), iaid=1, family=6, address=parse_address(kept)))
    assert format_address(clerk.allocate(1).address) == kept
    assert format_address(clerk.allocate(2).address) == "2001:db8:1:1::1"
    clerk.adopt(FOUR.format(strategy="sequential"))
    assert format_address(clerk.allocate(3).address) == "2001:db8:1:1::2"


def test_sequential_gives_what_nobody_had_first_after_another_plan_too(clerk: Clerk) -> None:
    clerk.adopt(FOUR.format(strategy="sequential"))
    given = [clerk.allocate(number, 4).address for number in range(3)]
    clerk.ask(ReleaseAddress(client=client(2), iaid=1, address=given[2]))
    clerk.adopt(FOUR.format(strategy="sequential"))
    assert format_address(clerk.allocate(5, 4).address) == "192.0.2.19"


def test_random_gives_what_the_random_bits_say_and_records_them(clerk: Clerk) -> None:
    clerk.adopt(FOUR.format(strategy="random"))
    one, other = (clerk.allocate(number, entropy=bytes([number]) * 16) for number in (1, 2))
    assert one.address != other.address
    request = AllocateAddress(client=client(3), iaid=1, family=6)
    commit, _ = settle(
        clerk.ledger, [Question(request, b"e" * 16)], commit_id=bytes(16), at=0, predecessor=1, actor="agent/a"
    )
    assert commit.decisions[0].entropy == b"e" * 16
    assert resettle(clerk.ledger, commit) == commit


def test_a_hash_is_given_no_random_bits(ledger: Ledger) -> None:
    assert ledger.entropy(AllocateAddress(client=client(3), iaid=1, family=6)) == 0


def test_who_asks_behind_a_plan_that_draws_waits_for_random_bits(clerk: Clerk) -> None:
    """What is decided without any would be the same for everybody."""
    state = PlanState()
    for event in state.decide(from_toml(FOUR.format(strategy="random")), at=0, entropy=bytes(32)):
        state.evolve(event, at=0, position=20)
    questions = [
        Question(AllocateAddress(client=client(1), iaid=1, family=6)),
        Question(AdoptPlan(plan=state.for_subnet("office"))),
        Question(AllocateAddress(client=client(2), iaid=1, family=6)),
    ]
    _, answers = settle(clerk.ledger, questions, commit_id=bytes(16), at=0, predecessor=1, actor="agent/a")
    assert len(answers) == 2


@pytest.mark.parametrize("strategy", ["hash", "random", "sequential"])
def test_members_of_a_group_have_its_range_and_others_have_the_rest(clerk: Clerk, strategy: str) -> None:
    clerk.adopt(FOUR.format(strategy=strategy))
    hosts = [
        {
            clerk.allocate(100 * group + number, 4, group=group, entropy=bytes([number]) * 16).address[15]
            for number in range(8)
        }
        for group in (7, 0, 8)
    ]
    assert hosts[0] == set(range(24, 32))
    assert not (hosts[1] | hosts[2]) & hosts[0]
    with pytest.raises(Refused, match="in use"):
        clerk.allocate(999, 4, group=7)


def test_who_leaves_a_group_with_a_range_leaves_its_range(clerk: Clerk) -> None:
    clerk.adopt(FOUR.format(strategy="hash"))
    inside = clerk.allocate(1, 4, group=7)
    outside = clerk.allocate(1, 4)
    assert inside.address[15] in range(24, 32)
    assert outside.address[15] not in range(24, 32)
    assert [lease.drained_at > 0 for lease in clerk.ledger.leases_of(client(1), 1, 4)] == [False, True]


def test_every_strategy_is_deterministic() -> None:
    first, last = "192.0.2.16", "192.0.2.47"
    ranges = Ranges([(int.from_bytes(parse_address(first)), int.from_bytes(parse_address(last)))])
    asking = Asking(
        secret=b"s", pool=pool(first, last), client=client(1), iaid=1, ranges=ranges, entropy=b"e" * 16, behind=3
    )
    for strategy in STRATEGIES.values():
        found = [strategy.candidate(asking, n) for n in range(20)]
        assert found == [strategy.candidate(asking, n) for n in range(20)]
        assert all(number is None or 0 <= number < ranges.size for number in found)
