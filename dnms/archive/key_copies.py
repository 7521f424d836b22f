"""The keys of what is personal in a log, in a file: to take them to another bus, and to have them if that is lost.

A copy of the log is of names that cannot be read without them. They are no part of it, since a copy of a key cannot be
destroyed from here: who forgets a person has to see to the copies (`docs/personal.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from dnms.archive.records import ArchiveError
from dnms.bus.keys import KeyStore
from dnms.bus.port import LostRace
from dnms.disk import atomic
from dnms.events.sealing import Key


class _File(msgspec.Struct, frozen=True, array_like=True):
    magic: Literal["dnms keys 1"]
    site: str
    keys: tuple[Key, ...]


class CopiedKeys(msgspec.Struct, frozen=True):
    """What was copied."""

    site: str
    keys: int
    others: int = 0  # that were not, since their clients have other keys there


def write_keys(path: Path, keys: Sequence[Key], *, site: str) -> CopiedKeys:
    """Write keys to a new file that its owner alone can read. ArchiveError if there is one; OSError."""
    if not path.parent.is_dir():
        raise ArchiveError(f"there is no directory {path.parent}")
    if path.exists():
        raise ArchiveError(f"{path} is there already; name another file")
    atomic.write(path, msgspec.msgpack.encode(_File("dnms keys 1", site, tuple(keys))), mode=0o600)
    return CopiedKeys(site, len(keys))


def read_keys(path: Path, *, site: str) -> tuple[Key, ...]:
    """What `write_keys` wrote. ArchiveError if it is something else, or another site's; OSError."""
    try:
        found = msgspec.msgpack.decode(path.read_bytes(), type=_File)
    except msgspec.MsgspecError as error:
        raise ArchiveError(f"{path} is not what `dnms keys export` wrote: {error}") from error
    if found.site != site:
        raise ArchiveError(f"{path} has the keys of the site {found.site!r}, not of {site!r}")
    return found.keys


async def store_keys(store: KeyStore, keys: Sequence[Key], *, site: str) -> CopiedKeys:
    """Store keys, but of clients that have others. Unavailable, Unanswered: then it can be done again."""
    others = 0
    for key in keys:
        try:
            await store.create(key)
        except LostRace:
            others += await store.find(key.client) != key
    return CopiedKeys(site, len(keys) - others, others)
