"""Folds what one commit has of new leases at once: a start reads a million, and one by one they take twice as long."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from dnms.domain.aggregate import Fold
from dnms.domain.ledger import Ledger
from dnms.events.address import AddressAllocated
from dnms.events.recorded import Event

FEW: Final = 8  # leases for which it is not worth it


class LedgerFold(Fold[Ledger]):
    """The fold of a ledger that may have much to catch up with. What comes of it is what `Ledger.evolve` makes."""

    def evolve(self, events: Sequence[Event], *, at: int, position: int) -> None:
        """Take in the events of one commit."""
        for kind, same in groupby(events, type):
            run = list(same)
            begin = 0
            while begin < len(run) and (kind is not AddressAllocated or self.state.table.free_rows):
                self.state.evolve(run[begin], at=at, position=position)
                begin += 1
            if len(run) - begin >= FEW:
                begin += _fill(self.state, run[begin:], at)  # type: ignore[arg-type]  # they are of this `kind`
            for event in run[begin:]:
                self.state.evolve(event, at=at, position=position)


def _fill(ledger: Ledger, events: Sequence[AddressAllocated], at: int) -> int:
    """Take in the first of these, as many as are the first and only lease of their binding; how many."""
    remembered = ledger.remembered
    if ledger.adopted.has_special or remembered.has_promised or remembered.is_due(at):
        return 0
    taken = ledger.table.extend(events)
    new = events[:taken]
    ledger.horizons.extend(new, ledger.table)
    if remembered.has_any:
        for event in new:
            remembered.hold(event.address)
    if ledger.given.has_indexes:
        for event in new:
            ledger.given.hold(event.address)
    return taken
