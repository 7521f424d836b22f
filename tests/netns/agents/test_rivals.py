"""dhcpcd has every interface of a node, until the agent configures it as the policy says; and again after that."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnms.agents.node import application
from dnms.wire import node_session
from tests.netns.agents.conftest import PLAN, Network
from tests.netns.agents.test_confirm import applied
from tests.netns.agents.test_drift import is_whole
from tests.netns.linux.test_rivals import QUICK
from tests.netns.programs import dhcpcd

CONFIGURE = PLAN.replace("prefixes", 'policy = { rivals = "configure" }\nprefixes', 1)
OTHERS = f"{QUICK}interface other\nnoipv6\n"  # what stands behind the second line is of that interface alone


def has_packet_socket(network: Network) -> bool:
    """Whether a DHCP client asks on the interface: it binds a packet socket to it."""
    index = network.node.run("ip", "-o", "link", "show", "dev", "eth0").partition(":")[0]
    bound = [line.split()[4] for line in network.node.run("cat", "/proc/net/packet").splitlines()[1:]]
    return index in bound


async def test_a_manager_is_configured_and_as_it_was_after_the_release(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_session, "ASK_AGAIN", 0.5)
    monkeypatch.setattr(application, "LETS_GO", 0.5)
    (tmp_path / "proc").symlink_to("/proc")
    (tmp_path / "etc").mkdir()
    configuration = tmp_path / "etc/dhcpcd.conf"
    configuration.write_text(OTHERS)
    network.plan = CONFIGURE
    network.node.ip(["link add name other type veth peer name far", "link set dev other up", "link set dev far up"])
    network.serve()
    with dhcpcd(network.node, tmp_path):
        await network.until(lambda: has_packet_socket(network))
        node = network.live(root=tmp_path)
        await network.until(lambda: bool(applied(network)))
        assert applied(network)[-1].why == "rival-dhcpcd"  # nothing here restarts it
        assert "denyinterfaces eth0\n" in configuration.read_text()
        assert configuration.read_text().endswith(OTHERS)
        assert has_packet_socket(network)
    with dhcpcd(network.node, tmp_path):
        await network.until(lambda: is_whole(network))
        assert not has_packet_socket(network)
        node.stop()
        back = network.give_back(root=tmp_path)
        await network.until(lambda: not back.running)
        assert back.failed is None
        assert configuration.read_text() == OTHERS
    with dhcpcd(network.node, tmp_path):
        await network.until(lambda: has_packet_socket(network))
