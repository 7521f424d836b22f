"""How `dnms` ends: its exit codes, which scripts rely on and which never change their meaning.

Beside these, 128 + n stands for the signal n, as shells have it: 130 is Ctrl-C, and 141 says that who read the output
has gone.
"""

from __future__ import annotations

OK = 0
"""It is done, or the answer is yes."""

NO = 1
"""The answer is no: nobody had that address, there is no such node, the views do not equal the log, the lab failed."""

USAGE = 2
"""The command line, a file or a value in it is wrong; nothing was changed."""

MACHINE = 3
"""This machine lacks something: a site's directory, views, root, a program, a free port, space on its disk."""

UNREACHABLE = 4
"""The API or the bus does not answer, or stopped answering."""

REFUSED = 5
"""The API or the bus answered and refused: a wrong token, a log that cannot be trusted."""

LATE = 6
"""What was waited for was not so in the time that was given."""

INTERRUPTED = 130
"""Ctrl-C."""

READER_GONE = 141
"""Who read the output has gone, as `head` does."""


class Failure(Exception):
    """What ends a command early: an exit code, and one line that says what to do."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
