"""A router with one cable up and one down, each end in a namespace of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dnms.linux.namespaces import Namespace
from tests.netns.agents.conftest import Thread

FAST = {"router_solicitation_delay": 0, "accept_ra": 0}


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")


class Line:
    """A cable between two namespaces: `wan0` of the upper end, `up0` of the lower."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.above, self.below = Namespace.create("above"), Namespace.create("below")
        self._threads: list[Thread] = []
        cable = f"link add wan0 type veth peer name up0 netns /proc/self/fd/{self.below.fileno()}"
        self.above.ip([cable, "link set dev wan0 addrgenmode none"], pass_fds=[self.below.fileno()])
        for end, interface in ((self.above, "wan0"), (self.below, "up0")):
            settings: dict[str, str | int] = {f"ipv6.conf.{interface}.{name}": value for name, value in FAST.items()}
            end.set_sysctls({**settings, f"ipv6.neigh.{interface}.retrans_time_ms": 100})
            end.set_up(interface)
        self.above.ip(["address add fe80::1/64 dev wan0 nodad"])

    def below_in_thread(self, work: Callable[[asyncio.Event], object]) -> Thread:
        """Run it in the lower namespace."""
        thread = Thread(self.below, work)  # type: ignore[arg-type]
        self._threads.append(thread)
        return thread

    def close(self) -> None:
        for thread in reversed(self._threads):
            thread.stop()
        self.below.close()
        self.above.close()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    try:
        yield made
    finally:
        made.close()
