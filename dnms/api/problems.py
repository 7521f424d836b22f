"""Errors as problem documents (RFC 9457), each with a stable word in `why`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap

from dnms.bus.port import LogError
from dnms.domain.aggregate import Refused
from dnms.domain.document import MAX_DOCUMENT, DocumentError
from dnms.projections.files import ViewsError
from dnms.projections.views import NoSuchMoment

MEDIA_TYPE = "application/problem+json"

_Request = Request[Any, Any, Any]

_STATUS = {"plan-changed": HTTPStatus.PRECONDITION_FAILED}
"""Refusals that are no conflict of what is asked with what is there: `If-Match` failed (RFC 9110, 15.5.13)."""

_CALLED = {"in_state": "state"}
"""What callers know by another name than the handler's argument, of which Litestar tells."""

log_events = structlog.get_logger(__name__)


class Place(msgspec.Struct, frozen=True):
    """One thing that is wrong, and where: `$.pool[0].range` in a document, `after` of a query."""

    path: str
    detail: str


class Document(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of an error."""

    type: str
    title: str
    status: int
    detail: str
    why: str  # a stable word
    errors: list[Place] = []


class Problem(Exception):
    """A request that cannot be answered."""

    def __init__(self, status: HTTPStatus, why: str, detail: str, errors: list[Place] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.why = why
        self.detail = detail
        self.errors = errors or []


class NotThere(Problem):
    """Nothing of this name."""

    def __init__(self, detail: str) -> None:
        super().__init__(HTTPStatus.NOT_FOUND, "not-found", detail)


class Invalid(Problem):
    """A parameter that is not what it should be."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, "invalid-parameter", detail, [Place(path, detail)])


def response(problem: Problem, headers: dict[str, str] | None = None) -> Response[Document]:
    """The answer that says what is wrong."""
    return Response(
        Document(
            type=f"urn:dnms:problem:{problem.why}",
            title=problem.status.phrase,
            status=problem.status,
            detail=problem.detail,
            why=problem.why,
            errors=problem.errors,
        ),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def of_document(error: DocumentError) -> Problem:
    """A plan that is none: msgspec says the place behind the text."""
    detail, _, place = str(error).partition(" - at `")
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-plan", str(error), [Place(place.removesuffix("`") or "$", detail)]
    )


def of_refusal(refused: Refused) -> Problem:
    """A request that the domain refused: an invalid plan has a problem a line, each behind its place."""
    if refused.why != "invalid-plan":
        return Problem(_STATUS.get(refused.why, HTTPStatus.CONFLICT), refused.why, str(refused))
    lines = [line.partition(": ") for line in refused.text.splitlines()]
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        refused.why,
        refused.text,
        [Place(path, detail) if detail else Place("$", path) for path, _, detail in lines],
    )


def _problem(_: _Request, problem: Problem) -> Response[Document]:
    headers = {"WWW-Authenticate": "Bearer"} if problem.status is HTTPStatus.UNAUTHORIZED else None
    return response(problem, headers)


def _refused(_: _Request, refused: Refused) -> Response[Document]:
    return response(of_refusal(refused))


def _unavailable(_: _Request, error: ViewsError | LogError) -> Response[Document]:
    return response(Problem(HTTPStatus.SERVICE_UNAVAILABLE, error.why, str(error)), {"Retry-After": "1"})


def _no_such_moment(_: _Request, error: NoSuchMoment) -> Response[Document]:
    return response(Problem(HTTPStatus.NOT_FOUND, "no-such-moment", str(error)))


def _invalid(_: _Request, error: ValidationException) -> Response[Document]:
    entries: list[dict[str, str]] = [entry for entry in error.extra or [] if isinstance(entry, dict)]
    places = [Place(_CALLED.get(key := entry.get("key", "$"), key), entry.get("message", "")) for entry in entries]
    return response(Problem(HTTPStatus.BAD_REQUEST, "invalid-parameter", _details(places) or error.detail, places))


def _http(_: _Request, error: HTTPException) -> Response[Document]:
    status = HTTPStatus(error.status_code)
    why = status.phrase.lower().replace(" ", "-")
    detail = error.detail
    if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        detail = f"the request has more than {MAX_DOCUMENT >> 20} MiB, the most that a plan may have"
    return response(Problem(status, why, detail), dict(error.headers or {}))


def _defect(request: _Request, error: Exception) -> Response[Document]:
    log_events.error("a request failed", path=request.url.path, exc_info=error)
    return response(
        Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "defect", "this is a defect of DNMS; its log has the details")
    )


def _details(places: list[Place]) -> str:
    return "; ".join(f"{place.path}: {place.detail}" for place in places)


HANDLERS: ExceptionHandlersMap = {
    Problem: _problem,
    Refused: _refused,
    ViewsError: _unavailable,
    NoSuchMoment: _no_such_moment,
    LogError: _unavailable,
    ValidationException: _invalid,
    HTTPException: _http,
    Exception: _defect,
}
"""What each kind of error is answered with."""
