"""Answers about prefixes from the views on this machine, without the API."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from dnms.cli.answers import PrefixAnswer
from dnms.cli.exits import NO, USAGE, Failure
from dnms.events.ip import parse_prefix
from dnms.projections.prefixes import queries
from dnms.projections.prefixes.queries import DelegationRow, UplinkRow
from dnms.projections.prefixes.tree import TreeRow, tree
from dnms.projections.views import Reading
from dnms.projections.why import steps
from dnms.projections.why.asked import asked
from dnms.projections.why.steps import Step


class ViewPrefixes:
    """Implements `answers.Prefixes` over open views."""

    def __init__(self, reading: Callable[[], AbstractAsyncContextManager[Reading]]) -> None:
        """`reading`: the views as of when they are asked."""
        self._reading = reading

    async def delegations(self, *, subnet: str | None, state: str | None) -> list[DelegationRow]:
        """Every delegation that is not over, or every one in a state."""
        found: list[DelegationRow] = []
        async with self._reading() as reading:
            while page := await queries.delegations(
                reading.db,
                subnet=subnet,
                state=state,
                after=queries.key_of(found[-1]) if found else None,
                limit=queries.MAX_PREFIXES,
            ):
                found += page
        return found

    async def uplinks(self, *, subnet: str | None, lost: bool) -> list[UplinkRow]:
        """Every prefix from above."""
        async with self._reading() as reading:
            return await queries.uplinks(reading.db, subnet=subnet, lost=lost)

    async def prefix(self, prefix: str) -> PrefixAnswer:
        """One prefix."""
        wanted = parse_prefix(prefix)
        async with self._reading() as reading:
            uplinks = await queries.uplinks(reading.db, within=wanted, lost=True)
            links = await queries.links(reading.db, within=wanted)
            found = PrefixAnswer(
                prefix=prefix,
                delegations=await queries.of_prefix(reading.db, wanted),
                uplinks=[row for row in uplinks if row.prefix == prefix],
                links=[row for row in links if row.prefix == prefix],
                tree=await tree(reading.db, reading.position.log_id, within=wanted),
            )
        if not (found.delegations or found.uplinks or found.links):
            raise Failure(NO, f"{prefix} was never delegated, and came from nowhere; `prefix list` has what is there")
        return found

    async def tree(self, *, within: str | None) -> list[TreeRow]:
        """What is cut from what."""
        async with self._reading() as reading:
            return await tree(
                reading.db, reading.position.log_id, within=None if within is None else parse_prefix(within)
            )

    async def why(self, of: str) -> list[Step]:
        """Why something is so."""
        try:
            about = asked(of)
        except ValueError as error:
            raise Failure(USAGE, str(error)) from None
        async with self._reading() as reading:
            found = await steps.why(reading.db, reading.position.log_id, about)
        if not found:
            raise Failure(NO, steps.unknown(of))
        return found
