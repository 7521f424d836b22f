"""resolv.conf: read, written, and given back as it was."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from dnms.events.configuration import Resolver
from dnms.events.ip import format_address, parse_address
from dnms.linux.errors import KernelError

HEADER = "# Written by DNMS. What was here before is kept by the Node Agent and comes back when it gives up its role.\n"
MAX_BYTES = 64 << 10  # a resolv.conf beyond this is none; glibc reads three servers of it

BACKUP = "resolv.conf.before"
ABSENT = "resolv.conf.absent"


def read(path: Path) -> Resolver:
    """Servers and search domains; none if there is no such file. Servers with a scope (fe80::1%eth0) are left out."""
    servers: list[bytes] = []
    search: tuple[str, ...] = ()
    for words in _lines(path):
        if words[0] == "nameserver" and len(words) > 1:
            with contextlib.suppress(ValueError):
                servers.append(parse_address(words[1]))
        elif words[0] in ("search", "domain"):
            search = tuple(words[1:])  # the last one counts, resolv.conf(5)
    return Resolver(servers=tuple(servers), search=search)


def _lines(path: Path) -> list[list[str]]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode(errors="replace")
    except OSError:
        return []
    return [line.split() for line in text.splitlines() if line.split() and line[0] not in "#;"]


def lines(resolver: Resolver) -> list[str]:
    """As resolv.conf(5) has it. ValueError for a domain that would break the file."""
    for domain in resolver.search:
        if not domain or any(not character.isprintable() or character.isspace() for character in domain):
            raise ValueError(f"{domain!r} is no search domain")
    said = [f"nameserver {format_address(server)}" for server in resolver.servers]
    return ["search " + " ".join(resolver.search), *said] if resolver.search else said


def write(path: Path, resolver: Resolver, *, state: Path) -> bool:
    """Write these servers and domains, keeping lines of `options` and `sortlist`; false if the file says so already.

    What was there before the first time is kept in the directory `state`. ValueError for a domain that would break
    the file, KernelError if it cannot be written.
    """
    kept = [" ".join(words) for words in _lines(path) if words[0] in ("options", "sortlist")]
    content = (HEADER + "".join(f"{line}\n" for line in lines(resolver) + kept)).encode()
    try:
        if not path.is_symlink() and path.exists() and path.read_bytes() == content:
            return False
        _keep(path, state)
        _replace(path, content)
    except OSError as error:
        raise KernelError.from_errno(error.errno or 0, f"write {path}") from error
    return True


def restore(path: Path, *, state: Path) -> bool:
    """Bring back what was there before the first `write`; false if nothing was ever written."""
    backup, absent = state / BACKUP, state / ABSENT
    try:
        if backup.is_symlink():
            path.unlink(missing_ok=True)
            path.symlink_to(backup.readlink())
        elif backup.exists():
            _replace(path, backup.read_bytes())
        elif absent.exists():
            path.unlink(missing_ok=True)
        else:
            return False
        backup.unlink(missing_ok=True)
        absent.unlink(missing_ok=True)
    except OSError as error:
        raise KernelError.from_errno(error.errno or 0, f"restore {path}") from error
    return True


def before(path: Path, *, state: Path) -> Resolver | None:
    """What was read before the first `write`; None if nothing was ever written."""
    backup = state / BACKUP
    if backup.is_symlink():
        return read(path.parent / backup.readlink())
    if backup.exists():
        return read(backup)
    return Resolver() if (state / ABSENT).exists() else None


class ResolverFile:
    """The file as one of the ways in which a machine has its servers."""

    def __init__(self, path: Path, state: Path) -> None:
        self._path = path
        self._state = state

    async def read(self) -> Resolver:
        """As `read`."""
        return read(self._path)

    async def write(self, wanted: Resolver) -> bool:
        """As `write`."""
        return write(self._path, wanted, state=self._state)

    async def restore(self) -> bool:
        """As `restore`."""
        return restore(self._path, state=self._state)

    def before(self) -> Resolver | None:
        """As `before`."""
        return before(self._path, state=self._state)


def _keep(path: Path, state: Path) -> None:
    """Keep the file (or the symbolic link) as it is, once."""
    backup, absent = state / BACKUP, state / ABSENT
    if os.path.lexists(backup) or absent.exists():
        return
    state.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(path):
        absent.touch()
        return
    fresh = state / f"{BACKUP}.new"
    fresh.unlink(missing_ok=True)
    shutil.copy2(path, fresh, follow_symlinks=False)
    fresh.rename(backup)


def _replace(path: Path, content: bytes) -> None:
    """Put the content in the place of the file, or of the link to another program's file.

    A rename is atomic, but a mounted file (in a namespace or a container) refuses it with EBUSY, and so does a
    directory that cannot be written. Then it is written in place, in one call, so that hardly a reader sees a half.
    """
    fresh = path.with_name(f".{path.name}.dnms")
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        fresh.write_bytes(content)
        fresh.chmod(mode)
        fresh.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.pwrite(descriptor, content, 0)
            os.ftruncate(descriptor, len(content))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
