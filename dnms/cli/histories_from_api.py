"""Histories from the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from dnms.cli import http
from dnms.cli.histories import PAGE, Sought, Times
from dnms.projections.activity.queries import ActivityRow, By, Each
from dnms.projections.events.searching import AuditRow
from dnms.projections.history.holding import Holding

T = TypeVar("T")


class _Page(msgspec.Struct, Generic[T], frozen=True):
    items: list[T]
    next: str | None = None


class ApiHistories:
    """Implements `histories.Histories` over the API."""

    def __init__(self, api: http.Api) -> None:
        self._api = api

    async def who_had(self, address_or_prefix: str, times: Times) -> list[Holding]:
        """Who had an address, or those of a prefix, in a time."""
        if "/" not in address_or_prefix:
            return await self._all(f"/who-had/{address_or_prefix}", _Page[Holding], _bounds(times))
        found: list[Holding] = []
        after: str | None = None
        while True:
            asked = {**_bounds(times), "prefix": address_or_prefix, "after": after, "limit": PAGE}
            page = await self._api.get("/who-had", _Page[Holding], asked)
            found += page.items
            after = page.next
            if after is None:
                return found

    async def of_node(self, name_or_client: str, times: Times) -> list[Holding]:
        """Which addresses a node had in a time."""
        return await self._all(f"/nodes/{http.quoted(name_or_client)}/history", _Page[Holding], _bounds(times))

    async def of_addresses(self, address_or_prefix: str, times: Times, *, limit: int) -> list[AuditRow]:
        """What happened to an address, or to those of a prefix."""
        if "/" in address_or_prefix:
            return await self._events("/prefixes/history", {**_bounds(times), "prefix": address_or_prefix}, limit)
        return await self._events(f"/addresses/{address_or_prefix}/history", _bounds(times), limit)

    async def of_subnet(self, subnet: str, times: Times, *, limit: int) -> list[AuditRow]:
        """What changed in a subnet."""
        return await self._events(f"/subnets/{http.quoted(subnet)}/changes", _bounds(times), limit)

    async def audit(self, sought: Sought, times: Times, *, limit: int) -> list[AuditRow]:
        """Events that are all of what is sought."""
        named = {"kind": sought.kind, "actor": sought.actor, "entity": sought.entity, "cause": sought.cause}
        return await self._events("/audit", {**_bounds(times), **named, "grep": list(sought.texts) or None}, limit)

    async def activity(
        self, times: Times, *, by: Sequence[By], each: Each, kind: str | None, subnet: str | None
    ) -> list[ActivityRow]:
        """How many events there were in each hour or day."""
        asked = {**_bounds(times), "by": list(by) or None, "each": each, "kind": kind, "subnet": subnet}
        return await self._all("/activity", _Page[ActivityRow], asked)

    async def _all(self, path: str, kind: type[_Page[T]], asked: Mapping[str, Any]) -> list[T]:
        return (await self._api.get(path, kind, asked)).items

    async def _events(self, path: str, asked: Mapping[str, Any], limit: int) -> list[AuditRow]:
        found: list[AuditRow] = []
        beyond: str | None = None
        while len(found) < limit:
            page = await self._api.get(
                path, _Page[AuditRow], {**asked, "beyond": beyond, "limit": min(PAGE, limit - len(found))}
            )
            found += page.items
            beyond = page.next
            if beyond is None:
                break
        return found[::-1]


def _bounds(times: Times) -> dict[str, Any]:
    return {"since": _text(times.since), "until": _text(times.until), "at_sequence": times.sequence}


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
