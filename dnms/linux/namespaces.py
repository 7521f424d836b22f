"""Network namespaces, and a bridge between them, for a network inside one machine.

A namespace is held by a descriptor and has no name in the file system: when its holder and the processes in it are
gone, however they ended, the kernel takes it away with all interfaces in it. Making one costs 0.4 ms, plugging it into
a bridge 1 ms.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_PR_SET_PDEATHSIG = 1
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 0x1
_OWN = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


class NamespaceError(Exception):
    """The kernel refused, or iproute2 did; one clear line."""


def _call(what: str, function: str, *arguments: object) -> None:
    if getattr(_libc, function)(*arguments) != 0:
        raise NamespaceError(f"{what}: {os.strerror(ctypes.get_errno())}")


class Namespace:
    """A network namespace; it lives while this one is not closed, or while a process is in it."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self._descriptor = descriptor

    @classmethod
    def create(cls, name: str) -> Namespace:
        """A new one, in which only a loopback interface is, and that is up. NamespaceError."""
        with _return():
            _call("cannot make a network namespace", "unshare", _CLONE_NEWNET)
            created = cls.current(name)
            set_up("lo")
        return created

    @classmethod
    def current(cls, name: str) -> Namespace:
        """The one that this thread is in."""
        return cls(name, os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC))

    def fileno(self) -> int:
        """Its descriptor, which can be passed to other processes."""
        return self._descriptor

    def close(self) -> None:
        """Let it go. It ends with the last process in it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def enter(self) -> None:
        """Move this thread into it for good: for a child that was just forked. NamespaceError."""
        _call(f"cannot enter the namespace {self.name}", "setns", self._descriptor, _CLONE_NEWNET)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is in it for a while: to open a socket there, write a sysctl or start a process.

        Nothing may be awaited meanwhile, since other tasks of the thread would be in it as well. NamespaceError.
        """
        with _return():
            self.enter()
            yield

    def run(self, *command: str, stdin: str = "", pass_fds: Sequence[int] = (), timeout: float = 30) -> str:
        """Run a command in it to its end, and return what it printed. NamespaceError with its first line of errors."""
        with self.entered():
            try:
                done = subprocess.run(
                    command,
                    input=stdin,
                    pass_fds=pass_fds,
                    timeout=timeout,
                    capture_output=True,
                    text=True,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise NamespaceError(f"{command[0]} in {self.name}: {error}") from None
        if done.returncode:
            complaint = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
            raise NamespaceError(f"{' '.join(command)} in {self.name}: {complaint}")
        return done.stdout

    def ip(self, lines: Sequence[str], *, pass_fds: Sequence[int] = ()) -> None:
        """Run iproute2's commands in it as one batch. NamespaceError at the first that fails."""
        self.run(_ip(), "-batch", "-", stdin="".join(f"{line}\n" for line in lines), pass_fds=pass_fds)

    def set_sysctls(self, values: dict[str, str | int]) -> None:
        """Write sysctls below `net`, as `ipv6.conf.eth0.accept_ra`. NamespaceError."""
        with self.entered():
            for name, value in values.items():
                path = Path("/proc/sys/net", *name.split("."))
                try:
                    path.write_text(f"{value}\n")
                except OSError as error:
                    raise NamespaceError(f"cannot set net.{name} in {self.name}: {error.strerror}") from None

    def set_up(self, interface: str) -> None:
        """Bring an interface up. NamespaceError."""
        with self.entered():
            set_up(interface)


class Bridge:
    """A switch: a bridge in a namespace, and virtual cables from it into other namespaces."""

    def __init__(self, namespace: Namespace, name: str) -> None:
        self.namespace = namespace
        self.name = name
        self._ports = 0

    @classmethod
    def create(cls, namespace: Namespace, name: str, *, addresses: Sequence[str] = ()) -> Bridge:
        """A bridge that is up, forwards at once and floods multicast; static addresses need no DAD. NamespaceError."""
        namespace.ip(
            [
                f"link add name {name} type bridge forward_delay 0 mcast_snooping 0",
                *(f"address add {address} dev {name} {'nodad' if ':' in address else ''}" for address in addresses),
                f"link set dev {name} up",
            ]
        )
        return cls(namespace, name)

    def plug(self, ends: Sequence[Namespace], interface: str) -> list[str]:
        """Lay a cable into each namespace, where its end is called `interface` and is down; the bridge's own ends.

        NamespaceError.
        """
        lines: list[str] = []
        ports: list[str] = []
        for end in ends:
            self._ports += 1
            port = f"{self.name}-{self._ports}"
            ports.append(port)
            lines += [
                f"link add {port} type veth peer name {interface} netns /proc/self/fd/{end.fileno()}",
                f"link set dev {port} master {self.name} addrgenmode none up",
            ]
        self.namespace.ip(lines, pass_fds=[end.fileno() for end in ends])
        return ports


def set_up(interface: str) -> None:
    """Bring an interface of this thread's namespace up, without the cost of a netlink socket. NamespaceError."""
    name = interface.encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        try:
            answer = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sH14x", name, 0))
            flags: int = struct.unpack_from("16xH", answer)[0]
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", name, flags | _IFF_UP))
        except OSError as error:
            raise NamespaceError(f"cannot bring {interface} up: {error.strerror}") from None


def private_mounts() -> None:
    """Give this process mounts of its own: what it mounts from now on, no other process sees. NamespaceError."""
    _call("cannot make a mount namespace", "unshare", _CLONE_NEWNS)
    _call("cannot make the mounts private", "mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)


def bind_mount(source: Path, target: Path) -> None:
    """Show the file `source` in the place of `target`; only sensible after `private_mounts`. NamespaceError."""
    _call(f"cannot mount over {target}", "mount", os.fsencode(source), os.fsencode(target), None, _MS_BIND, None)


def mount_tmpfs(target: Path, *, size: int) -> None:
    """Mount an empty disk of so many bytes, in memory, on the directory `target`. NamespaceError."""
    options = f"size={size},mode=700".encode()
    _call(f"cannot mount a tmpfs on {target}", "mount", b"tmpfs", os.fsencode(target), b"tmpfs", 0, options)


def end_with_parent(signal: int) -> None:
    """Have the kernel send this process `signal` when its parent ends. NamespaceError."""
    _call("cannot ask for the signal at the parent's end", "prctl", _PR_SET_PDEATHSIG, signal, 0, 0, 0)


def search_path() -> str:
    """PATH with the folders in which Debian has ip and radvd, and which ordinary users do not have in theirs."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def _ip() -> str:
    path = shutil.which("ip", path=search_path())
    if path is None:
        raise NamespaceError("iproute2 (the program `ip`) is not installed")
    return path


@contextmanager
def _return() -> Iterator[None]:
    """Leave this thread in the namespace where it was."""
    own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        try:
            _call("cannot go back to the own namespace", "setns", own, _CLONE_NEWNET)
        finally:
            os.close(own)
