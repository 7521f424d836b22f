"""Evidence: who had an address at a time, in a file that the site signs, and whether such a file holds.

The answers that read the whole log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, SkipValidation

import dnms
from dnms.api.description import BODY
from dnms.api.problems import Invalid, Problem
from dnms.api.questions import TheLog
from dnms.bus.port import Log
from dnms.disk.signing import Signer
from dnms.disk.site import SiteError
from dnms.events.ip import parse_address
from dnms.projections.evidence import checking, document
from dnms.projections.evidence.document import Evidence, EvidenceError
from dnms.projections.evidence.verdict import Verified, verified

MEDIA_TYPE = "application/x-ndjson"  # two lines of JSON


class Notary(msgspec.Struct):
    """Who signs for a site, and reads its log for that: once at a time, as it takes a while."""

    site: str
    signer: Callable[[], Signer] | None
    root: bytes | None  # the site's root certificate, in PEM
    reading: asyncio.Lock

    async def evidence(self, log: Log, address: bytes, at: datetime) -> bytes:
        """The bytes of a file. SiteError, LogError, EvidenceError."""
        if self.signer is None:
            raise SiteError("this server has no key of the site to sign with")
        signer = self.signer()
        async with self.reading:
            said = await checking.make(
                log,
                self.site,
                address,
                at,
                asked=at.isoformat(),
                zone="UTC",
                made=datetime.now(UTC),
                release=dnms.__version__,
            )
        return document.encode(said, signer)

    async def verified(self, log: Log, evidence: Evidence) -> Verified:
        """Whether it holds. A forgery is told without the log, which nobody is to have read for it. LogError."""
        if self.root is None:
            raise SiteError("this server has no root certificate of the site to check with")
        found = await verified(evidence, root=self.root, log=None)
        if not found.holds:
            return found
        async with self.reading:
            return await verified(evidence, root=self.root, log=log, site=self.site)


@get("/evidence/{address:str}", media_type=MEDIA_TYPE)
async def evidence(
    log: TheLog, notary: NamedDependency[SkipValidation[Notary]], address: FromPath[str], at: FromQuery[datetime]
) -> Response[bytes]:
    """Who had an address at an instant, with the events that say so, signed by the site.

    `dnms evidence verify` checks it. It is read from the log's first message, and takes as long as that takes.
    """
    try:
        packed = parse_address(address)
    except ValueError as error:
        raise Invalid("address", str(error)) from None
    try:
        content = await notary.evidence(log, packed, at if at.tzinfo else at.replace(tzinfo=UTC))
    except EvidenceError as error:
        raise Invalid("address", str(error)) from None
    except SiteError as error:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "cannot-sign", str(error)) from None
    return Response(content, media_type=MEDIA_TYPE, headers={"Content-Disposition": 'attachment; filename="evidence"'})


@post("/evidence/verify", status_code=HTTPStatus.OK, opt={BODY: "text/plain"})
async def verify(
    request: Request[Any, Any, Any], log: TheLog, notary: NamedDependency[SkipValidation[Notary]]
) -> Verified:
    """Whether a file of evidence, which is the body, holds: the site signed it, and the log says the same.

    What does not hold is an answer too; its `verdict` says why. Reads the log up to where the file was made.
    """
    try:
        return await notary.verified(log, document.decode(await request.body()))
    except EvidenceError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, "not-evidence", str(error)) from None
    except SiteError as error:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "cannot-check", str(error)) from None


HANDLERS = (evidence, verify)
