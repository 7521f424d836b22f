"""Which errors of the parts below have a clear line of their own, and what they mean. All others are defects."""

from __future__ import annotations

import errno

from dnms.archive.records import ArchiveError
from dnms.bus.embedded import EmbeddedServerError
from dnms.bus.port import LogDamaged, LogError, Unanswered, Unavailable
from dnms.cli.exits import MACHINE, NO, REFUSED, UNREACHABLE, USAGE, Failure
from dnms.disk.extensions import ExtensionError
from dnms.disk.site import SiteError
from dnms.disk.subscriber_state import SubscriberStateError
from dnms.domain.replay import Unfoldable
from dnms.events.codec import UnknownToThisRelease
from dnms.projections.evidence.document import EvidenceError
from dnms.projections.files import ViewsError
from dnms.projections.views import NoSuchMoment

CODES: tuple[tuple[type[Exception], int], ...] = (
    (ArchiveError, USAGE),
    (EvidenceError, USAGE),
    (ExtensionError, MACHINE),
    (SiteError, MACHINE),
    (ViewsError, MACHINE),
    (NoSuchMoment, NO),
    (SubscriberStateError, MACHINE),
    (EmbeddedServerError, MACHINE),
    (Unavailable, UNREACHABLE),
    (Unanswered, UNREACHABLE),
    (LogError, REFUSED),
    (UnknownToThisRelease, REFUSED),
    (Unfoldable, REFUSED),
)
"""The first that an error is one of."""

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
NOT_ALLOWED = {errno.EACCES, errno.EPERM}


def failure_of(error: Exception) -> Failure | None:
    """The end that an error means; None if nobody foresaw it."""
    for kind, code in CODES:
        if isinstance(error, kind):
            return Failure(code, f"{error}; {error.advice}" if isinstance(error, LogDamaged) else str(error))
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return Failure(MACHINE, f"no space left on the disk{_of(error)}; make room and try again")
    if isinstance(error, OSError) and error.errno in NOT_ALLOWED:
        return Failure(MACHINE, f"permission denied{_of(error)}; try as root, or as the owner")
    return None


def _of(error: OSError) -> str:
    return f": {error.filename}" if error.filename else ""
