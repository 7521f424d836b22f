"""The API as this program calls it, with what it refuses as clear lines."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import httpx

from dnms.cli.exits import MACHINE, NO, REFUSED, UNREACHABLE, USAGE, Failure
from dnms.client import Connection, Page, Problem, http_client, quoted
from dnms.disk.site import Site, SiteError

__all__ = ["Api", "Page", "Refusal", "opened", "quoted"]

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


class Refusal(Failure):
    """The API answered, and it is no yes."""

    def __init__(self, code: int, problem: Problem) -> None:
        super().__init__(code, problem.detail)
        self.problem = problem


class Api(Connection):
    """An open connection to the API, which raises Failure."""

    def refused(self, status: int, problem: Problem) -> Exception:
        """A Refusal with its exit code."""
        if status == HTTPStatus.UNAUTHORIZED:
            text = f"the API refuses the token; name its site's directory with --site, or set {TOKEN}"
            return Refusal(REFUSED, Problem(text, problem.why))
        return Refusal(CODES.get(HTTPStatus(status), REFUSED), problem)

    def strange(self, text: str) -> Exception:
        """A Failure."""
        return Failure(REFUSED, text)


@asynccontextmanager
async def opened(url: str, site: Path) -> AsyncGenerator[Api, None]:
    """The API at `url`, with the token of the environment or of the site's directory. Failure."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise Failure(USAGE, f"{url!r} is no URL of an API; expected one such as http://127.0.0.1:61080")
    async with http_client(url, _token(site)) as client:
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
            raise Failure(MACHINE, f"no token for the API: {error}; or set {TOKEN}") from error
    if not token.isascii() or not token.isprintable():
        raise Failure(USAGE, f"the API's token is no plain text; look at {TOKEN}")
    return token
