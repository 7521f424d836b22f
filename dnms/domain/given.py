"""What was given of a pool's ranges: by an index where they are small enough, by the highest one for who counts up.

What is kept for somebody counts as given. An index is made of what is durable when it is first needed, and kept up from
then on. A draft has one of its own, made of that and of what happened in the draft: what one request of a commit
was given, the next does not look at, so that the thousandth is decided as fast as the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final

from dnms.domain.ranges import Ranges
from dnms.domain.reusable import Reusable

if TYPE_CHECKING:
    from dnms.domain.ledger import Ledger

MAX_INDEXED: Final = 1 << 24
"""Addresses of ranges that are indexed: an IPv4 /8, whose bitmap takes 2 MiB. Where all candidates of larger ones are
taken, so are millions of their addresses."""

_Change = Callable[[Reusable, bytes], None]

GivenDump = tuple[tuple[tuple[tuple[bytes, bytes], ...], int], ...]
"""First and last addresses of ranges, and the number behind the highest of these that was ever given."""


class Given:
    """Of one ledger, or of a draft of it."""

    def __init__(self, ledger: Ledger, *, base: Given | None = None) -> None:
        """`base`: what the ledger has of which this is a draft."""
        self._ledger = ledger
        self._base = base
        self._indexes: dict[tuple[Ranges, int], Reusable] = {}
        self._behind: dict[Ranges, int] = dict(base._behind) if base is not None else {}
        self._changes: list[tuple[_Change, bytes]] = []  # in this draft

    def dump(self) -> GivenDump:
        """What was noted. Indexes are made anew when they are needed."""
        return tuple((ranges.dump(), number) for ranges, number in self._behind.items())

    def load(self, dump: GivenDump) -> None:
        """Take what `dump` gave."""
        self._behind = {
            Ranges([(int.from_bytes(first), int.from_bytes(last)) for first, last in ranges]): number
            for ranges, number in dump
        }

    def behind(self, ranges: Ranges) -> int:
        """The number behind the highest of these that was ever given, as far as `note` was told of them."""
        return self._behind.get(ranges, 0)

    def note(self, address: bytes, ranges: Ranges) -> None:
        """This one is given; of other ranges it says nothing."""
        if int.from_bytes(address) not in ranges:
            return
        self._behind[ranges] = max(self._behind.get(ranges, 0), ranges.number(int.from_bytes(address)) + 1)

    @property
    def has_indexes(self) -> bool:
        """Whether one was needed yet."""
        return bool(self._indexes)

    def hold(self, address: bytes) -> None:
        """Somebody has it, or it is kept for somebody."""
        self._change(Reusable.hold, address)

    def free(self, address: bytes) -> None:
        """Nobody has it any more, and unless it is kept for somebody, anybody may."""
        if not self._is_kept(address):
            self._change(Reusable.end, address)

    def forget(self, address: bytes) -> None:
        """It is as if nobody ever had it."""
        if not self._is_kept(address):
            self._change(Reusable.forget, address)

    def end_keeping(self, address: bytes) -> None:
        """It is kept for nobody any more, as which it counts as free from now on."""
        ledger = self._ledger
        if self._is_kept(address) or address in ledger.leases or ledger.blocks.owner(address) is not None:
            return
        if not ledger.remembered.has_had(address):
            self._change(Reusable.forget, address)
        elif ledger.remembered.free_now(address):
            self._change(Reusable.end, address)

    def _is_kept(self, address: bytes) -> bool:
        return address in self._ledger.held or address in self._ledger.kept_blocks

    def _change(self, change: _Change, address: bytes) -> None:
        if self._base is not None:
            self._changes.append((change, address))
        for index in self._indexes.values():
            change(index, address)

    def reusable(self, ranges: Ranges, shift: int, *, client: bytes, start: int, at: int) -> Iterator[bytes]:
        """What may be free of the ranges for a client: what nobody had, from the number `start` on and round, then the
        longest free, and at last what was withdrawn from this client.

        `shift`: they are ranges of blocks of so many bits. Nothing, if they are too large. Some of it is not free: what
        a subnet gives to nobody, and what is promised to others.
        """
        if ranges.size > MAX_INDEXED:
            return
        index = self._index(ranges, shift)
        remembered = self._ledger.remembered
        late, lost = remembered.over(at), remembered.promised_to(client)
        yield from chain(index.never_given(start), index.longest_free(), filter(index.__contains__, chain(late, lost)))

    def _index(self, ranges: Ranges, shift: int) -> Reusable:
        key = (ranges, shift)
        if key not in self._indexes:
            self._indexes[key] = self._made(ranges, shift) if self._base is None else self._drafted(ranges, shift)
        return self._indexes[key]

    def _made(self, ranges: Ranges, shift: int) -> Reusable:
        ledger = self._ledger
        kind = 4 if ranges.is_mapped else 6
        taken = chain(ledger.blocks.taken(), ledger.kept_blocks) if shift else chain(ledger.leases, ledger.held)
        held = chain(taken, ledger.remembered.former[kind])
        former = (each for each in ledger.remembered.free(kind) if not self._is_kept(each))
        return Reusable(ranges, shift, held=held, former=former)

    def _drafted(self, ranges: Ranges, shift: int) -> Reusable:
        assert self._base is not None
        drafted = self._base._index(ranges, shift).draft()
        for change, address in self._changes:
            change(drafted, address)
        return drafted
