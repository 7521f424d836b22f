"""Answers about prefixes from the API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dnms.cli import http
from dnms.cli.answers import PrefixAnswer
from dnms.cli.http import Page
from dnms.projections.prefixes.queries import DelegationRow, UplinkRow
from dnms.projections.prefixes.tree import TreeRow
from dnms.projections.why.steps import Step


class _Prefix(PrefixAnswer, frozen=True, kw_only=True):
    watermark: int


class ApiPrefixes:
    """Implements `answers.Prefixes` over the API."""

    def __init__(self, api: http.Api, then: Mapping[str, Any], say_when: Callable[[int], None]) -> None:
        """`then`: the parameters that ask as of a moment; `say_when` tells people which commit that is."""
        self._api = api
        self._then = then
        self._say_when = say_when

    async def delegations(self, *, subnet: str | None, state: str | None) -> list[DelegationRow]:
        """Every delegation that is not over, or every one in a state."""
        asked = {"subnet": subnet, "state": state, **self._then}
        pages = [page async for page in self._api.pages("/prefixes", DelegationRow, asked)]
        self._say_when(pages[0].watermark)
        return [row for page in pages for row in page.items]

    async def uplinks(self, *, subnet: str | None, lost: bool) -> list[UplinkRow]:
        """Every prefix from above."""
        page = await self._api.get("/uplinks", Page[UplinkRow], {"subnet": subnet, "lost": lost, **self._then})
        self._say_when(page.watermark)
        return page.items

    async def prefix(self, prefix: str) -> PrefixAnswer:
        """One prefix."""
        found = await self._api.get("/prefixes/about", _Prefix, {"prefix": prefix, **self._then})
        self._say_when(found.watermark)
        return PrefixAnswer(
            prefix=found.prefix,
            delegations=found.delegations,
            uplinks=found.uplinks,
            links=found.links,
            tree=found.tree,
        )

    async def tree(self, *, within: str | None) -> list[TreeRow]:
        """What is cut from what."""
        page = await self._api.get("/prefixes/tree", Page[TreeRow], {"within": within, **self._then})
        self._say_when(page.watermark)
        return page.items

    async def why(self, of: str) -> list[Step]:
        """Why something is so."""
        page = await self._api.get("/why", Page[Step], {"of": of, **self._then})
        self._say_when(page.watermark)
        return page.items
