"""Where questions go: to the API, or with `--data` to the views on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import Parameter

from dnms.cli.answers import Answers
from dnms.cli.options import API, SITE, ApiUrl, SiteDirectory

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
        if self.data is not None:
            from dnms.cli import from_views  # noqa: PLC0415  # one of the two is enough

            return from_views.opened(self.data)
        from dnms.cli import from_api  # noqa: PLC0415  # one of the two is enough

        return from_api.opened(self.api, self.site)

    def ask(self, question: Callable[[Answers], Awaitable[T]]) -> T:
        """The answer to one question."""

        async def asked() -> T:
            async with self.opened() as answers:
                return await question(answers)

        return asyncio.run(asked())


NOWHERE_ELSE = Asking()
"""The default: the API of this machine."""
