"""Tables on terminals."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.table import Table
from rich.text import Text

WIDE = 100_000  # columns where there is no terminal: what is searched or compared is not to be cut or wrapped
GAP = 2  # spaces between two columns


class Fitted:
    """A table that breaks lines between words as long as the terminal is wide enough for its longest words.

    rich would take the width from the widest column, and an address broken in two is no address.
    """

    def __init__(
        self, columns: Sequence[str], rows: Sequence[tuple[Text, ...]], *, title: str = "", right: Collection[str] = ()
    ) -> None:
        """`right`: the columns whose texts stand at their right end."""
        self._columns = columns
        self._right = right
        self._rows = rows
        self._title = title

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        made = Table(
            box=box.SIMPLE_HEAD,
            padding=(0, GAP - 1, 0, 0),  # the box has a space of its own
            pad_edge=False,
            title=self._title or None,
            title_justify="left",
            title_style="bold",
            show_edge=False,
        )
        texts = [[name, *(row[place].plain for row in self._rows)] for place, name in enumerate(self._columns)]
        for name, width in zip(self._columns, _widths(texts, options.max_width), strict=True):
            justify: JustifyMethod = "right" if name in self._right else "left"
            made.add_column(name, overflow="fold", width=width, justify=justify)
        for row in self._rows:
            made.add_row(*row)
        yield made


def _widths(columns: Sequence[Sequence[str]], available: int) -> list[int]:
    """How wide each column is: as its longest text, or else at least as its longest word, or else as there is room."""
    room = max(available - GAP * (len(columns) - 1), len(columns))
    whole = [max(map(cell_len, texts)) for texts in columns]
    words = [max(cell_len(word) for text in texts for word in text.split() or [""]) for texts in columns]
    least, most = (words, whole) if sum(words) <= room else ([1] * len(columns), words)
    cap = max(most)
    while cap > 1 and sum(max(low, min(high, cap)) for low, high in zip(least, most, strict=True)) > room:
        cap -= 1
    widths = [max(low, min(high, cap)) for low, high in zip(least, most, strict=True)]
    for place, high in enumerate(most):  # what the common cap leaves over
        widths[place] += max(0, min(high - widths[place], room - sum(widths)))
    return widths
