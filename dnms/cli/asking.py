"""Where questions go: to the API, or with `--data` to the views on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import Parameter

from dnms.cli.answers import Answers
from dnms.cli.options import API, SITE, WHEN, ApiUrl, AsOf, SiteDirectory

T = TypeVar("T")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Asking:
    """The options that say where questions go."""

    api: ApiUrl = API
    site: SiteDirectory = SITE
    data: Annotated[
        Path | None, Parameter(help="Ask the views in this site's directory on this machine, and not the API.")
    ] = None

    def opened(self) -> AbstractAsyncContextManager[Answers]:
        """Whoever answers."""
        return self._opened(None)

    def _opened(self, at: datetime | int | None) -> AbstractAsyncContextManager[Answers]:
        if self.data is not None:
            from dnms.cli import from_views  # noqa: PLC0415  # one of the two is enough

            return from_views.opened(self.data, at)
        from dnms.cli import from_api  # noqa: PLC0415  # one of the two is enough

        return from_api.opened(self.api, self.site, at)

    def ask(self, question: Callable[[Answers], Awaitable[T]]) -> T:
        """The answer to one question."""

        async def asked() -> T:
            async with self.opened() as answers:
                return await question(answers)

        return asyncio.run(asked())


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AskingThen(Asking):
    """The same for what can be asked about the past."""

    at: Annotated[
        AsOf | None,
        Parameter(help=f"As it was then: {WHEN} Or # and the sequence of a commit in the log, as in '#17'."),
    ] = None

    def opened(self) -> AbstractAsyncContextManager[Answers]:
        """Whoever answers, as of then."""
        return self._opened(self.at)


NOWHERE_ELSE = Asking()
NOW = AskingThen()
"""The defaults: the API of this machine, and as it is."""
