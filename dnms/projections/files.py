"""Where the views lie: `views.db` is a link to the file in use, so that a rebuilt one takes its place in one step.

A rename over a database would leave it beside the old one's write-ahead log, which SQLite would then replay into it.
"""

from __future__ import annotations

import fcntl
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class ViewsError(Exception):
    """The views cannot be read or written; one line that says what to do. `why` is a stable word."""

    why = "views"


class ViewsMissing(ViewsError):
    """There are no views yet."""

    why = "views-missing"


class ViewsOutdated(ViewsError):
    """Another release wrote the views."""

    why = "views-outdated"


class ViewsBusy(ViewsError):
    """Another process writes the views."""

    why = "views-busy"


def current(path: Path) -> Path | None:
    """The file in use; None if there is none. ViewsError if something else lies at `path`."""
    if path.is_symlink():
        file = path.parent / path.readlink()
        return file if file.exists() else None
    if path.exists():
        raise ViewsError(f"{path} is no link to views; move it away")
    return None


def fresh(path: Path) -> Path:
    """A name for another file beside the one in use."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}")


def publish(path: Path, file: Path) -> None:
    """Make `file` the one in use and delete all others. A reader that has one open may read on."""
    link = _link(path)
    link.unlink(missing_ok=True)
    link.symlink_to(file.name)
    link.replace(path)
    sweep(path)


def sweep(path: Path) -> None:
    """Delete what an interrupted rebuild left behind."""
    used = current(path)
    _link(path).unlink(missing_ok=True)
    ours = re.compile(re.escape(path.name) + r"\.[0-9a-f]{8}")
    for file in path.parent.iterdir():
        if ours.fullmatch(file.name) and file != used:
            delete(file)


def delete(file: Path) -> None:
    """Delete a file of views and what SQLite keeps beside it."""
    # The file itself goes last: by its name `sweep` finds the others again if we are stopped here.
    for part in ("-wal", "-shm", "-journal", "-aside", "-aside-journal", ""):
        file.with_name(f"{file.name}{part}").unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Be the one writer of the views at `path`; ViewsBusy if another process is."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock_file(path).open("w")
    except OSError as error:
        raise ViewsError(f"cannot write {path}: {error.strerror or error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ViewsBusy(f"another process writes {path}; stop `dnms serve` first") from None
        yield


def is_written(path: Path) -> bool:
    """Whether some process is the writer of the views now."""
    with suppress(FileNotFoundError), _lock_file(path).open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _link(path: Path) -> Path:
    """What takes the place of the link to the file in use."""
    return path.with_name(f"{path.name}.link")


def _lock_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")
