"""A connection to the API: requests, lists page by page, and live events that go on where they broke off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
import msgspec

TIMEOUT = 30.0  # seconds; a large page takes less than one
CONNECT_TIMEOUT = 5.0
SILENCE = 60.0  # seconds; an open stream says something every 15
AGAIN = 1.0  # seconds until a stream that broke off is asked for again

PAGE = 1_000  # rows in one answer

T = TypeVar("T")


class Place(msgspec.Struct, frozen=True):
    """One thing that is wrong, and where."""

    path: str
    detail: str


class Problem(msgspec.Struct, frozen=True):
    """The body of an error (RFC 9457), as far as it is read; `why` is a stable word."""

    detail: str
    why: str
    errors: list[Place] = []


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A list, or a part of it; `next` is the `cursor` of the part behind it."""

    watermark: int  # sequence of the last commit that is folded in it
    items: list[T]
    next: str | None = None


class ApiError(Exception):
    """What was answered is not of this API, or of another release of it."""


class Refused(ApiError):
    """The API answered, and it is no yes."""

    def __init__(self, status: int, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.status = status
        self.problem = problem


class Connection:
    """An open connection to the API of one site. Paths are those behind `/api/v1`; parameters that are None are not."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    def refused(self, status: int, problem: Problem) -> Exception:
        """What is raised where the API refuses."""
        return Refused(status, problem)

    def strange(self, text: str) -> Exception:
        """What is raised for an answer that is none of this API."""
        return ApiError(text)

    async def get(self, path: str, kind: type[T], parameters: Mapping[str, Any] | None = None) -> T:
        """Ask; what `refused` and `strange` say, httpx.TransportError."""
        return self._decoded(await self._client.get(path, params=_given(parameters)), kind)

    async def post(self, path: str, document: Any, kind: type[T], *, if_match: int | None = None) -> T:
        """Have something changed, `if_match` only if what it changes is still at this position; raises as `get`."""
        headers = {"Content-Type": "application/json"} | ({} if if_match is None else {"If-Match": f'"{if_match}"'})
        answer = await self._client.post(path, content=msgspec.json.encode(document), headers=headers)
        return self._decoded(answer, kind)

    async def delete(self, path: str, kind: type[T], parameters: Mapping[str, Any] | None = None) -> T:
        """Have something ended; raises as `get`."""
        return self._decoded(await self._client.delete(path, params=_given(parameters)), kind)

    async def pages(
        self, path: str, kind: type[T], parameters: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[Page[T], None]:
        """A list page by page, at least one; raises as `get`."""
        of: type[Page[T]] = Page[kind]  # type: ignore[valid-type]
        cursor: str | None = None
        while True:
            page = await self.get(path, of, {**(parameters or {}), "limit": PAGE, "cursor": cursor})
            yield page
            cursor = page.next
            if cursor is None:
                return

    async def rows(
        self, path: str, kind: type[T], parameters: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[T, None]:
        """All of a list; raises as `get`."""
        async for page in self.pages(path, kind, parameters):
            for row in page.items:
                yield row

    @asynccontextmanager
    async def lines(
        self, path: str, parameters: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[AsyncIterator[str], None]:
        """The lines of an answer that does not end; raises as `get`."""
        patience = httpx.Timeout(SILENCE, connect=CONNECT_TIMEOUT)
        async with self._client.stream("GET", path, params=_given(parameters), timeout=patience) as answer:
            if answer.is_error:
                await answer.aread()
                raise self._refusal(answer)
            yield answer.aiter_lines()

    async def follow(
        self,
        kind: type[T],
        parameters: Mapping[str, Any] | None = None,
        *,
        after: str | None = None,
        broken: Callable[[httpx.TransportError], None] = lambda _: None,
    ) -> AsyncGenerator[T, None]:
        """Events behind the position `after`, or those to come. One that breaks off is taken up where it ended.

        `broken` is told once whenever it breaks off; what `refused` says is raised.
        """
        last, told = after, False
        while True:
            try:
                async with self.lines("/events/stream", {**(parameters or {}), "after": last}) as lines:
                    position, data, told = last, "", False
                    async for line in lines:  # of a message, which ends at an empty one (HTML, 9.2.6)
                        field, _, value = line.partition(":")
                        if field == "id":
                            position = value.strip()
                        elif field == "data":
                            data = value
                        elif not line:
                            if data:
                                yield msgspec.json.decode(data, type=kind)
                            last, data = position, ""
            except httpx.TransportError as error:
                if not told:
                    broken(error)
                told = True
            await asyncio.sleep(AGAIN)

    def _decoded(self, answer: httpx.Response, kind: type[T]) -> T:
        if answer.is_error:
            raise self._refusal(answer)
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except msgspec.MsgspecError as error:
            text = f"{answer.url} answers what this release does not understand: {error}"
            raise self.strange(text) from error

    def _refusal(self, answer: httpx.Response) -> Exception:
        try:
            problem = msgspec.json.decode(answer.content, type=Problem)
        except msgspec.MsgspecError:
            text = f"{answer.url} answers {answer.status_code} {answer.reason_phrase}; is that a DNMS API?"
            return self.strange(text)
        return self.refused(answer.status_code, problem)


def quoted(part: str) -> str:
    """A text as one part of a path."""
    return quote(part, safe="")


def http_client(url: str, token: str) -> httpx.AsyncClient:
    """What a Connection speaks through: to the API at `url`, such as http://127.0.0.1:61080, with the site's token."""
    # A proxy of the environment is for the world outside, and the API is not there.
    return httpx.AsyncClient(
        base_url=f"{url.rstrip('/')}/api/v1",
        headers={"Authorization": f"Bearer {token}"},
        timeout=httpx.Timeout(TIMEOUT, connect=CONNECT_TIMEOUT),
        trust_env=False,
    )


@asynccontextmanager
async def connect(url: str, token: str) -> AsyncGenerator[Connection, None]:
    """A connection to the API at `url`, such as http://127.0.0.1:61080, with the site's token."""
    async with http_client(url, token) as client:
        yield Connection(client)


def _given(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (parameters or {}).items() if value is not None}
