"""What a Node Agent passes on to the Subnet Agent of its machine: the prefixes that its node is delegated.

A file in the node's state directory, replaced whole at each change: so it is there after a reboot, before any agent
has answered (RFC 9096, 3.3), and either of the two may be started first.
"""

from __future__ import annotations

from pathlib import Path

from dnms.events.codec import decoder
from dnms.events.configuration import Assignment
from dnms.events.ip import Prefix
from dnms.events.recorded import Part
from dnms.kit.clock import MICROSECONDS


class DelegatedPrefix(Part, frozen=True, kw_only=True, omit_defaults=True):
    """One of them. Instants are microseconds since 1970-01-01 UTC, by the clock of this machine."""

    prefix: Prefix
    preferred_until: int
    valid_until: int
    exclude: Prefix | None = None
    position: int = 0  # sequence of the commit that delegated it


class Delegated(Part, frozen=True, kw_only=True, omit_defaults=True):
    """All that is delegated to the node on one interface."""

    site: str = ""
    subnet: str = ""  # of the link, whose ledger has it
    log: str = ""  # the id of the log that has it
    prefixes: tuple[DelegatedPrefix, ...] = ()
    told: int = 0  # when, by the same clock: one that shows an earlier time now was set back, or is not set yet


_decoder = decoder(Delegated)


def delegated_by(assignment: Assignment, *, site: str, subnet: str, since: float) -> Delegated:
    """What an assignment delegates, whose lifetimes count from `since`, in seconds since 1970-01-01 UTC."""
    began = int(since * MICROSECONDS)
    return Delegated(
        site=site,
        subnet=subnet,
        log=assignment.log,
        prefixes=tuple(
            DelegatedPrefix(
                prefix=each.prefix,
                preferred_until=began + each.preferred * MICROSECONDS,
                valid_until=began + each.valid * MICROSECONDS,
                exclude=each.exclude,
                position=each.position,
            )
            for each in assignment.prefixes
        ),
        told=began,
    )


def path_of(directory: Path, interface: str) -> Path:
    """Where it lies in the state directory of a node."""
    return directory / f"delegated.{interface}"


def read(path: Path) -> Delegated | None:
    """What is delegated; None if no Node Agent has ever said. OSError, ValueError."""
    try:
        return _decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except RecursionError as error:
        raise ValueError(f"{path} is damaged") from error
