"""PostgreSQL in a folder of its own, on a Unix socket, by an unprivileged user: what benchmarks put beside DNMS."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNPRIVILEGED = "nobody"  # it refuses to run as root


def binaries() -> Path | None:
    """Debian keeps those of each major release in a directory that is in nobody's PATH."""
    known = [Path(each).parent for name in ("initdb",) if (each := shutil.which(name)) is not None]
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), *known]
    return next((each for each in found if all((each / name).exists() for name in ("initdb", "pgbench"))), None)


class Server:
    """One that runs."""

    def __init__(self, binaries: Path, folder: Path, user: str | None) -> None:
        self._binaries = binaries
        self.folder = folder
        self._user = user

    def run(self, program: str, *arguments: str) -> str:
        """One of its programs."""
        done = subprocess.run(
            [str(self._binaries / program), *arguments],
            user=self._user,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PGHOST": str(self.folder), "PGUSER": "bench"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stderr[-2_000:]}")
        return done.stdout

    def sql(self, statement: str) -> str:
        """What one statement, or one command of psql, answers."""
        commands = [statement] if statement.startswith("\\") else statement.strip().rstrip(";").split(";")
        return "".join(self.run("psql", "-XAtq", "-d", "postgres", "-c", each) for each in commands)


@contextmanager
def serving(folder: Path, binaries: Path) -> Iterator[Server]:
    """One in a directory of its own, that syncs as it does by default. RuntimeError if it cannot be."""
    user = UNPRIVILEGED if os.geteuid() == 0 else None
    own = folder / "postgresql"
    own.mkdir()
    if user is not None:
        os.chown(own, pwd.getpwnam(user).pw_uid, -1)
        folder.chmod(0o711)
    server = Server(binaries, own, user)
    server.run("initdb", "-D", "data", "-U", "bench", "-A", "trust", "--no-sync", "-E", "UTF8")
    settings = f"-c listen_addresses='' -c unix_socket_directories='{own}' -c shared_buffers=512MB"
    server.run("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", settings, "start")
    try:
        yield server
    finally:
        server.run("pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")
