"""Posts messages to a URL."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

import httpx

from dnms.kit.clock import MICROSECONDS, SystemClock
from dnms.subscribers.caller import CallError, Happening, Kinds
from dnms.subscribers.configured import CallTable, Patience, beside, table, wrong
from dnms.subscribers.subscriber import Local, OptionsError
from dnms.subscribers.webhook import message

AT_ONCE = 16  # requests at a time
SAID = 300  # bytes of an answer that says no
LONGEST_WISH = 3_600.0  # seconds for which a server may have itself left alone (Retry-After)
SECRET = "DNMS_WEBHOOK_SECRET"
"""The environment's variable with the secrets, where the configuration names no file."""


_CLOCK = SystemClock()


class _Webhook(CallTable, kw_only=True):
    url: str
    secret: str = ""
    timeout: Patience = 10.0


class Endpoint:
    """Implements `caller.Caller`."""

    at_once = AT_ONCE

    def __init__(
        self,
        url: httpx.URL,
        *,
        site: str,
        secrets: Sequence[bytes],
        kinds: Kinds,
        timeout: float,
        from_first: bool = False,
        now: Callable[[], int] = _CLOCK.now,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`now`: microseconds since 1970-01-01 UTC."""
        self.kinds = kinds
        self.from_first = from_first
        self._url = url
        self._where = f"{url.scheme}://{url.netloc.decode()}"  # what is said of it: the rest may be a secret
        self._site = site
        self._secrets = secrets
        self._timeout = timeout
        self._now = now
        self._client = httpx.AsyncClient(timeout=timeout, transport=transport, headers={"user-agent": "dnms"})

    @classmethod
    def of(cls, local: Local) -> Endpoint:
        """By the table `[webhook]`. OptionsError."""
        found = table(local, "webhook", _Webhook)
        try:
            url = httpx.URL(found.url)
        except httpx.InvalidURL:
            url = httpx.URL()
        if url.scheme not in {"http", "https"} or not url.host:
            raise wrong(local, "$.webhook.url", "Expected a URL such as https://example.net/dnms")
        return cls(
            url,
            site=local.site,
            secrets=_secrets(local, found.secret),
            kinds=Kinds(found.kinds),
            timeout=found.timeout,
            from_first=found.begin == "first",
        )

    async def call(self, happening: Happening) -> None:
        """Post it. CallError `unreachable`, `timeout`, `refused` if the answer is no 2xx."""
        content = message.body(happening, site=self._site)
        sent = message.headers(happening.position, content, seconds=self._now() // MICROSECONDS, secrets=self._secrets)
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream("POST", self._url, content=content, headers=sent) as response,
            ):
                if not response.is_success:
                    raise await self._refused(response)
        except (TimeoutError, httpx.TimeoutException):
            raise CallError("timeout", f"{self._where} did not answer within {self._timeout:g} s") from None
        except httpx.HTTPError as error:
            text = f"{self._where}: {str(error) or type(error).__name__}"
            raise CallError("unreachable", text) from error

    async def _refused(self, response: httpx.Response) -> CallError:
        said = b""
        async for part in response.aiter_bytes(SAID):
            said += part
            if len(said) >= SAID:
                break  # who answers without an end is not listened to
        text = " ".join(said[:SAID].decode(errors="replace").split())
        wish = response.headers.get("retry-after", "")
        return CallError(
            "refused",
            f"{self._where} answered {response.status_code}{': ' + text if text else ''}",
            not_before=min(LONGEST_WISH, float(wish)) if wish.isdecimal() else 0.0,
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()


def _secrets(local: Local, file: str) -> list[bytes]:
    if file.startswith(message.MARK):  # and not that there is no file of that name
        raise wrong(local, "$.webhook.secret", "expected the name of a file that holds the secret, and not the secret")
    if file:
        path = beside(local, file)
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise wrong(local, "$.webhook.secret", f"cannot read {path}: {error}") from error
        try:
            return message.secrets_of(text)
        except ValueError as error:
            raise wrong(local, "$.webhook.secret", f"{path}: {error}") from error
    if SECRET not in os.environ:
        raise OptionsError(f"{local.config}: expected a key `secret` that names a file, or {SECRET} - at `$.webhook`")
    try:
        return message.secrets_of(os.environ[SECRET])
    except ValueError as error:
        raise OptionsError(f"{SECRET}: {error}") from error
