"""A site that is served on a machine of its own, with the real bus, the real nft and `dnms subscriber run`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from dnms.linux.namespaces import Namespace, search_path
from tests.netns.subscribers.conftest import Machine
from tests.system.cli.conftest import PATIENCE
from tests.system.commands import Command, started


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    if shutil.which("nft", path=search_path()) is None:
        pytest.skip("nftables is not installed (Debian: apt-get install nftables)")


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Namespace.create("machine") as namespace:
        yield Machine(namespace)


class Subscriber:
    """`dnms subscriber run`, a process."""

    def __init__(self, process: Command, stdout: IO[bytes], log: Path, *, begin: int) -> None:
        self.process = process
        self.stdout = stdout
        self.log = log
        self.begin = begin  # of what this process logs, in bytes

    def settled(self) -> dict[str, object]:
        """Wait until it says that it has looked at the whole log; what it says."""
        said = self.stdout.readline()
        assert said, self.log.read_text()
        answer: dict[str, object] = json.loads(said)
        return answer

    def kill(self) -> None:
        self.process.kill()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


@contextmanager
def subscribed(directory: Path, bus: str, *words: str | Path) -> Iterator[Subscriber]:
    """Run the firewall, or what is named, in this thread's namespace; it is killed at the end, unless it has ended."""
    log = directory.with_name("subscriber.stderr")
    options: list[str | Path] = ["--site", directory, "--bus", bus, "-o", "json"]
    with log.open("ab") as stderr:
        begin = stderr.tell()
        with started(["subscriber", "run", *(words or ["firewall"]), *options], err=stderr) as (process, stdout):
            try:
                yield Subscriber(process, stdout, log, begin=begin)
            finally:
                process.kill()


def until(done: Callable[[], bool]) -> None:
    """Wait until it is so."""
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)
