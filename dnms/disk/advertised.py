"""What a router has advertised on a link: hosts have it after its end, and are to hear when it is gone (RFC 9096)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from dnms.disk import atomic
from dnms.events.ip import Prefix


class AdvertisedError(Exception):
    """The file cannot be read or written; one line that says what to do."""


class AdvertisedFile:
    """One link's."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[Prefix, int]:
        """The prefixes, each with the instant until which hosts have it by what they were told. AdvertisedError.

        Microseconds since 1970-01-01 UTC.
        """
        try:
            return dict(msgspec.msgpack.decode(self._path.read_bytes(), type=tuple[tuple[Prefix, int], ...]))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            raise AdvertisedError(f"cannot read {self._path} ({error}): move it away and start again") from error

    def write(self, prefixes: Mapping[Prefix, int]) -> None:
        """Keep these. AdvertisedError, and then the old ones are still there."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic.write(self._path, msgspec.msgpack.encode(tuple(prefixes.items())), mode=0o600)
        except OSError as error:
            raise AdvertisedError(f"cannot write {self._path}: {error.strerror or error}") from error
