"""API keys: made, listed and revoked. Only a hash of a key is kept."""

import base64
import hashlib
import hmac
import secrets
from datetime import UTC, datetime

from truestock.db import SQL, Pool, rows_as
from truestock.flows.services import Services
from truestock.ids import new_id
from truestock.ledger.commands import Token
from truestock.model.caller import Scope
from truestock.model.keys import KeyInfo, KeyList, KeyRequest, NewKey, PageQuery
from truestock.model.refusal import Code, FieldError, Refusal

SECRET_BYTES = 25
BOOTSTRAP = "bootstrap"


async def ensure_bootstrap_key(pool: Pool, key: str | None) -> None:
    """Let the first key work, with every scope; another value replaces the one before."""
    if key is None:
        return
    await pool.execute(SQL["put_bootstrap_key"], BOOTSTRAP, digest(key), [s.value for s in Scope])


async def create_key(
    services: Services, request: KeyRequest, presented: str, token: Token | None
) -> NewKey | Refusal:
    """Make a key and show it, this once.

    A request with an Idempotency-Key gets the same key when it is repeated, and nothing of it is
    kept for that: the secret follows from the caller's own key and the Idempotency-Key.
    """
    if request.expires_at is not None and request.expires_at <= datetime.now(UTC):
        detail = "expires_at lies in the past."
        error = FieldError("/expires_at", Code.VALIDATION_FAILED, detail)
        return Refusal(Code.VALIDATION_FAILED, detail, errors=(error,))
    if token is None:
        seed = secrets.token_bytes(32)
    else:
        what = token.idempotency_key.encode() + token.fingerprint
        seed = hmac.digest(presented.encode(), what, "sha256")
    key = "ts_" + secret_text(seed)
    key_id = new_id("key") if token is None else f"key_{secret_text(seed[::-1])[:26]}"
    row = (key_id, digest(key), request.name, [scope.value for scope in request.scopes])
    await services.pool.execute(
        SQL["create_key"], *row, request.sources, request.locations, request.expires_at
    )
    return NewKey(key_id, key)


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
