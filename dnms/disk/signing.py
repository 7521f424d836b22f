"""Signatures of a site: what it says in a file, so that others can see that it said so, and that nobody has changed it.

Ed25519 (RFC 8032), by a key of its own with a certificate that the site's root has signed.
"""

from __future__ import annotations

import datetime

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNER = "DNMS evidence"
"""Whom the certificate names; that of a Subnet Agent, which the same root has signed, signs nothing else."""


class Untrusted(Exception):
    """The certificate is none of the site's, or not for this."""


class BadSignature(Exception):
    """What was signed was other bytes."""


class Signer(msgspec.Struct, frozen=True):
    """The key that signs for a site, and its certificate, in PEM."""

    key: bytes
    certificate: bytes

    def sign(self, content: bytes) -> bytes:
        """The signature, 64 bytes. ValueError if the key is damaged."""
        key = serialization.load_pem_private_key(self.key, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("the key is no Ed25519 key")
        return key.sign(content)


def check(content: bytes, signature: bytes, *, certificate: bytes, root: bytes, at: datetime.datetime) -> None:
    """Untrusted if the certificate (PEM) was not valid `at` by the site's root (PEM); BadSignature."""
    try:
        signer = x509.load_pem_x509_certificate(certificate)
        signer.verify_directly_issued_by(x509.load_pem_x509_certificate(root))
    except (ValueError, TypeError, x509.InvalidVersion, InvalidSignature) as error:
        raise Untrusted("its certificate was not signed by the root of this site") from error
    key = signer.public_key()
    names = [name.value for name in signer.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    if names != [SIGNER] or not isinstance(key, Ed25519PublicKey):
        raise Untrusted("its certificate is not one that signs evidence")
    if not signer.not_valid_before_utc <= at <= signer.not_valid_after_utc:
        raise Untrusted("its certificate was not valid when it was made")
    try:
        key.verify(signature, content)
    except InvalidSignature as error:
        raise BadSignature("its signature is not that of its content") from error
