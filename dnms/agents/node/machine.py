"""The machine that a Node Agent runs on, as far as it touches it: one interface, its clocks, and the way to agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Protocol

from dnms.agents.tls import Validity
from dnms.disk.node_state import Unproven
from dnms.domain.node_plan import NodePlan
from dnms.events.configuration import InterfaceAddress, Link, Route, Snapshot
from dnms.linux.changes import Change
from dnms.linux.multicast import Receive
from dnms.linux.rivals import Rival
from dnms.wire.discovery import Chance
from dnms.wire.messages import Endpoint


class Changes(Protocol):
    """What changes in the kernel, until it is left."""

    def __enter__(self) -> Changes: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __aiter__(self) -> AsyncIterator[Change]: ...

    async def __anext__(self) -> Change: ...


class Datagrams(Protocol):
    """A socket that hears what is answered to it."""

    def send(self, data: bytes, group: str) -> None:
        """Multicast to a group on the link, if the link carries it at this moment. KernelError."""

    def close(self) -> None:
        """Hear no more."""


class Hearing(Protocol):
    """Something that hears the link."""

    def close(self) -> None:
        """Hear no more."""


class Machine(Protocol):
    """`LinuxMachine` is the one there is; a port, so that the agent also runs where time and network are simulated."""

    @property
    def interface(self) -> str:
        """The name of the interface that is managed."""
        ...

    @property
    def chance(self) -> Chance:
        """Where secrets and pauses are drawn from."""
        ...

    def smbios_uuid(self) -> str:
        """Which machine it is; empty if that is not known."""
        ...

    def time(self) -> float:
        """The wall clock: seconds since 1970-01-01 UTC, if it was ever set."""
        ...

    def uptime(self) -> float:
        """Seconds since it was started, its sleep included."""
        ...

    def boot(self) -> str:
        """Which of its starts this is; empty if that is not known."""
        ...

    def asleep(self) -> float:
        """Seconds that it has slept since it was started, which the event loop's clock does not count."""
        ...

    async def ready(self) -> None:
        """Wait until the interface has a link-local address that can be used. KernelError."""

    async def link(self) -> Link:
        """The interface; KernelError `no-interface`."""
        ...

    async def carrier_changes(self) -> int:
        """How often the carrier of the interface has come or gone; KernelError `no-interface`."""
        ...

    async def snapshot(self) -> Snapshot:
        """The whole network configuration of the machine. KernelError."""
        ...

    def hear_routers(self, interface: int, changed: Callable[[], None], moved: Callable[[], None]) -> Hearing:
        """Hear what routers advertise there, until it is closed: snapshots have it. KernelError.

        `changed` is called when one says something else than before, and `moved` when this may be another link.
        """
        ...

    async def addresses(self, interface: int) -> tuple[InterfaceAddress, ...]:
        """All addresses of an interface. KernelError."""
        ...

    async def routes(self) -> tuple[Route, ...]:
        """The unicast routes of the main table, but those of routing daemons. KernelError."""
        ...

    async def change(self, plan: NodePlan) -> dict[bytes, str]:
        """Change the interface as `linux.apply` does; the outcome of each wanted address. KernelError."""
        ...

    async def settle(self, plan: NodePlan, *, drain: int) -> bool:
        """Remove what the plan leaves as `linux.settle` does; whether some of it stays for now. KernelError."""
        ...

    async def give_back(self) -> None:
        """Make the interface what it was before DNMS took it over, if it did. KernelError."""

    def differing(self, settings: Mapping[str, str]) -> dict[str, str]:
        """What is set now, of the kernel's settings that are not as they should be. KernelError."""
        ...

    async def roll_back(self, was: Unproven, *, elapsed: float) -> None:
        """Make the interface what it was so many seconds ago. KernelError."""

    async def neighbours_of(self, addresses: Mapping[bytes, bytes]) -> frozenset[bytes]:
        """Those of the addresses that somebody on the link answers for; with each the one to ask from. KernelError."""
        ...

    async def echoes(self, address: bytes, *, source: bytes | None) -> bool:
        """Whether an address answers an echo, from this address of ours, or from any. KernelError."""
        ...

    async def forget_neighbours(self) -> None:
        """Forget who is on the link, since it may be another one. KernelError."""

    async def rivals(self) -> tuple[Rival, ...]:
        """Other programs that manage the interface. KernelError."""
        ...

    async def leave_alone(self, rival: Rival) -> bool:
        """Have another program leave the interface alone, by its own configuration; whether it was told now.
        KernelError.
        """
        ...

    def fingerprint(self) -> object:
        """Something that is another one when settings of the interface or the resolver have changed."""
        ...

    async def delete_address(self, held: InterfaceAddress) -> None:
        """Remove an address, if it is there. KernelError."""

    async def delete_route(self, route: Route) -> None:
        """Remove a route, if it is there. KernelError."""

    def changes(self) -> Changes:
        """What changes from now on."""
        ...

    def open(self, interface: int, receive: Receive) -> Datagrams:
        """A socket for discovery; what comes to it goes to `receive`. KernelError."""
        ...

    async def connect(
        self, endpoint: Endpoint, *, seen: float
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Validity]:
        """Connect to an agent of the site; `seen` as in `tls.connect`. OSError, ssl.SSLError."""
        ...
