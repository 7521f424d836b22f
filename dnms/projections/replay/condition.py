"""Conditions on an event and the state around it, such as `lease.address in '2001:db8::/64' and lease.group == 7`.

The grammar is a small part of Python's, parsed by `ast` and compiled to closures over values: names, attributes,
constants, comparisons, `in`, `and`, `or`, `not`. There are no calls, so a condition can do nothing but compare.

What is not there is None, and so is what is asked of it. None equals None alone, is neither smaller nor larger than
anything, and lies in nothing.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from dnms.events.ip import Prefix, format_address, parse_address, parse_prefix

MAX_LENGTH: Final = 1_000  # characters; what a person types, and far from what Python's parser minds

Scope = Callable[[str], Any]
"""The value of a name: None, a number, a text, a datetime, or mappings and lists of such."""

_Test = Callable[[Scope], Any]

_ORDER: Final[dict[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class ConditionError(ValueError):
    """It cannot be read, or compares what cannot be compared; one line that says where."""


class Condition:
    """A condition that was read."""

    def __init__(self, text: str, names: Mapping[str, frozenset[str] | None]) -> None:
        """`names` has every name that there is, with its attributes where they are known. ConditionError."""
        if len(text) > MAX_LENGTH:
            raise ConditionError(f"the condition is longer than {MAX_LENGTH} characters")
        self._names = names
        try:
            self._test = self._compiled(ast.parse(text.strip(), mode="eval").body)
        except SyntaxError as error:
            raise ConditionError(f"{text!r} is no condition: {error.msg}{_quoting(text)}") from None
        except (RecursionError, MemoryError, ValueError) as error:
            if isinstance(error, ConditionError):
                raise
            raise ConditionError(f"{text[:40]!r}… is no condition: {error or 'too deep'}") from None

    def holds(self, scope: Scope) -> bool:
        """Whether it is so. ConditionError where a text is compared with a time and is none."""
        return bool(self._test(scope))

    def _compiled(self, node: ast.expr) -> _Test:  # noqa: PLR0911  # one form a line
        match node:
            case ast.BoolOp(op=op, values=values):
                tests = [self._compiled(each) for each in values]
                if isinstance(op, ast.And):
                    return lambda scope: all(test(scope) for test in tests)
                return lambda scope: any(test(scope) for test in tests)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                test = self._compiled(operand)
                return lambda scope: not test(scope)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return lambda _: -number
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                return self._chain([self._compiled(each) for each in (left, *comparators)], ops)
            case ast.Attribute(value=value, attr=attribute):
                self._check(node)
                inner = self._compiled(value)
                return lambda scope: _attribute(inner(scope), attribute)
            case ast.Name(id=name):
                if name not in self._names:
                    raise ConditionError(f"there is no {name!r}; there are {', '.join(sorted(self._names))}")
                return lambda scope: scope(name)
            case ast.Constant(value=None | bool() | int() | float() | str() as constant):
                value = _constant(constant)
                return lambda _: value
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                parts = [self._compiled(each) for each in elements]
                return lambda scope: [part(scope) for part in parts]
        raise ConditionError(
            f"{ast.unparse(node)!r} cannot stand in a condition: it has names, constants, comparisons, in, and, or, not"
        )

    def _check(self, node: ast.Attribute) -> None:
        """What is misspelt would never be so, and one would wait in vain."""
        value = node.value
        if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name) and value.value.id == "before":
            name = value.attr
        elif isinstance(value, ast.Name):
            name = value.id
        else:
            return
        known = self._names.get(name)
        if known is not None and node.attr not in known:
            raise ConditionError(f"{name} has no {node.attr!r}; it has {', '.join(sorted(known))}")

    @staticmethod
    def _chain(parts: list[_Test], ops: list[ast.cmpop]) -> _Test:
        compares = [_comparison(op) for op in ops]

        def test(scope: Scope) -> bool:
            left = parts[0](scope)
            for compare, part in zip(compares, parts[1:], strict=True):
                right = part(scope)
                if not compare(left, right):
                    return False
                left = right
            return True

        return test


def _comparison(op: ast.cmpop) -> Callable[[Any, Any], bool]:
    match op:
        case ast.Eq() | ast.Is():
            return _equal
        case ast.NotEq() | ast.IsNot():
            return lambda left, right: not _equal(left, right)
        case ast.In():
            return _contained
        case ast.NotIn():
            return lambda left, right: not _contained(left, right)
    compare = _ORDER[type(op)]

    def ordered(left: Any, right: Any) -> bool:
        left, right = _alike(left, right)
        try:
            return compare(left, right)
        except TypeError:
            return False

    return ordered


def _equal(left: Any, right: Any) -> bool:
    left, right = _alike(left, right)
    return bool(left == right)


def _contained(left: Any, right: Any) -> bool:
    if isinstance(right, Prefix):
        try:
            return isinstance(left, str) and parse_address(left) in right
        except ValueError:
            return False
    if isinstance(right, str):
        return isinstance(left, str) and left in right
    return isinstance(right, list | dict) and any(_equal(left, each) for each in right)


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Times are written as text, and a prefix is one only where something lies in it."""
    left, right = (str(each) if isinstance(each, Prefix) else each for each in (left, right))
    if isinstance(left, datetime) and isinstance(right, str):
        return left, _moment(right)
    if isinstance(right, datetime) and isinstance(left, str):
        return _moment(left), right
    return left, right


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConditionError(f"{text!r} is compared with a time; expected ISO 8601 such as 2026-03-01T12:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _attribute(value: Any, attribute: str) -> Any:
    return value.get(attribute) if isinstance(value, Mapping) else None


def _constant(value: Any) -> Any:
    """Addresses and prefixes in the form in which the log's are shown, however they are written here."""
    if isinstance(value, str) and (":" in value or "." in value):
        for parse in (lambda text: format_address(parse_address(text)), parse_prefix):
            try:
                return parse(value)
            except ValueError:
                continue
    return value


def _quoting(text: str) -> str:
    return "" if "'" in text or '"' in text else "; names, addresses and times stand in quotes"
