"""Runs a program for one event."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, BinaryIO

import msgspec

from dnms.subscribers.caller import CallError, Happening, Kinds
from dnms.subscribers.configured import CallTable, table, wrong
from dnms.subscribers.exec.environment import environment
from dnms.subscribers.subscriber import Local

AT_ONCE = 4  # programs at a time
SAID = 500  # bytes from the end of what it wrote to its standard error


class _Exec(CallTable, kw_only=True):
    command: Annotated[list[Annotated[str, msgspec.Meta(pattern=r"^[^\0]*\Z")]], msgspec.Meta(min_length=1)]


class Program:
    """Implements `caller.Caller`."""

    at_once = AT_ONCE

    def __init__(self, command: list[str], *, kinds: Kinds, timeout: float, from_first: bool = False) -> None:
        self.kinds = kinds
        self.from_first = from_first
        self._command = command
        self._timeout = timeout

    @classmethod
    def of(cls, local: Local) -> Program:
        """By the table `[exec]`. OptionsError."""
        found = table(local, "exec", _Exec)
        program = Path(found.command[0])
        if not program.is_absolute():
            raise wrong(local, "$.exec.command[0]", "Expected the whole path of a program, such as /usr/bin/logger")
        if not os.access(program, os.X_OK) or program.is_dir():
            raise wrong(local, "$.exec.command[0]", f"{program} is no program that can be run")
        return cls(found.command, kinds=Kinds(found.kinds), timeout=found.timeout, from_first=found.begin == "first")

    async def call(self, happening: Happening) -> None:
        """Run it and wait for its end. CallError `exit`, `timeout`, `not-run`."""
        # Files and no pipes: a program need not read, may write much, and may leave others behind that keep them open.
        with TemporaryFile() as said, TemporaryFile() as given:
            given.write(msgspec.json.encode(happening.document()))
            given.seek(0)
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=given,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=said,
                    env=environment(happening, os.environ),
                    start_new_session=True,
                )
            except OSError as error:
                raise CallError("not-run", f"{self._command[0]}: {error.strerror or error}") from error
            try:
                async with asyncio.timeout(self._timeout):
                    code = await process.wait()
            except TimeoutError:
                raise CallError("timeout", f"not done within {self._timeout:g} s{_end_of(said)}") from None
            finally:
                if process.returncode is None:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
            if code:
                how = f"exit code {code}" if code > 0 else f"ended by signal {-code}"
                raise CallError("exit", how + _end_of(said))

    async def close(self) -> None:
        """Nothing is open."""


def _end_of(said: BinaryIO) -> str:
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - SAID))
    text = " ".join(said.read().decode(errors="replace").split())
    return f": {text}" if text else ""
