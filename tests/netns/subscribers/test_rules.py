"""Security rules on a router, with real packets."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import random
import socket
import struct
import time
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dnms.disk.subscriber_state import SubscriberState, SubscriberStateError
from dnms.events.ip import parse_prefix
from dnms.events.plan import Delegation, DelegationDefined
from dnms.events.rule import Peer, Ports, Rule, RuleDefined, RuleWithdrawn
from dnms.linux.namespaces import Namespace
from dnms.subscribers.firewall.examples import (
    CALLS,
    DESK,
    SALES,
    VOIP,
    delegated,
    group,
    leased,
    ledger,
    pool,
    returned,
)
from dnms.subscribers.subscriber import Local
from tests.contracts.subscribers.logs import SITE, commits
from tests.netns.subscribers.acting import (
    FOUR,
    GROUPS,
    LEASES,
    OLD,
    OUT,
    Acting,
    acting,
    counted,
    local,
    on,
    planned,
    planned_subnet,
    rules,
)
from tests.netns.subscribers.conftest import Machine, looks, run_once, running, until
from tests.netns.subscribers.logs import copied, filled, memory_log
from tests.netns.subscribers.network import (
    DESK_4,
    DESK_6,
    PHONE_4,
    PHONE_6,
    STRANGER_4,
    STRANGER_6,
    falls,
    passes,
)


def test_voip_in_to_sales_is_one_rule_and_nothing_else_gets_in(
    machine: Machine, hosts: dict[str, Namespace], tmp_path: Path
) -> None:
    desk, phone, stranger = hosts.values()
    firewall = on(machine, tmp_path)
    firewall.add(planned(*GROUPS, RuleDefined(rule=CALLS)), *LEASES)
    assert passes(phone, PHONE_6, desk, DESK_6)
    assert passes(phone, PHONE_6, desk, DESK_6, 15_000)
    assert falls(phone, PHONE_6, desk, DESK_6, 9_999)
    assert falls(stranger, STRANGER_6, desk, DESK_6)
    assert passes(stranger, STRANGER_6, phone, PHONE_6)  # who has no rules gets everything
    assert len(rules(machine, "voip-to-sales")) == 1
    assert counted(machine, "voip-to-sales") >= 2
    assert counted(machine, "nothing else to sales") >= 2


def test_it_is_one_rule_in_both_families_too(machine: Machine, hosts: dict[str, Namespace], tmp_path: Path) -> None:
    desk, phone, stranger = hosts.values()
    firewall = on(machine, tmp_path)
    firewall.add(planned(*GROUPS, FOUR, RuleDefined(rule=CALLS)), *LEASES, *OLD)
    assert len(rules(machine, "voip-to-sales")) == 1
    for own, other, there in ((DESK_4, PHONE_4, STRANGER_4), (DESK_6, PHONE_6, STRANGER_6)):
        before = counted(machine, "voip-to-sales")
        assert passes(phone, other, desk, own)
        assert falls(stranger, there, desk, own)
        assert counted(machine, "voip-to-sales") > before


def test_a_rule_names_subnets_and_prefixes_and_a_drop_wins(
    machine: Machine, hosts: dict[str, Namespace], tmp_path: Path
) -> None:
    desk, phone, stranger = hosts.values()
    open_ = Rule(
        name="open",
        direction="ingress",
        group="sales",
        peers=(Peer(prefix=parse_prefix("2001:db8:f::/48")), Peer(subnet="b"), Peer(prefix=parse_prefix("0.0.0.0/0"))),
    )
    closed = Rule(
        name="a-closed",
        direction="ingress",
        group="sales",
        protocol="udp",
        ports=(Ports(first=7, last=7),),
        action="drop",
    )
    subnet = planned_subnet("b", "2001:db8:1:2::/64")
    firewall = on(machine, tmp_path)
    firewall.add(planned(*GROUPS, FOUR, subnet, RuleDefined(rule=open_), RuleDefined(rule=closed)), *LEASES, *OLD)
    assert passes(phone, PHONE_6, desk, DESK_6)
    assert passes(stranger, STRANGER_6, desk, DESK_6)
    assert passes(stranger, STRANGER_4, desk, DESK_4)
    for source, sender, own in ((phone, PHONE_6, DESK_6), (stranger, STRANGER_4, DESK_4)):
        assert falls(source, sender, desk, own, 7)
    assert len(rules(machine, "open")) == len(rules(machine, "a-closed")) == 1


def test_what_is_established_goes_on_when_its_rule_goes(
    machine: Machine, hosts: dict[str, Namespace], tmp_path: Path
) -> None:
    desk, phone, _ = hosts.values()
    calls = msgspec.structs.replace(CALLS, protocol="tcp")
    firewall = on(machine, tmp_path)
    firewall.add(planned(*GROUPS, RuleDefined(rule=calls)), *LEASES)
    with desk.entered():
        listener = socket.create_server((DESK_6, 5060), family=socket.AF_INET6)
    with listener:
        with phone.entered():
            calling = socket.create_connection((DESK_6, 5060), timeout=5)
        with calling:
            called, _ = listener.accept()
            with called:
                firewall.add(planned(RuleDefined(rule=msgspec.structs.replace(calls, ports=(Ports(first=1, last=1),)))))
                called.settimeout(5)
                calling.sendall(b"still here")
                assert called.recv(10) == b"still here"
                with phone.entered():
                    another = socket.socket(socket.AF_INET6)
                with another:
                    another.settimeout(0.3)
                    with pytest.raises(TimeoutError):
                        another.connect((DESK_6, 5060))


def test_counters_survive_what_does_not_change_their_rule(
    machine: Machine, hosts: dict[str, Namespace], tmp_path: Path
) -> None:
    desk, phone, _ = hosts.values()
    firewall = on(machine, tmp_path)
    firewall.add(planned(*GROUPS, RuleDefined(rule=CALLS)), *LEASES)
    assert passes(phone, PHONE_6, desk, DESK_6)
    before = counted(machine, "voip-to-sales")
    assert before
    firewall.add(
        planned(RuleDefined(rule=OUT), pool("six-c", "2001:db8:1:3::/64"), group("staff", 0x77, "boss-*")),
        ledger(leased(DESK, "2001:db8:1:1:5a1e::9", group=SALES), subnet="a"),
    )
    assert counted(machine, "voip-to-sales") == before
    assert machine.sets()["sales-6/80"] == {f"2001:db8:1:{number}:5a1e::" for number in (1, 2, 3)}


# --- egress


def test_egress_cannot_be_dodged_with_another_address(
    machine: Machine, hosts: dict[str, Namespace], tmp_path: Path
) -> None:
    desk, _, stranger = hosts.values()
    dodge = "2001:db8:1:1::bad"
    desk.ip([f"address add {dodge}/64 dev eth0 nodad"])
    unguarded = on(machine, tmp_path)
    unguarded.add(planned(*GROUPS, RuleDefined(rule=OUT)), *LEASES)
    assert passes(desk, DESK_6, stranger, STRANGER_6, 53)
    assert falls(desk, DESK_6, stranger, STRANGER_6, 80)
    assert passes(desk, dodge, stranger, STRANGER_6, 80)  # this is what the guard is for
    guarded = Acting(machine, tmp_path, acting(local(tmp_path, "guard = true", a="lan-a")))
    guarded.add(*unguarded.history)
    assert falls(desk, dodge, stranger, STRANGER_6, 80)
    assert falls(desk, dodge, stranger, STRANGER_6, 53)
    assert falls(desk, DESK_6, stranger, STRANGER_6, 80)
    assert passes(desk, DESK_6, stranger, STRANGER_6, 53)
    assert counted(machine, "not held in a") >= 2


# --- ICMPv6

PACKET_TOO_BIG, ECHO_REQUEST = 2, 128


def icmp(
    source: Namespace, sender: str, destination: Namespace, receiver: str, kind: int, *, within: float = 2.0
) -> bool:
    """Whether an ICMPv6 message arrives, about a connection that nobody has."""
    with destination.entered():
        hearing = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    with source.entered():
        saying = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    with hearing, saying:
        hearing.settimeout(0.02)
        saying.bind((sender, 0))
        end = time.monotonic() + within
        while time.monotonic() < end:
            saying.sendto(struct.pack("!BBHI", kind, 0, 0, 1280) + bytes(48), (receiver, 0))
            with contextlib.suppress(TimeoutError):
                while time.monotonic() < end:
                    if hearing.recv(2_000)[0] == kind:
                        return True
    return False


def test_icmpv6_errors_pass_and_echo_does_where_a_rule_lets_it(
    machine: Machine, hosts: dict[str, Namespace], tmp_path: Path
) -> None:
    desk, _, stranger = hosts.values()
    firewall = on(machine, tmp_path)
    firewall.add(planned(*GROUPS, RuleDefined(rule=CALLS)), *LEASES)
    assert icmp(stranger, STRANGER_6, desk, DESK_6, PACKET_TOO_BIG)
    assert not icmp(stranger, STRANGER_6, desk, DESK_6, ECHO_REQUEST, within=0.3)
    firewall.add(planned(RuleDefined(rule=Rule(name="ping", direction="ingress", group="sales", protocol="icmp"))))
    assert icmp(stranger, STRANGER_6, desk, DESK_6, ECHO_REQUEST)


# --- delegated prefixes


def test_a_delegated_prefix_joins_its_group_and_leaves_it_and_an_address_in_it_has_its_own(
    machine: Machine, hosts: dict[str, Namespace], tmp_path: Path
) -> None:
    desk, phone, stranger = hosts.values()
    behind, guest = "2001:db8:2:17::1", "2001:db8:2:17:701::5"
    desk.ip([f"address add {address}/128 dev eth0 nodad" for address in (behind, guest)])
    machine.namespace.ip([f"route add 2001:db8:2:10::/60 via {DESK_6}"])
    blocks = Delegation(name="blocks", subnet="a", prefix=parse_prefix("2001:db8:2::/56"), length=60)
    firewall = on(machine, tmp_path)
    firewall.add(planned(*GROUPS, DelegationDefined(delegation=blocks), RuleDefined(rule=CALLS)), *LEASES)
    assert passes(stranger, STRANGER_6, desk, behind)  # it belongs to nobody yet
    firewall.add(ledger(delegated(DESK, "2001:db8:2:10::/60"), subnet="a"))
    assert falls(stranger, STRANGER_6, desk, behind)
    assert passes(phone, PHONE_6, desk, behind)
    assert len(rules(machine, "voip-to-sales")) == 1
    firewall.add(
        planned(pool("six-vm", "2001:db8:2:17::/64")),
        ledger(leased(bytes([0x1F]) * 16, guest, group=VOIP), subnet="vms"),
    )
    assert passes(stranger, STRANGER_6, desk, guest)  # whose group has no rules
    firewall.add(ledger(returned(DESK, "2001:db8:2:10::/60"), subnet="a"))
    assert passes(stranger, STRANGER_6, desk, behind)
    assert "sales-6/60" not in machine.sets()


# --- what is foreign, and what is not ours any more


def test_a_rule_that_is_withdrawn_leaves_nothing_but_the_sets(
    machine: Machine, hosts: dict[str, Namespace], tmp_path: Path
) -> None:
    desk, _, stranger = hosts.values()
    machine.nft(
        "table inet other { chain forward { type filter hook forward priority 5; policy accept; counter\n } \n }"
    )
    firewall = on(machine, tmp_path)
    firewall.add(planned(*GROUPS, RuleDefined(rule=CALLS)), *LEASES)
    assert falls(stranger, STRANGER_6, desk, DESK_6)
    firewall.add(planned(RuleWithdrawn(name="voip-to-sales")))
    assert passes(stranger, STRANGER_6, desk, DESK_6)
    found = [entry for entry in machine.listed() if "chain" in entry or "rule" in entry]
    assert {next(iter(entry.values()))["table"] for entry in found} == {"other"}


def test_a_rule_that_somebody_changes_under_its_comment_is_put_right(
    machine: Machine, hosts: dict[str, Namespace], tmp_path: Path
) -> None:
    desk, phone, stranger = hosts.values()
    firewall = on(machine, tmp_path)
    firewall.add(planned(*GROUPS, RuleDefined(rule=CALLS)), *LEASES)
    for about, text in (("voip-to-sales", "counter drop"), ("nothing else to sales", "counter accept")):
        [rule] = rules(machine, about)
        handle, comment = rule["handle"], rule["comment"]
        machine.nft(f'replace rule inet dnms dnms_in_sales handle {handle} {text} comment "{comment}"')
    assert falls(phone, PHONE_6, desk, DESK_6)
    firewall.add()
    assert passes(phone, PHONE_6, desk, DESK_6)
    assert falls(stranger, STRANGER_6, desk, DESK_6)
    assert len(rules(machine, "voip-to-sales")) == 1


def test_a_chain_of_ours_that_a_rule_of_an_operator_leads_to_is_emptied_and_kept(
    machine: Machine, hosts: dict[str, Namespace], tmp_path: Path
) -> None:
    desk, _, stranger = hosts.values()
    firewall = on(machine, tmp_path)
    firewall.add(planned(*GROUPS, RuleDefined(rule=CALLS)), *LEASES)
    machine.nft("table inet dnms { chain mine {\njump dnms_in_sales\n} \n }")
    firewall.add(planned(RuleWithdrawn(name="voip-to-sales")))
    assert {entry["chain"]["name"] for entry in machine.listed() if "chain" in entry} == {"mine", "dnms_in_sales"}
    assert passes(stranger, STRANGER_6, desk, DESK_6)
    machine.nft("delete chain inet dnms mine")
    firewall.add()
    assert not [entry for entry in machine.listed() if "chain" in entry]


def test_nothing_is_closed_by_a_log_that_is_not_whole(
    machine: Machine, hosts: dict[str, Namespace], tmp_path: Path
) -> None:
    """Who is not folded yet would be kept out: the sets are filled, and the rules wait."""
    desk, _, stranger = hosts.values()
    happened = [planned(*GROUPS, RuleDefined(rule=CALLS)), *LEASES]
    subscriber = acting(local(tmp_path, "guard = true", a="lan-a"))

    async def work() -> None:
        log = copied(await filled(memory_log(), happened))
        log.withheld = frozenset({len(happened)})
        async with running(log, tmp_path, subscriber=subscriber) as runner:
            await until(lambda: runner.counts.added > 0)
            await looks(runner)
            assert passes(stranger, STRANGER_6, desk, DESK_6)
            assert not [entry for entry in machine.listed() if "chain" in entry]
            log.withheld = frozenset()

    machine.run(work)
    assert machine.sets()["sales-6"] == {DESK_6}
    Acting(machine, tmp_path, subscriber).add(*happened)
    assert falls(stranger, STRANGER_6, desk, DESK_6)


# --- kill -9


def wait_until_free(state: Path) -> None:
    """An nft that was about to start when its parent was killed holds the lock until it has."""
    end = time.monotonic() + 10
    while True:
        try:
            with SubscriberState(state, "firewall").own():
                return
        except SubscriberStateError:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_one_that_is_killed_anywhere_ends_equal_to_the_log_the_next_time(
    machine: Machine, hosts: dict[str, Namespace], tmp_path: Path
) -> None:
    chance = random.Random(5)
    states = [
        [planned(*GROUPS, FOUR, RuleDefined(rule=CALLS)), *LEASES, *OLD],
        [planned(RuleDefined(rule=OUT)), ledger(delegated(DESK, "2001:db8:2:10::/60"), subnet="a")],
        [planned(RuleWithdrawn(name=CALLS.name)), ledger(returned(DESK, "2001:db8:2:10::/60"), subnet="a")],
    ]
    subscriber = acting(local(tmp_path, "bridge = true\nguard = true", a="lan-a"))

    async def at_end(length: int, state: Path) -> frozenset[Any]:
        log = await filled(memory_log(), [one for state in states[:length] for one in state])
        await run_once(log, state, subscriber=subscriber)
        world = subscriber.world(Local(site=SITE))
        return frozenset((await world.actual()).ours)

    def child(length: int, state: Path) -> None:
        machine.namespace.enter()
        asyncio.run(at_end(length, state))

    for turn, length in enumerate((1, 2, 3) * 4):
        state = tmp_path / str(turn // 3)  # of a log that is as long at least as the last time
        process = multiprocessing.get_context("fork").Process(target=child, args=(length, state))
        process.start()
        process.join(chance.uniform(0.0, 0.4))
        process.kill()
        process.join()
        wait_until_free(state)
        ours = machine.run(partial(at_end, length, state))
        folding = subscriber.folding(Local(site=SITE))
        for stored in commits([one for state in states[:length] for one in state]):
            folding.take(stored)
        assert ours == folding.wanted()
