"""How a Subnet Agent begins: with a snapshot if it has one that is of use, with the log if that can be reached."""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

import structlog

from dnms.agents.subnet.folds import Folds
from dnms.agents.subnet.snapshot import Whose, restored
from dnms.bus.clock import LogClock, Told, has_jumped, this_boot
from dnms.bus.jetstream import JetStreamLog, connect
from dnms.bus.late import LateLog
from dnms.bus.port import LogError, Unavailable
from dnms.disk.site import Site
from dnms.disk.snapshot import SnapshotError, SnapshotFile

CONNECT_RETRY = 2.0  # seconds

_logger = structlog.get_logger(__name__)


class Reached(NamedTuple):
    """The log, and its clock."""

    log: JetStreamLog | LateLog
    clock: LogClock
    away: bool  # it is known from a snapshot alone


def read_snapshot(snapshots: SnapshotFile, whose: Whose, *, secret: bytes) -> Folds | None:
    """The folds of the newest snapshot; None if there is none that is of use, and then the log says it all."""
    try:
        if (parts := snapshots.read()) is None:
            return None
        folds = restored(*parts, whose, secret=secret)
    except SnapshotError as error:
        _logger.warning("the snapshot is not used: the log is read from its beginning", reason=str(error))
        return None
    _logger.info("from a snapshot", leases=len(folds.ledger.state.leases), position=folds.ledger.sequence)
    return folds


async def reach(bus: str, site: Site, folds: Folds | None, *, stop: asyncio.Event) -> Reached | None:
    """The log at `bus`; None if `stop` is set before. SiteError, LogError.

    It may start later than this machine, and is waited for, unless the folds of a snapshot are there and what the log's
    clock says can be told from theirs: then the agent can begin without it.
    """
    told = _still_true(folds)
    while True:
        try:
            return await _connected(bus, site)
        except Unavailable as error:
            if folds is not None and folds.read is not None and told is not None:
                _logger.warning("no bus: it begins with what the snapshot knows", reason=str(error))
                log = LateLog(folds.read.log_id, lambda: connect(bus, site.name, token=site.bus_token))
                return Reached(log, LogClock(log, boot=told.boot, told=told), away=True)
            _logger.warning("no bus yet: --bus says where it is", reason=str(error))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_RETRY):
                await stop.wait()
                return None


def waits(folds: Folds | None, clock: LogClock) -> dict[int, float] | None:
    """For how many seconds nothing expires yet, by family, as the agent knew it of which this is the snapshot.

    None if nobody can tell, since the machine was started again, or the log's clock was set since then.
    """
    if folds is None or folds.expires_from is None or folds.told is None or clock.told is None:
        return None
    if folds.told.boot != clock.told.boot or has_jumped(folds.told, clock.told):
        return None
    now = clock.elapsed()
    return {kind: max(0.0, begins - now) for kind, begins in folds.expires_from.items()}


async def _connected(bus: str, site: Site) -> Reached:
    log = await connect(bus, site.name, token=site.bus_token)
    clock = LogClock(log, boot=this_boot())
    try:
        await clock.measure()
    except LogError:
        await log.close()
        raise
    return Reached(log, clock, away=False)


def _still_true(folds: Folds | None) -> Told | None:
    """What the log said of its time, if the machine's clock that is never set went on since."""
    if folds is None or folds.told is None or folds.told.boot != this_boot():
        return None
    return folds.told
