"""TLS 1.3 between both agents: a Subnet Agent shows the site's certificate, and a node trusts the site's root alone.

A node may have no clock that is set, and gets none before it has an address. So a certificate is not refused because it
is not valid yet; that is asked again with the agent's own time, when it has said it. One that has ended is refused by
the latest time that the node knows of.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path

import msgspec

from dnms.wire.messages import AGENT_NAME

NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python has no name for."""


class Validity(msgspec.Struct, frozen=True):
    """From when until when a certificate is valid, in seconds since 1970-01-01 UTC."""

    begins: int
    ends: int

    def has_ended(self, *, seen: float = 0) -> bool:
        """By the latest of this machine's clock, of when this program was installed, and of `seen`."""
        return max(time.time(), Path(__file__).stat().st_mtime, seen) > self.ends

    def covers(self, at: float) -> bool:
        """Whether it is valid at that time."""
        return self.begins <= at <= self.ends


def serving(certificate: Path, key: Path) -> ssl.SSLContext:
    """The Subnet Agent's end. OSError, ssl.SSLError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # the first answer is 40 ms earlier, and nodes resume nothing
    context.load_cert_chain(certificate, key)
    return context


def trusting(root: Path) -> ssl.SSLContext:
    """The node's end; `root` is the site's root certificate. OSError, ssl.SSLError."""
    context = ssl.create_default_context(cafile=str(root))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= NO_CHECK_TIME
    return context


async def connect(
    host: str, port: int, context: ssl.SSLContext, *, seen: float = 0
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Validity]:
    """Connect to a Subnet Agent that the site's root has signed for. OSError, ssl.SSLError.

    `seen` is the latest time that was seen here, in seconds since 1970-01-01 UTC.
    """
    reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=AGENT_NAME)
    certificate = writer.get_extra_info("peercert")
    validity = Validity(*(ssl.cert_time_to_seconds(certificate[end]) for end in ("notBefore", "notAfter")))
    if validity.has_ended(seen=seen):
        writer.transport.abort()
        raise ssl.SSLCertVerificationError(f"the agent's certificate has ended on {certificate['notAfter']}")
    return reader, writer, validity
