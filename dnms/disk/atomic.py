"""Files that a crash leaves as they were before or as they are after, and nothing between."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def write(path: Path, content: bytes | Iterable[bytes], *, mode: int = 0o644) -> None:
    """Replace the file at `path`; it is on the disk when this returns. OSError, and then the old file is as it was.

    `content` may come in parts.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            os.fchmod(descriptor, mode)
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.writelines([content] if isinstance(content, bytes) else content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        scratch.rename(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)  # the new name is durable only with its directory
    finally:
        os.close(directory)
