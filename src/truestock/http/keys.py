"""API keys."""

from truestock.flows import keys as flow
from truestock.http.endpoint import Call, endpoint
from truestock.ledger.commands import Answer
from truestock.model.caller import Scope
from truestock.model.keys import KeyList, KeyRequest, NewKey, PageQuery
from truestock.model.refusal import Code, Refusal


@endpoint("POST", "/v1/keys", Scope.ADMIN, body=KeyRequest, answer=NewKey, status=201, ledger=True)
async def create_key(call: Call) -> Answer:
    """Make an API key. It is shown once: only a hash of it is kept."""
    presented = (call.exchange.header(b"authorization") or "").partition(" ")[2].strip()
    return await flow.create_key(call.services, call.body, presented, call.token)


@endpoint("GET", "/v1/keys", Scope.ADMIN, query=PageQuery, answer=KeyList)
async def list_keys(call: Call) -> KeyList:
    """The keys that work, without their secrets."""
    return await flow.list_keys(call.services, call.query)


@endpoint("DELETE", "/v1/keys/{key_id}", Scope.ADMIN, status=204, refuses=(Code.NOT_FOUND,))
async def revoke_key(call: Call) -> Answer | Refusal:
    """Revoke an API key, at once and for good."""
    refusal = await flow.revoke_key(call.services, call.path("key_id"))
    return refusal or Answer(204, b"")


ENDPOINTS = [create_key, list_keys, revoke_key]
