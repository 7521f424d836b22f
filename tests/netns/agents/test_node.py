"""A Node Agent against what goes wrong around it: links, agents, disks."""

from __future__ import annotations

import secrets
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from dnms.agents.node import NodeAgentError, identity
from dnms.bus.reading import decode
from dnms.disk.node_state import NodeStateDirectory
from dnms.disk.site import Site
from dnms.domain.aggregate import Fold
from dnms.domain.ledger import Ledger
from dnms.events import codec, subjects
from dnms.events.ip import format_address
from dnms.events.seen import ConfigurationApplied
from tests.netns.agents.conftest import Network, configurations

DNMS = Path(sys.executable).with_name("dnms")
BOTH = ("2001:db8:5:", "192.0.2.")


def has_lived(network: Network) -> None:
    """The node was here before: it has its identity."""
    directory = NodeStateDirectory(network.state)
    directory.identity(machine=identity.machine(), hardware=(), draw=secrets.token_bytes)


def reported(network: Network) -> list[str]:
    """The outcomes that the log has of what the node applied."""
    events = (event for record in network.log.records for event in codec.decode(record.data).events)
    return [item.outcome for event in events if isinstance(event, ConfigurationApplied) for item in event.items]


def registered(network: Network) -> list[list[str]]:
    """The addresses with their origins of every configuration that the log has."""
    return [
        [word for held in snapshot.addresses for word in (format_address(held.address), held.origin)]
        for snapshot in configurations(network)
    ]


async def test_a_node_is_configured_and_leaves_nothing_running(network: Network) -> None:
    network.serve()
    node = network.live()
    await network.until(lambda: network.has(*BOTH))
    await network.until(lambda: reported(network) == ["usable", "usable"])
    node.stop()
    assert node.failed is None
    assert not node.left
    assert network.has(*BOTH)  # it keeps what it has


async def test_what_was_there_only_until_a_repair_is_in_the_log(network: Network) -> None:
    """Who asks who had an address finds it, though no look at the interface was between its coming and its going."""
    network.serve()
    network.live()
    await network.until(lambda: reported(network) == ["usable", "usable"])
    await network.until(lambda: registered(network)[-1].count("managed") == 2)
    shown = network.node.run("ip", "-o", "-6", "address", "show", "dev", "eth0", "scope", "global")
    own = shown.split("inet6 ")[1].split()[0]
    for stray in ("2001:db8:5::bad:1", "2001:db8:5::bad:2"):
        network.node.ip([f"address add {stray}/64 dev eth0 nodad", f"address delete {own} dev eth0"])
        await network.until(lambda: "bad" not in network.node.run("ip", "-o", "-6", "address") and network.has(*BOTH))
        await network.until(partial(was_registered, network, stray))
        await network.until(lambda: "bad" not in " ".join(registered(network)[-1]))


def was_registered(network: Network, address: str) -> bool:
    return any(address in each for each in registered(network))


async def test_an_agent_of_another_site_that_would_be_chosen_first_is_passed_over(
    network: Network, tmp_path: Path
) -> None:
    other = Site.create(tmp_path / "other", "s")
    network.serve("a1")
    await network.until(lambda: bool(network.log.records))
    network.serve("evil", site=other, preference=255)
    network.live()
    await network.until(lambda: network.has(*BOTH))


async def test_a_link_that_is_down_at_the_start_is_waited_for(network: Network) -> None:
    network.node.ip(["link set dev eth0 down"])
    node = network.live()
    network.serve()
    await network.until(lambda: bool(network.log.records))
    assert node.running
    network.node.set_up("eth0")
    await network.until(lambda: network.has(*BOTH))


async def test_an_interface_that_goes_and_comes_back_is_configured_again(network: Network) -> None:
    network.serve()
    node = network.live()
    await network.until(lambda: network.has(*BOTH))
    network.node.ip(["link delete dev eth0"])
    network.plug()
    await network.until(lambda: network.has(*BOTH))
    assert node.running


async def test_an_interface_that_goes_while_no_agent_is_there_is_no_end(network: Network) -> None:
    node = network.live()
    await network.until((network.state / "identity").exists)
    network.node.ip(["link delete dev eth0"])
    network.plug()
    network.serve()
    await network.until(lambda: network.has(*BOTH))
    assert node.running


async def test_no_interface_of_that_name_is_one_clear_line(network: Network) -> None:
    node = network.live(interface="eth7")
    await network.until(lambda: not node.running)
    assert isinstance(node.failed, NodeAgentError)
    assert "there is no interface 'eth7'" in str(node.failed)


async def test_a_damaged_assignment_of_before_is_replaced(network: Network) -> None:
    has_lived(network)
    kept = network.state / "assignment.eth0"
    kept.write_bytes(b"\xc1 nonsense")
    network.serve()
    network.live()
    await network.until(lambda: network.has(*BOTH))
    await network.until(lambda: kept.read_bytes() != b"\xc1 nonsense")


async def test_an_assignment_that_cannot_be_kept_is_applied_and_reported(network: Network) -> None:
    has_lived(network)
    (network.state / "assignment.eth0").mkdir()
    network.serve()
    node = network.live()
    await network.until(lambda: network.has(*BOTH))
    await network.until(lambda: reported(network) == ["usable", "usable"], seconds=5)
    assert node.running


async def test_a_resolv_conf_that_cannot_be_written_ends_nothing(network: Network, tmp_path: Path) -> None:
    network.serve()
    node = network.live(resolv_conf=tmp_path / "nowhere" / "resolv.conf")
    await network.until(lambda: network.has(*BOTH))
    await network.until(lambda: reported(network) == ["usable", "usable"])
    assert node.running


async def test_what_was_kept_is_there_without_an_agent(network: Network) -> None:
    network.serve()
    node = network.live()
    await network.until((network.state / "assignment.eth0").exists)
    node.stop()
    network.agents.ip(["link set dev net down"])
    network.node.ip(["address flush dev eth0 scope global"])
    network.agents.ip(["link set dev net up"])
    assert not network.has(BOTH[0])
    network.live()
    await network.until(lambda: network.has(*BOTH))


async def test_a_machine_that_is_another_one_now_is_another_client(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "SMBIOS_UUID", network.path / "uuid")
    (network.path / "uuid").write_text("one\n")
    network.serve()
    node = network.live()
    await network.until(lambda: network.has(*BOTH))
    node.stop()
    before = (network.state / "identity").read_bytes()
    (network.path / "uuid").write_text("another\n")
    again = network.live()
    await network.until(lambda: (network.state / "identity").read_bytes() != before)
    assert again.running


async def test_a_node_is_given_back_as_it_was(network: Network, tmp_path: Path) -> None:
    servers = network.path / "resolv.conf"
    servers.write_text("nameserver 192.0.2.53\n")
    network.node.ip(["address add 198.51.100.7/24 dev eth0"])
    network.serve()
    node = network.live()
    await network.until(lambda: network.has(*BOTH))
    await network.until(lambda: "192.0.2.53" not in servers.read_text())
    early = network.give_back()
    await network.until(lambda: not early.running)
    assert "another Node Agent runs on eth0: stop it first" in str(early.failed)
    node.stop()
    back = network.give_back()
    await network.until(lambda: not back.running)
    assert back.failed is None
    assert servers.read_text() == "nameserver 192.0.2.53\n"
    shown = network.node.run("ip", "-o", "address", "show", "dev", "eth0")
    assert "198.51.100.7/24" in shown
    assert not network.has("2001:db8:5:")
    assert not network.has("192.0.2.")
    assert NodeStateDirectory(network.state).kept("eth0") is None  # the next start applies nothing by itself


def release(network: Network, *interfaces: str) -> subprocess.CompletedProcess[str]:
    """Run the command on the node to its end."""
    settings = network.settings()
    told: list[str | Path] = ["--state", settings.state, "--resolv-conf", settings.resolv_conf]
    told += ["--root-certificate", settings.root_certificate]
    with network.node.entered():
        return subprocess.run(
            [DNMS, "node-agent", "release", *interfaces, *told],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )


async def test_the_command_releases_what_it_can_of_what_it_is_told(network: Network) -> None:
    network.serve()
    node = network.live()
    await network.until(lambda: network.has(*BOTH))
    node.stop()
    done = release(network, "eth7", "eth0")
    assert (done.returncode, done.stdout) == (3, "")
    assert "dnms: there is no interface 'eth7'" in done.stderr
    assert "proto 200" not in network.node.run("ip", "-6", "route")
    assert not any(network.has(each) for each in BOTH)


def ledger_of(network: Network) -> Ledger:
    """As whoever folds the log has it."""
    fold = Fold(Ledger(network.site.secret))
    for record in network.log.records:
        if record.subject == subjects.ledger("s", "office"):
            fold.take(decode(record))
    return fold.state


@pytest.mark.parametrize("dies", [False, True])
async def test_who_gives_a_node_back_gives_back_its_leases(network: Network, dies: bool) -> None:
    agent = network.serve()
    node = network.live()
    await network.until(lambda: network.has(*BOTH))
    await network.until((network.state / "assignment.eth0").exists)
    node.stop()
    had = set(ledger_of(network).leases)
    assert len(had) == 2
    if dies:
        agent.stop()
    back = network.give_back()
    await network.until(lambda: not back.running)
    assert back.failed is None
    assert not back.left
    assert not network.has("2001:db8:5:")
    assert set(ledger_of(network).leases) == (had if dies else set())
    if not dies:
        network.live()
        await network.until(lambda: network.has(*BOTH))
        assert set(ledger_of(network).leases) == had, "it has them again"
