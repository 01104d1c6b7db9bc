"""Every error as problem+json: our refusals, the framework's exceptions, and what we got wrong."""

import re
from collections.abc import Iterable
from typing import Any

import asyncpg
import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from truestock.db import LOST_CONNECTION
from truestock.ledger.commands import refusal_answer
from truestock.model.refusal import Code, FieldError, Refusal
from truestock.telemetry import describe

log = structlog.get_logger()

AnyRequest = Request[Any, Any, Any]

PROBLEM_JSON = "application/problem+json"
JSON = "application/json"

BY_STATUS = {
    400: Code.VALIDATION_FAILED,
    401: Code.UNAUTHENTICATED,
    403: Code.FORBIDDEN,
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.PAYLOAD_TOO_LARGE,
    415: Code.UNSUPPORTED_MEDIA_TYPE,
    429: Code.RATE_LIMITED,
    503: Code.OVERLOADED,
}


class RefusedError(Exception):
    """A refusal on its way to the caller."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


def refused(code: Code, detail: str) -> RefusedError:
    """A refusal to raise."""
    return RefusedError(Refusal(code, detail))


def problem(code: Code, detail: str, retry_after: int | None = None) -> Response[bytes]:
    """A problem answer from an exception handler."""
    answer = refusal_answer(Refusal(code, detail, retry_after=retry_after))
    return Response(
        answer.body,
        status_code=answer.status,
        media_type=PROBLEM_JSON,
        headers={"retry-after": str(retry_after)} if retry_after else None,
    )


def on_http_exception(request: AnyRequest, error: HTTPException) -> Response[bytes]:
    """What the framework itself refuses: unmatched paths, wrong methods, bodies too large."""
    if error.status_code >= 500:
        return on_fault(request, error)
    code = BY_STATUS.get(error.status_code, Code.VALIDATION_FAILED)
    path = request.scope["path"]
    details = {
        Code.NOT_FOUND: f"There is nothing at {path}; see /schema.",
        Code.METHOD_NOT_ALLOWED: f"{request.method} does not fit {path}; see the Allow header.",
        Code.PAYLOAD_TOO_LARGE: "The body is larger than this endpoint takes: send less at once.",
    }
    answer = problem(code, details.get(code) or error.detail or "The request cannot be served.")
    answer.headers.update(error.headers or {})
    return answer


def on_fault(request: AnyRequest, error: Exception) -> Response[bytes]:
    """Something failed outside any endpoint."""
    refusal = fault(request.method, request.scope["path"], error)
    return problem(refusal.code, refusal.detail, refusal.retry_after)


def fault(method: str, path: str, error: Exception) -> Refusal:
    """Something of ours failed: the log has all of it, the caller nothing to attack us with."""
    if isinstance(error, asyncpg.DataError):
        return Refusal(
            Code.VALIDATION_FAILED, "The request has a value that the database cannot store."
        )
    if isinstance(error, LOST_CONNECTION):
        log.warning("database_unreachable", path=path, error=describe(error))
        return Refusal(Code.OVERLOADED, "The database cannot be reached: try again.", retry_after=2)
    log.error("request_failed", method=method, path=path, exc_info=error)
    return Refusal(Code.INTERNAL_ERROR, "The service failed: repeat with the same Idempotency-Key.")


def invalid(error: Exception) -> RefusedError:
    """A body or query that msgspec did not take, with a pointer to the field."""
    text = "It is nested too deeply." if isinstance(error, RecursionError) else str(error)
    match = re.fullmatch(r"(.*?)(?: - at (?:`key` in )?`\$(.*)`)?", text, re.DOTALL)
    detail, path = (match[1], match[2] or "") if match else (text, "")
    pointer = "".join(f"/{part}" for part in path_parts(path))
    if field := re.search(r"(?:unknown|missing required) field `(.*)`", detail, re.DOTALL):
        pointer += f"/{escape(field[1])}"
    if not isinstance(error, msgspec.ValidationError):
        detail = f"The body is not JSON in UTF-8: {detail}"
    return invalid_fields([FieldError(pointer, Code.VALIDATION_FAILED, detail)])


def invalid_fields(errors: Iterable[FieldError]) -> RefusedError:
    """Fields that are wrong, as one refusal."""
    listed = tuple(errors)
    where = f" ({listed[0].pointer})" if listed[0].pointer else ""
    return RefusedError(
        Refusal(Code.VALIDATION_FAILED, f"{listed[0].detail}{where}", errors=listed)
    )


def path_parts(path: str) -> list[str]:
    """msgspec's path (`.lines[0].sku`) as the parts of a JSON pointer.

    It does not tell the keys of an object that may have any: the pointer ends at the object.
    """
    known = path.partition("[...]")[0]
    return [escape(part) for part in re.findall(r"[^.\[\]]+", known)]


def escape(part: str) -> str:
    """A part of a JSON pointer, RFC 6901."""
    return part.replace("~", "~0").replace("/", "~1")
