"""API keys: made, listed and revoked. Only a hash of a key is kept."""

import base64
import hashlib
import hmac
import secrets
from datetime import UTC, datetime

import msgspec

from truestock.db import SQL, Pool, rows_as
from truestock.flows.idempotency import once
from truestock.flows.services import Services
from truestock.ledger.commands import Answer, Token, encode, refusal_answer
from truestock.model.caller import Scope
from truestock.model.keys import KeyInfo, KeyList, KeyRequest, NewKey, PageQuery
from truestock.model.refusal import Code, Refusal, field_refusal
from truestock.model.stock import in_utc

SECRET_BYTES = 25
BOOTSTRAP = "bootstrap"
# A bootstrap key that was replaced meanwhile keeps its name, but gives other secrets.
ANOTHER_SECRET = Refusal(
    Code.IDEMPOTENCY_MISMATCH,
    "This Idempotency-Key was used with another secret of the same key: use a new one.",
)


class KeptKey(msgspec.Struct):
    """What is kept of the answer that shows a key."""

    key_id: str


decode_kept = msgspec.json.Decoder(KeptKey).decode


async def ensure_bootstrap_key(pool: Pool, key: str | None) -> None:
    """Let the first key work, with every scope; another value replaces the one before."""
    if key is None:
        return
    await pool.execute(SQL["put_bootstrap_key"], BOOTSTRAP, digest(key), [s.value for s in Scope])


async def create_key(
    services: Services, request: KeyRequest, presented: str, token: Token | None
) -> Answer:
    """Make a key and show it, this once.

    A request with an Idempotency-Key gets the same key when it is repeated, but the answer that
    is kept has no secret in it: that follows from the caller's own key and the Idempotency-Key.
    """
    if request.expires_at is not None and request.expires_at <= datetime.now(UTC):
        return refusal_answer(field_refusal("/expires_at", "expires_at lies in the past."))
    if token is None:
        return Answer(201, encode(await make_key(services, request)))
    what = token.idempotency_key.encode() + token.fingerprint
    made = new_key(hmac.digest(presented.encode(), what, "sha256"))
    answer = await once(services, token, lambda: keep_key(services, request, made))
    if answer.status != 201:
        return answer
    if decode_kept(answer.body).key_id != made.key_id:
        return refusal_answer(ANOTHER_SECRET)
    return msgspec.structs.replace(answer, body=encode(made))


async def make_key(services: Services, request: KeyRequest) -> NewKey:
    """Make a key that nothing else leads to."""
    made = new_key(secrets.token_bytes(32))
    await keep_key(services, request, made)
    return made


def new_key(seed: bytes) -> NewKey:
    """A key and its id, out of a secret seed."""
    return NewKey(f"key_{secret_text(seed[::-1])[:26]}", "ts_" + secret_text(seed))


async def keep_key(services: Services, request: KeyRequest, made: NewKey) -> Answer:
    """Keep the key's hash; the answer is what may be kept of it."""
    expires_at = None if request.expires_at is None else in_utc(request.expires_at)
    await services.pool.execute(
        SQL["create_key"],
        made.key_id,
        digest(made.key),
        request.name,
        [scope.value for scope in request.scopes],
        request.sources,
        request.locations,
        expires_at,
    )
    return Answer(201, encode(KeptKey(made.key_id)))


async def list_keys(services: Services, page: PageQuery) -> KeyList:
    """The keys that work, without their secrets."""
    rows = await services.pool.fetch(SQL["list_keys"], page.cursor or "", page.limit + 1)
    keys = rows_as(KeyInfo, rows)
    more = len(keys) > page.limit
    return KeyList(keys[: page.limit], keys[page.limit - 1].key_id if more else None)


async def revoke_key(services: Services, key_id: str) -> Refusal | None:
    """Revoke a key; this process knows at once, the others as soon as PostgreSQL tells them."""
    if await services.pool.fetchval(SQL["revoke_key"], key_id) is None:
        return Refusal(Code.NOT_FOUND, f"There is no key {key_id}.")
    await services.reference.reload(["api_keys"])
    return None


def digest(key: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).digest()


def secret_text(seed: bytes) -> str:
    """A seed as text of 200 bits that can be typed."""
    return base64.b32encode(hashlib.sha512(seed).digest()[:SECRET_BYTES]).decode().lower()
