"""What is defined stands in its list: an event that is in none would be written and never read."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Sequence
from types import ModuleType

import pytest
from msgspec import inspect

import dnms
import dnms.events
import dnms.wire
from dnms.events import codec, node, seen
from dnms.events.recorded import Event, Personal, Recorded, Request
from dnms.events.requests import REQUESTS
from dnms.wire.messages import MESSAGES, Message

WIRE_NAME = re.compile(r"[a-z]+(-[a-z]+)*\.[a-z]+(-[a-z]+)*")


def modules(package: ModuleType) -> list[ModuleType]:
    return [importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)]


def defined(package: ModuleType, base: type) -> set[type]:
    """All subclasses of `base` that the modules of a package define."""
    return {
        value
        for module in modules(package)
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, base)
        and value is not base
        and value.__module__ == module.__name__
    } - {Event, Request}


def test_every_event_is_in_the_list_of_its_family_and_every_family_in_the_codec() -> None:
    assert defined(dnms.events, Event) == set(codec.EVENTS)
    for module in modules(dnms.events):
        if hasattr(module, "EVENTS") and module is not codec:
            assert module in codec.FAMILIES
            assert defined(dnms.events, Event) >= set(module.EVENTS)
            assert all(event.__module__ == module.__name__ for event in module.EVENTS)


def test_every_request_is_in_the_list() -> None:
    assert defined(dnms.events, Request) == set(REQUESTS)


def test_every_message_is_in_the_list() -> None:
    assert defined(dnms.wire, Message) == set(MESSAGES)
    assert len({message.KIND for message in MESSAGES}) == len(MESSAGES)


@pytest.mark.parametrize("kinds", [codec.EVENTS, REQUESTS], ids=["events", "requests"])
def test_every_wire_name_is_its_own_and_well_formed(kinds: Sequence[type[Recorded]]) -> None:
    names = [kind.NAME for kind in kinds]
    assert len(set(names)) == len(names)
    for kind in kinds:
        assert WIRE_NAME.fullmatch(kind.NAME), kind.NAME
        assert "NAME" in vars(kind), f"{kind.__name__} has the wire name of another"
        assert kind.VERSION >= 1


@pytest.mark.parametrize("kind", [*codec.EVENTS, *REQUESTS, *MESSAGES], ids=lambda kind: kind.__name__)
def test_every_registered_type_is_frozen_and_writes_no_defaults(kind: type[Recorded | Message]) -> None:
    config = kind.__struct_config__
    assert (config.frozen, config.omit_defaults, config.array_like, config.tag) == (True, True, False, None)


def _holds_personal(kind: inspect.Type) -> bool:
    match kind:
        case inspect.CustomType(cls=cls):
            return cls is Personal
        case inspect.StructType(fields=fields):
            return any(_holds_personal(field.type) for field in fields)
        case inspect.UnionType(types=types):
            return any(map(_holds_personal, types))
        case inspect.VarTupleType(item_type=item):
            return _holds_personal(item)
        case inspect.DictType(key_type=key, value_type=value):
            return _holds_personal(key) or _holds_personal(value)
        case _:
            return False


def test_personal_values_stand_in_node_and_seen_alone() -> None:
    holders = {
        module for module in codec.FAMILIES for event in module.EVENTS if _holds_personal(inspect.type_info(event))
    }
    assert holders == {node, seen}
