"""Where the prefixes of a router come from, as its Subnet Agent sees it: a port, of DNMS above it or of DHCPv6."""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from dnms.events.requests import UplinkPrefix
from dnms.events.uplink import Source


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """What a router has from above now, all of it. `ReportUplink` says the same to the ledger."""

    prefixes: tuple[UplinkPrefix, ...]  # instants in microseconds since 1970; none: it has nothing
    source: Source  # of the newest of what it was told
    why: str = "cut"  # of those that it had and has no more: a stable word of `uplink.lost`


class Upstream(Protocol):
    """Asks for prefixes, and keeps them."""

    @property
    def changed(self) -> asyncio.Event:
        """Set here whenever `current` has become another, cleared by who takes that."""
        ...

    async def run(self) -> None:
        """Ask and renew, until cancelled. KernelError and errors of its own, for what cannot be mended."""
        ...

    def current(self) -> Received | None:
        """What is held now; None: nothing is known yet, and nothing is to be concluded from it."""
        ...
