from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dnms.agents import tls
from dnms.disk.site import Site
from dnms.wire.messages import AGENT_NAME

YEAR = datetime.timedelta(days=365)


def issue(site: Site, name: str, begins: datetime.timedelta, ends: datetime.timedelta) -> None:
    """Give the site's agents another certificate, signed by its root; times from now on."""
    root = x509.load_pem_x509_certificate(site.root_certificate.read_bytes())
    root_key = serialization.load_pem_private_key((site.path / "root.key").read_bytes(), None)
    assert isinstance(root_key, ec.EllipticCurvePrivateKey)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    identifier = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    site.agent_certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    site.agent_key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@asynccontextmanager
async def serving(context: ssl.SSLContext, listener: socket.socket) -> AsyncIterator[int]:
    """An agent's end that says hello to whoever is let in."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, sock=listener, ssl=context)
    try:
        yield listener.getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def connect(site: Site, listener: socket.socket, root: Path, *, seen: float = 0) -> tls.Validity:
    async with serving(tls.serving(site.agent_certificate, site.agent_key), listener) as port:
        reader, writer, validity = await tls.connect("127.0.0.1", port, tls.trusting(root), seen=seen)
        assert await reader.readexactly(5) == b"hello"
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        writer.close()
        await writer.wait_closed()
        return validity


async def test_a_node_trusts_its_own_site(site: Site, listener: socket.socket) -> None:
    validity = await connect(site, listener, site.root_certificate)
    assert validity.covers(time.time())


async def test_a_node_trusts_no_other_site(site: Site, listener: socket.socket, tmp_path: Path) -> None:
    other = Site.create(tmp_path / "other", "s")
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(site, listener, other.root_certificate)


async def test_a_node_trusts_no_certificate_for_another_name(site: Site, listener: socket.socket) -> None:
    issue(site, "api.dnms", -YEAR, YEAR)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"(?i)hostname mismatch"):
        await connect(site, listener, site.root_certificate)


async def test_a_node_talks_no_older_tls(site: Site, listener: socket.socket) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(site.agent_certificate, site.agent_key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(context, listener) as port:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await tls.connect("127.0.0.1", port, tls.trusting(site.root_certificate))


async def test_an_agent_talks_no_older_tls(site: Site, listener: socket.socket) -> None:
    context = tls.trusting(site.root_certificate)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(tls.serving(site.agent_certificate, site.agent_key), listener) as port:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await tls.connect("127.0.0.1", port, context)


async def test_a_certificate_that_has_ended_is_refused(site: Site, listener: socket.socket) -> None:
    issue(site, AGENT_NAME, -2 * YEAR, -datetime.timedelta(hours=1))
    with pytest.raises(ssl.SSLCertVerificationError, match="has ended"):
        await connect(site, listener, site.root_certificate)


async def test_a_certificate_has_ended_by_the_latest_time_that_was_seen(site: Site, listener: socket.socket) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="has ended"):
        await connect(site, listener, site.root_certificate, seen=time.time() + 3 * YEAR.total_seconds())


async def test_a_node_whose_clock_is_not_set_joins_all_the_same(site: Site, listener: socket.socket) -> None:
    """To it, every certificate is one of the future."""
    issue(site, AGENT_NAME, YEAR, 2 * YEAR)
    validity = await connect(site, listener, site.root_certificate)
    assert not validity.covers(time.time())
    assert validity.covers(time.time() + 1.5 * YEAR.total_seconds())
