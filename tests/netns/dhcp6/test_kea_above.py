"""A router with Kea above it: what it is delegated, for how long, and what becomes of that."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dnms.agents.subnet.dhcp6_uplink import Dhcp6Uplink
from dnms.agents.subnet.upstream import Received, Upstream
from dnms.events.ip import Prefix, parse_prefix
from dnms.kit.clock import MICROSECONDS, SystemClock
from dnms.linux.errors import KernelError
from dnms.wire.dhcp6.codes import CLIENT_PORT
from tests.netns.agents.conftest import Thread
from tests.netns.dhcp6.conftest import Line
from tests.netns.dhcp6.kea import kea

WHOLE, OTHER = parse_prefix("2001:db8:100::/48"), parse_prefix("2001:db8:200::/48")


class Router:
    """The lower end of a line, which asks for a prefix; every start is one of the same machine."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.state = line.path / "state"
        self.seen: list[Received] = []  # of this start
        self.gives_back = False
        self._thread: Thread | None = None

    def start(self) -> None:
        self.seen = seen = []

        async def work(stop: asyncio.Event) -> None:
            uplink = Dhcp6Uplink("up0", state=self.state, now=SystemClock().now, length=56)
            upstream: Upstream = uplink

            async def watch() -> None:
                while True:
                    await upstream.changed.wait()
                    upstream.changed.clear()
                    if (received := upstream.current()) is not None:
                        seen.append(received)

            tasks = [asyncio.create_task(upstream.run()), asyncio.create_task(watch())]
            await stop.wait()
            tasks[0].cancel()
            await asyncio.wait(tasks[:1])
            if self.gives_back:
                await uplink.release()
                if (received := upstream.current()) is not None:
                    seen.append(received)
            tasks[1].cancel()
            await asyncio.wait(tasks)

        self._thread = self.line.below_in_thread(work)

    def stop(self) -> None:
        assert self._thread is not None
        self._thread.stop()
        assert self._thread.failed is None
        assert self._thread.left == []

    @property
    def prefixes(self) -> list[Prefix]:
        return [each.prefix for each in self.seen[-1].prefixes] if self.seen else []


@pytest.fixture
def router(line: Line) -> Router:
    return Router(line)


async def until(condition: Callable[[], bool], *, seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # of another namespace
            await asyncio.sleep(0.05)


def has_one_of(router: Router, whole: Prefix) -> Callable[[], bool]:
    return lambda: len(router.prefixes) == 1 and whole.covers(router.prefixes[0])


async def test_it_is_delegated_renews_and_keeps_it_over_a_restart(router: Router, tmp_path: Path) -> None:
    with kea(router.line.above, tmp_path, str(WHOLE)) as log:
        router.start()
        await until(has_one_of(router, WHOLE))
        first = router.seen[0]
        (given,) = first.prefixes
        assert given.prefix.length == 56
        assert first.source.name == "dhcpv6 00:03:00:01:02:00:00:00:00:01"
        left = given.valid_until / MICROSECONDS - time.time()
        assert 25 < left <= 30
        assert given.valid_until - given.preferred_until == 10 * MICROSECONDS
        await until(lambda: router.seen[-1].prefixes[0].valid_until > given.valid_until)  # T1 is 3 s
        assert router.prefixes == [given.prefix]
        renewed = router.seen[-1].prefixes[0]
        assert 2.5 < (renewed.valid_until - given.valid_until) / MICROSECONDS < 5
        router.stop()
        assert "DHCP6_PD_LEASE_RENEW" in log.read_text() or "DHCP6_PD_LEASE_ALLOC" in log.read_text()
        router.start()
        await until(lambda: len(router.seen) >= 2)  # at once what it had; then what Kea says to its Rebind
        assert router.prefixes == [given.prefix]
        assert router.seen[-1].prefixes[0].valid_until > renewed.valid_until
        assert "RELEASE" not in log.read_text()
        router.stop()


async def test_another_prefix_after_a_restart_of_the_server_takes_the_place_of_the_old_one(
    router: Router, tmp_path: Path
) -> None:
    with kea(router.line.above, tmp_path, str(WHOLE)):
        router.start()
        await until(has_one_of(router, WHOLE))
    with kea(router.line.above, tmp_path, str(OTHER)):
        await until(has_one_of(router, OTHER), seconds=30)
    router.stop()
    assert router.seen[-1].why == "cut"


async def test_a_prefix_that_vanished_while_it_was_off_is_gone_at_once(router: Router, tmp_path: Path) -> None:
    for_an_hour: dict[str, Any] = {"valid-lifetime": 3600, "preferred-lifetime": 3600}
    with kea(router.line.above, tmp_path, str(WHOLE), **for_an_hour):
        router.start()
        await until(has_one_of(router, WHOLE))
        router.stop()
    with kea(router.line.above, tmp_path, str(OTHER)):
        router.start()
        await until(has_one_of(router, OTHER))
        assert WHOLE.covers(router.seen[0].prefixes[0].prefix)
        router.stop()


async def test_what_is_released_is_given_back(router: Router, tmp_path: Path) -> None:
    with kea(router.line.above, tmp_path, str(WHOLE)) as log:
        router.start()
        await until(has_one_of(router, WHOLE))
        router.gives_back = True
        router.stop()
        assert (router.seen[-1].prefixes, router.seen[-1].why) == ((), "released")
        await until(lambda: "RELEASE" in log.read_text())


async def test_a_flap_of_the_link_is_asked_about(router: Router, tmp_path: Path) -> None:
    long: dict[str, Any] = {
        "renew-timer": 1000,
        "rebind-timer": 2000,
        "preferred-lifetime": 3000,
        "valid-lifetime": 4000,
    }
    with kea(router.line.above, tmp_path, str(WHOLE), **long):
        router.start()
        await until(has_one_of(router, WHOLE))
        before = router.seen[-1].prefixes[0]
        router.line.below.ip(["link set dev up0 down", "link set dev up0 up"])
        await until(lambda: router.seen[-1].prefixes[0].valid_until > before.valid_until)
        assert router.prefixes == [before.prefix]
        router.stop()


async def test_what_stays_with_the_link_above_is_excluded(router: Router, tmp_path: Path) -> None:
    with kea(router.line.above, tmp_path, "2001:db8:100::/56", exclude="2001:db8:100:ff::/64"):
        router.start()
        await until(lambda: bool(router.prefixes))
        assert router.seen[-1].prefixes[0].exclude == parse_prefix("2001:db8:100:ff::/64")
        router.stop()
        router.start()
        await until(lambda: len(router.seen) >= 2)
        assert [each.prefixes[0].exclude for each in router.seen] == [parse_prefix("2001:db8:100:ff::/64")] * 2
        router.stop()


async def test_a_server_that_has_none_is_asked_until_it_has(router: Router, tmp_path: Path) -> None:
    with kea(router.line.above, tmp_path) as log:
        router.start()
        await until(lambda: "LEASE_ALLOC_FAIL" in log.read_text() or "ALLOC_ENGINE_V6" in log.read_text())
        assert router.seen == []
    with kea(router.line.above, tmp_path, str(WHOLE)):
        await until(has_one_of(router, WHOLE), seconds=30)
        router.stop()


async def test_where_another_client_runs_it_says_so(router: Router) -> None:
    uplink = Dhcp6Uplink("up0", state=router.state, now=SystemClock().now)

    async def work(stop: asyncio.Event) -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
            other.bind(("::", CLIENT_PORT))
            await uplink.run()

    thread = router.line.below_in_thread(work)
    await until(lambda: not thread.running)
    assert isinstance(thread.failed, KernelError)
    assert "another DHCPv6 client has port 546 of up0" in str(thread.failed)
