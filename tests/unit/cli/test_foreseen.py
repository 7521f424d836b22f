from __future__ import annotations

import errno

import pytest

from dnms.bus.embedded import EmbeddedServerError
from dnms.bus.port import LogDamaged, LogForked, Unanswered, Unavailable
from dnms.cli.exits import MACHINE, REFUSED, UNREACHABLE
from dnms.cli.foreseen import failure_of
from dnms.disk.site import SiteError
from dnms.events.codec import UnknownToThisRelease
from dnms.projections.files import ViewsBusy


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SiteError("s"), MACHINE),
        (ViewsBusy("s"), MACHINE),
        (EmbeddedServerError("s"), MACHINE),
        (Unavailable("s"), UNREACHABLE),
        (Unanswered("s"), UNREACHABLE),
        (LogForked("s"), REFUSED),
        (LogDamaged("s"), REFUSED),
        (UnknownToThisRelease("s"), REFUSED),
        (OSError(errno.ENOSPC, "No space left on device"), MACHINE),
        (PermissionError(errno.EACCES, "Permission denied", "/var/lib/dnms"), MACHINE),
    ],
)
def test_what_is_foreseen_ends_with_a_code(error: Exception, code: int) -> None:
    failure = failure_of(error)
    assert failure is not None
    assert failure.code == code
    assert failure.text


def test_a_damaged_log_says_what_to_do() -> None:
    failure = failure_of(LogDamaged("a gap"))
    assert failure is not None
    assert failure.text == f"a gap; {LogDamaged.advice}"


@pytest.mark.parametrize("error", [ValueError("a defect"), OSError(errno.EIO, "Input/output error")])
def test_a_defect_is_not_hidden(error: Exception) -> None:
    assert failure_of(error) is None
