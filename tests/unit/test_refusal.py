"""Each refusal has one place in the contract."""

import pytest

from truestock.model.refusal import MEANINGS, Code, Refusal, Shortage, as_problem, field_refusal

STATUSES = {
    "validation_failed": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "unknown_sku": 422,
    "unknown_location": 422,
    "insufficient_stock": 409,
    "reservation_expired": 409,
    "wrong_status": 409,
    "already_exists": 409,
    "idempotency_in_flight": 409,
    "idempotency_mismatch": 422,
    "payload_too_large": 413,
    "unsupported_media_type": 415,
    "rate_limited": 429,
    "overloaded": 503,
    "internal_error": 500,
}


@pytest.mark.parametrize("code", Code)
def test_a_code_has_the_status_that_the_contract_lists(code: Code) -> None:
    assert Refusal(code, "").status == STATUSES[code]


def test_every_code_has_a_meaning() -> None:
    assert MEANINGS.keys() == set(Code)


def test_a_refusal_as_problem_json() -> None:
    refusal = Refusal(Code.INSUFFICIENT_STOCK, "No.", shortages=(Shortage("1", "tee", 2, 1),))
    problem = as_problem(refusal)
    assert (problem.type, problem.status) == ("/problems/insufficient_stock", 409)
    assert (problem.code, problem.detail) == (Code.INSUFFICIENT_STOCK, "No.")
    assert problem.shortages == refusal.shortages


def test_a_refusal_about_a_field_points_at_it() -> None:
    (error,) = field_refusal("/lines/0/sku", "Unknown.", Code.UNKNOWN_SKU).errors
    assert (error.pointer, error.code) == ("/lines/0/sku", Code.UNKNOWN_SKU)
