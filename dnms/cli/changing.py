"""One change that the API is asked for, and what people are told where its effect is not known or not seen yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from dnms.bus.port import Unanswered, Unavailable
from dnms.cli import from_api, http
from dnms.cli.exits import Failure
from dnms.cli.rendering import say


class Changed(Protocol):
    """What was changed."""

    @property
    def folded(self) -> bool:
        """Whether the views have it."""
        ...


C = TypeVar("C", bound=Changed)


def post(api: str, site: Path, path: str, document: Any, kind: type[C]) -> C:
    """Have something changed. Failure."""
    return _change(api, site, lambda opened: opened.post(path, document, kind))


def delete(api: str, site: Path, path: str, parameters: Mapping[str, Any], kind: type[C]) -> C:
    """Have something ended. Failure."""
    return _change(api, site, lambda opened: opened.delete(path, kind, parameters))


def _change(api: str, site: Path, ask: Callable[[http.Api], Awaitable[C]]) -> C:
    async def asked() -> C:
        async with http.opened(api, site) as opened:
            changed = await ask(opened)
            if not changed.folded:
                doubt = await from_api.doubtful(opened)
                say(f"it is in the log; {doubt.text if doubt else 'the views have it only now'}")
            return changed

    try:
        return asyncio.run(asked())
    except http.Refusal as refusal:
        raise unsettled(refusal) from refusal


def unsettled(refusal: http.Refusal) -> Failure:
    """The refusal, with whether anything was changed where the log could not be written."""
    problem = refusal.problem
    if problem.why == Unavailable.why:
        return Failure(refusal.code, f"nothing was changed: {problem.detail}; `dnms serve` logs why")
    if problem.why == Unanswered.why:
        text = f"{problem.detail}\nperhaps it was changed; look, before you ask again"
        return Failure(refusal.code, text)
    return refusal
