"""The contract as documents: complete, valid, with examples that are true, and pages of our own."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag

import msgspec
import pytest
from litestar import Litestar
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests.api.conftest import running, settings_for
from tests.api.shop import Api, assert_problem

from truestock.app import ENDPOINTS, create_app
from truestock.embedded import Servers
from truestock.http import openapi
from truestock.http.advice import ADVICE
from truestock.http.endpoint import Endpoint
from truestock.http.openapi import Example, examples
from truestock.model.refusal import MEANINGS, Code, Problem

EXAMPLES = examples()
RETELL = os.environ.get("TRUESTOCK_RETELL") == "1"


def name_of(endpoint: Endpoint) -> str:
    """How a test names an endpoint."""
    return endpoint.doc.name


@pytest.fixture(scope="module")
async def document(api: Api) -> dict[str, Any]:
    """The document as it is served."""
    return await api.get("/schema/openapi.json")


def operation(document: dict[str, Any], endpoint: Endpoint) -> dict[str, Any]:
    """What the document says of an endpoint."""
    return document["paths"][endpoint.doc.path][endpoint.doc.method.lower()]


async def test_it_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(document).validate()


async def test_operation_ids_are_unique_and_tags_are_told(document: dict[str, Any]) -> None:
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    ids = [each["operationId"] for each in operations]
    assert len(set(ids)) == len(ids) == len(ENDPOINTS)
    known = {tag["name"] for tag in document["tags"] if tag["description"]}
    assert {tag for each in operations for tag in each["tags"]} == known


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=name_of)
async def test_every_endpoint_stands_in_it(document: dict[str, Any], endpoint: Endpoint) -> None:
    doc, told = endpoint.doc, operation(document, endpoint)
    assert told["summary"] == doc.text.partition("\n")[0]
    assert told["security"] == ([{"api_key": [doc.scope]}] if doc.scope else [])
    parameters = {(p["in"], p["name"]): p for p in told.get("parameters", [])}
    assert {("path", part) for part in re.findall(r"{(\w+)}", doc.path)} <= parameters.keys()
    assert (("header", "Idempotency-Key") in parameters) == (doc.method == "POST")
    statuses = {str(MEANINGS[code].status) for code in doc.refuses} | {str(doc.status)}
    if doc.scope:
        statuses |= {"400", "401", "403", "429", "503"}
    if doc.body:
        statuses |= {"413", "415"}
    assert statuses <= told["responses"].keys()


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=name_of)
async def test_every_endpoint_has_examples(document: dict[str, Any], endpoint: Endpoint) -> None:
    """Of its path, its body and its answer; they are what the Structs take."""
    doc, told = endpoint.doc, operation(document, endpoint)
    example = EXAMPLES[doc.name]
    assert example.path.keys() == set(re.findall(r"{(\w+)}", doc.path))
    if doc.body is not None:
        assert told["requestBody"]["content"]["application/json"]["example"] is not None
        msgspec.json.decode(msgspec.json.encode(example.body), type=doc.body)
    for content in told["responses"][str(doc.status)].get("content", {}).values():
        assert content["example"] is not None
    if doc.answer is not None:
        msgspec.convert(example.answer, doc.answer)


@pytest.mark.parametrize("code", Code)
async def test_every_code_has_an_example(document: dict[str, Any], code: Code) -> None:
    value = document["components"]["examples"][code]["value"]
    assert msgspec.convert(value, Problem).code is code is ADVICE[code].example.code


# The examples are true ---------------------------------------------------------


@pytest.fixture(scope="module")
def story_database_url(make_database: Callable[[], Iterator[str]]) -> Iterator[str]:
    """A database with nothing in it, as the story begins."""
    with make_database() as url:
        yield url


@pytest.fixture(scope="module")
async def stage(story_database_url: str, servers: Servers) -> AsyncIterator[Api]:
    """A service that has seen nothing yet."""
    settings = settings_for(story_database_url, servers)
    # Two services on one Redis would hear each other's items, which have the same numbers.
    app = create_app(msgspec.structs.replace(settings, redis_url="unix:///nowhere/redis.sock"))
    async with running(app), Api(app, settings.bootstrap_key) as api:
        yield api


async def test_the_examples_are_what_the_service_answers(stage: Api) -> None:
    """Played in their order; ids and instants that the service chooses may differ.

    With TRUESTOCK_RETELL=1 the answers are written into the file instead of compared: for a new
    endpoint, add its path, query and body there, and have its answer told.
    """
    docs = {endpoint.doc.name: endpoint.doc for endpoint in ENDPOINTS}
    renamed: dict[str, str] = {}
    retold: dict[str, Example] = {}
    for name, example in EXAMPLES.items():
        doc = docs[name]
        if name == "release_reservation":
            again = EXAMPLES["create_reservation"].body
            await stage.post("/v1/reservations", again | example.path, expect=201)
        path = doc.path.format(**{k: renamed.get(v, v) for k, v in example.path.items()})
        answer = await send(stage, doc.method, path, doc.body is None, example)
        assert answer.status_code in (doc.status, 201), (name, answer.text)
        if name == "take_snapshot_file":
            await imported(stage, answer.json()["status_url"])
        retold[name] = example
        if name not in ("get_import", "get_import_errors", "ready", "metrics"):
            told = msgspec.json.decode(answer.content) if answer.content else None
            retold[name] = msgspec.structs.replace(example, answer=told)
            assert RETELL or shape(told) == shape(example.answer), name
            renamed |= {old: new for old, new in ids(example.answer, told) if old != new}
    if RETELL:
        write_examples(retold, renamed)


async def imported(api: Api, status_url: str) -> None:
    """Wait until an import is over."""
    async with asyncio.timeout(10):
        while True:
            if (await api.get(status_url))["status"] == "completed":
                return
            await asyncio.sleep(0.02)


def write_examples(told: dict[str, Example], renamed: dict[str, str]) -> None:
    """Write the examples' file anew, with names that the service chose where they are used."""
    text = msgspec.json.encode(told).decode()
    for old, new in renamed.items():
        text = text.replace(json.dumps(old), json.dumps(new))
    text = re.sub(r'"ts_[^"]*"', '"ts_this-is-shown-once"', text)
    found = {name: {k: v for k, v in e.items() if v} for name, e in json.loads(text).items()}
    file = Path(openapi.__file__).parent / "assets" / "examples.json"
    file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


async def send(api: Api, method: str, path: str, plain: bool, example: Example) -> Any:
    """Send an example; what is not JSON is a file."""
    if not plain or example.body is None:
        return await api.send(method, path, example.body, params=example.query)
    ((media_type, text), *_) = example.body.items()
    headers = {"content-type": media_type}
    return await api.send(method, path, text.encode(), params=example.query, headers=headers)


def shape(value: Any) -> Any:
    """A value with its texts and numbers forgotten."""
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items()}
    if isinstance(value, list):
        return [shape(part) for part in value]
    return float if isinstance(value, int | float) else type(value)


def ids(example: Any, told: Any) -> Iterator[tuple[str, str]]:
    """The ids of an example with those that stand in their places."""
    if isinstance(example, dict):
        for name, value in example.items():
            if name.endswith("_id"):
                yield value, told[name]
            yield from ids(value, told.get(name))


# Pages -------------------------------------------------------------------------


class Links(HTMLParser):
    """What a page names and where it leads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.targets: set[str] = set()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src"):
                self.targets.add(value or "")


@pytest.mark.parametrize("path", ["/schema", "/problems", "/problems/insufficient_stock"])
async def test_a_page_needs_nothing_from_afar(api: Api, path: str) -> None:
    answer = await api.send("GET", path)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self';")
    assert "unsafe" not in policy
    page = Links(answer.text)
    assert not page.tags & {"script", "style", "iframe", "img"}
    assert not {name for name in page.attributes if name == "style" or name.startswith("on")}
    assert len(set(page.ids)) == len(page.ids)
    for target in page.targets:
        other, fragment = urldefrag(target)
        if fragment and not other:
            assert fragment in page.ids, target
        else:
            assert (await api.send("GET", other)).status_code == 200, target


async def test_the_page_shows_every_endpoint_and_object(api: Api, document: dict[str, Any]) -> None:
    page = Links((await api.send("GET", "/schema")).text)
    assert {endpoint.doc.name for endpoint in ENDPOINTS} <= set(page.ids)
    assert {f"object-{name}" for name in document["components"]["schemas"]} <= set(page.ids)


@pytest.mark.parametrize("code", Code)
async def test_the_type_of_each_problem_is_a_page(api: Api, code: Code) -> None:
    answer = await api.send("GET", f"/problems/{code}")
    assert answer.status_code == 200
    assert MEANINGS[code].title in answer.text


async def test_documents_need_no_key(app: Litestar) -> None:
    async with Api(app, None) as nobody:
        for path in ("/schema", "/schema/openapi.json", "/problems/not_found"):
            assert (await nobody.send("GET", path)).status_code == 200
        assert assert_problem(await nobody.send("GET", "/problems/no_such"))["status"] == 404
