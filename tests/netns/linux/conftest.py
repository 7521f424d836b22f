"""A switch and nodes on it, in namespaces that the test makes; what runs in a node runs in a thread that is there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from dnms.linux.namespaces import Bridge, Namespace, private_mounts
from dnms.linux.netlink import Netlink

T = TypeVar("T")

LIMIT = 30.0  # seconds that anything in a node may take
FAST: dict[str, str | int] = {"ipv6.neigh.eth0.retrans_time_ms": 100, "ipv6.conf.eth0.router_solicitation_delay": 0}
"""DAD in 0.1 s instead of 1 to 2."""

RADVD = """
interface net {
  AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime 600;
  prefix 2001:db8:5::/64 { AdvOnLink on; AdvAutonomous on; AdvValidLifetime 600; AdvPreferredLifetime 300; };
};
"""


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")


class Node:
    """A namespace with `eth0` on the switch."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace

    async def inside(
        self,
        work: Callable[[Netlink], Awaitable[T]],
        *,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
        own_mounts: bool = False,
    ) -> T:
        """Run `work` in a thread and an event loop of its own that are in this node."""

        async def limited() -> T:
            async with asyncio.timeout(LIMIT), Netlink() as netlink:
                return await work(netlink)

        def run() -> T:
            self.namespace.enter()
            if own_mounts:
                private_mounts()
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                return runner.run(limited())

        # A thread that was moved is not used again.
        with ThreadPoolExecutor(1) as thread:
            return await asyncio.get_running_loop().run_in_executor(thread, run)

    def ip(self, *lines: str) -> None:
        self.namespace.ip(lines)

    def show(self, *words: str) -> str:
        return self.namespace.run("ip", *words)


class Switch:
    """The link: a bridge in a namespace of its own, where a router can run too."""

    def __init__(self) -> None:
        self.namespace = Namespace.create("switch")
        self.bridge = Bridge.create(self.namespace, "net", addresses=("fe80::1/64", "2001:db8:5::1/64", "192.0.2.1/24"))
        self.nodes: list[Node] = []

    def node(self, name: str, *, up: bool = True, fast: bool = True) -> Node:
        node = Node(Namespace.create(name))
        self.nodes.append(node)
        self.bridge.plug([node.namespace], "eth0")
        if fast:
            node.namespace.set_sysctls(FAST)
        if up:
            node.namespace.set_up("eth0")
        return node

    def close(self) -> None:
        for node in self.nodes:
            node.namespace.close()
        self.namespace.close()


@pytest.fixture
async def switch() -> AsyncIterator[Switch]:
    made = Switch()
    try:
        yield made
    finally:
        made.close()
