"""Routes with a protocol number of our own, in table main of IPv6: read together, and changed together.

A route of another protocol is never touched, also where it has the same destination and metric. The kernel's own way to
replace a route would take its place whosever it is, so a route that changes is deleted, by its protocol, and added
behind that in the same message to the kernel: between the two there are some microseconds.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Collection, Mapping
from itertools import chain

from dnms.domain.routes import Route
from dnms.events.configuration import Link
from dnms.linux import messages, requests
from dnms.linux.errors import KernelError
from dnms.linux.rtnetlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    Asked,
    BatchSocket,
    NotificationSocket,
    RequestSocket,
    split,
)

PROTOCOL = 199
"""RTPROT_* of our routes."""

RTMGRP_LINK = 0x1


class Known:
    """The routes that were read last, by the kernel's messages about them, and the names of the interfaces then."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.routes: dict[bytes, tuple[Route, ...]] = {}


class RouteTable:
    """Our routes in the namespace in which its maker's thread was. Use it as `with RouteTable() as table`."""

    def __init__(self, protocol: int = PROTOCOL, *, known: Known | None = None) -> None:
        """`known`: of a caller that reads again and again, by which what stays as it is need not be decoded again."""
        self._protocol = protocol
        self._known = known if known is not None else Known()
        self._requests = RequestSocket()
        self._batches = BatchSocket()

    def __enter__(self) -> RouteTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._requests.close()
        self._batches.close()

    async def up(self) -> frozenset[str]:
        """The names of the interfaces that are up, with a carrier or without. KernelError."""
        return frozenset(link.name for link in await self._links() if link.up)

    async def read(self) -> frozenset[Route]:
        """All of our protocol, whatever they are. KernelError."""
        names = {link.index: link.name for link in await self._links()}

        def ours(data: bytes, payload: int) -> bool:
            table, protocol, _ = messages.route_kind(data, payload)
            return table == messages.RT_TABLE_MAIN and protocol == self._protocol

        request = requests.routes(socket.AF_INET6, protocol=self._protocol)
        try:
            found = await self._requests.dump(messages.RTM_GETROUTE, request, doing="list routes", wanted=ours)
        except KernelError as error:
            if error.why == "not-there":  # table main of this family was never used
                return frozenset()
            raise
        known = self._known.routes if names == self._known.names else {}
        read = {each: known.get(each) or _decoded(each, names) for each in found}
        self._known.names, self._known.routes = names, read
        return frozenset(chain.from_iterable(read.values()))

    async def change(self, *, add: Collection[Route] = (), delete: Collection[Route] = ()) -> dict[Route, KernelError]:
        """Delete and add, in this order, and whatever can be; what could not be, with why. KernelError if nothing was.

        A route that is gone already is deleted. One that is there is added, whatever of ours is in its place.
        """
        indexes = {link.name: link.index for link in await self._links()}
        gone = {route.interface for route in (*add, *delete)} - {"", *indexes}
        refused = {
            route: KernelError("no-interface", f"cannot add route {route}: there is no interface {route.interface!r}")
            for route in add
            if route.interface in gone
        }
        # What was on an interface went with it. What is unreachable comes first, for it leads nowhere meanwhile.
        asked = [(route, self._delete(route, indexes)) for route in sorted(delete) if route.interface not in gone]
        asked += [
            (route, self._add(route, indexes))
            for route in sorted(add, key=lambda each: (bool(each.interface), each))
            if route.interface not in gone
        ]
        answers = await self._batches.change([each for _, each in asked])
        taken = any(error.why == "exists" for error in answers.values())
        there = {route.place for route in await self.read()} if taken else set()
        for index, error in answers.items():
            route, change = asked[index]
            if change.kind == messages.RTM_DELROUTE and error.why == "not-there":
                continue
            if change.kind == messages.RTM_NEWROUTE and error.why == "exists" and route.place in there:
                continue  # it is there, or one of ours is, which is to be deleted first
            refused[route] = error
        return refused

    async def _links(self) -> list[Link]:
        found = await self._requests.dump(messages.RTM_GETLINK, requests.links(), doing="list interfaces")
        return [messages.link(each) for each in found]

    def _add(self, route: Route, indexes: dict[str, int]) -> Asked:
        message = self._message(route, indexes)
        return Asked(messages.RTM_NEWROUTE, message, NLM_F_CREATE | NLM_F_EXCL, f"add route {route}")

    def _delete(self, route: Route, indexes: dict[str, int]) -> Asked:
        return Asked(messages.RTM_DELROUTE, self._message(route, indexes), 0, f"delete route {route}")

    def _message(self, route: Route, indexes: dict[str, int]) -> bytes:
        return requests.route(
            route.destination,
            indexes[route.interface] if route.interface else 0,
            gateway=route.next_hop or None,
            metric=route.metric,
            protocol=self._protocol,
        )


def _decoded(data: bytes, names: Mapping[int, str]) -> tuple[Route, ...]:
    """The routes of one message of the kernel: one, but where somebody else has put another next hop beside ours."""
    leads = messages.route_kind(data, 0)[2] == messages.RTN_UNICAST  # the kernel says `lo` of what is unreachable
    return tuple(
        Route(each.destination, each.metric, names.get(each.interface, "") if leads else "", each.gateway or b"")
        for each in messages.routes(data)
    )


async def links_changed() -> AsyncGenerator[None, None]:
    """Yields when a link of this thread's namespace has come, has gone, or has changed; what comes together, once."""
    notifications = NotificationSocket(RTMGRP_LINK)
    try:
        while (data := await notifications.read()) != b"":
            kinds = {kind for _, _, kind, _, _ in split(data)} if data is not None else {messages.RTM_NEWLINK}
            if kinds & {messages.RTM_NEWLINK, messages.RTM_DELLINK}:
                yield None
    finally:
        notifications.close()
