"""Which addresses two machines could use at one moment, by what their kernels said all the time.

Two sides of a partition cannot see that while it lasts, by DAD least of all; the lab does, which follows every kernel.
It is as it should be where the log says it too: which address, who had it beside its holder, and since when.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import msgspec


class Holding(msgspec.Struct, frozen=True):
    """A machine's kernel let an address be used, from one moment to another: seconds of one clock."""

    machine: str
    address: bytes  # 16 bytes; IPv4 is mapped
    since: float
    until: float


class Doubled(msgspec.Struct, frozen=True):
    """Several machines could use one address at once."""

    address: bytes
    machines: frozenset[str]
    since: float
    until: float


class Told(msgspec.Struct, frozen=True):
    """What the log tells: in an outage this machine was given an address that was another's."""

    machine: str
    address: bytes
    happened: float


def doubled(holdings: Iterable[Holding]) -> Iterator[Doubled]:
    """Each time in which two or more had an address: from when a second one had it until one was left."""
    moments: dict[bytes, list[tuple[float, bool, str]]] = {}
    for each in holdings:
        if each.since < each.until:
            moments.setdefault(each.address, []).extend(
                ((each.since, True, each.machine), (each.until, False, each.machine))
            )
    for address, changes in moments.items():
        having: set[str] = set()
        seen: set[str] = set()
        since = 0.0
        for at, comes, machine in sorted(changes):  # who goes before who comes
            before = len(having)
            (having.add if comes else having.discard)(machine)
            if len(having) > 1:
                if before == 1:
                    since, seen = at, set()
                seen |= having
            elif before > 1:
                yield Doubled(address, frozenset(seen), since, at)


def untold(found: Iterable[Doubled], told: Collection[Told]) -> Iterator[Doubled]:
    """Those of which the log does not say that they were, or says that they began only later."""
    for each in found:
        if not any(
            one.address == each.address and one.machine in each.machines and one.happened <= each.since for one in told
        ):
            yield each
