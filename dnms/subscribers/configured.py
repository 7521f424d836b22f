"""The file of a subscriber's own (`--config FILE`): TOML, with a table for each subscriber. Errors name the place."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from dnms.domain.written import choices
from dnms.subscribers.caller import Kinds
from dnms.subscribers.subscriber import Local, OptionsError

Patience = Annotated[float, msgspec.Meta(gt=0, le=3_600)]
"""Seconds that a call may take."""


class CallTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What every table of a subscriber that calls has."""

    kinds: list[str] = []  # none: all but `effect`
    timeout: Patience = 30.0
    begin: Literal["now", "first"] = "now"  # of an instance that never ran


C = TypeVar("C", bound=CallTable)


def table(local: Local, name: str, kind: type[C]) -> C:
    """The table `[name]` of the file. OptionsError with the place in it, and what was expected there."""
    if local.config is None:
        raise OptionsError(f"{name}: --config FILE is missing, a TOML file with a table [{name}]")
    try:
        document = tomllib.loads(local.config.read_text())
    except OSError as error:
        raise OptionsError(f"cannot read {local.config}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OptionsError(f"{local.config}: not TOML: {error}") from error
    if name not in document:
        raise OptionsError(f"{local.config}: expected a table [{name}] - at `$`")
    try:
        found = msgspec.convert(document[name], kind)
    except msgspec.ValidationError as error:
        raise OptionsError(f"{local.config}: {_explained(str(error), name, kind)}") from error
    for index, word in enumerate(found.kinds):
        try:
            Kinds([word])
        except ValueError as error:
            raise wrong(local, f"$.{name}.kinds[{index}]", str(error)) from error
    return found


def wrong(local: Local, place: str, what: str) -> OptionsError:
    """The value at a place of the file will not do."""
    return OptionsError(f"{local.config}: {what} - at `{place}`")


def _explained(text: str, name: str, kind: type[Any]) -> str:
    """msgspec's complaint, with the place in the whole file, and the keys that there are."""
    what, _, place = text.partition(" - at `")
    place = re.sub(r"^\$", f"$.{name}", place.removesuffix("`") or "$")
    if "unknown field" in what:
        what += f"; known are {', '.join(kind.__struct_fields__)}"
    elif what.startswith("Invalid enum value"):
        what += f"; expected one of {choices(kind, place.rpartition('.')[2])}"
    return f"{what} - at `{place}`"


def beside(local: Local, file: str) -> Path:
    """A file that is named in the file: from where that lies."""
    assert local.config is not None
    return local.config.parent / file
