"""Subscribers that other packages bring which are installed beside DNMS, by entry points.

A package names it in its `pyproject.toml`, and `dnms subscriber run` knows it:

    [project.entry-points."dnms.subscribers"]
    door = "our_package:DOOR"      # a dnms.subscribers.subscriber.Subscriber, or a dnms.subscribers.caller.Calling
"""

from __future__ import annotations

from importlib.metadata import entry_points

import msgspec

from dnms.disk.extensions import ExtensionError
from dnms.events.plan import Name
from dnms.subscribers import SUBSCRIBERS, AnySubscriber
from dnms.subscribers.caller import Calling
from dnms.subscribers.subscriber import Subscriber

GROUP = "dnms.subscribers"


def all_subscribers() -> tuple[AnySubscriber, ...]:
    """Ours, then those of installed packages. ExtensionError."""
    found = {each.name: each for each in SUBSCRIBERS}
    for entry in entry_points(group=GROUP):
        package = entry.dist.name if entry.dist is not None else "a package"
        try:
            subscriber = entry.load()
        except Exception as error:  # another's code
            raise ExtensionError(f"subscriber {entry.name!r} of {package} cannot be loaded: {error!r}") from error
        if not isinstance(subscriber, Subscriber | Calling):
            raise ExtensionError(
                f"{entry.name!r} of {package} is no dnms.subscribers.subscriber.Subscriber, and no "
                f"dnms.subscribers.caller.Calling: {entry.value}"
            )
        if subscriber.name != entry.name or not _is_name(entry.name):
            raise ExtensionError(
                f"{package} brings {entry.name!r}, and that subscriber's own name is {subscriber.name!r}: "
                "expected one name, of lower-case letters, digits and hyphens"
            )
        if found.setdefault(entry.name, subscriber) is not subscriber:
            raise ExtensionError(f"{package} brings a subscriber {entry.name!r}, and there is one of that name already")
    return tuple(found.values())


def _is_name(text: str) -> bool:
    try:
        msgspec.convert(text, Name)
    except msgspec.ValidationError:
        return False
    return True
