"""Programs of others that are run to their end."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import IO

from dnms.linux.errors import KernelError
from dnms.linux.namespaces import search_path

TIMEOUT = 30.0  # seconds; resolvconf tells every program that asked for it, one after another
MAX_COMPLAINT = 4 << 10  # bytes; the last line is told


async def run(program: str, *words: str, doing: str, stdin: str = "") -> None:
    """Run it to its end, in the namespaces of this thread. KernelError: `no-program`, `timeout`, `refused`."""
    found = shutil.which(program, path=search_path())
    if found is None:
        raise KernelError("no-program", f"cannot {doing}: there is no program {program}")
    # Files and no pipes: what it starts and leaves running, as hooks do, would keep those open.
    with _file(stdin.encode()) as given, _file(b"") as complaint:
        try:
            process = await asyncio.create_subprocess_exec(
                found,
                *words,
                stdin=given,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=complaint,
                env={**os.environ, "PATH": search_path()},
            )
        except OSError as error:
            raise KernelError.from_errno(error.errno or 0, f"{doing} with {found}") from error
        try:
            async with asyncio.timeout(TIMEOUT):
                await process.wait()
        except TimeoutError:
            raise KernelError("timeout", f"cannot {doing}: {program} takes longer than {TIMEOUT:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            complaint.seek(0)
            said = complaint.read(MAX_COMPLAINT).decode(errors="replace").strip() or f"exit code {process.returncode}"
            raise KernelError("refused", f"cannot {doing}: {program} says: {said.splitlines()[-1]}")


def _file(content: bytes) -> IO[bytes]:
    """In memory, at its beginning."""
    file = os.fdopen(os.memfd_create("dnms", os.MFD_CLOEXEC), "w+b")
    file.write(content)
    file.seek(0)
    return file
