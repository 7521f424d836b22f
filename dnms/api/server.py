"""The API on a socket."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from litestar import Litestar

CLOSING = 3  # seconds for answers that are under way


class PortInUse(Exception):
    """The API cannot listen there; one line that says what to do."""


class _Server(uvicorn.Server):
    """Leaves the process's signals to the caller."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_api(
    app: Litestar, host: str, port: int, stop: asyncio.Event, *, ready: Callable[[int], None] | None = None
) -> None:
    """Serve the API on an address and port (0: a free one) until `stop` is set. PortInUse if it cannot listen there.

    `ready` is called with the port as soon as callers can connect.
    """
    listening = _listen(host, port)
    if ready is not None:
        ready(listening.getsockname()[1])
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=CLOSING,
            lifespan="on",
        )
    )
    with listening:
        serving = asyncio.ensure_future(server.serve(sockets=[listening]))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            app.state.stopping.set()  # ends the streams
            server.should_exit = True
            await serving


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise PortInUse(f"cannot listen on {host}: {error.strerror or error}") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(f"port {port} on {host} is in use; stop what listens there, or choose another") from error
        raise PortInUse(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
    listening.setblocking(False)
    return listening
