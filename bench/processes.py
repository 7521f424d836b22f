"""Sides of a benchmark that are processes of their own, so that their CPU can be told apart: asked by lines of JSON."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

ANSWER_WITHIN = 120.0  # seconds
END_WITHIN = 20.0  # seconds, before it is killed
MAX_LINE = 16 << 20  # bytes; 1 000 nodes with their times are under 1 MiB
TICKS = os.sysconf("SC_CLK_TCK")
NETWORK = Path("/proc/self/ns/net")
OUTSIDE = "DNMS_BENCH_OUTSIDE"
"""The environment's name for the network namespace that a benchmark was started from."""

Handler = Callable[..., Awaitable[object]]

T = TypeVar("T")


class _Question(msgspec.Struct):
    name: str
    arguments: dict[str, Any]


class Side:
    """The end of it that asks."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._log = log

    @classmethod
    @asynccontextmanager
    async def started(cls, module: str, *arguments: str, log: Path) -> AsyncIterator[Side]:
        """`python -m module arguments` from now on; what it logs goes to a file. It ends with its standard input."""
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", module, *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=MAX_LINE,
            )
        assert process.stdin is not None
        try:
            yield cls(process, log)
        finally:
            process.stdin.close()
            try:
                async with asyncio.timeout(END_WITHIN):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    async def tell(self, name: str, **arguments: object) -> None:
        """Have one of its handlers called that returns nothing. RuntimeError if the process has failed."""
        await self.ask(name, object, **arguments)

    async def ask(self, name: str, kind: type[T], **arguments: object) -> T:
        """Have one of its handlers called, and return what that returned. RuntimeError if the process has failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(_Question(name, arguments)) + b"\n")
        async with asyncio.timeout(ANSWER_WITHIN):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"no answer to {name}:\n{self._log.read_text()[-4_000:]}")
        return msgspec.json.decode(line, type=kind)


@contextmanager
def running(
    *command: str, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is not asked anything; what it says goes to a file. SIGTERM ends it."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def in_namespace(module: str, kind: type[T], *arguments: str) -> T:
    """`python -m module arguments` in a network namespace of its own, and what it printed as JSON.

    RuntimeError if it has failed. A module that builds networks asks `own_namespace` first.
    """
    unshare = shutil.which("unshare")
    if unshare is None:
        raise RuntimeError("util-linux (the program `unshare`) is not installed")
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = [unshare, "--net", *user, sys.executable, "-m", module, *arguments]
    environment = {**os.environ, OUTSIDE: str(NETWORK.readlink())}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=environment)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode(errors="replace")[-4_000:])
    return msgspec.json.decode(done.stdout, type=kind)


def own_namespace() -> None:
    """RuntimeError unless this process is where `in_namespace` starts one: what it builds must not be in the machine's
    own network.
    """
    if os.environ.get(OUTSIDE, str(NETWORK.readlink())) == str(NETWORK.readlink()):
        raise RuntimeError("this is not a network namespace of its own: run it by the benchmark that it belongs to")


async def answer(handlers: Mapping[str, Handler]) -> None:
    """The end that is asked: call handlers, one after the other, until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        question = msgspec.json.decode(line, type=_Question)
        returned = await handlers[question.name](**question.arguments)
        sys.stdout.buffer.write(msgspec.json.encode(returned) + b"\n")
        sys.stdout.buffer.flush()


def cpu_seconds(pid: int) -> float:
    """What all threads of a process have used so far, in steps of 10 ms as a rule (proc(5), `stat`)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Memory(msgspec.Struct, frozen=True):
    """Bytes of a process that are in memory."""

    rss: int  # all
    pss: int  # what it shares is divided by those who share it
    uss: int  # what would be free if it ended


def memory(pid: int) -> Memory:
    """What a process of this user holds now (proc(5), `smaps_rollup`)."""
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    found = {name: int(size) << 10 for name, size, _ in lines}
    return Memory(found["Rss:"], found["Pss:"], found["Private_Clean:"] + found["Private_Dirty:"])


def established(port: int) -> int:
    """How many TCP connections over IPv6 of this machine are open at a port of its own."""
    lines = Path("/proc/net/tcp6").read_text().splitlines()[1:]
    return sum(fields[1].endswith(f":{port:04X}") and fields[3] == "01" for fields in map(str.split, lines))
