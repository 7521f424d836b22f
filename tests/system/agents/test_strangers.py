"""Who comes through TLS and says nothing of use: counted, and never a line of the log each."""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl

import pytest
from structlog.testing import capture_logs

from dnms.agents.listening import TcpListener
from dnms.agents.subnet import sessions
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.served import Introduction
from dnms.agents.subnet.sessions import Sessions
from dnms.bus.memory import MemoryLog
from dnms.disk.site import Site
from dnms.kit.clock import SystemClock
from tests.system.agents.test_door import comes, leave, until


async def test_connections_without_a_hello_are_counted_and_not_logged_each(
    site: Site, served: ssl.SSLContext, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "REPORT", 0.2)
    clock = SystemClock()
    log = MemoryLog("s", log_id="log", now=clock.now)
    books = Books(log, site="s", secret=site.secret, subnet="lan", agent="a", now=clock.now, random=secrets.token_bytes)
    made = Sessions(books, Introduction("a", "s", "lan"), client_id=site.client_id)
    with capture_logs() as lines:
        running = [
            asyncio.create_task(made.serve([TcpListener(listener, served)])),
            asyncio.create_task(books.run()),
        ]
        for number in range(12):
            reader, writer = await comes(site, listener)
            if number % 2:
                writer.write(b"\xff" * 8)
                await reader.read()
            await leave(writer)
        try:
            await until(lambda: sum(line.get("end", 0) + line.get("oversized", 0) for line in lines) == 12)
        finally:
            for task in running:
                task.cancel()
                await asyncio.wait((task,))
    assert not [line for line in lines if "session" in line["event"]]
    await until(lambda: not made._door._guests)
