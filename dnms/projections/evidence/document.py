"""The form of an evidence file: two lines of JSON, what is said and who signs it.

    {"evidence":1,"site":…,"log_id":…,"made":…,"address":…,"at":…,"zone":…,"answer":[…],"events":[…],"log":{…}}
    {"algorithm":"Ed25519","signature":…,"certificate":…}

The signature is over `DNMS evidence 1`, a line feed, and the bytes of the first line without its end. So whoever checks
it needs no rule for how JSON is written, and whoever reads it needs no tool.
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime

import msgspec

from dnms.disk import signing
from dnms.disk.signing import BadSignature, Signer, Untrusted
from dnms.projections.history.holding import Holding

FORMAT = 1
ALGORITHM = "Ed25519"
MAX_BYTES = 64 << 20  # of a file; it has the events of one address, and some of them hold a node's whole configuration

_SIGNED = b"DNMS evidence 1\n"


class EvidenceError(Exception):
    """It is no file of evidence that this release can read; one line."""


class Refuted(Exception):
    """The evidence does not hold; `why` is a stable word."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An event, with what its commit says of it."""

    position: str
    subject: str
    name: str
    time: datetime  # of the commit
    actor: str
    commit: str  # its id, in hex
    predecessor: int  # sequence of the commit before it on its subject
    sha256: str  # of the whole message, in hex
    event: str  # its bytes in the log, [name, version, fields] in msgpack, as base64


class LogDigest(msgspec.Struct, frozen=True, kw_only=True):
    """The whole log up to a commit: a digest over every message, which is another one if any of them is."""

    last: int  # sequence
    time: datetime  # of the last commit
    digest: str  # hex; see `gathering`


class Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said. All times are in UTC."""

    evidence: int = FORMAT
    site: str
    log_id: str
    made: datetime
    release: str
    address: str
    at: datetime
    asked: str  # the time as it was asked for
    zone: str  # the time zone of the machine where it was asked, and what it is then behind or ahead of UTC
    answer: list[Holding]  # empty: nobody had it
    events: list[Told]  # that began and ended what is answered, and by which nodes have their names
    log: LogDigest


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who signs it."""

    algorithm: str
    signature: str  # base64
    certificate: str  # PEM; of the site's signer, which the site's root has signed


class Evidence(msgspec.Struct, frozen=True):
    """A file as it was read."""

    statement: Statement
    signature: Signature
    line: bytes  # which was signed


def encode(statement: Statement, signer: Signer) -> bytes:
    """The bytes of a file. ValueError if the key is damaged."""
    line = msgspec.json.encode(statement)
    signature = Signature(
        algorithm=ALGORITHM,
        signature=base64.b64encode(signer.sign(_SIGNED + line)).decode(),
        certificate=signer.certificate.decode(),
    )
    return line + b"\n" + msgspec.json.encode(signature) + b"\n"


def decode(content: bytes) -> Evidence:
    """A file as it was read; EvidenceError if it is none."""
    line, _, rest = content.partition(b"\n")
    try:
        version = msgspec.json.decode(line, type=_Version).evidence
        if version > FORMAT:
            raise EvidenceError(f"it is evidence of the form {version}, and this release knows {FORMAT}: upgrade dnms")
        return Evidence(msgspec.json.decode(line, type=Statement), msgspec.json.decode(rest, type=Signature), line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EvidenceError(f"it is no evidence: {error}") from None


def check_signature(evidence: Evidence, root: bytes) -> None:
    """Refuted `bad-signature` or `untrusted-key`. `root`: the site's root certificate, in PEM."""
    said = evidence.signature
    try:
        signature = base64.b64decode(said.signature, validate=True)
    except (binascii.Error, ValueError):
        raise Refuted("bad-signature", "its signature is no base64") from None
    if said.algorithm != ALGORITHM:
        raise Refuted("bad-signature", f"its signature is by {said.algorithm!r}, and not {ALGORITHM}")
    try:
        signing.check(
            _SIGNED + evidence.line,
            signature,
            certificate=said.certificate.encode(),
            root=root,
            at=evidence.statement.made,
        )
    except Untrusted as error:
        raise Refuted("untrusted-key", str(error)) from None
    except BadSignature as error:
        raise Refuted("bad-signature", str(error)) from None


class _Version(msgspec.Struct, frozen=True):
    evidence: int
