"""The source guard, on a router and on a bridge, and rules between the ports of a bridge."""

from __future__ import annotations

import time
from pathlib import Path

from dnms.events.node import NodeIdentified
from dnms.events.recorded import Personal
from dnms.events.rule import RuleDefined
from dnms.linux.namespaces import Namespace
from dnms.subscribers.firewall.examples import (
    CALLS,
    DESK,
    PHONE,
    SALES,
    VOIP,
    delegated,
    leased,
    ledger,
    named,
    pool,
    returned,
)
from dnms.subscribers.subscriber import Happened
from tests.netns.subscribers.acting import (
    FOUR,
    GROUPS,
    LEASES,
    OLD,
    local,
    on,
    planned,
    rules,
)
from tests.netns.subscribers.conftest import Machine
from tests.netns.subscribers.network import (
    DESK_4,
    DESK_6,
    HARDWARE,
    STRANGER_4,
    STRANGER_6,
    falls,
    passes,
)


def known(client: bytes, name: str, hardware: str) -> Happened:
    """A node says its name and its hardware address."""
    event = NodeIdentified(
        client=client,
        duid=Personal(client),
        name=Personal(name),
        hardware=(Personal(bytes.fromhex(hardware.replace(":", ""))),),
    )
    return Happened(f"node.{client[0]:02x}", (event,))


def test_the_guard_of_a_routed_link_lets_through_what_is_held_and_from_whom(
    machine: Machine, hosts: dict[str, Namespace], tmp_path: Path
) -> None:
    desk, _, stranger = hosts.values()
    spoofed = STRANGER_6.replace("::1", "::2")
    desk.ip([f"address add {address}/128 dev eth0 nodad" for address in (spoofed, "2001:db8:2:17::1")])
    firewall = on(machine, tmp_path, local(tmp_path, "guard = true", a="lan-a"))
    firewall.add(planned(*GROUPS, FOUR), *LEASES, *OLD)
    assert passes(desk, DESK_6, stranger, STRANGER_6)
    assert passes(desk, DESK_4, stranger, STRANGER_4)
    assert falls(desk, spoofed, stranger, STRANGER_6)
    firewall.add(known(DESK, "desk-1", HARDWARE["desk"]))
    assert machine.sets()["held_a-6"] == set()
    assert passes(desk, DESK_6, stranger, STRANGER_6)
    desk.ip(["link set eth0 address 02:00:00:00:00:ff"])
    assert falls(desk, DESK_6, stranger, STRANGER_6)  # another machine with its address
    desk.ip([f"link set eth0 address {HARDWARE['desk']}"])
    assert falls(desk, "2001:db8:2:17::1", stranger, STRANGER_6)
    firewall.add(ledger(delegated(DESK, "2001:db8:2:10::/60"), subnet="a"))
    assert passes(desk, "2001:db8:2:17::1", stranger, STRANGER_6)
    firewall.add(ledger(returned(DESK, "2001:db8:2:10::/60"), subnet="a"))
    assert falls(desk, "2001:db8:2:17::1", stranger, STRANGER_6)


def test_a_host_with_a_64_of_its_own_sends_from_all_of_it_and_from_nowhere_else(
    machine: Machine, hosts: dict[str, Namespace], tmp_path: Path
) -> None:
    desk, _, stranger = hosts.values()
    own, another, outside = "2001:db8:3:7::1", "2001:db8:3:7:1234::5", "2001:db8:3:8::1"
    desk.ip([f"address add {address}/128 dev eth0 nodad" for address in (own, another, outside)])
    firewall = on(machine, tmp_path, local(tmp_path, "guard = true", a="lan-a"))
    firewall.add(
        planned(*GROUPS, pool("own", "2001:db8:3::/48", prefix_per_host=True)),
        ledger(leased(DESK, own, pool="own"), subnet="a"),
    )
    assert passes(desk, own, stranger, STRANGER_6)
    assert passes(desk, another, stranger, STRANGER_6)
    assert falls(desk, outside, stranger, STRANGER_6)


def test_the_guard_of_a_bridge_lets_dad_through_and_nothing_that_is_not_held(
    machine: Machine, guests: dict[str, Namespace], tmp_path: Path
) -> None:
    desk, phone, _ = guests.values()
    own, other, spoofed = "2001:db8:1:1:5a1e::1", "2001:db8:1:1:701::2", "2001:db8:1:1:5a1e::bad"
    desk.ip([f"address add {spoofed}/64 dev eth0 nodad"])
    text = 'bridge = true\nguard = { office = ["br0-*"] }\n'
    firewall = on(machine, tmp_path, local(tmp_path, text))
    firewall.add(
        planned(*GROUPS),
        named(DESK, "desk-1"),
        ledger(leased(DESK, own, group=SALES)),
        ledger(leased(PHONE, other, group=VOIP)),
    )
    assert passes(desk, own, phone, other)
    assert falls(desk, spoofed, phone, other)
    # An address that another one has is found to be a duplicate, and one that nobody has is not.
    desk.ip([f"address add {other}/64 dev eth0", "address add 2001:db8:1:1::77/64 dev eth0"])
    assert flag(desk, other, "dadfailed")
    assert not flag(desk, "2001:db8:1:1::77", "dadfailed")


def flag(host: Namespace, address: str, name: str) -> bool:
    """Whether an address has a flag, once the kernel has decided on it."""
    end = time.monotonic() + 10
    while True:
        said = host.run("ip", "-6", "address", "show", "dev", "eth0", "to", address)
        if "tentative" not in said or "dadfailed" in said:
            return name in said
        assert time.monotonic() < end
        time.sleep(0.02)


def test_rules_hold_between_ports_of_a_bridge(machine: Machine, guests: dict[str, Namespace], tmp_path: Path) -> None:
    desk, phone, stranger = guests.values()
    own, other, third = "2001:db8:1:1:5a1e::1", "2001:db8:1:1:701::2", "2001:db8:1:1:0::3"
    firewall = on(machine, tmp_path, local(tmp_path, "bridge = true"))
    firewall.add(
        planned(*GROUPS, RuleDefined(rule=CALLS)),
        named(DESK, "desk-1"),
        named(PHONE, "phone-1"),
        ledger(leased(DESK, own, group=SALES)),
        ledger(leased(PHONE, other, group=VOIP)),
    )
    assert passes(phone, other, desk, own)
    assert falls(phone, other, desk, own, 80)
    assert falls(stranger, third, desk, own)
    assert passes(desk, own, stranger, third)
    assert {each["family"] for each in rules(machine, "voip-to-sales")} == {"inet", "bridge"}
