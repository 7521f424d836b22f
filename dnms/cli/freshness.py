"""Whether answers are what the log says by now. Who asks hears it on stderr where they may not be."""

from __future__ import annotations

import msgspec

from dnms.cli.rendering import moment, say
from dnms.projections.views import Status

AGAIN = "the views follow the log again"


class Doubt(msgspec.Struct, frozen=True):
    """Why answers may be older than the log: a stable word, and a line for people."""

    word: str
    text: str


def doubt(status: Status, *, unread: int | None = 0) -> Doubt | None:
    """What speaks against answers from views in this state; None if nothing does.

    `unread` is how many commits they lack; None if the log cannot be asked. Views that are not there answer nothing,
    and say so themselves.
    """
    if status.position is None:
        return None
    if status.explanation:
        word, why = "stopped", f"have stopped ({status.explanation})"
    elif not status.running:
        word, why = "idle", "are kept up by nobody now"
    elif unread is None:
        word, why = "cut-off", "may be behind the log, which cannot be reached now"
    elif unread:
        word, why = "behind", f"are {unread} commits behind the log"
    else:
        return None
    return Doubt(word, f"the views {why}; they are as of {moment(status.position.time)}")


class Teller:
    """Tells people of a doubt once, and when it has gone."""

    def __init__(self) -> None:
        self._word = ""

    def tell(self, doubt: Doubt | None) -> None:
        """What is to be said of the answers from now on."""
        word = doubt.word if doubt else ""
        if word != self._word:
            say(doubt.text if doubt else AGAIN)
        self._word = word
