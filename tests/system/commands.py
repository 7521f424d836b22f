"""Commands as users run them, each a process of its own, without the second in which Python imports what they need.

A process that has imported all of DNMS waits. Each command is a fork of it, with the environment, the working
directory, the network namespace and the outputs of who asks. That `dnms` starts by itself is seen where the installed
program is run, which is `DNMS` in the conftest.py of folders.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import dnms
from dnms.cli import main
from dnms.linux.namespaces import end_with_parent

CLONE_NEWNET = 0x40000000  # linux/sched.h
LARGEST = 1 << 18  # bytes of a request: the environment is most of it

_places: list[Path] = []  # the socket of the process that waits


class Command:
    """A command that runs."""

    def __init__(self, asked: socket.socket) -> None:
        self._asked = asked
        self.pid: int = json.loads(asked.recv(LARGEST))
        self._code: int | None = None

    def send_signal(self, number: signal.Signals) -> None:
        """As `subprocess.Popen` does."""
        if self._code is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        """Its exit code, once it has ended; that of a signal is negative. TimeoutError."""
        if self._code is None:
            self._asked.settimeout(timeout)
            self._code = int(json.loads(self._asked.recv(LARGEST)))
            self._asked.close()
        return self._code

    def kill(self) -> None:
        """End it, if it has not ended."""
        self.send_signal(signal.SIGKILL)
        self.wait(10)


def start(
    words: Sequence[str | Path], *, out: IO[Any], err: IO[Any], environment: Mapping[str, str] | None = None
) -> Command:
    """Start `dnms` with these words, and with these variables beside those of this process."""
    variables = {**os.environ, **(environment or {})}
    request = {"words": [*map(str, words)], "environment": variables, "folder": str(Path.cwd())}
    asked = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    network = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        asked.connect(str(_places[-1]))
        socket.send_fds(asked, [json.dumps(request).encode()], [out.fileno(), err.fileno(), network])
    finally:
        os.close(network)
    return Command(asked)


@contextmanager
def started(words: Sequence[str | Path], *, err: IO[Any]) -> Iterator[tuple[Command, IO[bytes]]]:
    """The same, and what reads its output; who has this ends it."""
    said, says = os.pipe()
    with os.fdopen(said, "rb") as stdout:
        with os.fdopen(says, "wb") as out:
            command = start(words, out=out, err=err)
        yield command, stdout


@contextmanager
def ready(place: Path, *, within: float) -> Iterator[None]:
    """The process that `start` needs, which listens at `place`."""
    with subprocess.Popen([sys.executable, "-m", __name__, place], stdin=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + within
            while not place.exists():
                assert process.poll() is None, "the process that commands are forked from has ended"
                assert time.monotonic() < end
                time.sleep(0.02)
            _places.append(place)
            yield
            _places.remove(place)
        finally:
            process.kill()


# --- the process


def _serve(place: str) -> None:
    for module in pkgutil.walk_packages(dnms.__path__, "dnms."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    assert threading.active_count() == 1, "a fork has one thread"
    end_with_parent(signal.SIGKILL)
    gc.freeze()  # what is never looked at is never copied
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(f"{place}.new")
        listening.listen(100)
        Path(f"{place}.new").rename(place)  # from now on who connects is heard
        while True:
            asked, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _answer(asked)
            asked.close()


def _answer(asked: socket.socket) -> None:
    """Fork the command, say its pid, and once it has ended say how; return in the command only."""
    request, files, _, _ = socket.recv_fds(asked, LARGEST, 3)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid:
        for each in files:
            os.close(each)
        asked.send(json.dumps(pid).encode())
        _, status = os.waitpid(pid, 0)
        asked.send(json.dumps(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    asked.close()
    _become(json.loads(request), *files)


def _become(request: dict[str, Any], out: int, err: int, network: int) -> None:
    os.dup2(out, 1)
    os.dup2(err, 2)
    if ctypes.CDLL(None, use_errno=True).setns(network, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    for each in (out, err, network):
        os.close(each)
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    os.chdir(request["folder"])
    sys.argv = ["dnms", *request["words"]]
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the end of the interpreter frees all that it shares, and would copy it for that


if __name__ == "__main__":
    _serve(sys.argv[1])
