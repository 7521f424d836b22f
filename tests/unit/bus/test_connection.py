"""What is changed of nats-py is still there to be changed, and does what is relied upon."""

from __future__ import annotations

from nats.aio.client import Client

from dnms.bus.connection import _Client

STORED = b"NATS/1.0\r\nNats-Expected-Stream: DNMS_here\r\nNats-Expected-Last-Subject-Sequence: 7\r\n\r\n"
HEARTBEAT = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 3\r\nNats-Last-Stream: 12\r\n\r\n"
NOBODY = b"NATS/1.0 503\r\n\r\n"


async def test_headers_of_stored_messages_are_not_parsed_and_a_status_is() -> None:
    theirs, ours = Client(), _Client()
    assert await ours._process_headers(STORED) is None
    assert await ours._process_headers(None) is None
    for status in (HEARTBEAT, NOBODY):
        assert await ours._process_headers(status) == await theirs._process_headers(status)
    heartbeat = await ours._process_headers(HEARTBEAT)
    assert heartbeat is not None
    assert (heartbeat["Status"], heartbeat["Nats-Last-Consumer"]) == ("100", "3")
