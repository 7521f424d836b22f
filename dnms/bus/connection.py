"""A connection to NATS that is there or is not: never a client that stores late what it was given while away.

nats-py's own reconnection is off. It keeps what was published meanwhile and sends it afterwards, gives up for good on
errors that pass (a server that is slow to authenticate), and can be left with a dead read loop while it says that it is
connected. Here a client lives as long as its one TCP connection; when that is lost, whatever was asked on it is
unanswered, and a new client is dialled until there is one.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import structlog
from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from dnms.bus.port import Denied, Unanswered, Unavailable

DIAL_TIMEOUT = 2  # seconds for the TCP connection, and for each line of the greeting
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
"""Seconds between two attempts to dial, doubling from the one to the other."""
PING_INTERVAL = 5  # seconds; after two unanswered ones the connection counts as lost
TAKEN_WITHIN = 10.0  # seconds for the bus to take what is sent; it is not sent any more after them
CHECK_INTERVAL = 1.0  # seconds
CLOSE_TIMEOUT = 1.0  # seconds; a frozen server does not take what is still to be written

STORED_AT = "Dnms-Stored-At"
"""A header of messages that were copied from another stream: when they were first stored, in microseconds."""

_NO_STATUS = b"NATS/1.0\r\n"  # how headers begin that have none
_STORED_AT = f"\r\n{STORED_AT}: ".encode()

_logger = structlog.get_logger(__name__)


def stored_at_header(headers: bytes) -> str:
    """The value of STORED_AT in a message's headers; empty if there is none."""
    place = headers.find(_STORED_AT)
    if place < 0:
        return ""
    place += len(_STORED_AT)
    return headers[place : headers.index(b"\r\n", place)].decode(errors="replace")


class _Client(Client):
    """nats-py's client without what it makes of the headers of stored messages: all but one are for the server alone.

    To parse them is half of the cost of reading a message. A status (a heartbeat, nobody answers) is in the first line
    of headers, and is parsed.
    """

    async def _process_headers(self, headers: bytes | None) -> dict[str, str] | None:
        if headers and headers.startswith(_NO_STATUS):
            stored_at = stored_at_header(headers)
            return {STORED_AT: stored_at} if stored_at else None
        status: dict[str, str] | None = await super()._process_headers(headers)
        return status


class Link:
    """One client and its one TCP connection."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def closed(self) -> None:
        """Mark it as lost; nats-py calls this."""
        if not self.lost.done():
            self.lost.set_result(None)


class Connection:
    """Dials again whenever the link is lost, until it is closed."""

    def __init__(self, urls: list[str], *, token: str | None, name: str) -> None:
        self._urls = urls
        self._token = token
        self._name = name
        self._link: Link | None = None
        self._linked = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._reason = "not dialled yet"

    async def open(self, patience: float) -> None:
        """Dial; Denied; Unavailable with the reason if there is no link within `patience` seconds."""
        deadline = asyncio.get_running_loop().time() + patience
        pause = FIRST_PAUSE
        while True:
            link = await self._dial()
            if link is not None:
                break
            if "authorization" in self._reason.lower():
                raise Denied(f"the bus at {', '.join(self._urls)} refused the token: it is another site's")
            if asyncio.get_running_loop().time() + pause > deadline:
                raise Unavailable(f"no connection to the bus at {', '.join(self._urls)}: {self._reason}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        self._set(link)
        self._keeping = asyncio.create_task(self._keep(link), name="bus connection")

    async def close(self) -> None:
        """End the link and dial no more."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            self._keeping = None

    @property
    def link(self) -> Link:
        """The link that is up; Unavailable if there is none."""
        if self._link is None:
            raise Unavailable(f"no connection to the bus: {self._reason}")
        return self._link

    async def linked(self) -> None:
        """Wait until there is a link."""
        await self._linked.wait()

    async def request(
        self, subject: str, payload: bytes, *, timeout: float, headers: dict[str, str] | None = None
    ) -> Msg:
        """Ask, and return the answer. Unavailable if it was not sent; Unanswered if it may have been."""
        link = self.link
        asking: asyncio.Future[Msg] = asyncio.ensure_future(
            link.client.request(subject, payload, timeout=timeout, headers=headers)
        )
        try:
            await asyncio.wait((asking, link.lost), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not asking.done():
                asking.cancel()
                await asyncio.wait({asking})
        if asking.cancelled():
            raise Unanswered(f"{subject}: the connection to the bus was lost")
        try:
            return asking.result()
        except (errors.ConnectionClosedError, errors.OutboundBufferLimitError) as error:
            raise Unavailable(f"no connection to the bus: {error}") from error
        except errors.MaxPayloadError as error:
            raise Unavailable(f"{subject}: {len(payload)} bytes are more than the bus takes") from error
        except errors.TimeoutError as error:
            raise Unanswered(f"{subject}: no answer within {timeout:g} s") from error
        except errors.NoRespondersError as error:
            raise Unanswered(f"{subject}: nobody answers; JetStream is off, starting, or without a leader") from error

    async def _dial(self) -> Link | None:
        client = _Client()
        link = Link(client)
        options: dict[str, Any] = {"token": self._token} if self._token is not None else {}
        try:
            async with asyncio.timeout(2 * DIAL_TIMEOUT * len(self._urls)):
                await client.connect(
                    servers=self._urls,
                    name=self._name,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=DIAL_TIMEOUT,
                    ping_interval=PING_INTERVAL,
                    pending_size=0,
                    error_cb=self._error,
                    closed_cb=link.closed,
                    **options,
                )
        except (errors.Error, OSError, TimeoutError, ValueError, AttributeError) as error:
            # nats-py lets a broken greeting through as whatever it led to
            self._reason = self._reason_of(error)
            await self._shut(client)
            return None
        except asyncio.CancelledError:
            await self._shut(client)
            raise
        _drop_what_is_not_taken(client)
        return link

    def _reason_of(self, error: BaseException) -> str:
        if isinstance(error, errors.NoServersError):
            return self._reason  # the last one of `_error` says why
        silent = isinstance(error, errors.StaleConnectionError) and not isinstance(error, errors.UnexpectedEOF)
        if silent or isinstance(error, TimeoutError):
            return "no answer"
        return str(error) or type(error).__name__

    async def _error(self, error: Exception) -> None:
        """Note what nats-py has to say. Never raises: that would end nats-py's read loop."""
        self._reason = self._reason_of(error)

    async def _keep(self, link: Link) -> None:
        try:
            while True:
                while not link.lost.done() and link.client.is_connected:
                    # nats-py calls `closed` only when all is written, which a frozen server does not let it
                    await asyncio.wait({link.lost}, timeout=CHECK_INTERVAL)
                self._set(None)
                await link.closed()
                error = link.client.last_error
                self._reason = self._reason_of(error) if error is not None else "closed"
                _logger.warning("connection to the bus lost", why=self._reason)
                await self._shut(link.client)
                link = await self._dial_until_there()
                self._set(link)
                _logger.info("connection to the bus is back")
        finally:
            self._set(None)
            await self._shut(link.client)

    def _set(self, link: Link | None) -> None:
        self._link = link
        if link is None:
            self._linked.clear()
        else:
            self._linked.set()

    async def _dial_until_there(self) -> Link:
        pause = FIRST_PAUSE
        while True:
            link = await self._dial()
            if link is not None:
                return link
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    @staticmethod
    async def _shut(client: Client) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await client.close()
        except (errors.Error, OSError, TimeoutError, AttributeError):
            # nats-py has no way to drop a connection that takes nothing any more, and would keep it for ever
            writer = _writer(client)
            if writer is not None:
                writer.transport.abort()


def _writer(client: Client) -> asyncio.StreamWriter | None:
    writer: asyncio.StreamWriter | None = getattr(getattr(client, "_transport", None), "_io_writer", None)
    return writer


def _drop_what_is_not_taken(client: Client) -> None:
    """The kernel keeps what was sent into a link that is cut, even when the connection was given up and closed, and
    sends it minutes later, when the link is back: a commit that nobody waits for any more would be stored then.
    """
    writer = _writer(client)
    connected = writer.get_extra_info("socket") if writer is not None else None
    if connected is not None:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(TAKEN_WITHIN * 1_000))
