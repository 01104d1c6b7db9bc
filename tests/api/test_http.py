"""HTTP itself: media types, sizes, chunks, methods and bytes that are no HTTP, on a real server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from tests.api.shop import BOOTSTRAP_KEY, Api, Shop, assert_problem, pointers

from truestock.app import ENDPOINTS
from truestock.config import MAX_BODY_BYTES

JSON = {"content-type": "application/json"}
WITH_BODY = [e for e in ENDPOINTS if e.doc.body is not None]


def name_of(endpoint: Any) -> str:
    """How a test names an endpoint."""
    return f"{endpoint.doc.method} {endpoint.doc.path}"


def path_of(endpoint: Any) -> str:
    """A path that leads there."""
    return endpoint.doc.path.replace("{", "").replace("}", "")


# Bodies --------------------------------------------------------------------------

NO_JSON = {
    "nothing": b"",
    "white space": b" \n",
    "half of it": b'{"lines": [',
    "more than it": b"{}x",
    "two of it": b"{}{}",
    "a word": b"yes",
    "NaN": b'{"a": NaN}',
    "a comment": b"{} // no",
    "single quotes": b"{'a': 1}",
    "broken UTF-8": b'{"a\xff": 1}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a form": b"a=1&b=2",
    "NULs": b"\x00" * 100,
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000,
}


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=name_of)
async def test_what_is_not_json_is_refused(api: Api, endpoint: Any) -> None:
    for label, body in NO_JSON.items():
        answer = await api.send(endpoint.doc.method, path_of(endpoint), body)
        problem = assert_problem(answer)
        assert (answer.status_code, len(pointers(problem))) == (400, 1), (label, problem)


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=name_of)
async def test_what_is_another_kind_of_json_is_refused(api: Api, endpoint: Any) -> None:
    wrong = [
        b"null",
        b"true",
        b"7",
        b'"text"',
        b'{"":0}' if "buffers" in endpoint.doc.path else b"[]",
    ]
    for body in wrong:
        answer = await api.send(endpoint.doc.method, path_of(endpoint), body)
        assert (answer.status_code, pointers(assert_problem(answer))) == (400, [""])


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=name_of)
@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/x-www-form-urlencoded", "text/csv", "application/xml", "nonsense"],
)
async def test_another_media_type_is_refused(api: Api, endpoint: Any, media_type: str) -> None:
    headers = {"content-type": media_type}
    answer = await api.send(endpoint.doc.method, path_of(endpoint), b"{}", headers=headers)
    problem = assert_problem(answer)
    assert (problem["status"], problem["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", "Application/JSON", "application/x+json"]
)
async def test_json_by_another_name_is_taken(api: Api, media_type: str) -> None:
    body = msgspec.json.encode({"skus": ["any"]})
    headers = {"content-type": media_type}
    answer = await api.send("POST", "/v1/availability/query", body, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("media_type", ["text/plain", "application/json", None])
async def test_a_snapshot_is_csv_or_ndjson(api: Api, shop: Shop, media_type: str | None) -> None:
    params = {"source": shop.source, "as_of": "2026-11-20T00:00:00Z"}
    headers = {"content-type": media_type} if media_type else {"content-type": ""}
    answer = await api.send("POST", "/v1/stock/snapshots", b"x", params=params, headers=headers)
    assert assert_problem(answer)["code"] == "unsupported_media_type"


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=name_of)
async def test_a_body_that_is_too_large_is_refused(api: Api, endpoint: Any) -> None:
    answer = await api.send(endpoint.doc.method, path_of(endpoint), b" " * (MAX_BODY_BYTES + 1))
    assert assert_problem(answer)["code"] == "payload_too_large"


async def chunked(body: bytes, size: int) -> AsyncIterator[bytes]:
    """A body in pieces, its length not told."""
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def test_a_body_may_come_in_chunks(wire: httpx.AsyncClient, shop: Shop) -> None:
    body = msgspec.json.encode(shop.cart())
    answer = await wire.post("/v1/reservations", content=chunked(body, 7), headers=JSON)
    assert answer.status_code == 201, answer.text
    key = {"idempotency-key": '"chunks"'}
    for size in (5, len(body)):
        answer = await wire.post(
            "/v1/reservations", content=chunked(body, size), headers=JSON | key
        )
        assert answer.status_code == 201


async def test_chunks_that_are_too_much_are_refused(wire: httpx.AsyncClient) -> None:
    body = chunked(b" " * (MAX_BODY_BYTES + 1), 1 << 16)
    answer = await wire.post("/v1/reservations", content=body, headers=JSON)
    assert assert_problem(answer)["code"] == "payload_too_large"


async def test_an_empty_release_needs_no_media_type(wire: httpx.AsyncClient, shop: Shop) -> None:
    held = await shop.api.post("/v1/reservations", shop.cart(), expect=201)
    path = f"/v1/reservations/{held['reservation_id']}/release"
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert (await wire.post(path, content=b"", headers=headers)).status_code == 200
    assert (await wire.post(path)).status_code == 200


# Methods ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PATCH", "OPTIONS", "DELETE", "TRACE", "QUERY"])
async def test_a_method_that_does_not_fit_is_refused(api: Api, method: str) -> None:
    answer = await api.send(method, "/v1/items")
    assert assert_problem(answer)["code"] == "method_not_allowed"
    assert answer.headers["allow"] == "GET, HEAD, PUT"


async def test_head_is_get_without_its_body(wire: httpx.AsyncClient, shop: Shop) -> None:
    for path in (f"/v1/items/{shop.sku}", "/health/live", "/schema", "/v1/items/nobody"):
        got, head = await wire.get(path), await wire.head(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v2/items", "/v1/items/a/b", "/v1//items", "/V1/items", "/v1/items/%2e%2e/keys"],
)
async def test_a_path_that_leads_nowhere_is_not_found(wire: httpx.AsyncClient, path: str) -> None:
    assert assert_problem(await wire.get(path))["code"] == "not_found"


# Bytes ------------------------------------------------------------------------------

KEY = f"Authorization: Bearer {BOOTSTRAP_KEY}\r\n".encode()
POST = b"POST /v1/keys HTTP/1.1\r\nHost: t\r\n" + KEY + b"Content-Type: application/json\r\n"
BYTES = {
    "a path of bytes": b"GET /v1/items/\xff\xfe HTTP/1.1\r\nHost: t\r\n" + KEY + b"\r\n",
    "a path of half a code": b"GET /v1/items/%ff%C0 HTTP/1.1\r\nHost: t\r\n" + KEY + b"\r\n",
    "a path of no code": b"GET /v1/items/%zz% HTTP/1.1\r\nHost: t\r\n" + KEY + b"\r\n",
    "a query of bytes": b"GET /v1/items?limit=\xff HTTP/1.1\r\nHost: t\r\n" + KEY + b"\r\n",
    "a key of bytes": b"GET /v1/items HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer \xff\r\n\r\n",
    "a length that is none": POST + b"Content-Length: many\r\n\r\n{}",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n{}",
    "a huge length": POST + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a bad chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "no host": b"GET /v1/items HTTP/1.1\r\n" + KEY + b"\r\n",
    "an absolute target": b"GET http://t/v1/items HTTP/1.1\r\nHost: t\r\n" + KEY + b"\r\n",
    "no HTTP": b"hello\r\n\r\n",
    "a long path": b"GET /v1/items/" + b"x" * 60_000 + b" HTTP/1.1\r\nHost: t\r\n" + KEY + b"\r\n",
    "a long header": POST
    + b"Idempotency-Key: "
    + b"x" * 60_000
    + b"\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("sent", BYTES.values(), ids=BYTES)
async def test_no_bytes_fail_the_service(
    address: str, wire: httpx.AsyncClient, sent: bytes
) -> None:
    """Refused by the server or by us, never a 5xx; and the next caller is served."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    await writer.drain()
    line = await asyncio.wait_for(reader.readline(), 3)
    writer.close()
    assert line == b"" or 200 <= int(line.split()[1]) < 500, line
    assert (await wire.get("/health/live")).status_code == 200


async def test_a_caller_that_hangs_up_halfway_leaves_nothing(
    address: str, wire: httpx.AsyncClient, shop: Shop
) -> None:
    host, port = address.split(":")
    body = msgspec.json.encode(shop.cart())
    head = POST.replace(b"keys", b"reservations") + b"Content-Length: %d\r\n\r\n" % (len(body) + 9)
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(head + body)
    await writer.drain()
    writer.transport.abort()
    await asyncio.sleep(0.1)
    assert (await shop.level())["held"] == 0


# Health -----------------------------------------------------------------------------


async def test_health_and_metrics_need_no_key(wire: httpx.AsyncClient, app: Any) -> None:
    async with Api(app, None) as nobody:
        assert (await nobody.get("/health/live"))["status"] == "ok"
        ready = await nobody.get("/health/ready", verbose=1)
        assert ready["dependencies"] == {"postgresql": "ok", "redis": "ok", "ledger": "ok"}
        answer = await nobody.send("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "truestock_ledger_commits_total" in answer.text


async def test_commits_are_counted(api: Api, shop: Shop) -> None:
    before = await commits(api)
    await api.post("/v1/reservations", shop.cart(), expect=201)
    assert await commits(api) > before


async def commits(api: Api) -> float:
    """What the metric of commits says."""
    lines = (await api.send("GET", "/metrics")).text.splitlines()
    (line,) = [one for one in lines if one.startswith("truestock_ledger_commits_total")]
    return float(line.split()[1])
