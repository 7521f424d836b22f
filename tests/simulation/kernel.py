"""The simulated kernel of a node: addresses with lifetimes and DAD, routes, a resolver; and strangers on the link.

`SimulatedMachine` is `machine.Machine`: what an agent's process has of it. It changes the kernel as `linux.apply`
promises: new addresses are probed for, what goes away goes last and only where something usable is there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from random import Random
from types import TracebackType

import msgspec

from dnms.agents.node.machine import Hearing
from dnms.agents.tls import Validity
from dnms.disk.node_state import Unproven
from dnms.domain.node_plan import PROTOCOL, NodePlan
from dnms.events.configuration import AssignedAddress, InterfaceAddress, Link, Resolver, Route, Snapshot
from dnms.events.ip import family, format_address, is_link_local
from dnms.events.recorded import Personal
from dnms.linux.changes import AddressChanged, Change, LinkChanged, RouteChanged
from dnms.linux.dad import DAD_TIMEOUT
from dnms.linux.messages import IFA_F_TENTATIVE
from dnms.linux.multicast import Receive
from dnms.linux.rivals import Rival
from dnms.wire.messages import FOREVER, Endpoint
from tests.simulation.network import INTERFACE, Datagrams, Host

NAME = "eth0"
USABLE, DUPLICATE, REFUSED = "usable", "duplicate", "refused"


class Unheard:
    """No router advertises itself here."""

    def close(self) -> None:
        """Nothing was heard."""


class Held(msgspec.Struct):
    """An address in a kernel."""

    address: bytes
    prefix_length: int
    origin: str
    until: float | None  # on the loop's clock
    since: float  # when it began to be probed for
    usable: bool = False
    seen: bool = True  # it is in the kernel; one of IPv4 is probed for before it is


class Kernel:
    """One interface of one node. `found` is told what DAD has found, `used` of each address that can be used now."""

    def __init__(self, host: Host, chance: Random, kernels: list[Kernel]) -> None:
        self.host = host
        self.addresses: dict[bytes, Held] = {}
        self.routes: dict[tuple[object, ...], Route] = {}
        self.resolver = Resolver()
        self.watchers: list[Changes] = []
        self.carrier_changes = 0
        self.used: Callable[[Kernel, bytes], None] = lambda kernel, address: None
        self.found: Callable[[Kernel, Kernel, bytes], None] = lambda kernel, other, address: None
        self._chance = chance
        self._kernels = kernels
        self._decided: dict[bytes, asyncio.Future[str]] = {}
        self._timers: dict[bytes, asyncio.TimerHandle] = {}
        kernels.append(self)
        host.uses = self._uses

    def _uses(self, address: bytes) -> bool:
        held = self.addresses.get(address)
        return held is not None and held.usable

    @property
    def link(self) -> Link:
        hardware = Personal(self.host.address[-6:])
        return Link(index=INTERFACE, name=NAME, hardware=hardware, mtu=1500, up=True, carrier=self.host.wired)

    def power_on(self) -> None:
        self.host.wired = True
        self.add(self.host.address, 64, "link-local", None)

    def power_off(self) -> None:
        self.host.wired = False
        for address in tuple(self.addresses):
            self.remove(address)
        self.routes.clear()
        self.resolver = Resolver()

    def set_carrier(self, carrier: bool) -> None:
        self.carrier_changes += carrier != self.host.wired
        self.host.wired = carrier
        self.tell(LinkChanged(self.link, gone=False, carrier_changes=self.carrier_changes))

    def flush(self) -> None:
        """Another program takes away what we have set."""
        for address in tuple(self.addresses):
            if not is_link_local(address):
                self.remove(address)
        for key in tuple(self.routes):
            self.delete_route(self.routes[key])

    def tell(self, change: Change) -> None:
        for watcher in self.watchers:
            watcher.tell(change)

    # -- addresses

    def add(self, address: bytes, prefix_length: int, origin: str, valid: int | None) -> asyncio.Future[str]:
        """Add an address, or begin its lifetime anew; what DAD makes of it."""
        loop = asyncio.get_running_loop()
        until = None if valid is None else loop.time() + valid
        held = self.addresses.get(address)
        decided: asyncio.Future[str]
        if held is None:
            visible = family(address) == 6
            held = Held(address, prefix_length, origin, until, since=loop.time(), seen=visible)
            self.addresses[address] = held
            decided = self._decided[address] = loop.create_future()
            wait = self._chance.uniform(1.0, 2.0) if visible else self._chance.uniform(0.9, 1.2)
            loop.call_later(wait, self._decide, held, decided)
        else:
            held.until = until
            decided = self._decided.get(address) or loop.create_future()
            if held.usable and not decided.done():
                decided.set_result(USABLE)
        self._arm(held)
        self.tell(AddressChanged(self.shown(held), gone=False))
        return decided

    def remove(self, address: bytes) -> None:
        held = self.addresses.pop(address, None)
        if held is None:
            return
        if (timer := self._timers.pop(address, None)) is not None:
            timer.cancel()
        decided = self._decided.pop(address, None)
        if decided is not None and not decided.done():
            decided.set_result(REFUSED)
        self.tell(AddressChanged(self.shown(held), gone=True))

    def shown(self, held: Held) -> InterfaceAddress:
        left = None if held.until is None else max(0, int(held.until - asyncio.get_running_loop().time()))
        return InterfaceAddress(
            interface=INTERFACE,
            address=held.address,
            prefix_length=held.prefix_length,
            origin=held.origin,
            flags=0 if held.usable else IFA_F_TENTATIVE,
            valid=left,
        )

    def _arm(self, held: Held) -> None:
        if (timer := self._timers.pop(held.address, None)) is not None:
            timer.cancel()
        if held.until is not None:
            self._timers[held.address] = asyncio.get_running_loop().call_at(held.until, self.remove, held.address)

    def _decide(self, held: Held, decided: asyncio.Future[str]) -> None:
        """The probes were sent; who has heard them has answered."""
        if self.addresses.get(held.address) is not held:
            return  # removed meanwhile
        if not self.host.wired:  # nothing can be sent; the kernel begins again when the link is back
            asyncio.get_running_loop().call_later(1.0, self._decide, held, decided)
            return
        for other in self._kernels:
            theirs = other.addresses.get(held.address)
            if other is self or theirs is None or not self.host.network.reach(self.host, other.host):
                continue
            if theirs.usable or (theirs.since, other.host.name) < (held.since, self.host.name):
                self.found(self, other, held.address)
                decided.set_result(DUPLICATE)
                self.remove(held.address)
                return
        held.usable = held.seen = True
        decided.set_result(USABLE)
        self._decided.pop(held.address, None)
        self.used(self, held.address)
        self.tell(AddressChanged(self.shown(held), gone=False))

    # -- routes

    def add_route(self, route: Route) -> None:
        key = (route.destination, route.gateway, route.metric)
        if key not in self.routes:
            self.routes[key] = route
            self.tell(RouteChanged(route, gone=False))

    def delete_route(self, route: Route) -> None:
        if self.routes.pop((route.destination, route.gateway, route.metric), None) is not None:
            self.tell(RouteChanged(route, gone=True))


class Changes:
    """What changes in a kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._changes: deque[Change] = deque()
        self._told = asyncio.Event()
        kernel.watchers.append(self)

    def tell(self, change: Change) -> None:
        self._changes.append(change)
        self._told.set()

    def __enter__(self) -> Changes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self in self._kernel.watchers:
            self._kernel.watchers.remove(self)

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        while not self._changes:
            self._told.clear()
            await self._told.wait()
        return self._changes.popleft()


class SimulatedMachine:
    """What a node's agent has of its kernel, its network and its clocks."""

    interface = NAME

    def __init__(self, kernel: Kernel, chance: Random, *, wall: Callable[[], float]) -> None:
        self.chance = chance
        self.kernel = kernel
        self.time = wall

    def smbios_uuid(self) -> str:
        return self.kernel.host.name

    def asleep(self) -> float:
        return 0.0

    async def ready(self) -> None:
        kernel = self.kernel
        with self.changes() as changes:
            while not ((held := kernel.addresses.get(kernel.host.address)) and held.usable):
                await anext(changes)

    async def link(self) -> Link:
        return self.kernel.link

    async def snapshot(self) -> Snapshot:
        kernel = self.kernel
        return Snapshot(
            links=(kernel.link,),
            addresses=await self.addresses(INTERFACE),
            routes=await self.routes(),
            resolver=kernel.resolver,
            kernel="6.18",
        )

    async def carrier_changes(self) -> int:
        return self.kernel.carrier_changes

    def hear_routers(self, interface: int, changed: Callable[[], None], moved: Callable[[], None]) -> Hearing:
        return Unheard()

    async def addresses(self, interface: int) -> tuple[InterfaceAddress, ...]:
        return tuple(self.kernel.shown(held) for held in self.kernel.addresses.values() if held.seen)

    async def routes(self) -> tuple[Route, ...]:
        return tuple(self.kernel.routes.values())

    async def delete_address(self, held: InterfaceAddress) -> None:
        await asyncio.sleep(0.001)
        self.kernel.remove(held.address)

    async def delete_route(self, route: Route) -> None:
        await asyncio.sleep(0.001)
        self.kernel.delete_route(route)

    def changes(self) -> Changes:
        return Changes(self.kernel)

    def open(self, interface: int, receive: Receive) -> Datagrams:
        return self.kernel.host.open(receive)

    async def connect(
        self, endpoint: Endpoint, *, seen: float
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Validity]:
        return await self.kernel.host.connect(endpoint, seen=seen)

    def uptime(self) -> float:
        """Seconds of the event loop's clock."""
        return asyncio.get_running_loop().time()

    def boot(self) -> str:
        """It is started once."""
        return "boot"

    def differing(self, settings: Mapping[str, str]) -> dict[str, str]:
        """It has no settings."""
        return {}

    async def neighbours_of(self, addresses: Mapping[bytes, bytes]) -> frozenset[bytes]:
        """All gateways are there."""
        return frozenset(addresses)

    async def echoes(self, address: bytes, *, source: bytes | None) -> bool:
        """All of the world is there."""
        return True

    async def roll_back(self, was: Unproven, *, elapsed: float) -> None:
        """What was not there goes, and what was comes again with what is left of it."""
        await asyncio.sleep(0.002)
        before = {each.address: each for each in was.snapshot.addresses}
        for held in tuple(self.kernel.addresses.values()):
            if held.origin == "managed" and held.address not in before:
                self.kernel.remove(held.address)
        for each in before.values():
            if each.origin == "managed" and each.address not in self.kernel.addresses and each.valid is not None:
                left, preferred = int(each.valid - elapsed), int((each.preferred or 0) - elapsed)
                if left > 0:
                    self._add(
                        AssignedAddress(
                            address=each.address,
                            prefix_length=each.prefix_length,
                            iaid=0,
                            preferred=max(0, preferred),
                            valid=left,
                        )
                    )
        for route in await self.routes():
            if route not in was.snapshot.routes:
                self.kernel.delete_route(route)
        self.kernel.resolver = was.snapshot.resolver

    async def forget_neighbours(self) -> None:
        """None are kept."""

    async def rivals(self) -> tuple[Rival, ...]:
        """Nobody else manages anything here."""
        return ()

    async def leave_alone(self, rival: Rival) -> bool:
        """There is nobody to tell."""
        raise AssertionError(rival)

    def fingerprint(self) -> object:
        """Nobody changes settings here."""
        return None

    async def settle(self, plan: NodePlan, *, drain: int) -> bool:
        return False  # nobody else sets anything here

    async def give_back(self) -> None:
        await asyncio.sleep(0.001)
        for held in tuple(self.kernel.addresses.values()):
            if held.origin == "managed":
                self.kernel.remove(held.address)
        for route in await self.routes():
            self.kernel.delete_route(route)
        self.kernel.resolver = Resolver()

    async def change(self, plan: NodePlan) -> dict[bytes, str]:
        await asyncio.sleep(0.002)  # netlink
        outcomes: dict[bytes, str] = {}
        for part in await asyncio.gather(self._change(plan, 6), self._change(plan, 4), return_exceptions=True):
            if isinstance(part, BaseException):
                raise part
            outcomes |= part
        if plan.resolver is not None and (not outcomes or USABLE in outcomes.values()):
            self.kernel.resolver = plan.resolver
        return outcomes

    async def _change(self, plan: NodePlan, kind: int) -> dict[bytes, str]:
        kernel = self.kernel
        wanted = [each for each in plan.add_addresses if family(each.address) == kind]
        deciding = {each.address: self._add(each) for each in wanted}
        if deciding:
            if kind == 6:
                self._add_routes(plan, kind)
            try:
                await asyncio.wait(deciding.values(), timeout=DAD_TIMEOUT)
            except asyncio.CancelledError:
                for address in deciding:
                    if (held := kernel.addresses.get(address)) is not None and not held.seen:
                        kernel.remove(address)  # the kernel was not told of it yet
                raise
        outcomes = {address: decided.result() if decided.done() else REFUSED for address, decided in deciding.items()}
        if USABLE in outcomes.values() and kind == 4:
            self._add_routes(plan, kind)
        for address, outcome in outcomes.items():
            if outcome != USABLE:
                kernel.remove(address)
        if wanted and USABLE not in outcomes.values():
            return outcomes
        self._remove(plan, kind)
        return outcomes

    def _remove(self, plan: NodePlan, kind: int) -> None:
        for stray in plan.remove_addresses:
            if family(stray.address) == kind and not is_link_local(stray.address):
                self.kernel.remove(stray.address)
        for route in plan.remove_routes:
            if route.destination.family == kind:
                self.kernel.delete_route(route)

    def _add(self, wanted: AssignedAddress) -> asyncio.Future[str]:
        valid = None if wanted.valid == FOREVER else wanted.valid
        return self.kernel.add(wanted.address, wanted.prefix_length, "managed", valid)

    def _add_routes(self, plan: NodePlan, kind: int) -> None:
        for each in plan.add_routes:
            if each.destination.family == kind:
                self.kernel.add_route(
                    Route(
                        destination=each.destination,
                        interface=INTERFACE,
                        gateway=each.gateway,
                        metric=each.metric,
                        protocol=PROTOCOL,
                    )
                )


def text(addresses: list[bytes]) -> str:
    """Addresses, for people."""
    return ",".join(format_address(each) for each in sorted(addresses)) or "-"
