"""Kea's DHCPv6 server with as many leases in its lease file (memfile): how long its start takes, and what it holds.

Debian has it as `kea-dhcp6-server`. It is ready when it listens, which it does when it has read its leases.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.processes import running
from bench.starts import Start, started

LIFETIME = 40_000  # seconds
HEADER = (
    "address,duid,valid_lifetime,expire,subnet_id,pref_lifetime,lease_type,iaid,prefix_len,fqdn_fwd,fqdn_rev,"
    "hostname,hwaddr,state,user_context,hwtype,hwaddr_source"
)
SEARCHED = "/usr/sbin:/usr/local/sbin:/usr/bin"
LISTENS_WITHIN = 30.0  # seconds


def program() -> str | None:
    """Where it is installed."""
    return shutil.which("kea-dhcp6", path=f"{os.environ.get('PATH', '')}:{SEARCHED}")


async def start(folder: Path, interface: str, leases: int) -> Start | None:
    """Start it on an interface of this namespace, with so many leases; None if it is not installed. RuntimeError."""
    server = program()
    if server is None:
        return None
    _prepare(folder, interface, leases)
    found, _ = await started(
        *(server, "-c", str(folder / "kea.json")),
        log=folder / "kea.log",
        ready=_listens,
        environment=_environment(folder),
    )
    return found


@contextmanager
def serving(folder: Path, interface: str) -> Iterator[None]:
    """It serves an interface of this namespace, with no lease yet, and answers a Solicit at once where a client asks
    for that (Rapid Commit). RuntimeError if it does not, or is not installed.
    """
    server = program()
    if server is None:
        raise RuntimeError("kea-dhcp6 is not installed")
    _prepare(folder, interface, 0)
    with running(server, "-c", str(folder / "kea.json"), log=folder / "kea.log", environment=_environment(folder)):
        until = time.monotonic() + LISTENS_WITHIN
        while not _listens():
            if time.monotonic() > until:
                raise RuntimeError(f"kea-dhcp6 does not listen:\n{(folder / 'kea.log').read_text()[-2_000:]}")
            time.sleep(0.05)
        yield


def _environment(folder: Path) -> dict[str, str]:
    places = ("KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR", "KEA_DHCP_DATA_DIR", "KEA_LOG_FILE_DIR")
    return dict(os.environ) | dict.fromkeys(places, str(folder))


def _prepare(folder: Path, interface: str, leases: int) -> None:
    folder.mkdir()
    _write_leases(folder / "leases.csv", leases)
    (folder / "kea.json").write_text(json.dumps({"Dhcp6": _configuration(folder, interface)}))


def _configuration(folder: Path, interface: str) -> dict[str, Any]:
    return {
        "interfaces-config": {"interfaces": [interface]},
        "lease-database": {"type": "memfile", "persist": True, "name": str(folder / "leases.csv")},
        "data-directory": str(folder),
        "server-id": {"type": "LL", "htype": 1, "identifier": "020000000001", "persist": False},
        "valid-lifetime": LIFETIME,
        "preferred-lifetime": LIFETIME,
        "renew-timer": LIFETIME // 2,
        "rebind-timer": LIFETIME * 3 // 4,
        "multi-threading": {"enable-multi-threading": True},
        "subnet6": [
            {
                "id": 1,
                "interface": interface,
                "subnet": "2001:db8:1::/64",
                "rapid-commit": True,
                "pools": [{"pool": "2001:db8:1:0:1::/80"}],
            }
        ],
        "loggers": [{"name": "kea-dhcp6", "severity": "WARN", "output_options": [{"output": "stdout"}]}],
    }


def _write_leases(file: Path, leases: int) -> None:
    expire = int(time.time()) + LIFETIME
    with file.open("w", buffering=1 << 20) as lines:
        lines.write(HEADER + "\n")
        for number in range(leases):
            digits = f"{number:08x}"
            octets = ":".join(digits[at : at + 2] for at in range(0, 8, 2))
            address = f"2001:db8:1:0:1:0:{number >> 16:x}:{number & 0xFFFF:x}"
            lines.write(
                f"{address},00:03:00:01:02:01:{octets},{LIFETIME},{expire},1,{LIFETIME},0,1,128,0,0,,02:01:{octets},0,,1,2\n"
            )


def _listens() -> bool:
    """Whether somebody in this namespace has the server's port (RFC 8415, 7.2)."""
    lines = Path("/proc/net/udp6").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(f":{547:04X}") for line in lines)
