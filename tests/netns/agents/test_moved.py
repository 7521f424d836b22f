"""A node that is plugged into another link has that link's addresses, and nothing of the one where it was."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnms.bus.memory import MemoryLog
from dnms.events import codec
from dnms.events.recorded import Event
from dnms.events.seen import SessionOpened
from dnms.kit.clock import SystemClock
from dnms.linux.namespaces import Bridge, Namespace
from tests.netns.agents.conftest import PLAN, Network, configurations
from tests.netns.programs import radvd

SECONDS = 10.0  # some 3 on an idle machine: 2 for the agent of before to answer, and DAD
ROUTER = """interface net {{
  AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvRASrcAddress {{ {0}; }};
  prefix 2001:db8:{1}::/64 {{ }};
}};
"""
OFFICE = ("2001:db8:5:", "192.0.2.")
LAB = ("2001:db8:6:", "198.51.100.")
PLANNED = (
    PLAN
    + """
[[subnet]]
name = "lab"
prefixes = ["2001:db8:6::/64", "198.51.100.0/24"]
gateways = ["fe80::2", "198.51.100.1"]
dns = ["2001:db8:6::53"]
[[pool]]
name = "lab-v6"
subnet = "lab"
range = "2001:db8:6::/64"
[[pool]]
name = "lab-v4"
subnet = "lab"
range = "198.51.100.0/24"
"""
)


class Links(Network):
    """Two links in two machines with a Subnet Agent each; the node's cable is moved from one to the other."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.plan = PLANNED
        self.lab = Namespace.create("lab")
        self.others.append(self.lab)
        bridge = Bridge.create(self.lab, "net", addresses=("fe80::2/64", "198.51.100.1/24"))
        Bridge.create(self.agents, "trunk")  # from which a cable leads to the other link
        bridge.plug([self.agents], "cable")
        self.agents.ip(["link set dev cable master trunk addrgenmode none up"])

    async def begin(self) -> None:
        """Until the node has what the first link gives it."""
        self.serve("a1")
        self.serve("a2", subnet="lab", on=self.lab, log=MemoryLog("s", log_id="lab", now=SystemClock().now))
        self.live()
        await self.until(lambda: self.has(*OFFICE))
        await self.until((self.state / "assignment.eth0").exists)

    def move(self, *, to: str = "trunk", carrier: bool) -> None:
        """Put the node's cable into another bridge, with its carrier going away meanwhile or not."""
        port = "link set dev net-1"
        self.agents.ip([f"{port} down", f"{port} master {to}", f"{port} up"] if carrier else [f"{port} master {to}"])

    def is_in(self, link: tuple[str, ...], *, not_in: tuple[str, ...]) -> bool:
        """Whether it has usable addresses of this link, and no address and no route of the other."""
        shown = [self.node.run("ip", *words) for words in (("-o", "address"), ("-6", "route"), ("route",))]
        servers = (self.path / "resolv.conf").read_text()
        return (
            self.has(*link)
            and link[0] in servers
            and not any(each in text for text in (*shown, servers) for each in not_in)
        )

    async def moved(self, link: tuple[str, ...], *, not_in: tuple[str, ...], within: float) -> None:
        """Wait until it is there, and so many seconds at most."""
        await self.until(lambda: self.is_in(link, not_in=not_in), seconds=within)


@pytest.fixture
def links(tmp_path: Path) -> Iterator[Links]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    made = Links(tmp_path)
    try:
        yield made
    finally:
        made.close()


def sessions(links: Links) -> list[Event]:
    """Those that the first link's agent ever had."""
    events = (event for record in links.log.records for event in codec.decode(record.data).events)
    return [event for event in events if isinstance(event, SessionOpened)]


@pytest.mark.parametrize("alike", [False, True])
async def test_a_node_whose_carrier_was_away_is_in_its_new_link_within_seconds(links: Links, alike: bool) -> None:
    if alike:  # as where every link has its gateway, and so its agent, at fe80::1
        links.lab.ip(["address delete fe80::2/64 dev net", "address add fe80::1/64 dev net nodad"])
    await links.begin()
    for _ in range(3):  # at the second time the agents know the node, and ask nothing of the link before they answer
        links.move(carrier=True)
        await links.moved(LAB, not_in=OFFICE, within=SECONDS)
        links.move(to="net", carrier=True)
        await links.moved(OFFICE, not_in=LAB, within=SECONDS)


@pytest.mark.parametrize("alike", [False, True])
async def test_a_node_that_hears_another_router_is_in_its_new_link_within_seconds(
    links: Links, tmp_path: Path, alike: bool
) -> None:
    router = ROUTER.format("fe80::2", 6)
    if alike:
        links.lab.ip(["address delete fe80::2/64 dev net", "address add fe80::1/64 dev net nodad"])
        router = ROUTER.format("fe80::1", 6)
    await links.begin()
    office, lab = tmp_path / "office", tmp_path / "lab"
    office.mkdir()
    lab.mkdir()
    with radvd(links.agents, office, ROUTER.format("fe80::1", 5)), radvd(links.lab, lab, router):
        await links.until(lambda: bool(configurations(links)[-1].advertisements))
        links.move(carrier=False)
        await links.moved(LAB, not_in=OFFICE, within=SECONDS + 4)  # between two advertisements


async def test_a_node_that_notices_nothing_is_in_its_new_link_when_its_session_is_found_dead(links: Links) -> None:
    links.plan = PLANNED.replace("range =", "preferred = 20\nvalid = 60\nrange =")  # so it is pinged every 3 seconds
    await links.begin()
    links.move(carrier=False)
    await links.moved(LAB, not_in=OFFICE, within=4 * 3 + SECONDS)


async def test_a_carrier_that_was_away_leaves_a_session_whose_agent_answers(links: Links) -> None:
    await links.begin()
    before = len(sessions(links))
    links.agents.ip(["link set dev net-1 down", "link set dev net-1 up"])
    await links.until(lambda: links.is_in(OFFICE, not_in=LAB))
    links.node.ip(["link set dev eth0 mtu 1400"])  # when this is told, what came before it has been seen to
    await links.until(lambda: any(link.mtu == 1400 for link in configurations(links)[-1].links))
    assert len(sessions(links)) == before
