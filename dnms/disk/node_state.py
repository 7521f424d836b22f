"""What a node keeps over a reboot: who it is, and the configuration that it was last assigned."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from dnms.disk import atomic
from dnms.disk.delegated import Delegated, path_of
from dnms.events.codec import decoder, encoder
from dnms.events.configuration import Assignment, Snapshot
from dnms.events.ip import Address
from dnms.events.recorded import Part

DUID_UUID: Final = b"\x00\x04"
"""Type of a DUID that is a UUID (RFC 6355)."""


class Identity(Part, frozen=True, kw_only=True, omit_defaults=True):
    """A DUID, and the machine that it was drawn for."""

    duid: bytes
    machine: str = ""  # SMBIOS UUID, where there is one
    hardware: tuple[str, ...] = ()


class Kept(Part, frozen=True, kw_only=True, omit_defaults=True):
    """An assignment that was applied, with the wall time from which its lifetimes count."""

    assignment: Assignment
    site: str
    subnet: str
    usable: tuple[Address, ...]  # of its addresses, those that the kernel let the node use
    since: int  # microseconds since 1970-01-01 UTC
    renew_after: int  # seconds
    rebind_after: int


class Unproven(Part, frozen=True, kw_only=True, omit_defaults=True):
    """What an interface was before a change that has not proven itself yet, to be so again if it never does."""

    snapshot: Snapshot
    interface: int  # index, in the snapshot
    settings: dict[str, str]  # those that the change touches, as they were
    mtu: int = 0  # bytes; 0: the change does not touch it
    kept: Kept | None = None  # the configuration that was proven last
    since: float  # seconds since this machine was started, its sleep included
    boot: str = ""  # which start of the machine that was


class NodeStateError(Exception):
    """The state directory cannot be used; one line that says what to do."""


K = TypeVar("K", Identity, Kept, Unproven)


class NodeStateDirectory:
    """The directory of a Node Agent's state, made when it is missing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise NodeStateError(f"cannot make {path}: {error.strerror or error}") from error

    @contextmanager
    def own(self, interface: str) -> Iterator[None]:
        """Be the only agent of this interface meanwhile. NodeStateError if there is another."""
        try:
            lock = (self._path / f"lock.{interface}").open("w")
        except OSError as error:
            raise NodeStateError(f"cannot write {self._path}: {error.strerror or error}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise NodeStateError(f"another Node Agent runs on {interface}: stop it first") from error
            yield

    def identity(self, *, machine: str, hardware: tuple[str, ...], draw: Callable[[int], bytes]) -> Identity:
        """The node's identity. A new one is drawn at the first start, and on another machine: when the SMBIOS UUID is
        another one, or when none of the hardware addresses is there any more (interfaces come and go one by one).
        What cannot be read, empty here, says nothing. What the other machine was assigned is not ours: it is forgotten.
        """
        known = self._read("identity", Identity)
        if known and _is_same(known, machine, hardware):
            if machine == known.machine or not machine:
                return known
            identity = msgspec.structs.replace(known, machine=machine)  # it can be read now
        else:
            for assignment in self._path.glob("assignment.*"):
                self._unlink(assignment)
            identity = Identity(duid=DUID_UUID + draw(16), machine=machine, hardware=hardware)
        self._write("identity", identity)
        return identity

    def kept(self, interface: str) -> Kept | None:
        """The configuration that was last applied to the interface."""
        return self._read(f"assignment.{interface}", Kept)

    def keep(self, interface: str, kept: Kept) -> None:
        """Remember a configuration; NodeStateError if it cannot be written, and then the old one is still there."""
        self._write(f"assignment.{interface}", kept)

    def forget(self, interface: str) -> None:
        """The configuration has ended. NodeStateError."""
        self._unlink(self._path / f"assignment.{interface}")

    def delegate(self, interface: str, delegated: Delegated | None) -> None:
        """Pass on what is delegated to the node there; None: nothing is. NodeStateError.

        Nothing is written where nothing ever was: most nodes are no routers.
        """
        path = path_of(self._path, interface)
        try:
            if (delegated is not None and delegated.prefixes) or path.exists():
                atomic.write(path, encoder.encode(delegated or Delegated()), mode=0o600)
        except OSError as error:
            raise NodeStateError(f"cannot write {path}: {error.strerror or error}") from error

    def unproven(self, interface: str) -> Unproven | None:
        """What was before a change that was never proven; None if there is no such change."""
        return self._read(f"unproven.{interface}", Unproven)

    def begin(self, interface: str, unproven: Unproven) -> None:
        """A change begins that has to prove itself. NodeStateError, and then it must not be made."""
        self._write(f"unproven.{interface}", unproven)

    def end(self, interface: str) -> None:
        """The change is proven, or rolled back. NodeStateError."""
        self._unlink(self._path / f"unproven.{interface}")

    def _read(self, name: str, kind: type[K]) -> K | None:
        try:
            return decoder(kind).decode((self._path / name).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            raise NodeStateError(f"cannot read {self._path / name} ({error}): move it away and start again") from error

    def _unlink(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise NodeStateError(f"cannot remove {path}: {error.strerror or error}") from error

    def _write(self, name: str, state: Identity | Kept | Unproven) -> None:
        try:
            atomic.write(self._path / name, encoder.encode(state), mode=0o600)
        except OSError as error:
            raise NodeStateError(f"cannot write {self._path / name}: {error.strerror or error}") from error


def _is_same(known: Identity, machine: str, hardware: tuple[str, ...]) -> bool:
    """Whether this is the machine that the identity was drawn for."""
    if known.machine and machine and known.machine != machine:
        return False
    return not known.hardware or not hardware or bool(set(known.hardware) & set(hardware))
