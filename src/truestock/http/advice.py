"""What each code of a problem means and what to do about it, for people who meet one."""

import msgspec

from truestock.model.refusal import Code, FieldError, Refusal, Shortage


class Advice(msgspec.Struct, frozen=True):
    """Why a code is answered, what helps, and one such refusal as an example."""

    why: str
    remedy: str
    example: Refusal


def advice(why: str, remedy: str, code: Code, detail: str, pointer: str | None = None) -> Advice:
    """Advice whose example says this, of this field if one is named."""
    errors = () if pointer is None else (FieldError(pointer, code, detail),)
    return Advice(why, remedy, Refusal(code, detail, errors=errors))


ADVICE: dict[Code, Advice] = {
    entry.example.code: entry
    for entry in (
        advice(
            "The body, a parameter, a header or a name in the path is not what the endpoint takes."
            " Nothing was changed, and nothing is kept for the Idempotency-Key.",
            "Look at `errors`: each names a field by its JSON pointer and says what is wrong.",
            Code.VALIDATION_FAILED,
            "Expected `int` >= 1",
            "/lines/0/quantity",
        ),
        advice(
            "There is no API key with the request, or one that is not known, was revoked, or has"
            " run out.",
            "Send `Authorization: Bearer <api key>`; keys are made with `POST /v1/keys`.",
            Code.UNAUTHENTICATED,
            "The API key is not known, revoked or has run out.",
        ),
        advice(
            "The API key is good, but lacks the scope that the endpoint needs.",
            "Use a key with that scope, or make one. `admin` implies all scopes.",
            Code.FORBIDDEN,
            "The API key lacks the scope stock:write.",
        ),
        advice(
            "There is no such thing, or it belongs to a source or a location that the API key is"
            " not bound to. The two are told apart on purpose by nobody but the service.",
            "Check the name, and which sources and locations the key is bound to.",
            Code.NOT_FOUND,
            "There is no reservation rsv_01.",
        ),
        advice(
            "The path is there, but not with this method.",
            "The `Allow` header lists the methods that fit.",
            Code.METHOD_NOT_ALLOWED,
            "PATCH does not fit /v1/items, which takes GET, HEAD, PUT.",
        ),
        advice(
            "The request names an item that the service has never been told of.",
            "Put the item with `PUT /v1/items/{sku}` first, then repeat with a new key.",
            Code.UNKNOWN_SKU,
            "There is no item 'TEE-BLK-XXL': PUT it under /v1/items first.",
            "/lines/0/sku",
        ),
        advice(
            "The request names a location or a group that the service has never been told of.",
            "Put it with `PUT /v1/locations/{location}` first, then repeat with a new key.",
            Code.UNKNOWN_LOCATION,
            "There is no location 'nyc-harlem': PUT it under /v1/locations first.",
            "/lines/0/location",
        ),
        Advice(
            "At least one line asks for more than can be promised. Nothing at all is held.",
            "`shortages` says what each such line could have. Ask for that, look elsewhere, or set"
            " `allow_partial`.",
            Refusal(
                Code.INSUFFICIENT_STOCK,
                "Nothing is held: ask for what is available, or set allow_partial.",
                shortages=(Shortage("1", "TEE-BLK-M", 5, 2, "nyc-soho"),),
            ),
        ),
        advice(
            "The hold's time ran out, and its units may be somebody else's by now.",
            "Make a new reservation. Keep a hold alive with `extend` before it runs out.",
            Code.RESERVATION_EXPIRED,
            "The hold ran out at 2026-11-27T10:15:00+00:00: reserve again.",
        ),
        Advice(
            "The step does not fit what has happened to the document so far.",
            "Read the document again; `allowed_steps` names what fits now, where that helps.",
            Refusal(Code.WRONG_STATUS, "The reservation is an order now: cancel the order."),
        ),
        advice(
            "A document with the id that the request brings is there already.",
            "If it is yours, read it. To repeat safely, send the same Idempotency-Key again.",
            Code.ALREADY_EXISTS,
            "Order web-10023 is there already.",
        ),
        advice(
            "The first request with this Idempotency-Key has not been answered yet.",
            "Wait a moment and send the same request again: it gets the first one's answer.",
            Code.IDEMPOTENCY_IN_FLIGHT,
            "The first request with this Idempotency-Key is still under way: try again in a"
            " moment.",
        ),
        advice(
            "This Idempotency-Key came with another request before, within the last 48 hours.",
            "Use a new key for each new request, and the same only to repeat one unchanged.",
            Code.IDEMPOTENCY_MISMATCH,
            "This Idempotency-Key came with another request before: use a new key.",
        ),
        advice(
            "The body is larger than the endpoint takes.",
            "Send less at once; whole files go to `POST /v1/stock/snapshots`.",
            Code.PAYLOAD_TOO_LARGE,
            "The body is over 4194304 bytes: send less at once.",
        ),
        advice(
            "The body's media type or encoding is not one that the endpoint takes.",
            "Send `Content-Type: application/json`, or what the endpoint's page lists.",
            Code.UNSUPPORTED_MEDIA_TYPE,
            "Send application/json instead of text/plain.",
        ),
        advice(
            "The API key has used up what it may send in this moment.",
            "Wait as many seconds as `Retry-After` says; `RateLimit` tells how much is left.",
            Code.RATE_LIMITED,
            "The API key has sent too many requests: wait a second.",
        ),
        advice(
            "The service is up, but cannot take the request now: its queue is full, or the database"
            " is away for a moment.",
            "Wait as many seconds as `Retry-After` says and repeat with the same"
            " Idempotency-Key: what was done is not done twice.",
            Code.OVERLOADED,
            "The write queue is full: try again in a second.",
        ),
        advice(
            "Something of ours went wrong; the log has the details.",
            "Repeat with the same Idempotency-Key. If it goes on, tell whoever runs the service.",
            Code.INTERNAL_ERROR,
            "The service failed: repeat with the same Idempotency-Key.",
        ),
    )
}
