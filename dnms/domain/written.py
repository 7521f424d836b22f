"""Addresses, prefixes, ranges and tables as people write them in a plan."""

from __future__ import annotations

import msgspec
import msgspec.inspect

from dnms.events.ip import parse_address, parse_prefix


class AddressText:
    """An address of either family; ValueError if it is none."""

    def __init__(self, text: str) -> None:
        self.value = parse_address(text)


class PrefixText:
    """A prefix of either family; ValueError if it is none."""

    def __init__(self, text: str) -> None:
        self.value = parse_prefix(text)


class RangeText:
    """`2001:db8::/64`, or the first and the last address with a hyphen between: `192.0.2.10-192.0.2.99`."""

    def __init__(self, text: str) -> None:
        if "-" in text:
            first, last = text.split("-", 1)
            self.first, self.last = parse_address(first.strip()), parse_address(last.strip())
        else:
            prefix = parse_prefix(text)
            self.first, self.last = prefix.network, prefix.last.to_bytes(16)


class Table(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A table of the document; a key that it does not have is a mistake of the writer."""


def choices(table: type[msgspec.Struct], key: str) -> str:
    """The words that a key of a table may have, as a person reads them; empty if it may have any."""
    described = msgspec.inspect.type_info(table)
    assert isinstance(described, msgspec.inspect.StructType)
    words: list[str] = []
    for field in described.fields:
        if field.encode_name == key:
            types = field.type.types if isinstance(field.type, msgspec.inspect.UnionType) else (field.type,)
            for each in types:
                if isinstance(each, msgspec.inspect.LiteralType):
                    words += map(str, each.values)
    return ", ".join(words)
