"""Exception groups, for people."""

from __future__ import annotations

from collections.abc import Iterator


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The exceptions of a group and of the groups in it."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


def one_line(group: BaseExceptionGroup[BaseException]) -> str:
    """What they say, each once."""
    return "; ".join(dict.fromkeys(str(error) for error in leaves(group)))
