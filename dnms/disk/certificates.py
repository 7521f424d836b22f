"""The site's root certificate, the one that Subnet Agents show to nodes, those of relays, and that of who signs for the
site.

Client certificates will have their place here.
"""

from __future__ import annotations

import datetime

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dnms.disk.signing import SIGNER
from dnms.wire.messages import AGENT_NAME

RELAY_SUFFIX = ".relay.dnms"
"""What the DNS name in a relay's certificate ends with, behind the relay's name. No node takes it for AGENT_NAME."""

_DAY = datetime.timedelta(days=1)


class Issued(msgspec.Struct, frozen=True):
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes


def issue(site: str) -> tuple[Issued, Issued]:
    """A new root for the site, and a certificate for its Subnet Agents, signed by it."""
    now = datetime.datetime.now(datetime.UTC)
    root_key = ec.generate_private_key(ec.SECP256R1())
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"DNMS site {site}")])
    root_id = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())
    root = (
        _builder(root_name, root_name, root_key, now)
        .not_valid_after(now + 3650 * _DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(root_id, critical=False)
        .sign(root_key, hashes.SHA256())
    )
    agent_key = ec.generate_private_key(ec.SECP256R1())
    agent_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, AGENT_NAME)])
    agent = (
        _builder(agent_name, root_name, agent_key, now)
        .not_valid_after(now + 825 * _DAY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(AGENT_NAME)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(agent_key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_id), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    return _issued(root, root_key), _issued(agent, agent_key)


def issue_signer(root: Issued) -> Issued:
    """A certificate for who signs what the site says, as long as the root's. ValueError if that is damaged."""
    return _issue_signing(root, SIGNER, at=datetime.datetime.now(datetime.UTC))


def issue_relay(root: Issued, name: str, *, at: datetime.datetime) -> Issued:
    """A certificate for a relay, from now on and as long as an agent's. ValueError if the root is damaged."""
    names = x509.SubjectAlternativeName([x509.DNSName(name + RELAY_SUFFIX)])
    # A common name has 64 characters at most (RFC 5280, A.1); the whole name is the DNS name.
    return _issue_signing(root, f"DNMS relay {name}"[:64], names, at=at, until=at + 825 * _DAY)


def _issue_signing(
    root: Issued,
    name: str,
    *extensions: x509.ExtensionType,
    at: datetime.datetime,
    until: datetime.datetime | None = None,
) -> Issued:
    """A key that signs, and its certificate, as long as the root's if not to be shorter. ValueError."""
    issuer = x509.load_pem_x509_certificate(root.certificate)
    root_key = serialization.load_pem_private_key(root.key, password=None)
    if not isinstance(root_key, ec.EllipticCurvePrivateKey):
        raise ValueError("the root's key is of another kind")
    root_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    key = ed25519.Ed25519PrivateKey.generate()
    builder = (
        _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), issuer.subject, key, at)
        .not_valid_after(min(until or issuer.not_valid_after_utc, issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_id), critical=False)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return _issued(builder.sign(root_key, hashes.SHA256()), key)


_Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def _builder(subject: x509.Name, issuer: x509.Name, key: _Key, now: datetime.datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)  # a node's clock may be slow
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _issued(certificate: x509.Certificate, key: _Key) -> Issued:
    return Issued(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
