"""Which endpoint a request is for, found in front of the framework's own router.

Litestar's router looks up the path parameters of plain ASGI routes under the wrong name, cannot
tell a slash from `%2F`, and costs more than a whole answer out of memory. What stands in no
endpoint's way, it still gets.
"""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from truestock.flows.services import Services
from truestock.http.endpoint import Endpoint
from truestock.http.exchange import Exchange, Streamed
from truestock.http.problems import RefusedError, fault
from truestock.ledger.commands import Answer, refusal_answer
from truestock.model.refusal import Code, Refusal

Methods = dict[str, Endpoint]


class Template(msgspec.Struct, frozen=True):
    """A path with parts: its segments, and by place the names of those that vary."""

    segments: tuple[str, ...]
    names: dict[int, str]
    methods: Methods


class Routes:
    """Endpoints by path: plain paths at one look, others among those of as many segments."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        by_path: dict[str, Methods] = {}
        for each in endpoints:
            by_path.setdefault(each.doc.path, {})[each.doc.method] = each
        self._plain: dict[str, Methods] = {}
        self._templates: dict[int, list[Template]] = {}
        for path, methods in by_path.items():
            if "GET" in methods:
                methods["HEAD"] = methods["GET"]
            if "{" not in path:
                self._plain[path] = methods
                continue
            segments = tuple(path.split("/"))
            names = {n: part[1:-1] for n, part in enumerate(segments) if part.startswith("{")}
            self._templates.setdefault(len(segments), []).append(Template(segments, names, methods))

    def find(self, scope: Any) -> tuple[Methods, dict[str, str]] | None:
        """The endpoints at the request's path by method, and the path's parts by name."""
        path: str = scope["path"]
        if (methods := self._plain.get(path)) is not None:
            return methods, {}
        segments = segments_of(scope.get("raw_path") or b"", path)
        for template in self._templates.get(len(segments), ()):
            names = template.names
            if all(
                bool(segment) if place in names else segment == template.segments[place]
                for place, segment in enumerate(segments)
            ):
                return template.methods, {names[place]: segments[place] for place in names}
        return None


def segments_of(raw: bytes, path: str) -> list[str]:
    """A path's segments; a name may have a slash in it, written `%2F`."""
    if b"%2" not in raw:
        return path.split("/")
    if not re.search(b"%2f", raw, re.IGNORECASE):
        return path.split("/")
    return [unquote(segment) for segment in raw.partition(b"?")[0].decode("latin-1").split("/")]


def in_front_of(inner: ASGIApp, routes: Routes) -> ASGIApp:
    """Our endpoints first; what is for none of them goes on to the framework."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        found = routes.find(scope) if "method" in scope else None
        if found is None:
            await inner(scope, receive, send)
            return
        methods, parts = found
        exchange = Exchange(scope, receive, send, parts)
        outcome = await outcome_of(exchange, methods)
        if isinstance(outcome, Streamed):
            await exchange.stream(outcome)
        elif outcome is not None:
            await exchange.reply(outcome)

    return serve


async def outcome_of(exchange: Exchange, methods: Methods) -> Answer | Streamed | None:
    """What the endpoint says, refusals and faults as problems; None if the caller went away."""
    found = methods.get(exchange.method)
    if found is None:
        allow = ", ".join(sorted(methods))
        detail = f"{exchange.method} does not fit {exchange.path}, which takes {allow}."
        answer = refusal_answer(Refusal(Code.METHOD_NOT_ALLOWED, detail))
        return msgspec.structs.replace(answer, headers={"allow": allow})
    services: Services = exchange.scope["litestar_app"].state["services"]
    try:
        return await found.run(exchange, services)
    except RefusedError as error:
        return refusal_answer(error.refusal)
    except ConnectionAbortedError:
        return None
    except Exception as error:
        return refusal_answer(fault(exchange.method, exchange.path, error))
