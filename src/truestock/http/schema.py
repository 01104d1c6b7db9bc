"""The contract as documents: for programs at /schema/openapi.json, for people at /schema."""

from collections.abc import Sequence
from importlib import resources

import msgspec

from truestock.http import openapi, pages
from truestock.http.endpoint import Call, Endpoint, endpoint
from truestock.ledger.commands import Answer, encode
from truestock.model.refusal import Code, Refusal

HTML = "text/html; charset=utf-8"
PAGE_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "public, max-age=300",
}


class Documents(msgspec.Struct, frozen=True):
    """All that is served here, made once."""

    openapi: bytes
    reference: bytes
    problems: bytes
    by_code: dict[str, bytes]


def documents(endpoints: Sequence[Endpoint]) -> Documents:
    """Make the documents of these endpoints."""
    # Through JSON, so that the pages show just what programs read.
    body = encode(openapi.document(endpoints))
    document = msgspec.json.decode(body)
    examples = document["components"]["examples"]
    return Documents(
        body,
        pages.reference(document),
        pages.problem_list(),
        {code.value: pages.problem_page(code, examples[code]) for code in Code},
    )


def file(name: str, media_type: str) -> Answer:
    """A file that pages need."""
    body = (resources.files("truestock.http") / "assets" / name).read_bytes()
    return served(body, media_type)


def served(body: bytes, media_type: str = HTML) -> Answer:
    """A page or a file, with what browsers may do with it."""
    return Answer(200, body, media_type=media_type, headers=PAGE_HEADERS)


def endpoints_for(documented: Sequence[Endpoint]) -> list[Endpoint]:
    """The endpoints that serve the documents of these endpoints."""
    made = documents(documented)
    style, icon = file("style.css", "text/css"), file("icon.svg", "image/svg+xml")
    document, reference = served(made.openapi, "application/json"), served(made.reference)
    problems = served(made.problems)
    pages_by_code = {code: served(page) for code, page in made.by_code.items()}

    @endpoint("GET", "/schema/openapi.json", None)
    async def get_openapi(_: Call) -> Answer:
        """This document."""
        return document

    @endpoint("GET", "/schema", None)
    async def show_reference(_: Call) -> Answer:
        """The contract for people."""
        return reference

    @endpoint("GET", "/schema/style.css", None)
    async def get_style(_: Call) -> Answer:
        """How pages look."""
        return style

    @endpoint("GET", "/schema/icon.svg", None)
    async def get_icon(_: Call) -> Answer:
        """The mark in the browser's tab."""
        return icon

    @endpoint("GET", "/problems", None)
    async def show_problems(_: Call) -> Answer:
        """Every code."""
        return problems

    @endpoint("GET", "/problems/{code}", None)
    async def show_problem(call: Call) -> Answer | Refusal:
        """What one code means and what to do."""
        code = call.path("code")
        found = pages_by_code.get(code)
        return found or Refusal(Code.NOT_FOUND, f"There is no problem {code!r}; see /problems.")

    return [get_openapi, show_reference, get_style, get_icon, show_problems, show_problem]
