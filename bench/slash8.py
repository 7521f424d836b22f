"""An IPv4 /8: what its index takes, and how long the next free address takes to find, empty and almost full.

The path is that of a request: a sequential pool, whose candidates are the ones behind the highest that was given. When
that is the last one of the pool, the index is asked for what was left free. Almost full, the leases themselves are left
out, and only the index knows of them: 17 million would take 2 GB, and no search reads a lease that it does not meet.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable

import msgspec

from bench.streams import SECRET
from dnms.domain.aggregate import Question, settle
from dnms.domain.allocating import choose
from dnms.domain.free_index import FreeIndex
from dnms.domain.ledger import Ledger
from dnms.events.address import AddressAllocated
from dnms.events.ip import parse_prefix
from dnms.events.plan import AdoptedPlan, PlanAdopted, Pool, Subnet
from dnms.events.requests import AllocateAddress

FREE = 0.0001  # of the addresses, when it is almost full; of a small range what REQUESTS need
ROUNDS = 9
SEARCHES = 2_000  # in a round, of the index alone
REQUESTS = 250  # in a round, by the whole path, and in one commit
AT = 1_772_366_400_000_000  # microseconds since 1970-01-01 UTC


class Search(msgspec.Struct, frozen=True):
    """Microseconds of CPU, medians of the rounds."""

    empty_us: float
    full_us: float

    @property
    def ratio(self) -> float:
        """Of full to empty."""
        return self.full_us / self.empty_us


class Slash8(msgspec.Struct, frozen=True):
    """All that was measured."""

    addresses: int
    empty_bytes: int
    full_bytes: int
    index: Search  # `FreeIndex.find`, from anywhere
    choose: Search  # one request: `allocating.choose`
    settled: Search  # one request of a commit of REQUESTS, each with its event


def measure(prefix: str = "10.0.0.0/8") -> Slash8:
    """Of a pool that is the whole prefix."""
    ledger, chance = _ledger(prefix), random.Random(8)
    pool = ledger.plan.pools[0]
    ranges = ledger.adopted.ranges(pool, 0)
    index = ledger.given._index(ranges, 0)._never_given
    empty_bytes = sys.getsizeof(index)
    empty = _find(index, chance), _choose(ledger, chance), _settle(ledger, chance)
    left = set(chance.sample(range(ranges.size), max(round(ranges.size * FREE), 2 * REQUESTS)))
    for offset in range(ranges.size):
        if offset not in left:
            index.take(offset)
    ledger.given.note(pool.last, ranges)
    full = _find(index, chance), _choose(ledger, chance), _settle(ledger, chance)
    searches = [Search(empty_us=before, full_us=after) for before, after in zip(empty, full, strict=True)]
    return Slash8(ranges.size, empty_bytes, sys.getsizeof(index), *searches)


def _ledger(prefix: str) -> Ledger:
    network, ledger = parse_prefix(prefix), Ledger(SECRET)
    pool = Pool(
        name="all",
        subnet="lan",
        first=network.first.to_bytes(16),
        last=network.last.to_bytes(16),
        strategy="sequential",
    )
    subnet = Subnet(name="lan", realm="default", prefixes=(network,))
    ledger.evolve(PlanAdopted(plan=AdoptedPlan(position=1, level=1, subnet=subnet, pools=(pool,))), at=0, position=1)
    return ledger


def _find(index: FreeIndex, chance: random.Random) -> float:
    size = index._size
    return _microseconds(lambda: [chance.randrange(size) for _ in range(SEARCHES)], index.find)


def _choose(ledger: Ledger, chance: random.Random) -> float:
    return _microseconds(lambda: _requests(chance), lambda request: choose(ledger, request, at=AT, entropy=b""))


def _settle(ledger: Ledger, chance: random.Random) -> float:
    rounds = []
    for _ in range(ROUNDS):
        questions = [Question(request) for request in _requests(chance)]
        begin = time.process_time()
        commit, _ = settle(ledger, questions, commit_id=bytes(16), at=AT, predecessor=1, actor="agent/bench")
        rounds.append((time.process_time() - begin) / REQUESTS)
        given = {event.address for event in commit.events if isinstance(event, AddressAllocated)}
        if len(given) != REQUESTS:
            raise RuntimeError(f"{len(given)} addresses were given, and {REQUESTS} were free")
    return statistics.median(rounds) * 1_000_000


def _requests(chance: random.Random) -> list[AllocateAddress]:
    return [AllocateAddress(client=chance.randbytes(16), iaid=1, family=4) for _ in range(REQUESTS)]


def _microseconds(arguments: Callable[[], Iterable[object]], call: Callable[..., object]) -> float:
    rounds = []
    for _ in range(ROUNDS):
        calls = list(arguments())
        begin = time.process_time()
        for argument in calls:
            call(argument)
        rounds.append((time.process_time() - begin) / len(calls))
    return statistics.median(rounds) * 1_000_000
