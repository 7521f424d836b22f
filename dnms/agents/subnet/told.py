"""What a node was told last, and in how few words it can be told that the same lasts longer."""

from __future__ import annotations

import msgspec

from dnms.domain.assignment import T1
from dnms.domain.configured import essence
from dnms.domain.ledger import Ledger
from dnms.events.configuration import AssignedAddress, AssignedPrefix
from dnms.wire.messages import Assign, Extended

PING_EVERY = 15  # seconds; a peer that is silent for four of them is dead
SHORTEST_PING = 3  # seconds
ALIKE = 0.1
"""Of a lifetime, by which others may be longer and are told the same: a second or two pass between the decisions on the
addresses of one node, and what is short of the whole is made up for by the next extension."""
GAIN = 0.1
"""Of a lifetime, by which an end must be put off to be worth a word while the log is away: there ends come near."""

ON_THE_WAY = 5.0  # seconds that what is told may take to its node


class Told(msgspec.Struct, frozen=True):
    """An assignment as a node has it, with its lifetimes as they were told last."""

    assign: Assign
    at: float  # seconds of the event loop's clock
    heard: int  # of the node until then, as its session counts it

    @property
    def renews_at(self) -> float:
        """T1: when the node asks by itself, on the event loop's clock."""
        return self.at + self.assign.renew_after

    def age(self, now: float) -> float:
        """Which part of T1 has passed."""
        return (now - self.at) / self.assign.renew_after

    def is_worth(self, assign: Assign, now: float) -> bool:
        """Whether some address lasts noticeably longer by this assignment than the node knows."""
        until = {each.address: self.at + each.valid for each in self.assign.assignment.addresses}
        return any(
            now + each.valid - until.get(each.address, now) > GAIN * each.valid for each in assign.assignment.addresses
        )

    def extension(self, assign: Assign, now: float) -> Extended | None:
        """The new lifetimes, where nothing else is new and they are alike; None: the whole of it has to be told.

        So it has to be where an address may be over for the node before it hears this: by an extension none comes back.
        """
        addresses = assign.assignment.addresses
        several, before = _given(assign), _given(self.assign)
        if any(self.at + each.valid < now + ON_THE_WAY for each in before):
            return None
        if assign.refused or assign.outage or not addresses or any(not each.preferred for each in several):
            return None
        if essence(assign.assignment) != essence(self.assign.assignment):
            return None
        preferred, valid = [each.preferred for each in several], [each.valid for each in several]
        if not (_alike(preferred) and _alike(valid)):
            return None
        return Extended(
            preferred=min(preferred),
            valid=min(valid),
            renew_after=assign.renew_after,
            rebind_after=assign.rebind_after,
        )


def shortest_t1(ledger: Ledger) -> float:
    """Seconds after which the first node of the subnet would renew by itself; 0 if the plan has no pool."""
    return T1 * min((pool.preferred for pool in ledger.plan.pools), default=0)


def ping_every(ledger: Ledger) -> int:
    """Seconds of silence after which a node is asked whether it is there: some three times between two extensions."""
    return max(SHORTEST_PING, min(PING_EVERY, int(shortest_t1(ledger) / 3))) if ledger.plan.pools else PING_EVERY


def _given(assign: Assign) -> tuple[AssignedAddress | AssignedPrefix, ...]:
    return *assign.assignment.addresses, *assign.assignment.prefixes


def _alike(lifetimes: list[int]) -> bool:
    return max(lifetimes) - min(lifetimes) <= ALIKE * max(lifetimes)
