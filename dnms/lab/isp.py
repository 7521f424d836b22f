"""The ISP of the lab: Kea delegates a prefix to the border router, radvd advertises the way out, and its one route."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from dnms.events.ip import Prefix, parse_prefix
from dnms.lab.programs import program, start
from dnms.linux.namespaces import Namespace

CUSTOMER = "cust0"  # towards the border router
CORE = "core0"  # towards the host beyond
BEYOND = "2001:db8:ff::2"

LENGTH = 56
RENEW, REBIND, PREFERRED, VALID = 3, 6, 60, 90  # seconds

_RADVD = f"""\
interface {CUSTOMER} {{
    AdvSendAdvert on;
    MinRtrAdvInterval 3;
    MaxRtrAdvInterval 4;
    prefix 2001:db8:fe::/64 {{ AdvOnLink on; AdvAutonomous on; }};
}};
"""


class Isp:
    """In one namespace, with a host beyond it in another one."""

    def __init__(self, namespace: Namespace, beyond: Namespace, *, folder: Path, customer: str) -> None:
        """`customer` is the link-local address of the border router. NamespaceError."""
        self._namespace = namespace
        self._folder = folder
        self._customer = customer
        self._radvd: subprocess.Popen[bytes] | None = None
        self._kea: subprocess.Popen[bytes] | None = None
        namespace.set_sysctls({"ipv6.conf.all.forwarding": 1})
        namespace.ip(
            [
                f"link set dev {CUSTOMER} addrgenmode none up",
                f"link set dev {CORE} up",
                f"address add fe80::1/64 dev {CUSTOMER} nodad",
                f"address add 2001:db8:ff::1/64 dev {CORE} nodad",
            ]
        )
        beyond.ip(
            [
                "link set dev eth0 up",
                f"address add {BEYOND}/64 dev eth0 nodad",
                "route add default via 2001:db8:ff::1 dev eth0",
            ]
        )

    def advertise(self) -> None:
        """Say to the customer where the way out is. LabError."""
        configuration = self._folder / "isp-radvd.conf"
        configuration.write_text(_RADVD)
        configuration.chmod(0o644)
        words = ["-n", "-C", str(configuration), "-p", str(self._folder / "isp-radvd.pid"), "-m", "stderr"]
        self._radvd = self._start("radvd", words, {})

    def delegate(self, *prefixes: Prefix) -> None:
        """Delegate one of these from now on, and of what was delegated before nothing more. LabError."""
        self._stop(self._kea)
        configuration = self._folder / "kea.json"
        configuration.write_text(json.dumps({"Dhcp6": _kea(prefixes)}))
        environment = {"KEA_PIDFILE_DIR": str(self._folder), "KEA_LOCKFILE_DIR": "none"}
        self._kea = self._start("kea-dhcp6", ["-c", str(configuration)], environment)

    def route(self, prefix: Prefix) -> None:
        """Forward to the customer what is for a prefix. NamespaceError."""
        self._namespace.ip([f"route add {prefix} via {self._customer} dev {CUSTOMER}"])

    def cut(self, prefix: Prefix) -> None:
        """Forward nothing more of it, nor from it. NamespaceError."""
        self._namespace.ip([f"route del {prefix}"])

    def close(self) -> None:
        """End what runs."""
        self._stop(self._radvd)
        self._stop(self._kea)

    def _start(self, name: str, words: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        found = program(name, {"kea-dhcp6": "kea-dhcp6-server"}.get(name, name))
        log = self._folder / f"isp-{name}.log"
        return start(self._namespace, [found, *words], log=log, environment=environment)

    @staticmethod
    def _stop(process: subprocess.Popen[bytes] | None) -> None:
        if process is not None:
            process.kill()
            process.wait()


def block(number: int) -> Prefix:
    """The n-th prefix that the ISP may delegate."""
    return parse_prefix(f"2001:db8:{number:x}00::/{LENGTH}")


def _kea(prefixes: tuple[Prefix, ...]) -> dict[str, object]:
    pools = [
        {"prefix": str(each).partition("/")[0], "prefix-len": each.length, "delegated-len": each.length}
        for each in prefixes
    ]
    return {
        "interfaces-config": {"interfaces": [CUSTOMER]},
        "lease-database": {"type": "memfile", "persist": False},
        "server-id": {"type": "LL", "htype": 1, "identifier": "020000000001", "persist": False},
        "renew-timer": RENEW,
        "rebind-timer": REBIND,
        "preferred-lifetime": PREFERRED,
        "valid-lifetime": VALID,
        "subnet6": [{"id": 1, "subnet": "2001:db8::/32", "interface": CUSTOMER, "pd-pools": pools}],
        "loggers": [{"name": "kea-dhcp6", "severity": "INFO", "output_options": [{"output": "stdout"}]}],
    }
