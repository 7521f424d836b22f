"""The API as this program calls it, with what it refuses as clear lines."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from dnms.cli.exits import MACHINE, NO, REFUSED, UNREACHABLE, USAGE, Failure
from dnms.disk.site import Site, SiteError

TIMEOUT = 30.0  # seconds; a large page takes less than one
CONNECT_TIMEOUT = 5.0
SILENCE = 60.0  # seconds; an open stream says something every 15

TOKEN = "DNMS_API_TOKEN"
"""The environment's variable with the API's token, for machines that have no directory of the site."""

CODES = {
    HTTPStatus.NOT_FOUND: NO,
    HTTPStatus.BAD_REQUEST: USAGE,
    HTTPStatus.UNPROCESSABLE_ENTITY: USAGE,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: USAGE,
    HTTPStatus.SERVICE_UNAVAILABLE: UNREACHABLE,  # the views or the log behind it
}
"""What an HTTP status means for who asked; all others are refusals."""

T = TypeVar("T")


def quoted(part: str) -> str:
    """A text as one part of a path."""
    return quote(part, safe="")


class Place(msgspec.Struct, frozen=True):
    """One thing that is wrong, and where."""

    path: str
    detail: str


class Problem(msgspec.Struct, frozen=True):
    """The body of an error (RFC 9457), as far as it is read."""

    detail: str
    why: str
    errors: list[Place] = []


class Refusal(Failure):
    """The API answered, and it is no yes."""

    def __init__(self, code: int, problem: Problem) -> None:
        super().__init__(code, problem.detail)
        self.problem = problem


class Api:
    """An open connection to the API."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(self, path: str, kind: type[T], parameters: Mapping[str, Any] | None = None) -> T:
        """Ask; Failure."""
        given = {name: value for name, value in (parameters or {}).items() if value is not None}
        return _decoded(await self._client.get(path, params=given), kind)

    async def post(self, path: str, document: Any, kind: type[T], *, if_match: int | None = None) -> T:
        """Have something changed, `if_match` only if what it changes is still at this position; Failure."""
        headers = {"Content-Type": "application/json"} | ({} if if_match is None else {"If-Match": f'"{if_match}"'})
        return _decoded(await self._client.post(path, content=msgspec.json.encode(document), headers=headers), kind)

    async def delete(self, path: str, kind: type[T], parameters: Mapping[str, Any] | None = None) -> T:
        """Have something ended; Failure."""
        given = {name: value for name, value in (parameters or {}).items() if value is not None}
        return _decoded(await self._client.delete(path, params=given), kind)

    @asynccontextmanager
    async def lines(self, path: str, parameters: Mapping[str, Any]) -> AsyncGenerator[AsyncIterator[str], None]:
        """The lines of an answer that does not end; Failure, httpx.TransportError."""
        given = {name: value for name, value in parameters.items() if value is not None}
        patience = httpx.Timeout(SILENCE, connect=CONNECT_TIMEOUT)
        async with self._client.stream("GET", path, params=given, timeout=patience) as answer:
            if answer.is_error:
                await answer.aread()
                raise _refusal(answer)
            yield answer.aiter_lines()


@asynccontextmanager
async def opened(url: str, site: Path) -> AsyncGenerator[Api, None]:
    """The API at `url`, with the token of the environment or of the site's directory. Failure."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise Failure(USAGE, f"{url!r} is no URL of an API; expected one such as http://127.0.0.1:61080")
    # A proxy of the environment is for the world outside, and the API is not there.
    async with httpx.AsyncClient(
        base_url=f"{url.rstrip('/')}/api/v1",
        headers={"Authorization": f"Bearer {_token(site)}"},
        timeout=httpx.Timeout(TIMEOUT, connect=CONNECT_TIMEOUT),
        trust_env=False,
    ) as client:
        try:
            yield Api(client)
        except httpx.TransportError as error:
            raise Failure(
                UNREACHABLE,
                f"the API at {url} does not answer ({str(error) or type(error).__name__}); "
                "is `dnms serve` running there? --api and DNMS_API name another one",
            ) from error


def _token(site: Path) -> str:
    token = os.environ.get(TOKEN)
    if token is None:
        try:
            token = Site.load(site).api_token
        except SiteError as error:
            raise Failure(
                MACHINE, f"no token for the API: {error}; or name the site's directory with --site, or set {TOKEN}"
            ) from error
    if not token.isascii() or not token.isprintable():
        raise Failure(USAGE, f"the API's token is no plain text; look at {TOKEN}")
    return token


def _decoded(answer: httpx.Response, kind: type[T]) -> T:
    if answer.is_error:
        raise _refusal(answer)
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.MsgspecError as error:
        raise Failure(REFUSED, f"{answer.url} answers what this release does not understand: {error}") from error


def _refusal(answer: httpx.Response) -> Failure:
    try:
        problem = msgspec.json.decode(answer.content, type=Problem)
    except msgspec.MsgspecError:
        return Failure(
            REFUSED, f"{answer.url} answers {answer.status_code} {answer.reason_phrase}; is that a DNMS API?"
        )
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        text = f"the API refuses the token; name its site's directory with --site, or set {TOKEN}"
        return Refusal(REFUSED, Problem(text, problem.why))
    return Refusal(CODES.get(HTTPStatus(answer.status_code), REFUSED), problem)
