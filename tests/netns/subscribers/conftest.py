"""A machine in a namespace of its own, and subscribers that run there on a log in memory, with the real kernel."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dnms.bus.port import Log
from dnms.disk.subscriber_state import SubscriberState
from dnms.linux.namespaces import Namespace, search_path
from dnms.subscribers import firewall
from dnms.subscribers.routes.examples import LOCAL as ROUTER
from dnms.subscribers.runner import Runner
from dnms.subscribers.subscriber import Local, Subscriber
from tests.contracts.subscribers.logs import SITE, local
from tests.netns.subscribers.logs import whole
from tests.netns.subscribers.network import bridged, routed

T = TypeVar("T")

Sets = dict[str, set[str]]
"""The elements of sets by their names."""

LIMIT = 60.0  # seconds that anything on a machine may take
PERIOD = 0.02  # seconds between two looks: what would be dropped wrongly is dropped soon
LOOKS = 3  # after which a runner has done what it would do


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    if shutil.which("nft", path=search_path()) is None:
        pytest.skip("nftables is not installed (Debian: apt-get install nftables)")


class Machine:
    """A namespace with the kernel's firewall and routing in it, and links to two subnets."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work` in a thread and an event loop of its own that are on this machine."""

        async def limited() -> T:
            async with asyncio.timeout(LIMIT):
                return await work()

        return self.call(lambda: asyncio.run(limited()))

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in a thread of its own that is on this machine."""

        def inside() -> T:
            self.namespace.enter()
            return function()

        with ThreadPoolExecutor(1) as thread:  # a thread that was moved is not used again
            return thread.submit(inside).result()

    def nft(self, text: str) -> str:
        """What an operator types; what is printed."""
        return self.namespace.run(str(shutil.which("nft", path=search_path())), "-f", "-", stdin=text)

    def listed(self, *words: str) -> list[dict[str, Any]]:
        """What nft lists of everything, not read by our own reader."""
        nft = str(shutil.which("nft", path=search_path()))
        entries = json.loads(self.namespace.run(nft, "-j", "list", *(words or ("ruleset",))))["nftables"]
        return [entry for entry in entries if "metainfo" not in entry]

    def sets(self) -> Sets:
        """The elements of every set in `table inet dnms`."""
        found = {}
        for entry in self.listed():
            for said in (entry[kind] for kind in ("set", "map") if kind in entry):
                if (said["family"], said["table"]) == ("inet", "dnms"):
                    found[said["name"]] = {str(element) for element in said.get("elem", ())}
        return found


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Namespace.create("machine") as namespace:
        namespace.set_sysctls({"ipv6.conf.default.accept_dad": 0})  # else the kernel adds routes for two seconds
        namespace.ip([f"link add {name} up type bridge" for name in ROUTER.interfaces.values()])
        yield Machine(namespace)


@pytest.fixture
def hosts(machine: Machine) -> Iterator[dict[str, Namespace]]:
    with routed(machine) as found:
        yield found


@pytest.fixture
def guests(machine: Machine) -> Iterator[dict[str, Namespace]]:
    with bridged(machine) as found:
        yield found


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture(params=["known", "first start"])
def directory(request: pytest.FixtureRequest, state: Path, tmp_path: Path) -> Path:
    """A state with what was acted by last, and one without."""
    return state if request.param == "known" else tmp_path / "fresh"


@pytest.fixture
def before(machine: Machine, state: Path) -> Sets:
    """What a subscriber that saw the whole log has put into the kernel."""

    async def work() -> None:
        await run_once(await whole(), state)

    machine.run(work)
    found = machine.sets()
    assert len(found) == 6
    assert sum(map(len, found.values())) == 4
    return found


def kept(before: Sets, machine: Machine) -> bool:
    now = machine.sets()
    return all(elements <= now.get(name, set()) and name in now for name, elements in before.items())


async def until(done: Callable[[], bool]) -> None:
    """Wait until it is so; a machine's limit is the deadline."""
    while not done():  # noqa: ASYNC110  # what is waited for tells nobody
        await asyncio.sleep(0.005)


@asynccontextmanager
async def running(
    log: Log, directory: Path, *, subscriber: Subscriber[Any, Any] = firewall.SUBSCRIBER, **options: float
) -> AsyncIterator[Runner[Any, Any]]:
    """A runner for as long as the context lasts; what it raises is raised."""
    period, pause = options.get("period", PERIOD), options.get("first_pause", PERIOD)
    state = SubscriberState(directory, subscriber.name)
    runner = Runner(log, subscriber, state, local=local(subscriber.name), period=period, first_pause=pause)
    stop = asyncio.Event()
    task = asyncio.create_task(runner.run(stop))
    failed = asyncio.create_task(_first(task, asyncio.current_task()))
    try:
        yield runner
    finally:
        failed.cancel()
        stop.set()
        await task  # what it raised comes before the test's own end


async def _first(task: asyncio.Task[None], test: asyncio.Task[Any] | None) -> None:
    """End a test whose runner has ended."""
    await asyncio.wait((task,))
    if test is not None:
        test.cancel()


async def looks(runner: Runner[Any, Any], count: int = LOOKS) -> None:
    """Wait until it has looked so often from now on."""
    begun = runner.counts.looked
    await until(lambda: runner.counts.looked >= begun + count)


async def run_once(log: Log, directory: Path, *, subscriber: Subscriber[Any, Any] = firewall.SUBSCRIBER) -> None:
    """Run until the world is as the log says."""
    async with running(log, directory, subscriber=subscriber) as runner:
        await runner.settled.wait()


async def stopped(log: Log, directory: Path, error: type[Exception]) -> str:
    """Run until it ends by itself, as it must, with this error; what it says."""
    runner = Runner(
        log,
        firewall.SUBSCRIBER,
        SubscriberState(directory, "firewall"),
        local=Local(site=SITE),
        period=PERIOD,
        first_pause=PERIOD,
    )
    with pytest.raises(error) as ended:
        await runner.run(asyncio.Event())
    assert not runner.counts.dropped
    return str(ended.value)
