"""The machine on which another DHCP server runs, and DNMS after it: with its link, and programs in it as processes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dnms.cli.app import run
from dnms.linux.namespaces import Bridge, Namespace
from tests.netns import debian
from tests.netns.agents.conftest import FAST

DNMS = Path(sys.executable).parent / "dnms"
PRIVATE = ("unshare", "--mount", "--propagation", "private", "sh", "-c")
MOUNTS = "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && mkdir /var/lib/kea"
LINK = "net"


class Done(msgspec.Struct, frozen=True):
    """What a command came to."""

    code: int
    out: str
    err: str


class Machine:
    """The server's, with a bridge that is its link; clients are namespaces of their own on that."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.namespace = Namespace.create("server")
        self.clients: list[Namespace] = []
        self.bridge = Bridge.create(self.namespace, LINK, addresses=("fe80::1/64", "192.0.2.1/24", "2001:db8:5::1/64"))

    @property
    def site(self) -> Path:
        return self.path / "site"

    def client(self, name: str) -> Namespace:
        """Another machine on the link."""
        made = Namespace.create(name)
        self.clients.append(made)
        self.bridge.plug([made], "eth0")
        made.set_sysctls({**FAST, "ipv6.conf.eth0.accept_ra": 0})
        made.set_up("eth0")
        return made

    def dnms(self, *words: str | Path) -> Done:
        """Run a command, as an operator on this machine does; in this process, since there are many."""
        out, err = io.StringIO(), io.StringIO()
        with (
            self.namespace.entered(),
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            patch.setenv("DNMS_SITE", str(self.site))
            code = run(list(map(str, words)))
        return Done(code, out.getvalue(), err.getvalue())

    def answered(self, *words: str | Path) -> Any:
        """What a command answers, as JSON."""
        done = self.dnms(*words, "-o", "json")
        assert done.out, done
        return json.loads(done.out)

    def events(self, name: str) -> list[dict[str, Any]]:
        """All events of a kind."""
        done = self.dnms("event", "list", "--kind", name, "-o", "jsonl")
        assert done.code == 0, done
        return [json.loads(line) for line in done.out.splitlines()]

    @contextmanager
    def running(self, *words: str | Path, says: str = "", log: str = "log") -> Iterator[subprocess.Popen[bytes]]:
        """A program in the background, from when it says something."""
        file = self.path / log
        with self.namespace.entered(), file.open("wb") as out:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={
                    **debian.environment(),
                    "DNMS_SITE": str(self.site),
                    "PYTHONUNBUFFERED": "1",
                    **_kea_folders(self.path),
                },
            )
        try:
            until(lambda: says in file.read_text() or process.poll() is not None, seconds=30)
            assert process.poll() is None, file.read_text()
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait(5)

    @contextmanager
    def kea(self, kind: int, configuration: dict[str, Any], text: str = "") -> Iterator[Path]:
        """Kea for one family, with leases in `leases4.csv` or `leases6.csv`; its file of configuration."""
        file = self.path / f"kea{kind}.conf"
        whole = {
            f"Dhcp{kind}": {
                "interfaces-config": {"interfaces": [LINK]},
                "lease-database": {"type": "memfile", "name": str(self.path / f"leases{kind}.csv"), "lfc-interval": 0},
                "loggers": [{"name": f"kea-dhcp{kind}", "severity": "INFO", "output_options": [{"output": "stdout"}]}],
                **configuration,
            }
        }
        file.write_text(f"// Kea's configuration\n{json.dumps(whole, indent=2)}\n")
        program = debian.program(f"kea-dhcp{kind}-server", f"kea-dhcp{kind}")
        words = (*PRIVATE, f'{MOUNTS} && exec "$0" "$@"', program, "-c", file)
        with self.running(*words, says=f"DHCP{kind}_STARTED", log=f"kea{kind}.log"):
            yield file

    def close(self) -> None:
        for each in (*self.clients, self.namespace):
            each.close()


def _kea_folders(path: Path) -> dict[str, str]:
    """Where Kea puts what it usually has below /run."""
    return {"KEA_PIDFILE_DIR": str(path), "KEA_LOCKFILE_DIR": "none"}


class Watched:
    """The addresses of a client's interface from now on, as its kernel tells of each change."""

    def __init__(self, machine: Namespace, path: Path) -> None:
        self._file = path
        with machine.entered(), path.open("wb") as out:
            self._process = subprocess.Popen(
                ["ip", "-o", "monitor", "address", "dev", "eth0"], stdin=subprocess.DEVNULL, stdout=out
            )

    def lost(self, addresses: Sequence[str]) -> list[str]:
        """Those of the addresses that it was without, if only for a moment."""
        lines = [line for line in self._file.read_text().splitlines() if line.startswith("Deleted")]
        return [each for each in addresses if any(f" {each}/" in line for line in lines)]

    def close(self) -> None:
        self._process.kill()
        self._process.wait(5)


def until(condition: Callable[[], object], *, seconds: float = 40.0) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.05)


def addresses_of(machine: Namespace) -> dict[str, int]:
    """The global addresses that a machine uses, with the seconds that are left of each."""
    shown = json.loads(machine.run("ip", "-j", "address", "show", "dev", "eth0", "scope", "global"))
    return {
        each["local"]: each["valid_life_time"]
        for link in shown
        if link
        for each in link["addr_info"]
        if each and not each.get("tentative")
    }
