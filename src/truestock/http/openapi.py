"""The OpenAPI 3.1 document, made out of what the endpoints say of themselves.

1. Every Struct that an endpoint takes or gives becomes a schema.
2. Every endpoint becomes an operation: parameters, body, answers, refusals and its scope.
3. Examples come from assets/examples.json, which tests play against the service.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

import msgspec

from truestock import __version__
from truestock.http.advice import ADVICE
from truestock.http.catalogue import ItemEntries, LocationEntries
from truestock.http.endpoint import Doc, Endpoint
from truestock.http.problems import JSON, PROBLEM_JSON
from truestock.http.stock import Events
from truestock.model.catalogue import ItemBody, LocationBody
from truestock.model.facts import StockEvent
from truestock.model.refusal import MEANINGS, Code, Problem, as_problem
from truestock.model.stock import Name

Schema = dict[str, Any]

REF = "#/components/schemas/{name}"

# Entries that are decoded one by one, so that a bad one stops no other: what each is.
ENTRIES: dict[tuple[type, str], type] = {
    (Events, "events"): StockEvent,
    (ItemEntries, "items"): ItemBody,
    (LocationEntries, "locations"): LocationBody,
}

# What any endpoint behind a key can answer, and any POST.
GUARDED = (
    Code.VALIDATION_FAILED,
    Code.UNAUTHENTICATED,
    Code.FORBIDDEN,
    Code.RATE_LIMITED,
    Code.OVERLOADED,
)
WITH_BODY = (Code.PAYLOAD_TOO_LARGE, Code.UNSUPPORTED_MEDIA_TYPE)
REPEATED = (Code.IDEMPOTENCY_IN_FLIGHT, Code.IDEMPOTENCY_MISMATCH)

ABOUT = """\
One ledger of stock over stores, warehouses and the web shop, that knows what is promised.

Requests and answers are JSON in `snake_case`; times are RFC 3339 with an offset, answers in UTC;
quantities are whole numbers in the item's base unit; money is `{amount, currency}` in minor units.
Unknown fields are refused. Every error is `application/problem+json` with a stable `code`.

Send `Authorization: Bearer <api key>`. Each endpoint names the scope that the key needs; `admin`
implies all. Send an `Idempotency-Key` with every POST: the same key and body gets the first answer
again, for 48 hours, whatever happened in between.
"""

KEY_TEXT = (
    "Makes the request safe to repeat: the same key and body gets the first answer again, with"
    " `Idempotency-Replayed: true`. Kept 48 hours; may be quoted."
)


class Example(msgspec.Struct, frozen=True):
    """One real call of an endpoint: names in its path, parameters, what is sent and answered."""

    path: dict[str, str] = {}
    query: dict[str, str] = {}
    body: Any = None
    answer: Any = None


def examples() -> dict[str, Example]:
    """An example for each operation, in the order of a story that can be played."""
    file = resources.files("truestock.http") / "assets" / "examples.json"
    return msgspec.json.decode(file.read_bytes(), type=dict[str, Example])


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The whole document."""
    docs = [each.doc for each in endpoints]
    schemas = Schemas(docs)
    shown = examples()
    paths: dict[str, dict[str, Any]] = {}
    for doc in docs:
        example = shown.get(doc.name, Example())
        paths.setdefault(doc.path, {})[doc.method.lower()] = operation(doc, schemas, example)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Truestock",
            "version": __version__,
            "summary": "Real-time inventory and pickup: one ledger over all channels.",
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": tags(docs),
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "examples": {code: problem_example(code) for code in Code},
            "securitySchemes": {
                "api_key": {"type": "http", "scheme": "bearer", "description": "An API key."}
            },
        },
    }


def tags(docs: Sequence[Doc]) -> list[dict[str, str]]:
    """The groups of endpoints, by the module that they stand in."""
    texts = {doc.module: first_line(sys.modules[doc.module].__doc__ or "") for doc in docs}
    return [{"name": tag(module), "description": text} for module, text in texts.items()]


def tag(module: str) -> str:
    """A module's own name."""
    return module.rpartition(".")[2]


def first_line(text: str) -> str:
    """The summary of a docstring."""
    return text.strip().partition("\n")[0]


# Schemas --------------------------------------------------------------------


class Schemas:
    """The schemas of all Structs that endpoints take and give. Open for reading only."""

    def __init__(self, docs: Sequence[Doc]) -> None:
        kinds = [Problem, *ENTRIES.values()]
        kinds += [kind for doc in docs for kind in (doc.body, doc.answer) if kind is not None]
        queries = [doc.query for doc in docs if doc.query is not None]
        found, components = msgspec.json.schema_components(
            [Name, *kinds, *queries], ref_template=REF
        )
        self._found = {
            id(kind): schema for kind, schema in zip([Name, *kinds], found, strict=False)
        }
        # Parameters stand one by one with their operation.
        self._parameters = {kind: components.pop(kind.__name__) for kind in set(queries)}
        for (struct, field), entry in ENTRIES.items():
            if struct.__name__ in components:
                entries = components[struct.__name__]["properties"][field]
                entries["items"] = {"$ref": REF.format(name=entry.__name__)}
        self.components: dict[str, Schema] = components

    def of(self, kind: Any) -> Schema:
        """The schema of a body or an answer."""
        return self._found[id(kind)]

    def parameters(self, query: Any) -> list[Schema]:
        """A query Struct's fields as parameters."""
        schema = self._parameters[query]
        required = schema.get("required", ())
        return [
            {
                "name": name,
                "in": "query",
                "required": name in required,
                "schema": without_null(field),
            }
            for name, field in schema["properties"].items()
        ]


def without_null(schema: Schema) -> Schema:
    """What may be left out, as it is when it is not."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if not kinds:
        return schema
    return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}


# Operations -----------------------------------------------------------------


def operation(doc: Doc, schemas: Schemas, example: Example) -> dict[str, Any]:
    """One endpoint."""
    found: dict[str, Any] = {
        "operationId": doc.name,
        "tags": [tag(doc.module)],
        "summary": first_line(doc.text),
        "description": description(doc),
        "security": [] if doc.scope is None else [{"api_key": [doc.scope]}],
        "responses": responses(doc, schemas, example),
    }
    if parameters := parameters_of(doc, schemas, example):
        found["parameters"] = parameters
    if content := body_content(doc, schemas, example):
        found["requestBody"] = {"required": True, "content": content}
    return found


def description(doc: Doc) -> str:
    """What the docstring says beyond its summary, and the scope."""
    rest = " ".join(doc.text.strip().partition("\n")[2].split())
    scope = "Needs no API key." if doc.scope is None else f"Needs the scope `{doc.scope}`."
    return f"{rest} {scope}".strip()


def parameters_of(doc: Doc, schemas: Schemas, example: Example) -> list[Schema]:
    """Parts of the path, parameters of the query, and the Idempotency-Key."""
    found = [
        {"name": name, "in": "path", "required": True, "schema": schemas.of(Name)}
        | ({"example": example.path[name]} if name in example.path else {})
        for name in re.findall(r"\{(\w+)\}", doc.path)
    ]
    if doc.query is not None:
        for parameter in schemas.parameters(doc.query):
            if (shown := example.query.get(parameter["name"])) is not None:
                parameter["example"] = read_example(parameter["schema"], shown)
            found.append(parameter)
    if doc.method == "POST":
        key = {"type": "string", "minLength": 1, "maxLength": 255}
        found.append(
            {"name": "Idempotency-Key", "in": "header", "required": False, "schema": key}
            | {"description": KEY_TEXT, "example": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
        )
    return found


def read_example(schema: Schema, text: str) -> Any:
    """A parameter's example in its own type."""
    if schema.get("type") == "array":
        return text.split(",")
    return msgspec.json.decode(text) if schema.get("type") in ("integer", "number") else text


def body_content(doc: Doc, schemas: Schemas, example: Example) -> dict[str, Any]:
    """The body by media type; what is streamed has no schema but text."""
    if doc.body is not None:
        return {JSON: {"schema": schemas.of(doc.body), "example": example.body}}
    if doc.media_types == (JSON,):
        return {}
    given = example.body or {}
    return {
        media_type: {"schema": {"type": "string"}, "example": given.get(media_type)}
        for media_type in doc.media_types
    }


def responses(doc: Doc, schemas: Schemas, example: Example) -> dict[str, Any]:
    """What it answers when all is well, and each refusal by its status."""
    good: dict[str, Any] = {"description": "Done."}
    if doc.answer is not None:
        good["content"] = {JSON: {"schema": schemas.of(doc.answer), "example": example.answer}}
    elif doc.status != 204:
        good["content"] = {doc.answers: {"schema": {"type": "string"}, "example": example.answer}}
    if headers := answer_headers(doc):
        good["headers"] = headers
    found = {str(doc.status): good}
    if doc.creates:
        found["201"] = good | {"description": "It is new."}
    by_status: dict[int, list[Code]] = {}
    for code in refusals(doc):
        by_status.setdefault(MEANINGS[code].status, []).append(code)
    return found | {str(status): refusal(by_status[status]) for status in sorted(by_status)}


def answer_headers(doc: Doc) -> dict[str, Any]:
    """What a good answer says beside its body."""
    text = {"type": "string"}
    headers: dict[str, Any] = {}
    if doc.scope is not None:
        policy = "What the API key may send, and in how many seconds; not for the first key."
        headers["RateLimit-Policy"] = {"description": policy, "schema": text}
        left = "What of it is left, and in how many seconds all of it is back."
        headers["RateLimit"] = {"description": left, "schema": text}
    if doc.method == "POST":
        replayed = {"description": "`true` if this is the first answer again."}
        headers["Idempotency-Replayed"] = replayed | {"schema": text | {"const": "true"}}
    return headers


def refusals(doc: Doc) -> list[Code]:
    """Every code that the endpoint may answer with."""
    codes = list(doc.refuses)
    if doc.scope is not None:
        codes += GUARDED
    if doc.body is not None or doc.method == "POST":
        codes += WITH_BODY
    if doc.method == "POST":
        codes += REPEATED
    return list(dict.fromkeys(codes))


def refusal(codes: Sequence[Code]) -> dict[str, Any]:
    """The problems of one status."""
    found: dict[str, Any] = {
        "description": " ".join(f"`{code}`: {MEANINGS[code].title}." for code in codes),
        "content": {
            PROBLEM_JSON: {
                "schema": {"$ref": REF.format(name="Problem")},
                "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in codes},
            }
        },
    }
    if {Code.RATE_LIMITED, Code.OVERLOADED} & set(codes):
        seconds = {"type": "integer", "minimum": 1}
        found["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": seconds}}
    return found


def problem_example(code: Code) -> dict[str, Any]:
    """A refusal of this code as it is answered."""
    value = msgspec.to_builtins(as_problem(ADVICE[code].example))
    return {"summary": MEANINGS[code].title, "value": value}
