"""All that is printed: tables for people and JSON for programs on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from dnms.kit.tables import WIDE, Fitted

Output = Annotated[Literal["table", "json"], Parameter(name=["--output", "-o"], help="A table for people, or JSON.")]


def answer(value: Any, tables: Callable[[], Iterable[RenderableType]], output: Literal["table", "json"]) -> None:
    """Print an answer: `value` as one line of JSON, or what `tables` makes of it."""
    if output == "json":
        json_line(value)
        return
    console = _console()
    for table in tables():
        console.print(table, soft_wrap=isinstance(table, Text | str))


def json_line(value: Any) -> None:
    """Print one line of JSON, at once."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def line(*words: object) -> None:
    """Print one line for people on stdout, at once: what a command found."""
    sys.stdout.write(" ".join(cell(word).plain for word in words) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Tell people on stderr how it goes."""
    print(f"dnms: {text}", file=sys.stderr, flush=True)


def say_if_none(what: str, found: Sequence[object], *, subnet: str | None) -> None:
    """Tell people that a subnet has nothing, or has another name."""
    if subnet is not None and not found:
        say(f"no {what} on a subnet {subnet!r}")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> RenderableType:
    """A table of plain values; what holds nothing is shown as a hyphen."""
    return Fitted(columns, [tuple(map(cell, row)) for row in rows], title=title)


def facts(pairs: Iterable[tuple[str, object]]) -> Table:
    """Names and values below each other."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        made.add_row(name, cell(value))
    return made


def cell(value: object) -> Text:
    """One value for people. Names come from machines that may be hostile: what a terminal would obey is spelt out."""
    match value:
        case None | "" | () | []:
            text = "-"
        case bool():
            text = "yes" if value else "no"
        case datetime():
            text = moment(value)
        case list() | tuple() | set() | frozenset():
            text = ", ".join(cell(one).plain for one in value)
        case dict():
            text = ", ".join(f"{key} {cell(one).plain}" for key, one in value.items())
        case _:
            text = str(value)
    return Text("".join(character if character.isprintable() else _spelt(character) for character in text))


def moment(when: datetime) -> str:
    """An instant for people, in UTC as in the logs."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Say so. rich would end the program as if the answer were no."""
        raise BrokenPipeError


def _console() -> Console:
    return _Console(highlight=False) if sys.stdout.isatty() else _Console(highlight=False, width=WIDE)


def _spelt(character: str) -> str:
    return character.encode("unicode_escape").decode()
