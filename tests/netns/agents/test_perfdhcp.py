"""Kea's perfdhcp and the link of a Subnet Agent: who requests from another server, and who comes through relays."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from dnms.agents.subnet import dhcp4_server, dhcp6_server
from dnms.agents.subnet.dhcp6_heard import heard
from dnms.agents.subnet.dhcp_offers import LASTS
from dnms.events.ip import parse_address
from dnms.events.plan import PlanAdopted
from dnms.linux.namespaces import Bridge, Namespace
from dnms.wire.dhcp4.server import question
from tests.netns import programs, programs4
from tests.netns.agents.conftest import FAST, PLAN, Network
from tests.netns.agents.test_dhcp4 import events, given
from tests.netns.perfdhcp import naming4, naming6, perfdhcp

CLIENTS = 64
POOLS = {4: ("192.0.2.4", "192.0.2.253"), 6: ("2001:db8:5::1:0", f"2001:db8:5::1:{CLIENTS - 1:x}")}
"""First and last of the addresses; of those that DHCPv6 gives, which keeps no offers, there is just one for each."""

FEW = 16
"""Addresses of a pool of which a client is offered the last one too, whatever is offered to others (`TRIES`)."""

TO = {4: "192.0.2.1", 6: "all"}
"""Whom perfdhcp asks."""

SERVER = {4: parse_address("192.0.2.1")[12:], 6: b"\x00\x04" + b"a1".ljust(16, b"\0")}
ANOTHER = {4: parse_address("192.0.2.3")[12:], 6: b"\x00\x04" + b"a2".ljust(16, b"\0")}
"""Ids of servers, of one length."""

RELAYED: dict[int, tuple[str, ...]] = {4: (), 6: ("-A", "1")}
"""How perfdhcp is a relay: of DHCPv4, always; of DHCPv6, by a level of relays, of which it has this one alone."""

FIRST = {4: "offer", 6: "solicit"}
"""How the first half of an exchange is counted."""


def plan(pool4: tuple[str, str] = POOLS[4]) -> str:
    """With these addresses for DHCPv4."""
    pools = (("2001:db8:5::/64", POOLS[6]), ("192.0.2.0/24", pool4))
    whole = PLAN
    for prefix, (first, last) in pools:
        whole = whole.replace(f'range = "{prefix}"', f'range = "{first}-{last}"')
    return whole


def server(network: Network, family: int) -> dhcp4_server.Dhcp4Server | dhcp6_server.Dhcp6Server:
    found = network.dhcp4 if family == 4 else network.dhcp6
    assert found is not None
    return found


def naming(root: Path, family: int, id_: bytes) -> tuple[str, ...]:
    """Words by which the clients of perfdhcp request from the server of this id, whoever has offered."""
    return naming4(root, id_, relay=parse_address("192.0.2.2")[12:]) if family == 4 else naming6(root, id_)


async def until_ready(network: Network, *ends: tuple[Namespace, str]) -> None:
    """Wait until the agent has the plan, and these can send from the link-local addresses of these interfaces."""
    await network.until(lambda: events(network, PlanAdopted) != [])
    for machine, interface in ends:
        shown = ("ip", "-6", "-o", "address", "show", "dev", interface, "scope", "link", "-tentative")
        await network.until(lambda machine=machine, shown=shown: machine.run(*shown) != "")  # type: ignore[misc]


async def are_served(network: Network, client: Namespace, root: Path, family: int, *words: str, clients: int) -> None:
    """See so many new clients get an address each, as the log has it, and nobody another's."""
    with perfdhcp(client, root, *words, family=family, clients=clients, to=TO[family]) as load:
        await network.until(lambda: load.is_over, seconds=60)
        told = load.told()
    assert (told.sent, told.received) == ((clients, clients), (clients, clients))
    has = given(network)
    assert sorted(told.addresses[1]) == sorted(has)
    assert len(set(has)) == clients


@pytest.fixture
def served(network: Network) -> Network:
    """A link whose agent lets so many come from one machine."""
    network.plan, network.has_dhcp4, network.has_dhcp6, network.new_nodes = plan(), True, True, 100 * CLIENTS
    return network


@pytest.fixture
def client(served: Network) -> Namespace:
    """A machine on that link; what perfdhcp sends of DHCPv4 has come through a relay, which it is."""
    machine = served.another("client")
    machine.ip(["address add 192.0.2.2/24 dev eth0"])
    return machine


@pytest.mark.parametrize("family", [4, 6])
async def test_who_requests_from_another_server_is_not_answered_and_given_nothing(
    served: Network, client: Namespace, tmp_path: Path, family: int
) -> None:
    served.serve()
    await until_ready(served, (client, "eth0"))
    asked = server(served, family)
    words = naming(tmp_path, family, ANOTHER[family])
    with perfdhcp(client, tmp_path, *words, family=family, clients=CLIENTS, to=TO[family]) as load:
        await served.until(lambda: asked.dropped.total() + asked.answered.total() >= 2 * CLIENTS, seconds=60)
        told = load.told()
    assert (told.sent, told.received) == ((CLIENTS, CLIENTS), (CLIENTS, 0))
    assert asked.dropped == {"server-id": CLIENTS}
    assert asked.answered == {FIRST[family]: CLIENTS}
    assert given(served) == []
    await are_served(served, client, tmp_path, family, clients=CLIENTS)


async def test_what_they_were_offered_by_dhcpv4_is_nobody_s_for_a_minute_and_then_anybody_s(
    served: Network, client: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = [f"192.0.2.{128 + number}" for number in range(FEW)]
    served.plan = plan((pool[0], pool[-1]))
    agent = served.serve()
    await until_ready(served, (client, "eth0"))
    asked = server(served, 4)
    words = naming(tmp_path, 4, ANOTHER[4])
    with perfdhcp(client, tmp_path, *words, family=4, clients=CLIENTS, to=TO[4]) as load:
        await served.until(lambda: asked.dropped.total() >= CLIENTS, seconds=60)
        told = load.told()
    assert sorted(told.addresses[0]) == sorted(pool)  # the first ones were offered all, and the others nothing
    assert asked.dropped == {"server-id": FEW, "silent": CLIENTS - FEW}
    with perfdhcp(client, tmp_path, family=4, clients=FEW, to=TO[4]) as load:
        await served.until(lambda: asked.dropped["silent"] >= CLIENTS, seconds=60)
        assert load.told().received == (0, 0)
    monkeypatch.setattr(agent.loop, "time", lambda: monotonic() + LASTS)
    await are_served(served, client, tmp_path, 4, clients=FEW)
    assert sorted(given(served)) == sorted(pool)


@pytest.mark.parametrize("family", [4, 6])
async def test_who_requests_just_so_from_the_agent_is_answered(
    served: Network, client: Namespace, tmp_path: Path, family: int
) -> None:
    """But for the id, all that is sent above is as a server wants it."""
    served.serve()
    await until_ready(served, (client, "eth0"))
    words = naming(tmp_path, family, SERVER[family])
    await are_served(served, client, tmp_path, family, *words, clients=CLIENTS)


@pytest.fixture
def came_through(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How many messages came to the agents through how many relays."""
    seen = Counter[int]()

    def of_6(*given: Any, **named: Any) -> Any:
        found = heard(*given, **named)
        seen[len(found.relays)] += 1
        return found

    def of_4(message: Any, **named: Any) -> Any:
        seen[message.hops] += 1
        return question(message, **named)

    monkeypatch.setattr(dhcp6_server, "heard", of_6)
    monkeypatch.setattr(dhcp4_server, "question", of_4)
    return seen


def chain(network: Network, number: int) -> tuple[list[Namespace], Namespace]:
    """So many machines in a row, each with eth0 towards the agent and down0 away from it; and a client behind the last.

    The agent's subnet is where the client is, and no other link.
    """
    above = network.another("relay-0" if number else "client")
    machines = [above]
    for each in range(number):
        at, is_last = 4 * each, each == number - 1
        own = ("192.0.2.1/24", "2001:db8:5::1/64") if is_last else (f"198.51.100.{at + 5}/30", f"2001:db8:{each}::1/64")
        below = Namespace.create("client" if is_last else f"relay-{each + 1}")
        network.others.append(below)
        Bridge.create(above, "down0", addresses=own).plug([below], "eth0")
        below.set_sysctls(FAST)
        below.set_up("eth0")
        above.set_sysctls({"ipv4.ip_forward": 1})
        above.ip([f"address add 198.51.100.{at + 2}/30 dev eth0", f"route add default via 198.51.100.{at + 1}"])
        if not is_last:
            above.ip([f"route add 192.0.2.0/24 via 198.51.100.{at + 6}"])
            below.ip([f"address add 2001:db8:{each}::2/64 dev eth0 nodad"])
        machines.append(below)
        above = below
    if number:
        network.agents.ip(
            [
                "address del 192.0.2.1/24 dev net",
                "address add 198.51.100.1/30 dev net",
                "route add 192.0.2.0/24 via 198.51.100.2",
            ]
        )
    *relays, client = machines
    client.ip(["address add 192.0.2.2/24 dev eth0", *(["route add default via 192.0.2.1"] if number else [])])
    return relays, client


@pytest.mark.parametrize(("family", "relays"), [(4, 0), (4, 1), (4, 2), (6, 0), (6, 1), (6, 2), (6, 3)])
async def test_who_comes_through_relays_is_answered(
    served: Network, tmp_path: Path, came_through: Counter[int], family: int, relays: int
) -> None:
    """perfdhcp is a relay itself, behind ISC's."""
    machines, client = chain(served, relays)
    served.serve()
    interfaces = [(machine, name) for machine in machines for name in ("eth0", "down0")]
    await until_ready(served, (client, "eth0"), *interfaces)
    with ExitStack() as running:
        for number, machine in enumerate(machines):
            root = tmp_path / f"relay-{number}"
            root.mkdir()
            if family == 4:
                words = ("-id", "down0", "-iu", "eth0", f"198.51.100.{4 * number + 1}")
                running.enter_context(programs4.dhcrelay(machine, root, *words))
                says, log = "Sending on   Socket/fallback", root / "client.log"
            else:
                # By multicast it can ask servers alone: it hears what it says to relays itself, and relays that too.
                above = f"2001:db8:{number - 1}::1%eth0" if number else "eth0"
                running.enter_context(programs.dhcrelay(machine, root, "-l", "down0", "-u", above))
                says, log = "Sending on   Socket/down0\n", root / "dhcrelay.log"
            await served.until(lambda: says in log.read_text())  # noqa: B023  # perfdhcp says nothing twice
        await are_served(served, client, tmp_path, family, *RELAYED[family], clients=CLIENTS)
    assert came_through == {relays + 1: 2 * CLIENTS}
