"""The nursery: a process that imported everything, and forks agents from itself.

An agent in the lab is a process of its own that can be killed like any other, in a network namespace of its own. But
starting Python and importing costs a second of processor time each, and so they are forked, in a few milliseconds, from
a process that did it once. The nursery has neither threads nor an event loop; it is forked before there are any.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import os
import pickle
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from dnms.kit import logging
from dnms.linux.namespaces import Namespace, bind_mount, end_with_parent, private_mounts

_RESOLV_CONF = Path("/etc/resolv.conf")
MAX_MESSAGE = 65_536  # a birth is under 1 KiB
_MAX_DESCRIPTOR = (1 << 31) - 1

Program = Callable[..., Coroutine[Any, Any, None]]
"""An agent: a coroutine function of its settings and the event `stop`, at whose setting it leaves cleanly."""

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class NurseryError(Exception):
    """A process could not be forked, or the nursery itself is gone."""


def resolv_conf(folder: Path, name: str) -> Path:
    """The resolv.conf of a process by the path under which it sees it itself.

    That is the usual one, with a file of its own mounted over it; or that file, where the machine has no resolv.conf
    over which it could be mounted.
    """
    return _RESOLV_CONF if _RESOLV_CONF.exists() else own_resolv_conf(folder, name)


def own_resolv_conf(folder: Path, name: str) -> Path:
    """The resolv.conf of a process by the path under which the lab sees it."""
    return folder / f"{name}.resolv.conf"


class _Birth(NamedTuple):
    """To the nursery, with the descriptor of a namespace: fork this."""

    name: str
    program: Program
    loop: LoopFactory
    settings: object
    log: Path
    resolv_conf: Path


class _Signal(NamedTuple):
    """To the nursery: send this signal, if the process is still there."""

    pid: int
    number: int


class _Born(NamedTuple):
    """From the nursery. `at` is the monotonic clock just before the fork, in seconds."""

    name: str
    pid: int
    at: float


class _Died(NamedTuple):
    """From the nursery. A negative code is the signal that ended it."""

    pid: int
    exit_code: int


class AgentProcess:
    """One agent that was started."""

    def __init__(self, nursery: Nursery, name: str, pid: int, started: float, log: Path) -> None:
        self.name = name
        self.pid = pid
        self.started = started  # seconds, monotonic
        self.log = log
        self.exit_code: int | None = None  # None: it runs
        self._nursery = nursery
        self._ended = asyncio.Event()

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens if it has ended."""
        self._nursery.send(_Signal(self.pid, number))

    async def wait(self) -> int:
        """Its exit code, when it has ended."""
        await self._ended.wait()
        assert self.exit_code is not None
        return self.exit_code

    def last_line(self) -> str:
        """What it said last, for people."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def ended(self, exit_code: int) -> None:
        """Called by the nursery."""
        self.exit_code = exit_code
        self._ended.set()


class Nursery:
    """The lab's end of it."""

    def __init__(self) -> None:
        """Fork the nursery. To be called once all modules are imported, before any thread or event loop is there."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        gc.collect()
        gc.freeze()  # what is there now is never written again, so its pages stay shared
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            _Ward(theirs).run()
        theirs.close()
        self._socket = ours
        self._births: dict[str, tuple[asyncio.Future[AgentProcess], Path]] = {}
        self._running: dict[int, AgentProcess] = {}

    async def fork(
        self,
        name: str,
        program: Program,
        settings: object,
        *,
        namespace: Namespace,
        folder: Path,
        loop_factory: LoopFactory = asyncio.new_event_loop,
    ) -> AgentProcess:
        """Start `program` with its settings in a namespace; its log and resolv.conf are in `folder`. NurseryError."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, self._receive)
        log, resolver = folder / f"{name}.log", own_resolv_conf(folder, name)
        resolver.touch()
        birth: asyncio.Future[AgentProcess] = loop.create_future()
        self._births[name] = birth, log
        self.send(_Birth(name, program, loop_factory, settings, log, resolver), namespace.fileno())
        return await birth

    def send(self, message: object, *descriptors: int) -> None:
        """Ask the nursery for something. NurseryError."""
        try:
            socket.send_fds(self._socket, [pickle.dumps(message)], descriptors)
        except OSError as error:
            raise NurseryError(f"the nursery is gone: {error.strerror}") from None

    async def stop_all(self, *, deadline: float) -> list[AgentProcess]:
        """End all that run: by SIGTERM, and after `deadline` seconds by SIGKILL; those that needed it."""
        running = list(self._running.values())
        for process in running:
            process.signal(signal.SIGTERM)
        if running:
            await asyncio.wait([asyncio.ensure_future(process.wait()) for process in running], timeout=deadline)
        stubborn = list(self._running.values())
        for process in stubborn:
            process.signal(signal.SIGKILL)
        return stubborn

    def close(self) -> None:
        """End the nursery, and with it whatever still runs."""
        with contextlib.suppress(RuntimeError):  # no loop runs any more
            asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        os.waitpid(self.pid, 0)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(MAX_MESSAGE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._socket)
            for birth, _ in self._births.values():
                birth.set_exception(NurseryError("the nursery is gone"))
            self._births.clear()
            for process in self._running.values():
                process.ended(-signal.SIGKILL)
            self._running.clear()
            return
        match pickle.loads(data):
            case _Born(name, pid, at):
                birth, log = self._births.pop(name)
                self._running[pid] = process = AgentProcess(self, name, pid, at, log)
                if not birth.done():
                    birth.set_result(process)
            case _Died(pid, exit_code):
                self._running.pop(pid).ended(exit_code)


class _Ward:
    """The nursery's end: forks and reaps, until its socket is closed."""

    def __init__(self, channel: socket.socket) -> None:
        self._socket = channel
        self._selector: selectors.BaseSelector
        self._descriptors: dict[int, int] = {}  # pid to pidfd, of those that run

    def run(self) -> NoReturn:
        code = 1
        try:
            end_with_parent(signal.SIGKILL)
            os.closerange(3, self._socket.fileno())  # its parent's files are not for agents
            os.closerange(self._socket.fileno() + 1, _MAX_DESCRIPTOR)
            self._selector = selectors.DefaultSelector()
            self._selector.register(self._socket, selectors.EVENT_READ, None)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            while self._serve():
                pass
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)  # its children end with it

    def _serve(self) -> bool:
        for key, _ in self._selector.select():
            if key.data is not None:
                self._bury(key.data)
                continue
            data, descriptors, _, _ = socket.recv_fds(self._socket, MAX_MESSAGE, 1)
            if not data:
                return False
            match pickle.loads(data):
                case _Birth() as birth:
                    self._fork(birth, descriptors[0])
                case _Signal(pid, number):
                    if pid in self._descriptors:
                        os.kill(pid, number)
        return True

    def _fork(self, birth: _Birth, namespace: int) -> None:
        at = time.monotonic()
        pid = os.fork()
        if pid == 0:
            self._socket.close()
            self._selector.close()
            for descriptor in self._descriptors.values():
                os.close(descriptor)
            _live(birth, namespace)
        os.close(namespace)
        self._descriptors[pid] = os.pidfd_open(pid)
        self._selector.register(self._descriptors[pid], selectors.EVENT_READ, pid)
        self._socket.send(pickle.dumps(_Born(birth.name, pid, at)))

    def _bury(self, pid: int) -> None:
        _, status = os.waitpid(pid, 0)
        descriptor = self._descriptors.pop(pid)
        self._selector.unregister(descriptor)
        os.close(descriptor)
        self._socket.send(pickle.dumps(_Died(pid, os.waitstatus_to_exitcode(status))))


def _live(birth: _Birth, namespace: int) -> NoReturn:
    """The life of one agent's process."""
    code = 1
    try:
        end_with_parent(signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        with birth.log.open("ab") as log, Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
        faulthandler.enable()
        Namespace(birth.name, namespace).enter()
        os.close(namespace)
        private_mounts()
        if _RESOLV_CONF.exists():
            bind_mount(birth.resolv_conf, _RESOLV_CONF)
        logging.configure()
        with asyncio.Runner(loop_factory=birth.loop) as runner:
            runner.run(_until_terminated(birth.program, birth.settings))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(code)


async def _until_terminated(program: Program, settings: object) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await program(settings, stop=stop)
