"""One way in for every endpoint: who calls, may they, what do they say, once; then one flow.

1. The key is looked up and its scope checked, before anything of the request is read.
2. The body and the query are decoded into their Structs; what does not fit is pointed at.
3. The handler calls one flow, and what comes back is encoded.
"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from truestock.flows.entries import UNREADABLE
from truestock.flows.idempotency import once
from truestock.flows.keys import BOOTSTRAP
from truestock.flows.services import Services
from truestock.http.exchange import Exchange, Streamed
from truestock.http.problems import JSON, RefusedError, invalid, refused
from truestock.http.query import read_query
from truestock.ledger.commands import Answer, Token, encode, refusal_answer
from truestock.model.caller import Caller, Scope
from truestock.model.refusal import Code, Refusal, field_refusal
from truestock.model.stock import Name

T = TypeVar("T")

MAX_KEY_LENGTH = 255


class Doc(msgspec.Struct, frozen=True, kw_only=True):
    """What the OpenAPI document says of an endpoint; module: where its handler stands."""

    module: str
    method: str
    path: str
    name: str
    text: str
    scope: Scope | None
    body: Any = None
    query: Any = None
    answer: Any = None
    status: int = 200
    refuses: tuple[Code, ...] = ()
    media_types: tuple[str, ...] = (JSON,)
    answers: str = JSON
    creates: bool = False


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """What endpoints take that take nothing: `{}`, and no parameters."""


class Call(msgspec.Struct):
    """One request, as its handler sees it."""

    exchange: Exchange
    services: Services
    caller: Caller
    body: Any = None
    query: Any = None
    raw: bytes = b""

    def path(self, name: str, kind: Any = Name) -> str:
        """A part of the path; raises 400 where it is not of its kind, so that nothing can be it."""
        part = self.exchange.path_params[name]
        try:
            return str(msgspec.convert(part, kind))
        except msgspec.ValidationError as error:
            detail = f"The {name} in the path cannot be used: {error}"
            raise RefusedError(field_refusal(f"/{name}", detail)) from error

    @property
    def token(self) -> Token | None:
        """The request's Idempotency-Key, if it has one."""
        header = self.exchange.header(b"idempotency-key")
        if header is None:
            return None
        exchange = self.exchange
        what = hashlib.blake2b(f"{exchange.method} {exchange.path}\n".encode(), digest_size=16)
        what.update(exchange.query_string + b"\n")
        what.update(self.raw)
        return Token(self.caller.key_id, bare_key(header), what.digest())


Handler = Callable[[Call], Awaitable[Any]]


class Endpoint(msgspec.Struct, frozen=True):
    """A handler with what it takes to reach it."""

    doc: Doc
    run: Callable[[Exchange, Services], Awaitable[Answer | Streamed]]


def endpoint(
    method: str,
    path: str,
    scope: Scope | None,
    *,
    body: Any = None,
    query: Any = None,
    answer: Any = None,
    status: int = 200,
    refuses: tuple[Code, ...] = (),
    ledger: bool = False,
    streams_body: bool = False,
    media_types: tuple[str, ...] = (JSON,),
    answers: str = JSON,
    creates: bool = False,
) -> Callable[[Handler], Endpoint]:
    """Make a handler an endpoint of the contract.

    ledger: the handler's flow takes the Idempotency-Key itself, through the ledger's door mostly.
    streams_body: the handler reads the body, and the key, itself.
    media_types, answers: what it takes and gives, where that is not JSON.
    creates: it answers 201 instead where the thing is new.
    A handler answers with an Answer, a Refusal, a Streamed, or a Struct to encode.
    """
    decode_body = None if body is None else msgspec.json.Decoder(body).decode
    # Whoever has no key, like a load balancer, may ask with parameters of its own.
    parameters = query or (None if scope is None else Nothing)
    guarded_once = method == "POST" and not ledger and not streams_body

    def decorate(handler: Handler) -> Endpoint:
        async def run(exchange: Exchange, services: Services) -> Answer | Streamed:
            caller = await caller_of(exchange, services, scope)
            if scope is not None and caller.key_id != BOOTSTRAP:
                await exchange.scope["litestar_app"].state["limits"].pass_through(exchange, caller)
            call = Call(exchange, services, caller)
            if query is not None or (parameters and exchange.query_string):
                call.query = read_query(exchange.query_string, parameters)
            if decode_body is not None:
                call.body = await read_body(call, decode_body)
            elif method == "POST" and not streams_body:
                await read_body(call, decode_nothing)
            if guarded_once and (token := call.token) is not None:
                return await once(services, token, lambda: answered(handler, call, status))
            outcome = await handler(call)
            return outcome if isinstance(outcome, Streamed) else as_answer(outcome, status)

        doc = Doc(
            module=handler.__module__,
            method=method,
            path=path,
            name=handler.__name__,
            text=handler.__doc__ or "",
            scope=scope,
            body=body,
            query=query,
            answer=answer,
            status=status,
            refuses=refuses,
            media_types=media_types,
            answers=answers,
            creates=creates,
        )
        return Endpoint(doc, run)

    return decorate


async def answered(handler: Handler, call: Call, status: int) -> Answer:
    """What the handler says, encoded."""
    return as_answer(await handler(call), status)


def as_answer(outcome: Any, status: int) -> Answer:
    """What a handler says as an answer: refusals keep their own status."""
    if isinstance(outcome, Answer):
        return outcome
    if isinstance(outcome, Refusal):
        return refusal_answer(outcome)
    return Answer(status, encode(outcome))


# Who ----------------------------------------------------------------------


async def caller_of(exchange: Exchange, services: Services, scope: Scope | None) -> Caller:
    """The caller, who must have the scope; raises 401 and 403."""
    if scope is None:
        return ANYBODY
    kind, _, key = (exchange.header(b"authorization") or "").partition(" ")
    if kind.lower() != "bearer" or not key:
        raise refused(Code.UNAUTHENTICATED, "Send the header `Authorization: Bearer <api key>`.")
    caller = await services.reference.caller(key.strip())
    if caller is None:
        raise refused(Code.UNAUTHENTICATED, "The API key is not known, revoked or has run out.")
    if not caller.may(scope):
        raise refused(Code.FORBIDDEN, f"The API key lacks the scope {scope}.")
    return caller


ANYBODY = Caller("anybody", "anybody", frozenset())


def bare_key(header: str) -> str:
    """An Idempotency-Key without its quotes (a structured-field string has them)."""
    key = header.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not key or len(key) > MAX_KEY_LENGTH or not key.isprintable():
        raise refused(
            Code.VALIDATION_FAILED,
            f"An Idempotency-Key has 1 to {MAX_KEY_LENGTH} printable characters.",
        )
    return key


# What ---------------------------------------------------------------------


async def read_body(call: Call, decode: Callable[[bytes], T]) -> T:
    """The body as its Struct; raises 413, 415, and 400 with a pointer."""
    call.raw = await call.exchange.body()
    given = call.exchange.header(b"content-type")
    if given is not None and given != JSON and call.raw:
        media_type = given.partition(";")[0].strip().lower()
        if media_type not in (JSON, "") and not media_type.endswith("+json"):
            detail = f"Send application/json instead of {media_type}."
            raise refused(Code.UNSUPPORTED_MEDIA_TYPE, detail)
    try:
        return decode(call.raw)
    except UNREADABLE as error:
        raise invalid(error) from error


def decode_nothing(raw: bytes) -> Nothing:
    """An empty body, or `{}`."""
    return msgspec.json.decode(raw, type=Nothing) if raw else Nothing()
