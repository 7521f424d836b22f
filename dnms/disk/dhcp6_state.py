"""What a requesting router keeps over its end: who it is, and what it was delegated (RFC 9096, 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dnms.disk import atomic
from dnms.disk.node_state import DUID_UUID
from dnms.events.codec import decoder, encoder
from dnms.events.recorded import Part
from dnms.events.requests import UplinkPrefix


class Dhcp6State(Part, frozen=True, kw_only=True, omit_defaults=True):
    """Of one interface. Instants are microseconds since 1970-01-01 UTC."""

    duid: bytes
    server: bytes = b""  # the DUID of the one that delegated last; empty: none ever has
    prefixes: tuple[UplinkPrefix, ...] = ()
    told: int = 0  # when that was known; a clock that says an earlier time is wrong


class Dhcp6StateError(Exception):
    """The state cannot be read or written; one line that says what to do."""


class Dhcp6StateFile:
    """The file of one interface, in a directory that is made when it is missing."""

    def __init__(self, directory: Path, interface: str) -> None:
        self.path = directory / f"dhcp6.{interface}"

    def read(self, *, draw: Callable[[int], bytes]) -> Dhcp6State:
        """What was written last; at the first start a DUID is drawn, and kept from then on. Dhcp6StateError."""
        try:
            return decoder(Dhcp6State).decode(self.path.read_bytes())
        except FileNotFoundError:
            state = Dhcp6State(duid=DUID_UUID + draw(16))
            self.write(state)
            return state
        except (OSError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            raise Dhcp6StateError(f"cannot read {self.path} ({error}): move it away and start again") from error

    def write(self, state: Dhcp6State) -> None:
        """Keep this; Dhcp6StateError if it cannot be written, and then the old one is still there."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic.write(self.path, encoder.encode(state), mode=0o600)
        except OSError as error:
            raise Dhcp6StateError(f"cannot write {self.path}: {error.strerror or error}") from error
