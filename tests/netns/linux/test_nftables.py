"""One table of nftables, with the real nft in a namespace of its own."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from dnms.events.ip import parse_address
from dnms.linux import nftables
from dnms.linux.errors import KernelError
from dnms.linux.namespaces import Namespace, search_path
from dnms.linux.nftables import AddressSet, Change, Content, Table

T = TypeVar("T")

ONE, TWO, THREE = map(parse_address, ("2001:db8::1", "2001:db8::2", "2001:db8::3"))
OLD = parse_address("192.0.2.1")
TABLE = Table("dnms")


class Firewall:
    """A namespace, and what can be done with nft in it."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def nft(self, text: str) -> str:
        return self._namespace.run(str(shutil.which("nft", path=search_path())), "-f", "-", stdin=text)

    def do(self, work: Callable[[], Awaitable[T]]) -> T:
        """Here, in a thread of its own."""

        async def limited() -> T:
            async with asyncio.timeout(20):
                return await work()

        def inside() -> T:
            self._namespace.enter()
            return asyncio.run(limited())

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(inside).result()

    def read(self) -> Content:
        content = self.do(TABLE.read)
        assert content is not None
        return content

    def change(self, change: Change) -> None:
        self.do(lambda: TABLE.change(change))

    def elements(self) -> dict[str, frozenset[bytes]]:
        return {each.name: each.elements for each in self.read().sets}


@pytest.fixture
def firewall() -> Iterator[Firewall]:
    if shutil.which("nft", path=search_path()) is None:
        pytest.skip("nftables is not installed (Debian: apt-get install nftables)")
    with Namespace.create("machine") as namespace:
        yield Firewall(namespace)


MADE = Change(
    add_table=True,
    add_sets=(AddressSet("sales-6", 6, "ours"), AddressSet("sales-4", 4)),
    add_elements={"sales-6": [ONE, TWO], "sales-4": [OLD]},
)


def test_there_is_no_table_until_one_is_made(firewall: Firewall) -> None:
    assert firewall.do(TABLE.read) is None
    firewall.change(Change())
    assert firewall.do(TABLE.read) is None
    firewall.change(Change(add_table=True))
    assert firewall.read() == Content()


def test_what_was_changed_is_read(firewall: Firewall) -> None:
    firewall.change(MADE)
    assert set(firewall.read().sets) == {
        AddressSet("sales-6", 6, "ours", frozenset({ONE, TWO})),
        AddressSet("sales-4", 4, "", frozenset({OLD})),
    }
    firewall.change(
        Change(add_elements={"sales-6": [THREE]}, delete_elements={"sales-6": [ONE]}, delete_sets=["sales-4"])
    )
    assert firewall.elements() == {"sales-6": frozenset({TWO, THREE})}


def test_adding_what_is_there_changes_nothing(firewall: Firewall) -> None:
    firewall.change(MADE)
    before = firewall.read()
    firewall.change(MADE)
    assert firewall.read() == before


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (Change(add_elements={"sales-6": [THREE]}, delete_elements={"sales-6": [parse_address("::9")]}), "not-there"),
        (Change(add_elements={"sales-6": [THREE]}, delete_sets=["sales-4"]), "ebusy"),
        (Change(add_elements={"sales-6": [THREE], "none-6": [ONE]}), "not-there"),
        (Change(add_elements={"sales-6": [THREE]}, add_sets=(AddressSet("sales-4", 6),)), "exists"),
        (Change(add_elements={"sales-6": [THREE]}, add_sets=(AddressSet("4-sales", 6),)), "refused"),
    ],
)
def test_all_of_a_change_happens_or_nothing(firewall: Firewall, change: Change, why: str) -> None:
    firewall.change(MADE)
    firewall.nft("table inet dnms { chain c { ip saddr @sales-4 drop\n } \n }")
    before = firewall.read()
    with pytest.raises(KernelError, match=r"cannot change table inet dnms: ") as refused:
        firewall.change(change)
    assert refused.value.why == why
    assert firewall.read() == before


def test_sets_of_another_form_and_maps_are_names_alone(firewall: Firewall) -> None:
    firewall.nft("""
        table inet dnms {
            set wide-4 { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 }; }
            set short-4 { type ipv4_addr; flags timeout; timeout 1h; }
            set ports { type inet_service; elements = { 80 }; }
            set pairs { type ipv4_addr . inet_service; elements = { 192.0.2.1 . 80 }; }
            map verdicts { type ipv4_addr : verdict; elements = { 192.0.2.1 : drop }; }
            set plain-4 { type ipv4_addr; comment "a } brace"; elements = { 192.0.2.1 }; }
            counter passed { }
        }
        table inet other {
            map elsewhere { type ipv4_addr : verdict; }
            set elsewhere-4 { type ipv4_addr; }
        }
    """)
    assert firewall.read() == Content(
        sets=(AddressSet("plain-4", 4, "a } brace", frozenset({OLD})),),
        others=frozenset({"wide-4", "short-4", "ports", "pairs", "verdicts"}),
    )


def test_sets_that_rules_use_are_known(firewall: Firewall) -> None:
    names = [f"{letter}-4" for letter in "abcdefg"]
    sets = "\n".join(f"set {name} {{ type ipv4_addr; }}" for name in names)
    firewall.nft(f"""
        table inet dnms {{
            {sets}
            set heard {{ type ipv4_addr; flags dynamic; }}
            chain one {{
                ip saddr @a-4 ip daddr != @b-4 drop
                ip saddr {{ 192.0.2.1, 192.0.2.2 }} counter
            }}
            chain two {{
                ip saddr 192.0.2.1 ip daddr @c-4 counter accept comment "@f-4"
                add @heard {{ ip saddr }}
            }}
        }}
        table inet other {{
            set g-4 {{ type ipv4_addr; }}
            chain one {{
                ip saddr @g-4 drop
            }}
        }}
    """)
    assert firewall.read().referenced == {"a-4", "b-4", "c-4", "heard"}


def test_a_table_that_an_operator_put_to_sleep_sleeps_on(firewall: Firewall) -> None:
    """And is read: nft 1.0.6 cannot list it as a whole."""
    firewall.nft("table inet dnms { flags dormant; }")
    firewall.change(Change(add_sets=MADE.add_sets, add_elements=MADE.add_elements))
    assert firewall.elements() == {"sales-6": frozenset({ONE, TWO}), "sales-4": frozenset({OLD})}
    assert "flags dormant" in firewall.nft("list table inet dnms")


def test_counters_of_elements_survive_the_changes_of_others(firewall: Firewall) -> None:
    firewall.nft("""
        table inet dnms {
            set sales-4 { type ipv4_addr; counter; elements = { 192.0.2.1 counter packets 7 bytes 8 }; }
        }
    """)
    firewall.change(Change(add_elements={"sales-4": [parse_address("192.0.2.2")]}))
    assert firewall.elements() == {"sales-4": frozenset({OLD, parse_address("192.0.2.2")})}
    assert "192.0.2.1 counter packets 7 bytes 8" in firewall.nft("list table inet dnms")


def test_many_elements_are_one_transaction(firewall: Firewall) -> None:
    many = [(0x20010DB8 << 96 | number).to_bytes(16) for number in range(3 * nftables.ON_A_LINE + 1)]
    firewall.change(MADE)
    with pytest.raises(KernelError):
        firewall.change(Change(add_elements={"sales-6": many}, delete_sets=["none-6"]))
    assert firewall.elements()["sales-6"] == {ONE, TWO}
    firewall.change(Change(add_elements={"sales-6": many}))
    assert firewall.elements()["sales-6"] == {ONE, TWO, *many}


def test_a_machine_without_nft_is_told_so(firewall: Firewall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nftables, "search_path", lambda: "/nonexistent")
    with pytest.raises(KernelError, match=r"nftables .* is not installed") as refused:
        firewall.do(TABLE.read)
    assert refused.value.why == "no-program"


def test_an_nft_that_does_not_end_is_ended(firewall: Firewall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nftables, "TIMEOUT", 0.0)
    with pytest.raises(KernelError) as refused:
        firewall.do(TABLE.read)
    assert refused.value.why == "timeout"
