"""A snapshot of an agent's folds, so that a start need only fold what came after it.

Theory of operation. How far the log was followed is noted first, and then each fold is taken as it is, one after the
other, with its own position: what was folded meanwhile is read once more after a start, and found to be there. The log
is read on from the noted commit, which must be in it, and each fold takes only what follows its position, or stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
import structlog

from dnms.agents.subnet.folds import Folds
from dnms.agents.subnet.routers import Reached
from dnms.bus.clock import Told
from dnms.bus.reading import Position
from dnms.disk.snapshot import SnapshotError
from dnms.domain import ledger_dump
from dnms.domain.aggregate import Fold, S
from dnms.domain.ledger_dump import LedgerDump
from dnms.domain.nodes import NodeShard
from dnms.events.codec import decoder, encoder
from dnms.events.requests import ApplyPlan

LOOK: Final = 10.0  # seconds between two looks whether it is time for another one
FEW: Final = 10_000
PART: Final = 10
"""A snapshot is written when more than FEW events came since the last one, and more than one for PART leases: reading
them at a start would begin to be felt, and writing all the leases once more does not cost more than those events did.
"""
OLD: Final = 600.0
"""Seconds after which one is written for a single event: who starts without the log knows no more than is in it."""

_logger = structlog.get_logger(__name__)


class Snapshots(Protocol):
    """Where the newest snapshot is kept; `dnms.disk.snapshot` is one."""

    async def write(self, small: bytes, large: Sequence[bytes]) -> None:
        """Put this in the place of what was written before. SnapshotError."""
        ...


class Whose(msgspec.Struct, frozen=True):
    """The agent that a snapshot is of."""

    site: str
    subnet: str
    agent: str


class _Where(msgspec.Struct, frozen=True, array_like=True):
    """Where a fold is."""

    sequence: int
    time: int


class _Shard(msgspec.Struct, frozen=True, array_like=True):
    subject: str
    at: _Where
    size: int  # bytes of its nodes


class _Small(msgspec.Struct, frozen=True, kw_only=True):
    """The small part; the large one is the ledger's buffers, and then the nodes of each shard."""

    whose: Whose
    read: Position
    told: Told | None
    expires_from: tuple[float, float] | None = None  # of IPv4, and of IPv6
    plan: ApplyPlan
    plan_position: int
    plan_at: _Where
    sessions: tuple[bytes, ...]
    seen_at: _Where
    ledger: LedgerDump
    ledger_at: _Where
    shards: tuple[_Shard, ...]
    routers: Reached = msgspec.field(default_factory=Reached)  # releases without delegation have waited for none


_small = decoder(_Small)
_nodes = msgspec.msgpack.Decoder(tuple[tuple[bytes, bytes], ...])


async def taken(
    folds: Folds, whose: Whose, told: Told | None, expires_from: dict[int, float] | None = None
) -> tuple[bytes, list[bytes]] | None:
    """The small part and the large one of a snapshot; None if nothing was read yet. `told` is of the log's clock.

    `expires_from`: before then nothing expires, by family, in seconds since the start of the machine that `told` names.
    Other tasks run between one fold and the next.
    """
    if (read := folds.read) is None:
        return None
    shards: list[_Shard] = []
    large: list[bytes] = []
    for subject, shard in tuple(folds.shards.items()):
        nodes = encoder.encode(tuple(shard.state.table.encoded.items()))
        shards.append(_Shard(subject, _where(shard), len(nodes)))
        large.append(nodes)
        await asyncio.sleep(0)
    ledger, buffers = ledger_dump.dump(folds.ledger.state)
    small = _Small(
        whose=whose,
        read=read,
        told=told,
        expires_from=None if expires_from is None else (expires_from[4], expires_from[6]),
        plan=folds.plan.state.document(),
        plan_position=folds.plan.state.position,
        plan_at=_where(folds.plan),
        sessions=tuple(sorted(folds.seen.state.sessions)),
        seen_at=_where(folds.seen),
        ledger=ledger,
        ledger_at=_where(folds.ledger),
        shards=tuple(shards),
        routers=folds.routers,
    )
    return encoder.encode(small), [*buffers, *large]


def restored(small: memoryview, large: memoryview, whose: Whose, *, secret: bytes) -> Folds:
    """The folds of which this was taken. SnapshotError if it is another agent's, or does not fit together."""
    try:
        dumped = _small.decode(small)
        if dumped.whose != whose:
            found = f"of agent {dumped.whose.agent!r} on subnet {dumped.whose.subnet!r} of site {dumped.whose.site!r}"
            raise SnapshotError(f"the snapshot is {found}")
        folds = Folds(secret)
        folds.read, folds.told = dumped.read, dumped.told
        if dumped.expires_from is not None:
            folds.expires_from = dict(zip((4, 6), dumped.expires_from, strict=True))
        folds.plan.state.load(dumped.plan, dumped.plan_position)
        folds.seen.state.sessions.update(dumped.sessions)
        folds.routers = dumped.routers
        nodes = len(large) - sum(shard.size for shard in dumped.shards)
        ledger_dump.load(folds.ledger.state, dumped.ledger, large[: max(0, nodes)])
        for shard in dumped.shards:
            folds.shards[shard.subject] = fold = Fold(NodeShard())
            fold.state.table.encoded.update(_nodes.decode(large[nodes : nodes + shard.size]))
            _put(fold, shard.at)
            nodes += shard.size
    except (ValueError, msgspec.MsgspecError) as error:
        raise SnapshotError(f"the snapshot does not fit together: {error}") from error
    _put(folds.plan, dumped.plan_at)
    _put(folds.ledger, dumped.ledger_at)
    _put(folds.seen, dumped.seen_at)
    return folds


class Keeper:
    """Writes a snapshot when it is time for one."""

    def __init__(
        self,
        folds: Folds,
        snapshots: Snapshots,
        whose: Whose,
        *,
        told: Callable[[], Told | None],
        expires_from: Callable[[], dict[int, float] | None] = lambda: None,
    ) -> None:
        """`told`: what the log's clock said last; `expires_from`: as `taken` has it."""
        self._told = told
        self._expires_from = expires_from
        self._since = asyncio.get_running_loop().time()
        self._folds = folds
        self._snapshots = snapshots
        self._whose = whose

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            old = asyncio.get_running_loop().time() - self._since >= OLD
            if old or self._folds.events > max(FEW, len(self._folds.ledger.state.leases) // PART):
                await self.keep()

    async def keep(self) -> None:
        """Write one, if there is anything new. What cannot be written is said, and no reason to end."""
        events = self._folds.events
        if not events:
            return
        if (parts := await taken(self._folds, self._whose, self._told(), self._expires_from())) is None:
            return
        small, large = parts
        try:
            await self._snapshots.write(small, large)
        except SnapshotError as error:
            _logger.warning("no snapshot: the next start reads more of the log", reason=str(error))
            return
        self._folds.events -= events
        self._since = asyncio.get_running_loop().time()
        leases = len(self._folds.ledger.state.leases)
        _logger.info("snapshot", events=events, leases=leases, bytes=len(small) + sum(map(len, large)))


def _where(fold: Fold[S]) -> _Where:
    return _Where(fold.sequence, fold.time)


def _put(fold: Fold[S], at: _Where) -> None:
    fold.sequence, fold.time = at.sequence, at.time
