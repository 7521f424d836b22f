"""An event as a message: CloudEvents 1.0 in JSON (its structured mode), signed as Standard Webhooks 1.0."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

import msgspec

from dnms.projections.text import instant
from dnms.subscribers.caller import Happening

CONTENT_TYPE = "application/cloudevents+json; charset=UTF-8"
"""Of the structured mode (CloudEvents HTTP binding 1.0, 3.2)."""

MARK = "whsec_"
LEAST, MOST = 24, 64
"""Bytes of a secret (Standard Webhooks, Symmetric)."""


def secrets_of(text: str) -> list[bytes]:
    """The secrets in a text, one a line: while one is replaced there are two, and every message is signed with both.

    ValueError if there is none, or one is not `whsec_` and 24 to 64 bytes in base64.
    """
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        try:
            secret = base64.b64decode(line.removeprefix(MARK), validate=True)
        except binascii.Error:
            secret = b""
        if not line.startswith(MARK) or not LEAST <= len(secret) <= MOST:
            raise ValueError(f"expected {MARK} and {LEAST} to {MOST} bytes in base64 in every line")
        found.append(secret)
    if not found:
        raise ValueError(f"there is no secret; expected {MARK} and {LEAST} to {MOST} bytes in base64")
    return found


def body(happening: Happening, *, site: str) -> bytes:
    """The CloudEvent. `source` and `id` together are its own for ever: the id names the log and the place in it."""
    event = {
        "specversion": "1.0",
        "id": happening.position,
        "source": f"/dnms/{site}",
        "type": f"dnms.{happening.kind}",
        "time": instant(happening.time),
        "datacontenttype": "application/json",
        "data": happening.document(),
    }
    if happening.about:
        event["subject"] = happening.about
    return msgspec.json.encode(event)


def headers(message_id: str, content: bytes, *, seconds: int, secrets: Sequence[bytes]) -> dict[str, str]:
    """What is sent beside the content, at the unix time `seconds`.

    The id is the same in every attempt, and the time is not: a receiver refuses an old one, and knows what it has had.
    """
    signed = b".".join((message_id.encode(), str(seconds).encode(), content))
    signatures = (hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets)
    return {
        "content-type": CONTENT_TYPE,
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(each).decode()}" for each in signatures),
    }
