"""Refusals: every expected "no", as a value, with its one place in the HTTP contract."""

from enum import StrEnum

import msgspec


class Code(StrEnum):
    """The stable codes that callers program against."""

    VALIDATION_FAILED = "validation_failed"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNKNOWN_SKU = "unknown_sku"
    UNKNOWN_LOCATION = "unknown_location"
    INSUFFICIENT_STOCK = "insufficient_stock"
    RESERVATION_EXPIRED = "reservation_expired"
    WRONG_STATUS = "wrong_status"
    ALREADY_EXISTS = "already_exists"
    IDEMPOTENCY_IN_FLIGHT = "idempotency_in_flight"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    INTERNAL_ERROR = "internal_error"


class Meaning(msgspec.Struct, frozen=True):
    """What a code says to HTTP: its status and the title that stays the same each time."""

    status: int
    title: str


MEANINGS: dict[Code, Meaning] = {
    Code.VALIDATION_FAILED: Meaning(400, "The request is not valid"),
    Code.UNAUTHENTICATED: Meaning(401, "A valid API key is needed"),
    Code.FORBIDDEN: Meaning(403, "The API key does not allow this"),
    Code.NOT_FOUND: Meaning(404, "There is no such thing"),
    Code.METHOD_NOT_ALLOWED: Meaning(405, "The method does not fit the path"),
    Code.UNKNOWN_SKU: Meaning(422, "The sku is not known"),
    Code.UNKNOWN_LOCATION: Meaning(422, "The location is not known"),
    Code.INSUFFICIENT_STOCK: Meaning(409, "There is not enough stock"),
    Code.RESERVATION_EXPIRED: Meaning(409, "The reservation has expired"),
    Code.WRONG_STATUS: Meaning(409, "The status does not allow this step"),
    Code.ALREADY_EXISTS: Meaning(409, "The id is taken"),
    Code.IDEMPOTENCY_IN_FLIGHT: Meaning(409, "The first request with this key is under way"),
    Code.IDEMPOTENCY_MISMATCH: Meaning(422, "The idempotency key was used for another request"),
    Code.PAYLOAD_TOO_LARGE: Meaning(413, "The body is too large"),
    Code.UNSUPPORTED_MEDIA_TYPE: Meaning(415, "The media type is not supported"),
    Code.RATE_LIMITED: Meaning(429, "Too many requests"),
    Code.OVERLOADED: Meaning(503, "The service cannot take this now"),
    Code.INTERNAL_ERROR: Meaning(500, "The service failed"),
}


class FieldError(msgspec.Struct, frozen=True):
    """One thing wrong with one field; pointer is a JSON pointer (RFC 6901) into the body."""

    pointer: str
    code: Code
    detail: str


class Shortage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a line asked for and what could be had, in base units."""

    line_id: str
    sku: str
    requested: int
    available: int
    location: str | None = None


class Refusal(msgspec.Struct, frozen=True):
    """An expected "no": a code, what to do about it, and where it helps, which part of the body."""

    code: Code
    detail: str
    errors: tuple[FieldError, ...] = ()
    shortages: tuple[Shortage, ...] = ()
    allowed_steps: tuple[str, ...] = ()
    retry_after: int | None = None

    @property
    def status(self) -> int:
        """The HTTP status of this refusal."""
        return MEANINGS[self.code].status


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A refusal as problem+json (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: Code
    errors: tuple[FieldError, ...] = ()
    shortages: tuple[Shortage, ...] = ()
    allowed_steps: tuple[str, ...] = ()


def as_problem(refusal: Refusal) -> Problem:
    """The one mapping of a refusal to what callers see."""
    meaning = MEANINGS[refusal.code]
    return Problem(
        type=f"/problems/{refusal.code}",
        title=meaning.title,
        status=meaning.status,
        detail=refusal.detail,
        code=refusal.code,
        errors=refusal.errors,
        shortages=refusal.shortages,
        allowed_steps=refusal.allowed_steps,
    )


def field_refusal(pointer: str, detail: str, code: Code = Code.VALIDATION_FAILED) -> Refusal:
    """A refusal about one field of the body."""
    return Refusal(code, detail, errors=(FieldError(pointer, code, detail),))
