"""The DHCP servers that `bench.dhcp` puts beside each other, each as its Debian package has it.

All serve one IPv6 /64 of which they give a /80, and 10.0.0.0/8; none logs single messages. What is durable before a
client is answered: DNMS's log, PostgreSQL, dnsmasq's file and ISC's of DHCPv4 are synced for each (`strace` counts one
sync an exchange); Kea's memfile and ISC's file of DHCPv6 are not.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import msgspec

from bench import postgresql
from bench.processes import running
from dnms.linux.namespaces import Namespace

INTERFACE = "bench-s"
ADDRESS = "10.0.0.1"
READY_WITHIN = 60.0  # seconds
POLL = 0.05
VALID = 4_000  # seconds
KEA_SCHEMA = Path("/usr/share/kea/scripts/pgsql/dhcpdb_create.pgsql")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"

Lists = dict[str, object]


class Running(msgspec.Struct, frozen=True):
    """One that serves."""

    processes: Callable[[], list[int]]  # that do it, its database's too
    disk: Callable[[], int]  # bytes that it has written down


class Server(msgspec.Struct, frozen=True):
    """One that can be measured."""

    name: str
    serving: Callable[[Path, Namespace, int], AbstractContextManager[Running]]  # in a folder, a namespace, of a family
    packages: dict[str, str]  # by program that it needs: what of Debian brings it
    durable: tuple[int, ...]  # of which families it syncs before it answers
    begins: int  # exchanges a second with which a search begins

    def missing(self) -> list[str]:
        """Packages that are not installed."""
        return [package for program, package in self.packages.items() if not is_there(program)]


def is_there(program: str) -> bool:
    """Whether a program is installed, or a file there."""
    if program == "initdb":
        return postgresql.binaries() is not None
    return Path(program).exists() or shutil.which(program, path=_PATH) is not None


@contextmanager
def _dnms(folder: Path, namespace: Namespace, kind: int) -> Iterator[Running]:
    del kind
    command = (sys.executable, "-m", "bench.dhcp_dnms", str(folder), INTERFACE)
    with _started(namespace, *command, log=folder / "dnms.log"):
        log = folder / "agent.log"
        _until(lambda: log.exists() and "serving" in log.read_text(), folder / "dnms.log")
        pids = [int((folder / f"{name}.pid").read_text()) for name in ("agent", "server")]
        time.sleep(0.5)  # until it has adopted the plan
        yield Running(processes=lambda: pids, disk=lambda: _size(folder / "site" / "log"))


@contextmanager
def _kea(folder: Path, namespace: Namespace, kind: int) -> Iterator[Running]:
    leases = folder / "leases.csv"
    database: Lists = {"type": "memfile", "persist": True, "name": str(leases)}
    with _kea_with(database, folder, namespace, kind) as pid:
        yield Running(processes=lambda: [pid], disk=lambda: _size(leases))


@contextmanager
def _kea_postgresql(folder: Path, namespace: Namespace, kind: int) -> Iterator[Running]:
    programs = postgresql.binaries()
    assert programs is not None
    with postgresql.serving(folder, programs) as server:
        server.sql("CREATE DATABASE kea")
        server.run("psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", "kea", "-f", str(KEA_SCHEMA))
        database: Lists = {"type": "postgresql", "name": "kea", "host": str(server.folder), "user": "bench"}
        main = int((server.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        with _kea_with(database | {"password": "x"}, folder, namespace, kind) as pid:
            table = f"select pg_total_relation_size('lease{kind}')"
            yield Running(
                processes=lambda: [pid, main, *_children(main)],
                disk=lambda: int(server.run("psql", "-XAtq", "-d", "kea", "-c", table)),
            )


@contextmanager
def _kea_with(database: Lists, folder: Path, namespace: Namespace, kind: int) -> Iterator[int]:
    settings = folder / "kea.json"
    settings.write_text(json.dumps({f"Dhcp{kind}": kea_settings(database, folder, kind)}))
    places = ("KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR", "KEA_DHCP_DATA_DIR", "KEA_LOG_FILE_DIR")
    environment = dict(os.environ) | dict.fromkeys(places, str(folder))
    command = (_program(f"kea-dhcp{kind}"), "-c", str(settings))
    with _started(namespace, *command, log=folder / "kea.log", environment=environment) as pid:
        _until(lambda: _listens(pid, kind), folder / "kea.log")
        yield pid


def kea_settings(database: Lists, folder: Path, kind: int) -> Lists:
    """Multi-threaded, as it is by default where it is faster with that: with a database (its manual, 4.3)."""
    is_durable = database["type"] == "postgresql"
    subnet: Lists = {"id": 1, "interface": INTERFACE}
    every: Lists = {
        "interfaces-config": {"interfaces": [INTERFACE]},
        "valid-lifetime": VALID,
        "renew-timer": VALID // 4,
        "rebind-timer": VALID // 2,
        "lease-database": database,
        "multi-threading": {"enable-multi-threading": is_durable},
        "loggers": [{"name": f"kea-dhcp{kind}", "severity": "WARN", "output_options": [{"output": "stdout"}]}],
    }
    if kind == 6:
        every |= {
            "preferred-lifetime": VALID * 3 // 4,
            "data-directory": str(folder),
            "server-id": {"type": "LL", "htype": 1, "identifier": "020000000001", "persist": False},
        }
        subnet |= {
            "subnet": "2001:db8:1::/64",
            "rapid-commit": True,
            "pools": [{"pool": "2001:db8:1:0:1::/80"}],
            "pd-pools": [{"prefix": "2001:db8:8000::", "prefix-len": 33, "delegated-len": 64}],
        }
    else:
        every["interfaces-config"] = {"interfaces": [INTERFACE], "dhcp-socket-type": "udp"}
        subnet |= {"subnet": "10.0.0.0/8", "pools": [{"pool": "10.1.0.0-10.255.255.254"}]}
    return every | {f"subnet{kind}": [subnet]}


@contextmanager
def _dnsmasq(folder: Path, namespace: Namespace, kind: int) -> Iterator[Running]:
    leases = folder / "leases"
    pool = "2001:db8:1::1:0:0,2001:db8:1::1:ffff:ffff,64" if kind == 6 else "10.1.0.0,10.255.255.254,255.0.0.0"
    options = ("-k", "-C", "/dev/null", "-u", "root", "--port=0", "-i", INTERFACE, "--bind-interfaces", "--no-ping")
    quiet = ("--log-facility=-", "--quiet-dhcp", "--quiet-dhcp6", "--dhcp-authoritative", "--dhcp-lease-max=100000000")
    served = (f"--dhcp-leasefile={leases}", f"--dhcp-range={pool},{VALID}", f"--pid-file={folder / 'pid'}")
    command = (_program("dnsmasq"), *options, *quiet, *served)
    with _started(namespace, *command, log=folder / "dnsmasq.log") as pid:
        _until(lambda: _listens(pid, kind), folder / "dnsmasq.log")
        yield Running(processes=lambda: [pid], disk=lambda: _size(leases))


@contextmanager
def _dhcpd(folder: Path, namespace: Namespace, kind: int) -> Iterator[Running]:
    leases, settings = folder / "dhcpd.leases", folder / "dhcpd.conf"
    leases.touch()
    pool = (
        "subnet6 2001:db8:1::/64 { range6 2001:db8:1::1:0:0 2001:db8:1::1:ffff:ffff; }"
        if kind == 6
        else "subnet 10.0.0.0 netmask 255.0.0.0 { range 10.1.0.0 10.1.63.254; }"
    )
    settings.write_text(
        f"authoritative; default-lease-time {VALID}; max-lease-time {VALID}; ping-check false; {pool}\n"
    )
    command = (
        _program("dhcpd"),
        "-f",
        "-q",
        f"-{kind}",
        "-cf",
        str(settings),
        "-lf",
        str(leases),
        "--no-pid",
        INTERFACE,
    )
    with _started(namespace, *command, log=folder / "dhcpd.log") as pid:
        _until(lambda: _listens(pid, kind), folder / "dhcpd.log")
        yield Running(processes=lambda: [pid], disk=lambda: _size(leases))


DNMS = Server("DNMS", _dnms, {}, durable=(4, 6), begins=2_000)
KEA_PACKAGES = {"kea-dhcp6": "kea-dhcp6-server", "kea-dhcp4": "kea-dhcp4-server"}
POSTGRESQL_PACKAGES = {"initdb": "postgresql", str(KEA_SCHEMA): "kea-admin"}
SERVERS = (
    DNMS,
    Server("Kea, memfile", _kea, KEA_PACKAGES, durable=(), begins=5_000),
    Server("Kea, PostgreSQL", _kea_postgresql, KEA_PACKAGES | POSTGRESQL_PACKAGES, durable=(4, 6), begins=400),
    Server("dnsmasq", _dnsmasq, {"dnsmasq": "dnsmasq-base"}, durable=(4, 6), begins=400),
    Server("ISC dhcpd", _dhcpd, {"dhcpd": "isc-dhcp-server"}, durable=(4,), begins=400),
)


@contextmanager
def _started(
    namespace: Namespace, *command: str, log: Path, environment: dict[str, str] | None = None
) -> Iterator[int]:
    """Its process, in this namespace."""
    with ExitStack() as stack:
        with namespace.entered():
            process = stack.enter_context(running(*command, log=log, environment=environment))
        yield process.pid


def _until(ready: Callable[[], bool], log: Path) -> None:
    """RuntimeError if it does not come up."""
    until = time.monotonic() + READY_WITHIN
    while not ready():
        if time.monotonic() > until:
            raise RuntimeError(f"a server does not come up:\n{log.read_text()[-2_000:]}")
        time.sleep(POLL)


def _program(name: str) -> str:
    found = shutil.which(name, path=_PATH)
    assert found is not None
    return found


def _listens(pid: int, kind: int) -> bool:
    """Whether somebody in the namespace of this process has the server's port."""
    file, port = ("udp6", 547) if kind == 6 else ("udp", 67)
    try:
        lines = Path(f"/proc/{pid}/net/{file}").read_text().splitlines()[1:]
    except OSError:
        return False
    return any(line.split()[1].endswith(f":{port:04X}") for line in lines)


def _children(pid: int) -> list[int]:
    """Of a process, now."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def _size(place: Path) -> int:
    """Bytes of a file, or of all in a directory."""
    if place.is_file():
        return place.stat().st_size
    return sum(each.stat().st_size for each in place.rglob("*") if each.is_file())
