"""An event as a program's environment."""

from __future__ import annotations

from collections.abc import Mapping

from dnms.projections.projection import place
from dnms.projections.text import plain
from dnms.subscribers.caller import Happening

PREFIX = "DNMS_"
MAX_VALUE = 4_096  # characters; what is longer is on the standard input alone


def environment(happening: Happening, base: Mapping[str, str]) -> dict[str, str]:
    """`base`, with the event instead of what it has of ours.

    DNMS_EVENT is its name, DNMS_POSITION its key (`LOGID:sequence.index`), DNMS_SUBNET the subnet of its ledger; then
    each field that is a text or a number: DNMS_PREFIX, DNMS_ADDRESS, DNMS_CLIENT, DNMS_NEXT_HOP, …
    """
    found = {name: value for name, value in base.items() if not name.startswith(PREFIX)}
    fields = {
        name: value
        for name, value in plain(happening.event, whole=True).items()
        if isinstance(value, str | int | float) and not isinstance(value, bool)
    }
    said = {
        "subnet": place(happening.subject).subnet,
        **fields,
        "event": happening.kind,
        "position": happening.position,
        "actor": happening.actor,
        "subject": happening.subject,
        "time": str(happening.time),
    }
    for name, value in said.items():
        text = str(value).replace("\0", "")  # which no environment can hold
        if text and len(text) <= MAX_VALUE:
            found[PREFIX + name.upper()] = text
    return found
