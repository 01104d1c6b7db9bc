"""Callers of the API, and small shops that they make through it."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Self

import httpx
import msgspec
from litestar import Litestar

BOOTSTRAP_KEY = "bootstrap-key-of-the-api-tests"

Json = Any

numbers = count(1)


def fresh(word: str) -> str:
    """A name that no other test uses."""
    return f"{word}-{next(numbers):04d}"


def ago(minutes: float = 0) -> str:
    """An instant so many minutes ago, as RFC 3339."""
    return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()


class Api:
    """One caller of the service. `expect` is the status that the test demands."""

    def __init__(self, app: Litestar, key: str | None) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
        self.http = httpx.AsyncClient(
            transport=transport, base_url="http://truestock", headers=headers
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Hang up."""
        await self.http.aclose()

    async def send(
        self, method: str, path: str, body: Json = None, *, key: str | None = None, **options: Any
    ) -> httpx.Response:
        """Send a request, with an Idempotency-Key if one is given."""
        headers = dict(options.pop("headers", {}))
        if key is not None:
            headers["idempotency-key"] = key
        if body is not None:
            options["content"] = body if isinstance(body, bytes) else msgspec.json.encode(body)
            headers.setdefault("content-type", "application/json")
        return await self.http.request(method, path, headers=headers, **options)

    async def get(self, path: str, *, expect: int = 200, **params: Any) -> Json:
        """What a GET answers."""
        return told(await self.send("GET", path, params=params), expect)

    async def post(
        self, path: str, body: Json = None, *, expect: int = 200, key: str | None = None
    ) -> Json:
        """What a POST answers."""
        return told(await self.send("POST", path, body, key=key), expect)

    async def put(self, path: str, body: Json, *, expect: int = 200) -> Json:
        """What a PUT answers."""
        return told(await self.send("PUT", path, body), expect)

    async def delete(self, path: str, *, expect: int = 204) -> Json:
        """What a DELETE answers."""
        return told(await self.send("DELETE", path), expect)


def told(response: httpx.Response, expect: int) -> Json:
    """The body of an answer that has the expected status."""
    assert response.status_code == expect, f"{response.status_code}: {response.text}"
    if response.status_code >= 400:
        return assert_problem(response)
    return msgspec.json.decode(response.content) if response.content else None


def assert_problem(response: httpx.Response) -> dict[str, Any]:
    """The answer is a problem as RFC 9457 and the contract say; gives its body."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = msgspec.json.decode(response.content)
    code = body["code"]
    assert body["type"] == f"/problems/{code}"
    assert body["status"] == response.status_code < 500
    assert body["title"]
    assert body["detail"]
    for error in body.get("errors", ()):
        assert error.keys() == {"pointer", "code", "detail"}
        assert error["pointer"] == "" or error["pointer"].startswith("/")
    return body


def pointers(problem: dict[str, Any]) -> list[str]:
    """What a problem points at."""
    return [error["pointer"] for error in problem.get("errors", ())]


class Shop(msgspec.Struct):
    """Names of what a test's shop has."""

    api: Api
    skus: list[str]
    locations: list[str]
    source: str

    @property
    def sku(self) -> str:
        """The first item."""
        return self.skus[0]

    @property
    def location(self) -> str:
        """The first location."""
        return self.locations[0]

    def line(
        self, quantity: int = 1, *, line_id: str = "1", sku: str | None = None, **more: Any
    ) -> dict[str, Any]:
        """A line at the first location, unless it is told otherwise (location=None: anywhere)."""
        line = {"line_id": line_id, "sku": sku or self.sku, "quantity": quantity}
        line |= {"location": self.location} | more
        return {name: value for name, value in line.items() if value is not None}

    def cart(self, *lines: dict[str, Any], **more: Any) -> dict[str, Any]:
        """A reservation's body; one unit of the first item unless lines are given."""
        return {"reference": "cart", "channel": "web", "lines": lines or [self.line()]} | more

    def event(self, type: str, quantity: int, **more: Any) -> dict[str, Any]:
        """An event of the first item at the first location, a moment ago."""
        return {
            "event_id": fresh("event"),
            "type": type,
            "sku": self.sku,
            "location": self.location,
            "quantity": quantity,
            "occurred_at": ago(1),
        } | more

    async def record(self, *events: dict[str, Any]) -> list[str]:
        """Send events of the shop's source; answers the status of each."""
        body = {"source": self.source, "events": events}
        answer = await self.api.post("/v1/stock/events", body)
        return [result["status"] for result in answer["results"]]

    async def level(self, sku: str | None = None, location: str | None = None) -> dict[str, Any]:
        """One level, as it is now."""
        asked = {"sku": sku or self.sku, "location": location or self.location}
        (level,) = (await self.api.get("/v1/stock/levels", **asked))["levels"]
        return level

    async def sellable(self, location: str | None = None, **params: Any) -> int:
        """What may be sold of the first item at one location, on these terms."""
        path = f"/v1/availability/{self.sku}"
        answer = await self.api.get(path, locations=location or self.location, **params)
        return answer["items"][0]["locations"][0]["sellable"]


async def new_shop(api: Api) -> Shop:
    """Make a shop through the API: three items, three locations, stock at two of them."""
    skus = [fresh(word) for word in ("tee", "mug", "cap")]
    locations = [fresh(word) for word in ("oslo", "rome", "lima")]
    await api.put("/v1/items", {"items": [{"sku": sku, "name": sku} for sku in skus]})
    places = [{"location": name, "kind": "store"} for name in locations]
    await api.put("/v1/locations", {"locations": places})
    shop = Shop(api, skus, locations, fresh("erp"))
    counts = [
        shop.event("count", units, sku=sku, location=location, occurred_at=ago(60))
        for sku in skus
        for location, units in zip(locations, (10, 5), strict=False)
    ]
    assert set(await shop.record(*counts)) == {"applied"}
    return shop
