"""systemd-resolved: the DNS servers of one interface, by D-Bus (org.freedesktop.resolve1(5)).

The D-Bus library is imported where it is first used: a node that has no systemd-resolved does not pay for it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dnms.events.configuration import Resolver
from dnms.events.ip import MAPPED, family
from dnms.linux import before
from dnms.linux.before import ResolverBefore
from dnms.linux.errors import KernelError

PROGRAM = "systemd-resolved"
RUN = Path("/run/systemd/resolve")
UPLINK = RUN / "resolv.conf"
"""Written anew at every change of a link's servers, also where resolv.conf names the stub."""

STATIC = (Path("/usr/lib/systemd/resolv.conf"), Path("/lib/systemd/resolv.conf"))
"""Names the stub as well, and no search domains."""

TIMEOUT = 5.0  # seconds for one conversation, the start of the service included

_NAME, _PATH = "org.freedesktop.resolve1", "/org/freedesktop/resolve1"
_BUS, _BUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
_MANAGER, _LINK, _PROPERTIES = f"{_NAME}.Manager", f"{_NAME}.Link", f"{_BUS}.Properties"
_AF = {4: 2, 6: 10}  # AF_INET, AF_INET6

_Ask = Callable[..., Awaitable[Any]]


def is_named(target: Path) -> bool:
    """Whether this, where the links of resolv.conf lead, is a file of systemd-resolved's."""
    return target.parent == RUN or target in STATIC


async def is_there() -> bool:
    """Whether it is on the system bus, or starts when it is asked for, and is of this network namespace. KernelError
    `timeout` where that does not come out: its files must not be replaced for that.
    """
    try:
        async with _conversation() as ask:
            await ask(_NAME, _PATH, f"{_BUS}.Peer", "Ping", "")  # starts it, if need be
            (process,) = await ask(_BUS, _BUS_PATH, _BUS, "GetConnectionUnixProcessID", "s", _NAME)
    except KernelError as error:
        if error.why == "timeout":
            raise
        return False
    return _is_of_this_network(process)


def _is_of_this_network(process: int) -> bool:
    """Whether its interfaces have our numbers."""
    try:
        return Path(f"/proc/{process}/ns/net").readlink() == Path("/proc/thread-self/ns/net").readlink()
    except OSError:
        return False  # of another PID namespace


class Resolved:
    """Of one interface. What it had before is kept in the directory `state`."""

    def __init__(self, interface: str, index: int, state: Path) -> None:
        self._interface = interface
        self._index = index
        self._state = state

    async def read(self) -> Resolver:
        """The interface's own servers and search domains; where it has none, those of all. KernelError."""
        async with _conversation() as ask:
            servers = await _property(ask, "DNS")
            domains = await _property(ask, "Domains")
        for index in (self._index, 0):
            found = Resolver(
                servers=tuple(_mapped(kind, bytes(address)) for at, kind, address in servers if at == index),
                search=tuple(name for at, name, routes in domains if at == index and not routes),
            )
            if found.servers:
                return found
        return Resolver()

    async def write(self, wanted: Resolver) -> bool:
        """Set these, and ask them for all that no other interface is asked for; false if it is so. KernelError."""
        said = await self.read()
        async with _conversation() as ask:
            was = await self._own(ask, said)
            servers = [_native(server) for server in wanted.servers]
            domains = [(name, False) for name in wanted.search]
            bare = [(name.rstrip("."), routes) for name, routes in domains]
            there = [(kind, address) for kind, address, _, _ in was.servers]
            if (there, list(was.domains), was.default_route) == (servers, bare, True):
                return False
            before.keep(self._state, self._interface, resolvers={PROGRAM: was})
            await self._set(ask, "DNS", "a(iay)", servers)
            await self._set(ask, "Domains", "a(sb)", domains)
            await self._set(ask, "DefaultRoute", "b", True)
        return True

    async def restore(self) -> bool:
        """Give the interface back what it had before the first `write`; false if there was none. KernelError."""
        was = before.load(self._state, self._interface).resolvers.get(PROGRAM)
        if was is None:
            return False
        async with _conversation() as ask:
            if not was.servers and not was.domains:
                await ask(_NAME, _PATH, _MANAGER, "RevertLink", "i", self._index)
            else:
                await self._set(ask, "DNSEx", "a(iayqs)", list(was.servers))
                await self._set(ask, "Domains", "a(sb)", list(was.domains))
                await self._set(ask, "DefaultRoute", "b", was.default_route)
        return True

    def before(self) -> Resolver | None:
        """What was read before the first `write`; None if there was none."""
        was = before.load(self._state, self._interface).resolvers.get(PROGRAM)
        return None if was is None else was.said

    async def _own(self, ask: _Ask, said: Resolver) -> ResolverBefore:
        """What the interface has of its own now. KernelError."""
        (link,) = await ask(_NAME, _PATH, _MANAGER, "GetLink", "i", self._index)
        (found,) = await ask(_NAME, link, _PROPERTIES, "GetAll", "s", _LINK)
        return ResolverBefore(
            said=said,
            servers=tuple((kind, bytes(address), port, name) for kind, address, port, name in found["DNSEx"][1]),
            domains=tuple((name, routes) for name, routes in found["Domains"][1]),
            default_route=found["DefaultRoute"][1],
        )

    async def _set(self, ask: _Ask, what: str, signature: str, value: object) -> None:
        await ask(_NAME, _PATH, _MANAGER, f"SetLink{what}", f"i{signature}", self._index, value)


def _native(address: bytes) -> tuple[int, bytes]:
    kind = family(address)
    return _AF[kind], address[-4:] if kind == 4 else address


def _mapped(kind: int, address: bytes) -> bytes:
    return MAPPED + address if kind == _AF[4] else address


async def _property(ask: _Ask, name: str) -> Any:
    ((_, value),) = await ask(_NAME, _PATH, _PROPERTIES, "Get", "ss", _MANAGER, name)
    return value


@asynccontextmanager
async def _conversation() -> AsyncIterator[_Ask]:
    """A connection to the system bus. KernelError: `no-bus`, `timeout`, `refused`."""
    import jeepney  # noqa: PLC0415
    from jeepney.io.asyncio import open_dbus_router  # noqa: PLC0415
    from jeepney.io.common import RouterClosed  # noqa: PLC0415

    try:
        async with asyncio.timeout(TIMEOUT), open_dbus_router("SYSTEM") as router:

            async def ask(name: str, path: str, interface: str, member: str, signature: str, *body: object) -> Any:
                address = jeepney.DBusAddress(path, bus_name=name, interface=interface)
                answer = await router.send_and_get_reply(
                    jeepney.new_method_call(address, member, signature or None, body)
                )
                if answer.header.message_type is jeepney.MessageType.error:
                    said = answer.body[0] if answer.body else answer.header.fields[jeepney.HeaderFields.error_name]
                    raise KernelError("refused", f"cannot {member} by D-Bus: {said}")
                return answer.body

            yield ask
    except TimeoutError:
        raise KernelError("timeout", f"{PROGRAM} takes longer than {TIMEOUT:g} s to answer by D-Bus") from None
    except (OSError, EOFError, RouterClosed, jeepney.AuthenticationError) as error:
        bus = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", "")
        raise KernelError("no-bus", f"cannot use the system's D-Bus {bus}: {error or type(error).__name__}") from error
