"""ISC's Kea as a delegating router, with files of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dnms.linux.namespaces import Namespace
from tests.netns import debian

SERVER_DUID = "00:03:00:01:02:00:00:00:00:01"  # as its configuration says

PRIVATE = ("unshare", "--mount", "--propagation", "private", "sh", "-c")


@contextmanager
def kea(
    machine: Namespace, directory: Path, *pools: str, length: int = 56, exclude: str = "", **said: Any
) -> Iterator[Path]:
    """Kea on `wan0`, which delegates blocks of these pools; `said` are settings of its configuration.

    What it logs is in the file that is given. It remembers nothing over its end.
    """
    configuration = directory / "kea.json"
    log = directory / "kea.log"
    subnet = {
        "id": 1,
        "subnet": "2001:db8::/32",
        "interface": "wan0",
        "pd-pools": [
            {
                "prefix": pool.partition("/")[0],
                "prefix-len": int(pool.partition("/")[2]),
                "delegated-len": length,
            }
            | ({"excluded-prefix": exclude.partition("/")[0], "excluded-prefix-len": 64} if exclude else {})
            for pool in pools
        ],
    }
    server = {
        "interfaces-config": {"interfaces": ["wan0"]},
        "lease-database": {"type": "memfile", "persist": False},
        "server-id": {"type": "LL", "htype": 1, "identifier": SERVER_DUID.replace(":", "")[8:], "persist": False},
        "renew-timer": 3,
        "rebind-timer": 6,
        "preferred-lifetime": 20,
        "valid-lifetime": 30,
        "subnet6": [subnet],
        "loggers": [{"name": "kea-dhcp6", "severity": "INFO", "output_options": [{"output": "stdout"}]}],
        **said,
    }
    configuration.write_text(json.dumps({"Dhcp6": server}))
    environment = {
        **debian.environment(),
        "KEA_PIDFILE_DIR": str(directory),
        "KEA_LOCKFILE_DIR": "none",
    }
    program = debian.program("kea-dhcp6-server", "kea-dhcp6")
    mounts = "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib"
    with machine.entered(), log.open("ab") as out:
        process = subprocess.Popen(
            [*PRIVATE, f'{mounts} && exec "$0" "$@"', program, "-c", configuration],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment,
        )
    try:
        yield log
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
