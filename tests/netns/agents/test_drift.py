"""What somebody else changes on a managed interface is seen in a second, and by the policy left, told or put back."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from dnms.agents.node import work
from dnms.domain import drift
from dnms.events import codec
from dnms.events.seen import ConfigurationContested, ConfigurationDrifted
from dnms.wire import node_session
from tests.netns.agents.conftest import PLAN, Network, configurations
from tests.netns.agents.test_confirm import applied, settled
from tests.netns.agents.test_gateways import defaults
from tests.netns.programs import dhcpcd

REPORT = PLAN.replace("prefixes", 'policy = { drift = "report" }\nprefixes', 1)
LEAVE = PLAN.replace("prefixes", 'policy = { drift = "leave" }\nprefixes', 1)
SEEN_WITHIN = 1.5  # seconds: the second that is promised, and the way to the log on a loaded machine


def told(network: Network) -> list[ConfigurationDrifted | ConfigurationContested]:
    events = (event for record in network.log.records for event in codec.decode(record.data).events)
    return [event for event in events if isinstance(event, ConfigurationDrifted | ConfigurationContested)]


def own(network: Network) -> str:
    """The node's own IPv6 address with its length."""
    shown = network.node.run("ip", "-o", "-6", "address", "show", "dev", "eth0", "scope", "global")
    return next(line for line in shown.splitlines() if "2001:db8:5:" in line).split("inet6 ")[1].split()[0]


def mtu(network: Network) -> str:
    return network.node.run("ip", "link", "show", "dev", "eth0").split("mtu ")[1].split()[0]


def other_servers(network: Network) -> None:
    (network.path / "resolv.conf").write_text("nameserver 192.0.2.99\n")


CHANGES: dict[str, tuple[Callable[[Network], None], str]] = {
    "an address goes": (lambda net: net.node.ip([f"address delete {own(net)} dev eth0"]), "address"),
    "an address comes": (lambda net: net.node.ip(["address add 2001:db8:9::9/64 dev eth0 nodad"]), "address"),
    "an IPv4 address comes": (lambda net: net.node.ip(["address add 203.0.113.9/24 dev eth0"]), "address"),
    "an address is deprecated": (
        lambda net: net.node.ip([f"address change {own(net)} dev eth0 valid_lft 3000 preferred_lft 0"]),
        "address",
    ),
    "the gateway goes": (lambda net: net.node.ip(["route delete default via fe80::1 dev eth0"]), "route"),
    "advertisements are heeded": (lambda net: net.node.set_sysctls({"ipv6.conf.eth0.accept_ra": 2}), "sysctl"),
    "other servers": (other_servers, "resolver"),
}


def is_whole(network: Network) -> bool:
    """Whether the node has what the plan gives it, and nothing else."""
    shown = network.node.run("ip", "-o", "address", "show", "dev", "eth0", "scope", "global")
    lines = [line for line in shown.splitlines() if "tentative" not in line]
    return (
        len(lines) == 2
        and network.has("2001:db8:5:", "192.0.2.")
        and "deprecated" not in shown
        and defaults(network) == ["fe80::1"]
        and "default via 192.0.2.1" in network.node.run("ip", "route")
        and network.node.run("cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra").strip() == "0"
        and "::53" in (network.path / "resolv.conf").read_text()
    )


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_is_seen_in_a_second_and_put_back(network: Network, name: str) -> None:
    network.serve()
    network.live()
    await settled(network)
    await network.until(lambda: is_whole(network))
    change, kind = CHANGES[name]
    change(network)
    await network.until(lambda: bool(told(network)), seconds=SEEN_WITHIN)
    await network.until(lambda: is_whole(network))
    (event,) = told(network)
    assert isinstance(event, ConfigurationDrifted)
    assert event.action == "restored"
    assert kind in {item.kind for item in event.items}


@pytest.mark.parametrize(("plan", "actions"), [(REPORT, ["reported"]), (LEAVE, [])])
async def test_what_is_only_reported_or_left_stays(network: Network, plan: str, actions: list[str]) -> None:
    network.plan = plan
    network.serve()
    network.live()
    await settled(network)
    await network.until(lambda: is_whole(network))
    network.node.ip(["address add 2001:db8:9::9/64 dev eth0 nodad"])
    if actions:
        await network.until(lambda: bool(told(network)), seconds=SEEN_WITHIN)
    network.node.ip(["link set dev eth0 mtu 1400"])  # when this is seen, the other could have been put back
    await network.until(lambda: any(link.mtu == 1400 for link in configurations(network)[-1].links))
    assert "2001:db8:9::9" in network.node.run("ip", "-6", "address", "show", "dev", "eth0")
    assert [event.action for event in told(network) if isinstance(event, ConfigurationDrifted)] == actions


async def test_who_insists_is_named_and_given_in_to_for_a_while(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(work, "LONGEST_PAUSE", 0.1)
    network.serve()
    network.live()
    await settled(network)
    await network.until(lambda: is_whole(network))

    def contested() -> bool:
        network.node.run("sh", "-c", "ip -6 route delete default via fe80::1 dev eth0 || true")
        return isinstance(told(network)[-1], ConfigurationContested) if told(network) else False

    await network.until(contested, seconds=60)
    event = told(network)[-1]
    assert isinstance(event, ConfigurationContested)
    assert (event.restored, event.hold) == (drift.RESTORES, int(drift.HOLD))
    assert [item.kind for item in event.items] == ["route"]
    restored = [event for event in told(network) if isinstance(event, ConfigurationDrifted)]
    assert len(restored) == drift.RESTORES


async def test_an_interface_that_another_program_manages_is_not_taken_over_until_it_leaves(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_session, "ASK_AGAIN", 0.5)
    network.serve()
    with dhcpcd(network.node, network.path, "eth0"):
        await network.until(
            lambda: "dhcpcd" in network.node.run("sh", "-c", "cat /proc/[0-9]*/comm 2>/dev/null || true")
        )
        network.live()
        await network.until(lambda: bool(applied(network)))
        assert applied(network)[-1].why == "rival-dhcpcd"
        assert {item.outcome for item in applied(network)[-1].items} == {"refused"}
        assert "proto 200" not in network.node.run("ip", "-6", "route")
    await network.until(lambda: is_whole(network))


async def test_random_changes_end_at_what_is_wanted_or_at_the_limit(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 of them, some together, by somebody who never rests; what they gave up is named."""
    monkeypatch.setattr(work, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(work, "LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(drift, "RESTORES", 1_000)
    network.serve()
    network.live()
    await settled(network)
    await network.until(lambda: is_whole(network))
    chance = random.Random(7)
    made = 0
    while made < 500:
        for _ in range(chance.randint(1, 12)):
            change, _ = CHANGES[chance.choice(list(CHANGES))]
            try:
                change(network)
            except Exception:  # it is gone already, or there already
                continue
            made += 1
        if chance.random() < 0.1:
            await network.until(lambda: is_whole(network), seconds=30)
    await network.until(lambda: is_whole(network), seconds=30)
    assert told(network)
