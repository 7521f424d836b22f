"""Prefixes from the Subnet Agent above, which the Node Agent of this machine was delegated and passes on by a file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from dnms.agents.subnet.upstream import Received
from dnms.disk.delegated import Delegated, path_of, read
from dnms.events.requests import UplinkPrefix
from dnms.events.uplink import Source
from dnms.kit.clock import SystemClock

LOOK = 0.1  # seconds between two looks whether the file is another one

_CLOCK = SystemClock()

_logger = structlog.get_logger(__name__)


class NodeUpstream:
    """Implements `Upstream`."""

    def __init__(
        self, directory: Path, interface: str, *, offset: Callable[[], int], now: Callable[[], int] = _CLOCK.now
    ) -> None:
        """`directory`: where the Node Agent keeps its state. `offset`: microseconds from this machine's clock to the
        log's, of which all instants are here; `now`: what the machine's clock shows.
        """
        self._now = now
        self.changed = asyncio.Event()
        self._path = path_of(directory, interface)
        self._offset = offset
        self._seen: tuple[int, int] | None = None
        self._received: Received | None = None

    def current(self) -> Received | None:
        """What is held now; None: no Node Agent has said anything yet."""
        return self._received

    async def run(self) -> None:
        """Read the file whenever it is another one, until cancelled."""
        while True:
            self._look()
            await asyncio.sleep(LOOK)

    def _look(self) -> None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return
        seen = (status.st_mtime_ns, status.st_ino)
        if seen == self._seen:
            return
        try:
            delegated = read(self._path)
        except (OSError, ValueError) as error:
            _logger.error("what is delegated cannot be read", path=str(self._path), reason=str(error))
            delegated = None
        self._seen = seen
        if delegated is not None:
            # A machine without a clock of its own begins in the past: that prolongs nothing.
            behind = max(0, delegated.told - self._now())
            self._received = _received(delegated, self._offset() - behind)
            self.changed.set()


def _received(delegated: Delegated, offset: int) -> Received:
    prefixes = tuple(
        UplinkPrefix(
            prefix=each.prefix,
            preferred_until=each.preferred_until + offset,
            valid_until=each.valid_until + offset,
            exclude=each.exclude,
            position=each.position,
        )
        for each in delegated.prefixes
    )
    name = f"dnms {delegated.site}/{delegated.subnet}" if delegated.site else "dnms"
    newest = max((each.position for each in delegated.prefixes), default=0)
    source = Source(name=name, log=delegated.log, position=newest)
    # A Subnet Agent says of what ends that it does, for as long as it can be used: what it says no more of is over.
    return Received(prefixes=prefixes, source=source, why="withdrawn" if delegated.site else "released")
