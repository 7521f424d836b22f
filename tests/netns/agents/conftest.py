"""One machine's network, apart from this one's; and a link with both agents on it."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from dnms.agents import tls
from dnms.agents.node import NodeSettings, give_back
from dnms.agents.node import run as run_node
from dnms.agents.subnet.agent import Beside, _serve
from dnms.agents.subnet.announcing import Announcing
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.claims import Claims
from dnms.agents.subnet.dhcp4_server import Dhcp4Server
from dnms.agents.subnet.dhcp6_server import Dhcp6Server
from dnms.agents.subnet.linux import LinuxLink
from dnms.agents.subnet.newcomers import NEW_AT_ONCE, Newcomers
from dnms.agents.subnet.seeing import Seeing
from dnms.agents.subnet.served import Introduction
from dnms.agents.subnet.sessions import Sessions
from dnms.bus.committer import Committer
from dnms.bus.memory import MemoryLog
from dnms.disk.site import Site
from dnms.domain.aggregate import Fold
from dnms.domain.configured import changed
from dnms.domain.document import from_toml
from dnms.domain.plan import PlanState
from dnms.events import codec, subjects
from dnms.events.configuration import Snapshot
from dnms.events.seen import ConfigurationChanged, ConfigurationRegistered
from dnms.kit.clock import SystemClock
from dnms.linux.namespaces import Bridge, Namespace, private_mounts
from dnms.wire.messages import Offer

FAST: dict[str, str | int] = {"ipv6.neigh.eth0.retrans_time_ms": 100, "ipv6.conf.eth0.router_solicitation_delay": 0}
"""DAD in 0.1 s instead of 1 to 2."""

PLAN = """
[site]
name = "s"
[[subnet]]
name = "office"
prefixes = ["2001:db8:5::/64", "192.0.2.0/24"]
gateways = ["fe80::1", "192.0.2.1"]
dns = ["2001:db8:5::53"]
[[pool]]
name = "office-v6"
subnet = "office"
range = "2001:db8:5::/64"
[[pool]]
name = "office-v4"
subnet = "office"
range = "192.0.2.0/24"
"""


@pytest.fixture
def machine() -> Iterator[Namespace]:
    """A namespace with an interface `eth0` that has a link-local address and on which this machine hears itself."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    with Namespace.create("machine") as namespace:
        namespace.ip(
            [
                "link add name eth0 type veth peer name cable",
                "link set dev cable addrgenmode none up",
                "link set dev eth0 addrgenmode none up",
                "address add fe80::5/64 dev eth0 nodad",
            ]
        )
        yield namespace


class Thread:
    """Runs one coroutine in a thread and an event loop of its own, inside a namespace."""

    def __init__(self, namespace: Namespace, work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
        self.loop = asyncio.new_event_loop()
        self.stopping = asyncio.Event()
        self.failed: BaseException | None = None
        self.left: list[str] = []  # tasks that the coroutine has not ended
        self._thread = threading.Thread(target=self._run, args=(namespace, work))
        self._thread.start()

    def _run(self, namespace: Namespace, work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
        async def whole() -> None:
            await work(self.stopping)
            self.left = [str(task) for task in asyncio.all_tasks() - {asyncio.current_task()}]

        namespace.enter()
        try:
            with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
                runner.run(whole())
        except BaseException as error:  # the test looks at it
            self.failed = error

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Tell it to end, and wait for that."""
        if self.running:
            self.loop.call_soon_threadsafe(self.stopping.set)
        self._thread.join(20)
        assert not self.running


class Mounted:
    """A Node Agent's machine, whose files it alone sees."""

    def __init__(self) -> None:
        self.namespaces = ""
        self.thread: Thread | None = None
        self.left = threading.Event()  # it has given back
        self.looked = threading.Event()  # nobody wants to see more of it

    def run(self, *words: str) -> str:
        """What a command prints there."""
        command = ("nsenter", f"--mount={self.namespaces}/mnt", f"--net={self.namespaces}/net", *words)
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout

    def leave(self) -> None:
        """Have the agent stopped and all given back, and the machine still there."""
        assert self.thread is not None
        self.thread.loop.call_soon_threadsafe(self.thread.stopping.set)
        assert self.left.wait(20)


class Network:
    """A link with a Subnet Agent on a log in memory, and one node."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.site = Site.create(path / "site", "s")
        self.agents = Namespace.create("agents")
        self.node = Namespace.create("node")
        self.bridge = Bridge.create(self.agents, "net", addresses=("fe80::1/64", "192.0.2.1/24"))
        self.state = path / "state"
        self.plan = PLAN
        self.dhcp6: Dhcp6Server | None = None  # of the newest agent, where it is to have one
        self.has_dhcp6 = False
        self.dhcp4: Dhcp4Server | None = None
        self.has_dhcp4 = False
        self.new_nodes = NEW_AT_ONCE  # of one address, as `--new-nodes` has it
        self.seeing: Seeing | None = None
        self.watches = False
        self.log = MemoryLog("s", log_id="log", now=SystemClock().now)
        self._threads: list[Thread] = []
        self._mounted: list[Mounted] = []
        self.others: list[Namespace] = []
        self.plug()

    def plug(self) -> None:
        """Give the node its interface."""
        self.bridge.plug([self.node], "eth0")
        self.node.set_sysctls(FAST)
        self.node.set_up("eth0")

    def serve(
        self,
        name: str = "a1",
        *,
        site: Site | None = None,
        preference: int = 0,
        subnet: str = "office",
        on: Namespace | None = None,
        log: MemoryLog | None = None,
    ) -> Thread:
        """Start a Subnet Agent, of another site, subnet, machine or log if one is given; a log is of one machine."""
        site, log = site or self.site, log or self.log
        offer = Offer(nonce=bytes(16), site="s", subnet=subnet, agent=name, endpoints=(), preference=preference)

        async def run(stop: asyncio.Event) -> None:
            books = Books(
                log,
                site="s",
                secret=site.secret,
                subnet=subnet,
                agent=name,
                now=SystemClock().now,
                random=secrets.token_bytes,
            )
            link = LinuxLink("net", tls.serving(site.agent_certificate, site.agent_key))
            introduction = Introduction(name, "s", subnet)
            servers: tuple[bytes, ...] = ()
            sessions = Sessions(books, introduction, client_id=site.client_id, claims=Claims(books, link.users))
            if self.has_dhcp6:
                duid = b"\x00\x04" + name.encode().ljust(16, b"\0")
                servers = (site.client_id(duid),)
                self.dhcp6 = Dhcp6Server(
                    books,
                    link,
                    duid=duid,
                    interface="net",
                    client_id=site.client_id,
                    newcomers=Newcomers(self.new_nodes),
                    alarm=sessions.alarm,
                )
            if self.has_dhcp4:
                self.dhcp4 = Dhcp4Server(
                    books,
                    link,
                    client_id=site.client_id,
                    newcomers=Newcomers(self.new_nodes),
                    random=secrets.token_bytes,
                )
            if self.watches:
                self.seeing = Seeing(books, link, client_id=site.client_id)
            async with asyncio.TaskGroup() as tasks:
                if not log.records:
                    await apply_plan(log, self.plan)
                beside: list[Beside] = [each for each in (self.dhcp6, self.dhcp4, self.seeing) if each is not None]
                beside += [Announcing(books, link, servers=servers)] if beside else []
                serving = _serve(link, 0, offer, books, sessions, beside=beside)
                work = [tasks.create_task(books.run()), tasks.create_task(serving)]
                await stop.wait()
                for task in reversed(work):
                    task.cancel()
                    await asyncio.wait((task,))

        return self._start(on or self.agents, run)

    def succeed(self, name: str) -> Thread:
        """Start an agent in the place of one that was stopped, with all that is in the log."""
        log = MemoryLog("s", log_id=self.log.log_id, now=SystemClock().now)  # a log is of one event loop
        log.records, log.keys, log._sequences = self.log.records, self.log.keys, self.log._sequences
        self.log = log
        return self.serve(name)

    def live(self, machine: Namespace | None = None, **settings: Any) -> Thread:
        """Start the Node Agent, or that of another machine."""
        whole = self.settings(**settings)
        return self._start(machine or self.node, lambda stop: run_node(whole, stop=stop))

    def live_on(self, machine: Callable[[Path], AbstractContextManager[object]]) -> Mounted:
        """Start the Node Agent with mounts of its own, on a machine that is made in them; stopped, it gives back."""
        mounted = Mounted()
        self._mounted.append(mounted)
        whole = self.settings(resolv_conf=Path("/etc/resolv.conf"))

        async def work(stop: asyncio.Event) -> None:
            private_mounts()
            with machine(self.path / "packages"):
                mounted.namespaces = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns"
                await run_node(whole, stop=stop)
                await give_back(whole)
                mounted.left.set()
                await asyncio.to_thread(mounted.looked.wait, 20)

        mounted.thread = self._start(self.node, work)
        return mounted

    def another(self, name: str) -> Namespace:
        """Another machine on the link."""
        machine = Namespace.create(name)
        self.others.append(machine)
        self.bridge.plug([machine], "eth0")
        machine.set_sysctls(FAST)
        machine.set_up("eth0")
        return machine

    def settings(self, **settings: Any) -> NodeSettings:
        """What the Node Agent is told."""
        (self.path / "resolv.conf").touch()
        return NodeSettings(
            **{
                "interface": "eth0",
                "state": self.state,
                "root_certificate": self.site.root_certificate,
                "name": "web-1",
                "resolv_conf": self.path / "resolv.conf",
                **settings,
            }
        )

    def give_back(self, **settings: Any) -> Thread:
        """Take DNMS off the node."""
        whole = self.settings(**settings)
        return self._start(self.node, lambda _: give_back(whole))

    def has(self, *prefixes: str) -> bool:
        """Whether the node's interface has a usable address in each."""
        shown = self.node.run("ip", "-o", "address", "show", "up")
        lines = [line for line in shown.splitlines() if "tentative" not in line and " eth0 " in line]
        return all(any(f" {prefix}" in line for line in lines) for prefix in prefixes)

    async def until(self, condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110  # of another namespace
                await asyncio.sleep(0.05)

    def _start(self, namespace: Namespace, work: Callable[[asyncio.Event], Awaitable[None]]) -> Thread:
        thread = Thread(namespace, work)
        self._threads.append(thread)
        return thread

    def close(self) -> None:
        for mounted in self._mounted:
            mounted.looked.set()
        for thread in reversed(self._threads):
            thread.stop()
        for each in (self.node, *self.others, self.agents):
            each.close()


async def apply_plan(log: MemoryLog, plan: str = PLAN) -> None:
    committer = Committer(
        log,
        subjects.plan("s"),
        Fold(PlanState()),
        actor="operator/test",
        now=SystemClock().now,
        random=secrets.token_bytes,
    )
    running = asyncio.create_task(committer.run())
    try:
        await committer.submit(from_toml(plan))
    finally:
        running.cancel()
        await asyncio.wait((running,))


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    made = Network(tmp_path)
    try:
        yield made
    finally:
        made.close()


def configurations(network: Network) -> list[Snapshot]:
    """Every configuration of the node that the log has: as it was registered, and as it was after each change."""
    found: list[Snapshot] = []
    for record in network.log.records:
        for event in codec.decode(record.data).events:
            if isinstance(event, ConfigurationRegistered):
                found.append(event.snapshot)
            elif isinstance(event, ConfigurationChanged):
                found.append(changed(found[-1], event.change))
    return found
