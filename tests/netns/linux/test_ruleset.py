"""What tells one state of nftables from another, and what of others drops."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest

from dnms.linux import ruleset
from dnms.linux.errors import KernelError
from dnms.linux.namespaces import Namespace, search_path
from dnms.linux.nftables import AddressSet, Chain, Change, NewRule, Table
from dnms.linux.ruleset import Dropping
from tests.netns.linux.test_nftables import Firewall

BOTH = frozenset({("inet", "forward"), ("bridge", "forward")})
DESK = bytes.fromhex("02000000000a") + bytes.fromhex("20010db8000100015a1e000000000001")


@pytest.fixture
def firewall() -> Iterator[Firewall]:
    if shutil.which("nft", path=search_path()) is None:
        pytest.skip("nftables is not installed (Debian: apt-get install nftables)")
    with Namespace.create("machine") as namespace:
        yield Firewall(namespace)


def sync(firewall: Firewall, function: Callable[[], int]) -> int:
    async def work() -> int:
        return function()

    return firewall.do(work)


def test_every_transaction_is_counted_and_a_look_is_none(firewall: Firewall) -> None:
    before = sync(firewall, ruleset.generation)
    firewall.nft("add table inet x; add set inet x s { type ipv6_addr; }; add element inet x s { ::1 }")
    assert sync(firewall, ruleset.generation) == before + 1
    firewall.nft("list ruleset")
    firewall.do(Table("x").read)
    assert sync(firewall, ruleset.generation) == before + 1


OTHERS = """
table ip old { chain f { type filter hook forward priority 0; policy drop;
} \n }
table ip6 six { chain f { type filter hook forward priority 0; policy accept; ip6 daddr ::1 drop
} \n }
table inet jumps {
    chain f { type filter hook forward priority 0; policy accept; jump one
    }
    chain one { goto two
    }
    chain two { tcp dport 25 reject
    }
}
table inet calls_itself_not { chain f { type filter hook forward priority 0; policy accept; counter
} \n }
table inet elsewhere { chain f { type filter hook input priority 0; policy drop;
} \n }
table bridge ours { chain f { type filter hook forward priority 0; policy drop;
} \n }
table bridge b { chain f { type filter hook forward priority 0; policy drop;
} \n }
"""


def test_base_chains_of_others_that_drop_are_found_where_ours_are(firewall: Firewall) -> None:
    firewall.nft(OTHERS)
    found = firewall.do(lambda: ruleset.dropping(BOTH, but="ours"))
    assert found == [
        Dropping("bridge", "b", "f", "forward", policy=True),
        Dropping("inet", "jumps", "f", "forward", policy=False),
        Dropping("ip", "old", "f", "forward", policy=True),
        Dropping("ip6", "six", "f", "forward", policy=False),
    ]
    found = firewall.do(lambda: ruleset.dropping(frozenset({("bridge", "forward")}), but="ours"))
    assert [each.table for each in found] == ["b"]


def test_whether_bridges_have_connection_tracking_is_what_the_kernel_says(firewall: Firewall) -> None:
    try:
        firewall.nft("table bridge x { chain c { ct state new accept\n } \n }")
        has = True
    except Exception:  # whatever it says
        has = False
    assert bool(sync(firewall, lambda: int(ruleset.tracks_bridges()))) == has


def test_rules_stand_where_they_are_put_and_keep_their_counters(firewall: Firewall) -> None:
    table = Table("x", "bridge")

    def change(change: Change) -> None:
        firewall.do(lambda: table.change(change))

    change(
        Change(
            add_table=True,
            add_sets=(AddressSet("pairs", 6, "ours", hardware=True),),
            add_chains=[Chain("hooked", "forward"), Chain("own")],
            add_elements={"pairs": [DESK]},
            add_rules=[
                NewRule(chain="hooked", text="jump own", comment="1"),
                NewRule(chain="hooked", text="ether saddr . ip6 saddr @pairs counter packets 7 bytes 8", comment="3"),
            ],
        )
    )
    content = firewall.do(table.read)
    assert content is not None
    assert content.sets == (AddressSet("pairs", 6, "ours", frozenset({DESK}), hardware=True),)
    assert content.chains == (Chain("hooked", "forward"), Chain("own"))
    assert content.referenced == {"pairs"}
    first, last = content.rules
    assert (last.packets, last.bytes, first.packets) == (7, 8, None)
    change(
        Change(
            add_rules=[
                NewRule(chain="hooked", text="counter", comment="2 a", before=last.handle),
                NewRule(chain="hooked", text="counter", comment="2 b", before=last.handle),
            ],
            delete_rules=[first],
            delete_chains=["own"],
        )
    )
    content = firewall.do(table.read)
    assert content is not None
    assert [(rule.comment, rule.packets) for rule in content.rules] == [("2 a", 0), ("2 b", 0), ("3", 7)]
    assert [rule.text for rule in content.rules] == ["counter", "counter", "ether saddr . ip6 saddr @pairs counter"]
    with pytest.raises(KernelError):
        change(
            Change(
                add_rules=[
                    NewRule(chain="hooked", text="counter", comment="4"),
                    NewRule(chain="none", text="", comment=""),
                ]
            )
        )
    assert firewall.do(table.read) == content


def test_a_switch_is_on_for_good_or_goes_off_by_itself(firewall: Firewall) -> None:
    def switched(element: str) -> frozenset[str]:
        firewall.nft(f"flush set inet x s; add element inet x s {{ {element} }}")
        content = firewall.do(Table("x").read)
        assert content is not None
        return content.switched

    firewall.nft("table inet x { set s { type nf_proto; flags timeout; } \n }")
    assert switched("ipv4 timeout 1h") == frozenset()
    assert switched("ipv4") == {"s"}
