"""By what a relay is known: a key of its own, and a certificate with its name that the site's root has signed.

The relay has both in a directory (`relay.pem`, `relay.key`), and nothing else of the site's. The certificate lets it
speak for links where agents are told of it, and is none that a node takes for a Subnet Agent's.
"""

from __future__ import annotations

import datetime
import os
from contextlib import suppress
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from dnms.disk import atomic
from dnms.disk.certificates import RELAY_SUFFIX, Issued
from dnms.disk.signing import BadSignature, Untrusted
from dnms.events.plan import Name

CERTIFICATE, KEY = "relay.pem", "relay.key"


class CredentialsError(Exception):
    """A relay's directory cannot be written or read; one line that says what to do."""


class RelayCredentials(msgspec.Struct, frozen=True):
    """A relay's own."""

    name: str
    certificate: bytes  # DER
    key: Ed25519PrivateKey

    @classmethod
    def load(cls, directory: Path, *, at: datetime.datetime) -> RelayCredentials:
        """Of its directory. CredentialsError, also if it is not valid any more."""
        again = f"have `dnms relay issue` make others, and put {CERTIFICATE} and {KEY} into {directory}"
        try:
            certificate = x509.load_pem_x509_certificate((directory / CERTIFICATE).read_bytes())
            key = serialization.load_pem_private_key((directory / KEY).read_bytes(), password=None)
            if not isinstance(key, Ed25519PrivateKey) or key.public_key() != certificate.public_key():
                raise ValueError(f"{KEY} is not the key of {CERTIFICATE}")
            name = _name(certificate)
        except OSError as error:
            raise CredentialsError(f"cannot read {error.filename}: {error.strerror}; {again}") from error
        except (ValueError, TypeError, Untrusted) as error:
            raise CredentialsError(f"the relay's files in {directory} are damaged: {error}; {again}") from error
        if at > certificate.not_valid_after_utc:
            ended = certificate.not_valid_after_utc.date()
            raise CredentialsError(f"the relay's certificate in {directory} has ended on {ended}; {again}")
        return cls(name, certificate.public_bytes(serialization.Encoding.DER), key)


def store(issued: Issued, directory: Path) -> None:
    """Write a new relay's files. CredentialsError, and nothing is changed, if there are some already."""
    files = ((directory / KEY, issued.key, 0o600), (directory / CERTIFICATE, issued.certificate, 0o644))
    made: list[Path] = []
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if found := [path.name for path, _, _ in files if os.path.lexists(path)]:
            raise CredentialsError(f"{directory} holds {' and '.join(found)} already; nothing was changed")
        for path, content, mode in files:
            made.append(path)
            atomic.write(path, content, mode=mode)
    except OSError as error:
        for path in made:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        raise CredentialsError(f"cannot write {error.filename or directory}: {error.strerror or error}") from error


class Relays:
    """Tells an agent of which relay of its site something is."""

    def __init__(self, root: bytes) -> None:
        """`root` is the site's root certificate, PEM. ValueError if it is damaged."""
        self._root = x509.load_pem_x509_certificate(root)

    def name(self, certificate: bytes, content: bytes, signature: bytes, *, at: datetime.datetime) -> str:
        """Of the relay that has signed `content`, by its certificate (DER). Untrusted; BadSignature."""
        try:
            signer = x509.load_der_x509_certificate(certificate)
            signer.verify_directly_issued_by(self._root)
        except (ValueError, TypeError, x509.InvalidVersion, InvalidSignature) as error:
            raise Untrusted("its certificate was not signed by the root of this site") from error
        name, key = _name(signer), signer.public_key()
        if not signer.not_valid_before_utc <= at <= signer.not_valid_after_utc:
            ends = signer.not_valid_after_utc.date()
            raise Untrusted(f"the certificate of relay {name!r} is not valid now: it is until {ends}")
        if not isinstance(key, Ed25519PublicKey):
            raise Untrusted("its certificate is not one of a relay")
        try:
            key.verify(signature, content)
        except InvalidSignature as error:
            raise BadSignature(f"its signature is not by the key of relay {name!r}") from error
        return name


def _name(certificate: x509.Certificate) -> str:
    """Of the relay whose certificate it is. Untrusted."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (whole,) = names.get_values_for_type(x509.DNSName)
        if not whole.endswith(RELAY_SUFFIX):
            raise ValueError(f"{whole!r} names no relay")
        return msgspec.convert(whole.removesuffix(RELAY_SUFFIX), Name)
    except (ValueError, x509.ExtensionNotFound) as error:  # msgspec's errors are ValueErrors
        raise Untrusted("its certificate is not one of a relay") from error
