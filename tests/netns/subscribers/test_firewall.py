"""The firewall's sets beside an operator's rules: what he writes once follows membership, and what is his stays."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dnms.disk.subscriber_state import SubscriberStateError
from dnms.events.address import AddressReleased
from dnms.events.ip import parse_address
from dnms.events.plan import Group, GroupDefined, GroupWithdrawn
from dnms.subscribers import firewall
from dnms.subscribers.firewall.examples import DESK, SALES, group, leased, ledger, named, site
from dnms.subscribers.firewall.items import AddressSet, Chain, Item, Member, OurTable, group_set, rule
from dnms.subscribers.firewall.kernel import Kernel
from dnms.subscribers.subscriber import Happened, Plan
from tests.netns.subscribers.conftest import Machine, looks, run_once, running, stopped, until
from tests.netns.subscribers.logs import filled, memory_log

HERE = "2001:db8:1:1:5a1e::1"
THERE = "2001:db8:1:1:5a1e::2"
LOG = [
    Happened("plan", (site(), group("sales", SALES, "desk-*"))),
    named(DESK, "desk-1"),
    ledger(leased(DESK, HERE, group=SALES)),
]
RELEASED = ledger(AddressReleased(address=parse_address(HERE), client=DESK, iaid=1))
WITHDRAWN = Happened("plan", (GroupWithdrawn(name="sales"),))

RULE = """
table inet dnms {
    chain input {
        type filter hook input priority filter; policy accept;
        ip6 saddr @sales-6 accept
        ip6 saddr 2001:db8:1:1::/64 counter drop
    }
}
"""


def pings(machine: Machine, source: str) -> bool:
    """Whether a datagram from this address gets through; lo delivers before it returns."""
    with machine.namespace.entered():
        receiver = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with receiver, sender:
        receiver.bind(("::1", 0))
        receiver.setblocking(False)
        sender.bind((source, 0))
        sender.sendto(b"ping", receiver.getsockname()[:2])
        try:
            return receiver.recv(4) == b"ping"
        except BlockingIOError:
            return False


def test_one_rule_of_an_operator_follows_membership(machine: Machine, tmp_path: Path) -> None:
    for address in (HERE, THERE):
        machine.namespace.ip([f"address add {address}/128 dev lo nodad"])

    async def work() -> None:
        log = await filled(memory_log(), LOG[:2])
        async with running(log, tmp_path, period=3_600) as runner:
            await runner.settled.wait()
            machine.nft(RULE)
            assert not pings(machine, HERE)
            await filled(log, LOG[2:])
            await until(lambda: pings(machine, HERE))
            assert not pings(machine, THERE)
            await filled(log, [RELEASED, ledger(leased(DESK, THERE, group=SALES))])
            await until(lambda: pings(machine, THERE))
            assert not pings(machine, HERE)
            await filled(log, [named(DESK, "phone-1")])
            await until(lambda: not pings(machine, THERE))
            await filled(log, [Happened("plan", (GroupDefined(group=Group(name="sales", number=9, nodes=("p*",))),))])
            await until(lambda: pings(machine, THERE))

    machine.run(work)


def test_a_set_that_a_rule_refers_to_is_emptied_and_kept_and_that_is_said(machine: Machine, tmp_path: Path) -> None:
    async def work() -> None:
        log = await filled(memory_log(), LOG)
        with capture_logs() as said:
            async with running(log, tmp_path) as runner:
                await runner.settled.wait()
                machine.nft(RULE)
                await filled(log, [WITHDRAWN])
                await until(lambda: machine.sets() == {"sales-6": set()})
                await looks(runner)
                note = "set sales-6 has no group any more, and a rule refers to it: it is emptied and kept"
                assert [line["event"] for line in said].count(note) == 1
                assert not runner.counts.failed
                machine.nft("flush chain inet dnms input")
                await until(lambda: not machine.sets())
        assert "input" in str(machine.listed())

    machine.run(work)


def test_a_set_of_somebody_elses_under_our_name_is_left_and_keeps_nobody_waiting(
    machine: Machine, tmp_path: Path
) -> None:
    machine.nft("table inet dnms { set sales-6 { type ipv6_addr; elements = { 2001:db8:f::1 }; } \n }")

    async def work() -> None:
        log = await filled(memory_log(), [*LOG, ledger(leased(DESK, "192.0.2.1", group=SALES))])
        with capture_logs() as said:
            async with running(log, tmp_path) as runner:
                await runner.settled.wait()
                await looks(runner)
                assert machine.sets() == {"sales-6": {"2001:db8:f::1"}, "sales-4": {"192.0.2.1"}}
                note = "set sales-6 in table inet dnms is not ours, and is left as it is"
                assert [line["event"] for line in said].count(note) == 1
                machine.nft("delete set inet dnms sales-6")
                await until(lambda: machine.sets() == {"sales-6": {HERE}, "sales-4": {"192.0.2.1"}})

    machine.run(work)


def test_a_set_that_an_operator_declares_with_our_mark_is_filled(machine: Machine, tmp_path: Path) -> None:
    """So his rules can be loaded at boot, before anything of DNMS runs."""
    machine.nft('table inet dnms { set sales-6 { type ipv6_addr; comment "dnms"; } \n }' + RULE)
    machine.run(lambda: _run(tmp_path, LOG))
    assert machine.sets() == {"sales-6": {HERE}, "sales-4": set()}


def test_a_table_that_an_operator_put_to_sleep_sleeps_on(machine: Machine, tmp_path: Path) -> None:
    machine.nft("table inet dnms { flags dormant; }")
    machine.run(lambda: _run(tmp_path, LOG))
    assert "flags dormant" in machine.nft("list table inet dnms")
    machine.nft("add table inet dnms")  # as he wakes it
    assert machine.sets() == {"sales-6": {HERE}, "sales-4": set()}


async def _run(directory: Path, happened: Sequence[Happened]) -> None:
    await run_once(await filled(memory_log(), happened), directory)


@pytest.mark.parametrize(
    "change",
    ["flush ruleset", "delete table inet dnms", "flush set inet dnms sales-6", "delete set inet dnms sales-6"],
)
def test_what_others_take_away_comes_back(machine: Machine, tmp_path: Path, change: str) -> None:
    async def work() -> None:
        async with running(await filled(memory_log(), LOG), tmp_path) as runner:
            await runner.settled.wait()
            before = machine.sets()
            machine.nft(change)
            await until(lambda: machine.sets() == before)

    machine.run(work)


def test_what_others_change_is_heard_of_at_once(machine: Machine, tmp_path: Path) -> None:
    """And not at the next look by the clock; what they change elsewhere is nothing to us."""

    async def work() -> None:
        async with running(await filled(memory_log(), LOG), tmp_path, period=3_600) as runner:
            await runner.settled.wait()
            before, looked = machine.sets(), runner.counts.looked
            machine.nft("add table inet others; add set inet others s { type ipv4_addr; }")
            machine.nft("add element inet dnms sales-6 { 2001:db8:f::1 }")
            await until(lambda: machine.sets() == before)
            machine.nft("flush ruleset")
            await until(lambda: machine.sets() == before)
            assert runner.counts.looked <= looked + 4  # its own changes are no news

    machine.run(work)


def test_what_others_put_into_our_sets_goes(machine: Machine, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(await filled(memory_log(), LOG), tmp_path) as runner:
            await runner.settled.wait()
            before = machine.sets()
            machine.nft("add element inet dnms sales-6 { 2001:db8:f::1 }")
            await until(lambda: machine.sets() == before)

    machine.run(work)


def test_what_cannot_be_applied_is_logged_counted_and_tried_again_ever_more_slowly(
    machine: Machine, tmp_path: Path
) -> None:
    machine.nft('table inet dnms { set sales-6 { type ipv6_addr; size 1; comment "dnms"; } \n }')

    async def work() -> None:
        log = await filled(memory_log(), [*LOG, ledger(leased(DESK, THERE, group=SALES))])
        with capture_logs() as said:
            async with running(log, tmp_path) as runner:
                await until(lambda: runner.counts.failed["enfile"] >= 3)
                assert not runner.settled.is_set()
                assert machine.sets() == {"sales-6": set()}  # nothing of it
                machine.nft("delete set inet dnms sales-6")
                await runner.settled.wait()
                assert machine.sets() == {"sales-6": {HERE, THERE}, "sales-4": set()}
        failed = [line for line in said if line["event"] == "not applied"]
        assert failed[0]["log_level"] == "error"
        assert failed[0]["why"] == "enfile"
        assert "cannot change table inet dnms" in failed[0]["reason"]
        pauses = [line["again_in"] for line in failed]
        assert pauses[:3] == [pauses[0], 2 * pauses[0], 4 * pauses[0]]

    machine.run(work)


def test_a_second_one_does_not_start(machine: Machine, tmp_path: Path) -> None:
    async def work() -> None:
        log = await filled(memory_log(), LOG)
        async with running(log, tmp_path) as runner:
            await runner.settled.wait()
            assert "another subscriber firewall runs" in await stopped(log, tmp_path, SubscriberStateError)

    machine.run(work)


NAMES = ["set", "table", "all", "inet", "ip6", "dead", "beef", "e", "0", "7-guests", "3com", "x--y", "a-4", "n" * 63]


def test_every_name_of_a_group_is_one_of_a_set(machine: Machine) -> None:
    """Words of nft's language among them, numbers, and what looks like them."""
    items: set[Item] = {OurTable()}
    for name in NAMES:
        for kind, address in ((4, "192.0.2.1"), (6, "::1.2.3.4")):
            items |= {group_set(name, kind), Member(group_set(name, kind), parse_address(address))}
    wanted = frozenset(items)

    async def work() -> None:
        kernel = Kernel()
        await kernel.apply(firewall.SUBSCRIBER.plan(wanted, await kernel.actual()))
        assert (await kernel.actual()).ours == wanted
        for item in wanted:
            if isinstance(item, AddressSet):
                field = "ip6" if item.family == 6 else "ip"
                machine.nft(f"table inet dnms {{ chain forward {{\n{field} saddr @{item.name} accept\n}} \n }}")
        found = await kernel.actual()
        assert found.referenced == {("inet", item.name) for item in wanted if isinstance(item, AddressSet)}
        await kernel.apply(Plan(drop=frozenset(item for item in wanted if isinstance(item, Member))))

    machine.run(work)
    assert set(map(len, machine.sets().values())) == {0}


def test_an_nft_that_writes_a_rule_in_another_way_does_not_have_it_changed_for_ever(machine: Machine) -> None:
    """A subscriber that is started anew puts it there once more, and then knows."""
    wanted: frozenset[Item] = frozenset(
        {OurTable(), Chain("dnms_x"), rule("dnms_x", 1, "r", "meta l4proto { tcp } counter accept", "inet")}
    )

    async def work() -> None:
        for _ in range(2):
            kernel = Kernel()
            await kernel.apply(firewall.SUBSCRIBER.plan(wanted, await kernel.actual()))
            machine.nft("add table inet others; delete table inet others")  # so that it reads again
            assert (await kernel.actual()).ours == wanted
            assert "meta l4proto tcp" in machine.nft("list table inet dnms")

    machine.run(work)
