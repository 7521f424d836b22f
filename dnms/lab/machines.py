"""Machines of the lab's link that have no Node Agent: with dhcpcd for DHCPv6 or for DHCPv4, or with SLAAC alone; and a
router that nobody wants.

dhcpcd has a resolv.conf, a /run and a /var/lib/dhcpcd of its own: there is one program a machine, and one machine.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from dnms.lab.network import INTERFACE, ROUTER_ADVERTISEMENTS, Network
from dnms.lab.programs import program, start
from dnms.linux.namespaces import Namespace

ROGUE = "fe80::bad"
ROGUE_PREFIX = "2001:db8:bad::/64"

_DHCPCD = """\
duid
hostname {name}
nohook resolv.conf, hostname
noipv4ll
option domain_name_servers, domain_search
"""
_DHCPV6 = """\
ipv6only
noipv6rs
interface {interface}
ia_na 1
"""
_DHCPV4 = """\
ipv4only
noarp
"""
_RADVD = f"""\
interface {INTERFACE} {{
    AdvSendAdvert on;
    MinRtrAdvInterval 3;
    MaxRtrAdvInterval 4;
    prefix {ROGUE_PREFIX} {{ AdvOnLink on; AdvAutonomous on; }};
}};
"""


class Machines:
    """All of them, and what runs there."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.dhcp6: list[Namespace] = []
        self.dhcp4: list[Namespace] = []
        self.slaac: list[Namespace] = []
        self._network = network
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    @property
    def all(self) -> list[Namespace]:
        """Those that only want an address."""
        return [*self.dhcp6, *self.dhcp4, *self.slaac]

    def start(self, each: int) -> None:
        """So many of each kind. NamespaceError, LabError."""
        for number in range(each):
            self.dhcp6.append(self._plug(f"dhcp6-{number + 1}", {f"ipv6.conf.{INTERFACE}.accept_ra": 0}))
            self.dhcp4.append(self._plug(f"dhcp4-{number + 1}", {f"ipv6.conf.{INTERFACE}.disable_ipv6": 1}))
            self.slaac.append(self._plug(f"slaac-{number + 1}", ROUTER_ADVERTISEMENTS))
        for which, says in ((self.dhcp6, _DHCPV6), (self.dhcp4, _DHCPV4)):
            for machine in which:
                self._dhcpcd(machine, _DHCPCD + says)

    def start_rogue(self) -> None:
        """A router that advertises a prefix which the plan does not have. NamespaceError, LabError."""
        rogue = self._network.plug("rogue")
        rogue.set_sysctls({"ipv6.conf.all.forwarding": 1})
        rogue.ip(
            [
                f"link set dev {INTERFACE} addrgenmode none up",
                f"address add {ROGUE}/64 dev {INTERFACE} nodad",
            ]
        )
        configuration = self._folder / "rogue-radvd.conf"
        configuration.write_text(_RADVD)
        configuration.chmod(0o644)
        words = ["-n", "-C", str(configuration), "-p", str(self._folder / "rogue-radvd.pid"), "-m", "stderr"]
        self._start(rogue, [program("radvd", "radvd"), *words])

    def close(self) -> None:
        """End what runs, without that it takes leave."""
        for process in self._running:
            process.kill()
            process.wait()

    def _plug(self, name: str, sysctls: dict[str, str | int]) -> Namespace:
        machine = self._network.plug(name)
        machine.set_sysctls(sysctls)
        machine.set_up(INTERFACE)
        return machine

    def _dhcpcd(self, machine: Namespace, says: str) -> None:
        own = self._folder / f"{machine.name}.dhcpcd.conf"
        own.write_text(says.format(name=machine.name, interface=INTERFACE))
        mounts = [f"mount -t tmpfs tmpfs {directory}" for directory in ("/run", "/var/lib/dhcpcd")]
        command = f"exec {program('dhcpcd', 'dhcpcd-base')} -B -f {own} --script /bin/true {INTERFACE}"
        private = " && ".join((*mounts, command))
        self._start(machine, ["unshare", "--mount", "--propagation", "private", "sh", "-c", private])

    def _start(self, machine: Namespace, words: list[str]) -> None:
        self._running.append(start(machine, words, log=self._folder / f"{machine.name}.log"))
