"""Two namespaces and a cable between them that is pulled and plugged in again: where one side after the other comes up.

    node (eth0) ── bridge `link` in this namespace ── routers, each of which is on the link only when its side runs

Besides the node's, the bridge has a port that is always up, so that its own link does not go with the node's.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from bench.processes import running
from dnms.linux.namespaces import Bridge, Namespace, search_path, set_up

BRIDGE, INTERFACE = "link", "eth0"
PREFIX = ipaddress.IPv6Network("2001:db8:1::/64")
SERVER = f"{PREFIX[1]}/{PREFIX.prefixlen}"
END_WITHIN = 5.0  # seconds, before a client is killed

_RADVD = """\
interface {interface} {{
    AdvSendAdvert on;
    UnicastOnly on;
    MinRtrAdvInterval 200;
    MaxRtrAdvInterval 600;
    AdvManagedFlag {managed};
    prefix {prefix} {{ AdvOnLink on; AdvAutonomous {autonomous}; }};
}};
"""
"""It answers who asks, and says nothing by itself: an advertisement that comes by chance shortens one run in many."""

_DHCPCD = """\
duid
ipv6only
{asks}
option dhcp6_rapid_commit
option dhcp6_name_servers
interface {interface}
    ia_na 1
"""


class Pair:
    """A link, and one node on it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        """Build it in this namespace, which has nothing in it yet; `stack` takes it down. NamespaceError."""
        self.folder = folder
        self.node = stack.enter_context(Namespace.create("node"))
        self._here = stack.enter_context(Namespace.current("here"))
        self._stack = stack
        self._bridge = Bridge.create(self._here, BRIDGE, addresses=[SERVER])
        (self._port,) = self._bridge.plug([self.node], INTERFACE)
        still = stack.enter_context(Namespace.create("still"))
        self._bridge.plug([still], INTERFACE)
        still.set_up(INTERFACE)
        self._settings = self._read_settings()

    def add_router(self, name: str, *, managed: bool) -> str:
        """A router that is not on the link yet; the name of the port by which it comes there. OSError if there is no
        radvd. `managed`: addresses are to be asked for by DHCPv6, else made by SLAAC.
        """
        program = shutil.which("radvd", path=search_path())
        if program is None:
            raise FileNotFoundError("radvd is not installed")
        router = self._stack.enter_context(Namespace.create(name))
        (port,) = self._bridge.plug([router], INTERFACE)
        self._here.ip([f"link set dev {port} nomaster"])
        router.set_sysctls({"ipv6.conf.all.forwarding": 1})
        router.set_up(INTERFACE)
        configuration = self.folder / f"{name}.conf"
        flags = ("on", "off") if managed else ("off", "on")
        configuration.write_text(
            _RADVD.format(interface=INTERFACE, prefix=PREFIX, managed=flags[0], autonomous=flags[1])
        )
        configuration.chmod(0o644)
        command = (program, "-n", "-m", "stderr", "-C", str(configuration), "-p", str(self.folder / f"{name}.pid"))
        with router.entered():
            self._stack.enter_context(running(*command, log=self.folder / f"{name}.log"))
        return port

    @contextmanager
    def on_the_link(self, port: str | None) -> Iterator[None]:
        """The router behind this port is there meanwhile. It never sees its own cable pulled."""
        if port is None:
            yield
            return
        self._here.ip([f"link set dev {port} master {BRIDGE}"])
        try:
            yield
        finally:
            self._here.ip([f"link set dev {port} nomaster"])

    def pull(self) -> None:
        """Pull the node's cable, and make the node as if it were new: no address, no setting that anybody has changed.

        Its interface is on, and has no carrier.
        """
        self._here.ip([f"link set dev {self._port} down"])
        self.node.ip([f"link set dev {INTERFACE} down", f"address flush dev {INTERFACE}"])
        changed = {path: value for path, value in self._settings.items() if self._read(path) != value}
        with self.node.entered():
            for path, value in changed.items():
                path.write_text(value)
        self.node.set_up(INTERFACE)

    def plug_in(self) -> float:
        """Plug the node's cable in; when that was, in seconds since 1970-01-01 UTC."""
        now = time.time()
        set_up(self._port)
        return now

    @contextmanager
    def dhcpcd(self, *, asks_routers: bool, log: Path) -> Iterator[int]:
        """A DHCPv6 client on the node that remembers nothing; its process. It writes no file of this machine's."""
        own = self.folder / "own.resolv.conf"
        own.touch()
        configuration = self.folder / "dhcpcd.conf"
        asks = "" if asks_routers else "noipv6rs"
        configuration.write_text(_DHCPCD.format(interface=INTERFACE, asks=asks))
        mounts = [f"mount --bind {own} /etc/resolv.conf"] if Path("/etc/resolv.conf").exists() else []
        mounts += [f"mount -t tmpfs tmpfs {directory}" for directory in ("/run", "/var/lib/dhcpcd")]
        client = f"exec dhcpcd -B -6 --config {configuration} --script /bin/true {INTERFACE}"
        with self.node.entered(), log.open("ab") as output:
            process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", " && ".join((*mounts, client))],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PATH": search_path()},
                start_new_session=True,
            )
        try:
            yield process.pid
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):  # it has helpers in its group
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(END_WITHIN)

    @contextmanager
    def started(self, command: Sequence[str], log: Path) -> Iterator[int]:
        """A program on the node; its process."""
        with ExitStack() as stack:
            with self.node.entered():
                process = stack.enter_context(running(*command, log=log))
            yield process.pid

    def _read_settings(self) -> dict[Path, str]:
        """What can be set of the node's interface, as it is now."""
        places = [Path("/proc/sys/net", kind, "conf", INTERFACE) for kind in ("ipv6", "ipv4")]
        with self.node.entered():
            paths = [path for place in places for path in place.iterdir()]
        found = {path: self._read(path) for path in paths}
        return {path: value for path, value in found.items() if value is not None}

    def _read(self, path: Path) -> str | None:
        with self.node.entered():
            try:
                return path.read_text()
            except OSError:  # stable_secret, as long as there is none
                return None
