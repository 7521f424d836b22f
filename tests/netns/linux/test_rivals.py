"""dhcpcd for all interfaces of a machine lets go of one as our advice says, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from dnms.linux.netlink import Netlink
from dnms.linux.rivals import Rival, rivals
from tests.netns.linux.conftest import Node, Switch
from tests.netns.programs import dhcpcd

QUICK = "nodev\nnoipv4ll\n"  # nothing here tells udev of new interfaces


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # of another namespace
            await asyncio.sleep(0.1)


def asked_on(node: Node) -> set[str]:
    """The interfaces on which dhcpcd asks for an address: it binds a packet socket to each."""
    bound = {line.split()[4] for line in node.namespace.run("cat", "/proc/net/packet").splitlines()[1:]}
    shown = (line.split(": ") for line in node.show("-o", "link").splitlines())
    return {name.partition("@")[0] for index, name, *_ in shown if index in bound}


async def test_a_manager_lets_go_when_it_is_restarted_with_the_interface_denied(switch: Switch, tmp_path: Path) -> None:
    node = switch.node("node")
    node.ip("link add other type veth peer name far", "link set other up", "link set far up")
    (tmp_path / "proc").symlink_to("/proc")
    (tmp_path / "etc").mkdir()
    configuration = tmp_path / "etc/dhcpcd.conf"
    configuration.write_text(QUICK)

    async def look(netlink: Netlink) -> tuple[Rival, ...]:
        return rivals("eth0", (await netlink.link("eth0")).index, root=tmp_path)

    with dhcpcd(node.namespace, tmp_path):
        await until(lambda: asked_on(node) >= {"eth0", "other"})
        (rival,) = await node.inside(look)
        assert (rival.name, "denyinterfaces eth0" in rival.advice) == ("dhcpcd", True)
        configuration.write_text(f"{QUICK}denyinterfaces eth0\n")
        assert [each.name for each in await node.inside(look)] == ["dhcpcd"]
        assert "eth0" in asked_on(node)
    with dhcpcd(node.namespace, tmp_path):
        await until(lambda: asked_on(node) >= {"other", "far"})
        assert "eth0" not in asked_on(node)
        assert await node.inside(look) == ()
