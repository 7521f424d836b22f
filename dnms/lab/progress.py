"""Says on stderr how far the lab is: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

LINE_EVERY = 1.0  # seconds between plain lines of one phase


class Phase:
    """One step that the lab is at, of `total` parts."""

    def __init__(self, display: Display, title: str, total: int) -> None:
        self._display = display
        self.title = title
        self.total = total
        self.done = 0
        self._task: TaskID | None = None
        self._started = self._said = time.monotonic()
        if display.live is not None:
            self._task = display.live.add_task(title, total=total)

    def reached(self, done: int) -> None:
        """So many parts are done."""
        self.done = done
        if self._display.live is not None and self._task is not None:
            self._display.live.update(self._task, completed=done)
        elif done < self.total and time.monotonic() - self._said >= LINE_EVERY:
            self._said = time.monotonic()
            self._display.line(f"{self.title} {done}/{self.total}")

    def end(self) -> None:
        """It is over, for good or bad."""
        if self._display.live is not None and self._task is not None:
            self._display.live.stop_task(self._task)
            return
        parts = f" {self.done}/{self.total}" if self.total > 1 else ""
        self._display.line(f"{self.title}{parts}, took {time.monotonic() - self._started:.1f} s")


class Display:
    """The phases of one run."""

    def __init__(self, screen: TextIO) -> None:
        self._console = Console(file=screen)
        self.live = _live(self._console) if self._console.is_terminal else None

    def __enter__(self) -> Display:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    @contextmanager
    def phase(self, title: str, total: int = 1) -> Iterator[Phase]:
        """A step; where it ends well, all of its parts are done unless `reached` said how many are."""
        phase = Phase(self, title, total)
        try:
            yield phase
            if total == 1:
                phase.reached(1)
        finally:
            phase.end()

    def line(self, text: str) -> None:
        """A line for people."""
        self._console.print(f"lab: {text}", markup=False, highlight=False, soft_wrap=True)


def _live(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
