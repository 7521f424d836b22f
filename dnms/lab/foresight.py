"""What the ledger will give to nodes that have not been there yet: a ledger of the lab's own, on the site's secret.

A strategy such as `hash` needs no more than the plan and who asks, so the addresses of a node are known before its
first boot, as long as no two nodes hash to the same one. The identities are drawn so that they do not.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from pathlib import Path

import msgspec

from dnms.agents import node
from dnms.disk.node_state import DUID_UUID, NodeStateDirectory
from dnms.disk.site import Site
from dnms.domain import document
from dnms.domain.ledger import Ledger
from dnms.domain.plan import PlanState
from dnms.events.address import AddressAllocated
from dnms.events.plan import Family, PlanAdopted
from dnms.events.recorded import Event, Request
from dnms.events.requests import AllocateAddress, ApplyPlan, DeclineAddress
from dnms.lab.network import INTERFACE, SUBNET

FAMILIES: tuple[Family, ...] = (6, 4)
DRAWS = 10_000  # of a DUID; with half of a pool in use, one in two will do

_POSITION = 1  # in no log, but behind its beginning


class Foreseen(msgspec.Struct, frozen=True):
    """A node that has an identity and was never started."""

    client: bytes
    first: dict[Family, bytes]  # what it will be given
    last: dict[Family, bytes]  # what it will have once it has declined what others use


class Foresight:
    """Draws identities, and says which addresses follow from them."""

    def __init__(self, site: Site, plan: str) -> None:
        """The subnet of the lab under this plan (TOML), with nobody in it."""
        self._site = site
        self._iaid = node.iaid_of(INTERFACE)
        state = PlanState()
        for event in state.decide(document.from_toml(plan), at=0, entropy=bytes(ApplyPlan.ENTROPY)):
            state.evolve(event, at=0, position=_POSITION)
        self._ledger = Ledger(site.secret)
        self._evolve((PlanAdopted(plan=state.for_subnet(SUBNET)),))

    def enrol(self, directory: Path, *, used_by_others: Collection[Family] = ()) -> Foreseen:
        """Draw an identity into a Node Agent's state directory; who uses its first address of these families?

        Another, whom DNMS does not know: then the node declines it.
        """
        uuid, client = self._draw()
        NodeStateDirectory(directory).identity(machine=node.machine(), hardware=(), draw=lambda _: uuid)
        first = {kind: self._allocate(client, kind) for kind in FAMILIES}
        last = dict(first)
        for kind in used_by_others:
            self._evolve(self._decide(DeclineAddress(client=client, iaid=self._iaid, address=first[kind])))
            last[kind] = self._allocate(client, kind)
        return Foreseen(client, first, last)

    def _draw(self) -> tuple[bytes, bytes]:
        """A UUID and the client id that comes of it, whose first candidates nobody has."""
        for _ in range(DRAWS):
            uuid = secrets.token_bytes(16)
            client = self._site.client_id(DUID_UUID + uuid)
            if not any(self._next(client, kind).counter for kind in FAMILIES):
                return uuid, client
        raise RuntimeError(f"no identity in {DRAWS} hashes to free addresses")

    def _next(self, client: bytes, kind: Family) -> AddressAllocated:
        events = self._decide(AllocateAddress(client=client, iaid=self._iaid, family=kind))
        return next(event for event in events if isinstance(event, AddressAllocated))

    def _allocate(self, client: bytes, kind: Family) -> bytes:
        allocated = self._next(client, kind)
        self._evolve((allocated,))
        return allocated.address

    def _decide(self, request: Request) -> tuple[Event, ...]:
        return self._ledger.decide(request, at=0, entropy=b"")

    def _evolve(self, events: tuple[Event, ...]) -> None:
        for event in events:
            self._ledger.evolve(event, at=0, position=_POSITION)
