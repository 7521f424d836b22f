"""An example of every type of `events`, drawn from the type itself: the same for ever, as long as the type is."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

from msgspec import inspect

from dnms.events.recorded import Personal


def full(kind: type[Any]) -> Any:
    """An example in which every field is given, none as its default."""
    return _struct(inspect.type_info(kind), getattr(kind, "NAME", kind.__name__), full=True)


def least(kind: type[Any]) -> Any:
    """An example in which only the fields without a default are given."""
    return _struct(inspect.type_info(kind), getattr(kind, "NAME", kind.__name__), full=False)


def _struct(info: Any, path: str, *, full: bool) -> Any:
    fields = {f.name: _value(f.type, f"{path}.{f.name}", full=full) for f in info.fields if full or f.required}
    return info.cls(**fields)


def _value(kind: inspect.Type, path: str, *, full: bool) -> Any:  # noqa: PLR0911  # one return a type
    seed = zlib.crc32(path.encode())
    field = path.rpartition(".")[2].rstrip("0123456789")
    match kind:
        case inspect.BoolType():
            return True
        case inspect.IntType(ge=least, gt=None, le=most, lt=limit):
            low = least or 0
            high = limit if limit is not None else most + 1 if most is not None else 1 << 40
            return low + 1 + seed % (high - low - 1)
        case inspect.StrType():
            return field.replace("_", "-")
        case inspect.BytesType(min_length=shortest):
            return hashlib.sha512(path.encode()).digest()[: shortest if shortest is not None else 32]
        case inspect.LiteralType(values=values):
            return values[-1]
        case inspect.UnionType(types=types):
            return _value(next(t for t in types if not isinstance(t, inspect.NoneType)), path, full=full)
        case inspect.VarTupleType(item_type=item, min_length=shortest):
            return tuple(_value(item, f"{path}{n}", full=full) for n in range(2 if full else shortest or 0))
        case inspect.DictType(value_type=value):
            return {f"{field}-{n}": _value(value, f"{path}{n}", full=full) for n in ((2, 1) if full else ())}
        case inspect.StructType():
            return _struct(kind, path, full=full)
        case inspect.CustomType(cls=cls) if cls is Personal:
            text = f"a {field}"
            return Personal(text if field == "name" else text.encode())
        case _:
            raise TypeError(f"{path}: no example is known for {kind}; add one here")
