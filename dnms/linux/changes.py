"""The kernel's notifications about addresses, links and routes, as typed values."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType

import msgspec

from dnms.events.configuration import InterfaceAddress, Link, Route
from dnms.linux import messages
from dnms.linux.rtnetlink import HEADER, NotificationSocket, split

GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE."""

BURST = 32  # datagrams read before other tasks get their turn; a flood of routes must not stop the agent


class LinkChanged(msgspec.Struct, frozen=True):
    """A link is new, has changed, or is gone."""

    link: Link
    gone: bool
    carrier_changes: int = 0  # since it was made: the kernel tells of a carrier that goes and comes at once but once


class AddressChanged(msgspec.Struct, frozen=True):
    """An address is new, has changed (its flags or lifetimes, too), or is gone."""

    address: InterfaceAddress
    gone: bool


class RouteChanged(msgspec.Struct, frozen=True):
    """A unicast route of table main is new, has changed, or is gone. Those of routing daemons are not told."""

    route: Route
    gone: bool


class Resync(msgspec.Struct, frozen=True):
    """The kernel has dropped notifications: whoever follows them must read everything anew."""


Change = LinkChanged | AddressChanged | RouteChanged | Resync


class Changes:
    """What changes from the moment this was made, in order. Never ends by itself; `close` ends it.

    with netlink.changes() as changes:
        async for change in changes: ...
    """

    def __init__(self) -> None:
        self._socket = NotificationSocket(GROUPS)
        self._read: deque[Change] = deque()
        self._burst = 0
        self.closed = False

    def close(self) -> None:
        """End the iteration and close the socket."""
        self.closed = True
        self._socket.close()

    def __enter__(self) -> Changes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Changes:
        return self

    async def __anext__(self) -> Change:
        while not self._read:
            data = await self._socket.read()
            if data is None:
                return Resync()
            if not data:
                raise StopAsyncIteration
            self._read.extend(_changes(data))
            self._burst = (self._burst + 1) % BURST
            if self._burst == 0:
                await asyncio.sleep(0)
        return self._read.popleft()


def _changes(data: bytes) -> list[Change]:
    changes: list[Change] = []
    for offset, length, kind, _flags, _sequence in split(data):
        gone = kind in (messages.RTM_DELLINK, messages.RTM_DELADDR, messages.RTM_DELROUTE)
        payload = data[offset + HEADER.size : offset + length]
        if kind in (messages.RTM_NEWLINK, messages.RTM_DELLINK):
            changes.append(LinkChanged(messages.link(payload), gone, messages.carrier_changes(payload)))
        elif kind in (messages.RTM_NEWADDR, messages.RTM_DELADDR):
            changes.append(AddressChanged(messages.interface_address(payload), gone))
        elif (
            kind in (messages.RTM_NEWROUTE, messages.RTM_DELROUTE)
            and messages.is_main_unicast(payload, 0)
            and not messages.is_daemons(payload, 0)
        ):
            changes.extend(RouteChanged(route, gone) for route in messages.routes(payload))
    return changes
