"""Whether evidence holds, in a word and a sentence."""

from __future__ import annotations

import msgspec

from dnms.bus.port import Log
from dnms.projections.evidence import checking, document
from dnms.projections.evidence.document import Evidence, Refuted, Statement

HOLDS = "holds"


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """Whether evidence holds; `verdict` is `holds`, or a stable word for why not."""

    holds: bool
    verdict: str
    explanation: str
    compared_with_log: bool
    statement: Statement


async def verified(evidence: Evidence, *, root: bytes, log: Log | None, site: str = "") -> Verified:
    """Check the signature by the site's root certificate (PEM), the file itself, and the log of `site` if given.

    LogError.
    """
    verdict, text = HOLDS, "the site signed it"
    try:
        document.check_signature(evidence, root)
        checking.check_itself(evidence.statement)
        if log is not None:
            unread = await checking.check_log(evidence, log, site)
            text += ", and the log says the same"
            if unread:
                text += f"; but for {', '.join(map(repr, unread))}: who had that name is forgotten"
    except Refuted as error:
        verdict, text = error.why, str(error)
    return Verified(
        holds=verdict == HOLDS,
        verdict=verdict,
        explanation=text,
        compared_with_log=log is not None,
        statement=evidence.statement,
    )
