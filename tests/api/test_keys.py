"""API keys: what they may do, for how long, and that their secrets are kept nowhere."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from litestar import Litestar
from tests.api.requests import Example, bodies, queries
from tests.api.shop import Api, Shop, ago, assert_problem, fresh, pointers

from truestock.app import ENDPOINTS
from truestock.flows.services import Services
from truestock.http.endpoint import Endpoint
from truestock.model.caller import Scope

WithScopes = Callable[..., Awaitable[Api]]


async def test_a_key_is_shown_once(api: Api) -> None:
    made = await api.post("/v1/keys", {"name": "till", "scopes": ["stock:write"]}, expect=201)
    assert made.keys() == {"key_id", "key"}
    listed = (await api.get("/v1/keys", limit=1000))["keys"]
    (mine,) = [key for key in listed if key["key_id"] == made["key_id"]]
    assert mine.keys() == {
        "key_id", "name", "scopes", "sources", "locations", "expires_at", "created_at"
    }  # fmt: skip
    assert made["key"] not in str(listed)


async def test_a_key_is_kept_nowhere(api: Api, services: Services) -> None:
    """Not even in the answer that is kept for its Idempotency-Key."""
    body = {"name": "secret", "scopes": ["admin"]}
    made = await api.post("/v1/keys", body, key=fresh("key"), expect=201)
    kept = await services.pool.fetch("SELECT body FROM idempotent_answers")
    assert not [row for row in kept if made["key"].encode() in row["body"]]


async def test_the_same_request_for_a_key_gives_the_same_key(api: Api) -> None:
    body, key = {"name": "again", "scopes": ["admin"]}, fresh("key")
    first = await api.post("/v1/keys", body, key=key, expect=201)
    again = await api.send("POST", "/v1/keys", body, key=key)
    assert (again.json(), again.headers["idempotency-replayed"]) == (first, "true")
    listed = (await api.get("/v1/keys", limit=1000))["keys"]
    assert len([key for key in listed if key["key_id"] == first["key_id"]]) == 1


async def test_a_revoked_key_stops_at_once(api: Api, app: Litestar) -> None:
    made = await api.post("/v1/keys", {"name": "gone", "scopes": ["admin"]}, expect=201)
    async with Api(app, made["key"]) as caller:
        await caller.get("/v1/keys")
        await api.delete(f"/v1/keys/{made['key_id']}")
        assert (await caller.get("/v1/keys", expect=401))["code"] == "unauthenticated"
    assert (await api.delete(f"/v1/keys/{made['key_id']}", expect=404))["code"] == "not_found"
    listed = (await api.get("/v1/keys", limit=1000))["keys"]
    assert made["key_id"] not in [key["key_id"] for key in listed]


async def test_a_key_that_is_revoked_while_it_is_looked_up_is_not_remembered(
    api: Api, app: Litestar, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await api.post("/v1/keys", {"name": "race", "scopes": ["admin"]}, expect=201)
    found, goon = asyncio.Event(), asyncio.Event()

    async def slowly(*asked: Any) -> Any:
        row = await services.pool.fetchrow(*asked)
        found.set()
        await goon.wait()
        return row

    async with Api(app, made["key"]) as caller:
        with monkeypatch.context() as patch:
            patch.setattr(services.reference, "_pool", Slow(services.pool, slowly))
            first = asyncio.create_task(caller.send("GET", "/v1/keys"))
            await found.wait()
        await api.delete(f"/v1/keys/{made['key_id']}")
        goon.set()
        await first
        await caller.get("/v1/keys", expect=401)


class Slow:
    """A pool whose rows come when the test says so."""

    def __init__(self, pool: Any, fetchrow: Any) -> None:
        self._pool = pool
        self.fetchrow = fetchrow

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


async def test_a_key_runs_out(api: Api, app: Litestar) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=0.4)).isoformat()
    body = {"name": "brief", "scopes": ["admin"], "expires_at": soon}
    made = await api.post("/v1/keys", body, expect=201)
    async with Api(app, made["key"]) as caller:
        await caller.get("/v1/keys")
        await asyncio.sleep(0.4)
        await caller.get("/v1/keys", expect=401)


async def test_a_key_cannot_have_run_out_already(api: Api) -> None:
    body = {"name": "late", "scopes": ["admin"], "expires_at": ago(1)}
    assert pointers(await api.post("/v1/keys", body, expect=400)) == ["/expires_at"]


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer no-such-key", "Basic YTpi", "Bearer \xe9\xff"]
)
async def test_without_a_valid_key_nothing_is_told(app: Litestar, header: str | None) -> None:
    async with Api(app, None) as nobody:
        headers = {} if header is None else {"authorization": header.encode("latin-1")}
        answer = await nobody.send("GET", "/v1/items", headers=headers)
    assert assert_problem(answer)["code"] == "unauthenticated"
    assert answer.headers["www-authenticate"].startswith("Bearer")


# Scopes ---------------------------------------------------------------------

PROTECTED = [endpoint for endpoint in ENDPOINTS if endpoint.doc.scope is not None]


@pytest.mark.parametrize("endpoint", PROTECTED, ids=lambda e: f"{e.doc.method} {e.doc.path}")
async def test_the_scope_comes_before_all_that_is_sent(
    with_scopes: WithScopes, endpoint: Endpoint
) -> None:
    """Every scope but the right one, with a body and a query that nobody could read."""
    others = [scope for scope in Scope if scope not in (endpoint.doc.scope, Scope.ADMIN)]
    caller = await with_scopes(*others)
    path = endpoint.doc.path.replace("{", "").replace("}", "") + "?no=%FF"
    answer = await caller.send(endpoint.doc.method, path, b"{nonsense", key="")
    assert assert_problem(answer)["code"] == "forbidden"


CONTRACT = {
    "availability:read": [
        "/v1/availability/{sku}", "/v1/stock/levels", "GET /v1/items", "GET /v1/locations",
    ],
    "reservations:write": ["/v1/reservations"],
    "orders:write": ["/v1/orders", "/v1/promises"],
    "stock:write": [
        "/v1/stock/events", "/v1/stock/snapshots", "/v1/imports", "/v1/sources", "/v1/inbound",
        "/v1/demand",
    ],
    "fulfilment:write": ["/v1/fulfilments"],
    "insight:read": ["/v1/ledger/movements"],
    "admin": [
        "PUT /v1/items", "PUT /v1/locations", "PUT /v1/location-groups", "/v1/buffers", "/v1/keys",
        "/v1/webhooks",
    ],
}  # fmt: skip


@pytest.mark.parametrize("endpoint", PROTECTED, ids=lambda e: f"{e.doc.method} {e.doc.path}")
async def test_each_endpoint_has_the_scope_that_the_contract_says(endpoint: Endpoint) -> None:
    name = f"{endpoint.doc.method} {endpoint.doc.path}"
    said = [
        scope
        for scope, paths in CONTRACT.items()
        for path in paths
        if name.startswith(path) or endpoint.doc.path.startswith(path)
    ]
    assert said in ([], [endpoint.doc.scope])


async def test_the_right_scope_is_enough(
    shop: Shop, with_scopes: WithScopes, services: Services
) -> None:
    scopes = {(e.doc.method, e.doc.path.partition("{")[0]): e.doc.scope for e in PROTECTED}
    for example in [*bodies(shop), *queries(shop)]:
        if "{" in example.path or example.path == "/v1/buffers":
            continue
        caller = await with_scopes(scope_of(example, scopes))
        answer = await caller.send(
            example.method, example.path, example.body, params=example.params
        )
        assert answer.status_code in (example.status, 201), (example.name, answer.text)


def scope_of(example: Example, scopes: dict[tuple[str, str], Scope]) -> Scope:
    """The scope of the endpoint that an example is for."""
    candidates = [
        (len(path), scope)
        for (method, path), scope in scopes.items()
        if method == example.method and example.path.startswith(path)
    ]
    return max(candidates)[1]


# Bounds ---------------------------------------------------------------------


async def test_a_key_for_one_source_knows_no_other(shop: Shop, with_scopes: WithScopes) -> None:
    mine = fresh("mine")
    caller = await with_scopes("stock:write", sources=[mine])
    events = {"source": shop.source, "events": [shop.event("receipt", 1)]}
    assert (await caller.post("/v1/stock/events", events, expect=404))["code"] == "not_found"
    await caller.put(f"/v1/sources/{shop.source}", {}, expect=404)
    await caller.post("/v1/stock/events", events | {"source": mine})
    assert [s["source"] for s in (await caller.get("/v1/sources"))["sources"]] == [mine]


async def test_a_key_for_one_location_sees_no_other(shop: Shop, with_scopes: WithScopes) -> None:
    caller = await with_scopes("availability:read", "insight:read", locations=[shop.locations[1]])
    for path, name in (("/v1/stock/levels", "levels"), ("/v1/ledger/movements", "movements")):
        seen = (await caller.get(path, sku=shop.sku))[name]
        assert {row["location"] for row in seen} == {shop.locations[1]}
        assert (await caller.get(path, sku=shop.sku, location=shop.location))[name] == []


async def test_a_key_with_no_bounds_acts_on_all(shop: Shop, with_scopes: WithScopes) -> None:
    caller = await with_scopes("availability:read", "stock:write")
    assert len((await caller.get("/v1/stock/levels", sku=shop.sku))["levels"]) == 2
    events = {"source": fresh("any"), "events": [shop.event("receipt", 1)]}
    await caller.post("/v1/stock/events", events)
