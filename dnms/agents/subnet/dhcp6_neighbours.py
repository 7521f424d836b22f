"""The hardware addresses of the DHCPv6 clients of a link, of which DHCPv6 itself tells none (RFC 6939 is for relays).

The link is asked, once a while for each client's address: what comes first is it, and anybody could say it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

import structlog

from dnms.agents.subnet.link import Dhcp6Link
from dnms.linux.errors import KernelError

LASTS = 600.0  # seconds: a client has its address for longer, and another one with it would be a duplicate
MAX_KNOWN = 4_096  # clients: the one that was heard of longest ago is asked for again
ASKED_AT_ONCE = 16  # each takes a socket for a second at most

_logger = structlog.get_logger(__name__)


class Neighbours:
    """Of one link."""

    def __init__(self, link: Dhcp6Link) -> None:
        self._link = link
        self._known: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        self._asking = 0

    def known(self, address: bytes) -> bytes | None:
        """What the link has said before; None if it has to be asked, or once more."""
        known = self._known.get(address)
        return known[0] if known is not None and known[1] > asyncio.get_running_loop().time() else None

    async def hardware(self, address: bytes) -> bytes | None:
        """Of who has this link-local address; empty if nobody says so, None if too many are asked for at once."""
        if (known := self.known(address)) is not None:
            return known
        if self._asking >= ASKED_AT_ONCE:
            return None
        self._asking += 1
        try:
            found = await self._link.hardware(address)
        except KernelError as error:
            _logger.warning("the link cannot be asked who a DHCPv6 client is", reason=str(error))
            return b""
        finally:
            self._asking -= 1
        self._known[address] = found, asyncio.get_running_loop().time() + LASTS
        self._known.move_to_end(address)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return found
