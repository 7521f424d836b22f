"""Where the DNS servers of an interface are set: in systemd-resolved, by resolvconf, or in resolv.conf itself.

Which of them a machine uses, its resolv.conf says; it is found anew each time, since machines are changed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import structlog

from dnms.events.configuration import Resolver
from dnms.linux import resolvconf, resolved
from dnms.linux.errors import KernelError
from dnms.linux.resolvconf import Resolvconf
from dnms.linux.resolved import Resolved
from dnms.linux.resolver import ResolverFile

log = structlog.get_logger(__name__)


class NameServers(Protocol):
    """One of the ways."""

    async def read(self) -> Resolver:
        """What stands there now, which may be another's. KernelError."""
        ...

    async def write(self, wanted: Resolver) -> bool:
        """Set these; false if it is so already. What was there before the first time is kept. ValueError for a domain
        that cannot be, KernelError.
        """
        ...

    async def restore(self) -> bool:
        """Bring back what was there before the first `write`; false if nothing was ever written. KernelError."""
        ...

    def before(self) -> Resolver | None:
        """What was read before the first `write`; None if nothing was ever written."""
        ...


async def in_use(interface: str, index: int, *, state: Path, resolv_conf: Path) -> NameServers:
    """The way that this machine uses now. KernelError `timeout` where that does not come out."""
    target = _target(resolv_conf)
    if not _is_mounted(target):
        if resolved.is_named(target) and await resolved.is_there():
            return Resolved(interface, index, state)
        if resolvconf.is_named(target):
            return Resolvconf(interface, resolv_conf, state)
    return ResolverFile(resolv_conf, state)


async def read(interface: str, index: int, *, state: Path, resolv_conf: Path) -> Resolver | None:
    """What stands there now; None if that does not come out."""
    try:
        return await (await in_use(interface, index, state=state, resolv_conf=resolv_conf)).read()
    except KernelError as error:
        log.warning("DNS servers are not known", interface=interface, reason=str(error))
        return None


async def roll_back(to: Resolver, interface: str, index: int, *, state: Path, resolv_conf: Path) -> None:
    """Make it what was read at a moment since DNMS came, or just before. ValueError, KernelError."""
    way = await in_use(interface, index, state=state, resolv_conf=resolv_conf)
    if await way.read() == to:
        return
    if way.before() == to:
        await way.restore()  # with what DNMS does not know of: other options, servers of other programs
    else:
        await way.write(to)


async def give_back(interface: str, index: int, *, state: Path, resolv_conf: Path) -> None:
    """Undo every `write`, by whichever way it was. KernelError if the file cannot be brought back."""
    for way in (Resolved(interface, index, state), Resolvconf(interface, resolv_conf, state)):
        try:
            await way.restore()
        except KernelError as error:
            log.warning("DNS servers not brought back", interface=interface, reason=str(error))
    await ResolverFile(resolv_conf, state).restore()


def fingerprint(resolv_conf: Path) -> object:
    """Something that is another one when the servers have changed. Asks nobody."""
    files = [resolv_conf]
    if resolved.is_named(_target(resolv_conf)):
        files.append(resolved.UPLINK)
    return tuple(map(_status, files))


def _status(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_size, status.st_mtime_ns


def _target(resolv_conf: Path) -> Path:
    return Path(os.path.realpath(resolv_conf))


def _is_mounted(target: Path) -> bool:
    """Whether the file is mounted there, as in a container or for a namespace: it is of that alone then, whatever the
    machine around it uses.
    """
    try:
        mounts = Path("/proc/thread-self/mountinfo").read_text(errors="replace")
    except OSError:
        return False
    return any(line.split()[4] == str(target) for line in mounts.splitlines())
