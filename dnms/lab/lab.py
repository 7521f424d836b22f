"""What a scenario is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
from rich.console import RenderableType

from dnms.lab.nursery import Nursery
from dnms.lab.progress import Display
from dnms.lab.report import DelegationReport, Report


class LabError(Exception):
    """The scenario cannot go on; what is missing, a line each."""


class Lab(msgspec.Struct, frozen=True, kw_only=True):
    """The lab in which a scenario runs."""

    nodes: int
    agents: int
    folder: Path  # for logs and state
    nursery: Nursery
    display: Display
    seconds: Callable[[], float]  # since the lab was started


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a scenario comes to."""

    report: Report | DelegationReport
    tables: tuple[RenderableType, ...] = ()
    wrong: tuple[str, ...] = ()  # what is not as it should be, for people; a run with any has failed

    @property
    def passed(self) -> bool:
        """Whether all went as it should."""
        return self.report.passed and not self.wrong
