"""Stock facts in; levels, movements and sources out."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from truestock.config import MAX_EVENTS
from truestock.flows import ingest, insight
from truestock.http.catalogue import explain
from truestock.http.endpoint import Call, endpoint
from truestock.ledger.commands import Answer
from truestock.model.caller import Scope
from truestock.model.insight import (
    LevelList,
    LevelQuery,
    MovementList,
    MovementQuery,
    SourceBody,
    SourceDocument,
    SourceList,
)
from truestock.model.keys import PageQuery
from truestock.model.record import EventResults
from truestock.model.refusal import Code, Refusal
from truestock.model.stock import SourceName


class Events(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /v1/stock/events`: each event is checked by itself."""

    source: SourceName
    events: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=MAX_EVENTS)]


def unseen_source(call: Call, source: str) -> Refusal | None:
    """A source that is not this key's is as if it did not exist."""
    if call.caller.sees_source(source):
        return None
    return Refusal(Code.NOT_FOUND, f"There is no source {source!r}.")


@endpoint(
    "POST",
    "/v1/stock/events",
    Scope.STOCK_WRITE,
    body=Events,
    answer=EventResults,
    refuses=(Code.NOT_FOUND,),
    ledger=True,
)
async def record_events(call: Call) -> Answer | Refusal:
    """Record up to 1,000 facts of one source; each is answered, none stops its neighbours."""
    if refusal := unseen_source(call, call.body.source):
        return refusal
    return await ingest.record_events(
        call.services, call.caller, call.body.source, call.body.events, call.token, explain
    )


@endpoint("GET", "/v1/stock/levels", Scope.AVAILABILITY_READ, query=LevelQuery, answer=LevelList)
async def list_levels(call: Call) -> LevelList | Refusal:
    """Levels with all their buckets."""
    return await insight.list_levels(call.services, call.caller, call.query)


@endpoint(
    "GET",
    "/v1/ledger/movements",
    Scope.INSIGHT_READ,
    query=MovementQuery,
    answer=MovementList,
)
async def list_movements(call: Call) -> MovementList:
    """Every change of stock, with its cause and the balance after it."""
    return await insight.list_movements(call.services, call.caller, call.query)


@endpoint(
    "PUT",
    "/v1/sources/{source}",
    Scope.STOCK_WRITE,
    body=SourceBody,
    answer=SourceDocument,
    refuses=(Code.NOT_FOUND, Code.UNKNOWN_LOCATION),
)
async def put_source(call: Call) -> Any:
    """Say which locations a source may write, and how often it should be heard."""
    source = call.path("source", SourceName)
    if refusal := unseen_source(call, source):
        return refusal
    refusal = await insight.put_source(call.services, source, call.body)
    return refusal or {"source": source} | msgspec.to_builtins(call.body)


@endpoint("GET", "/v1/sources", Scope.STOCK_WRITE, query=PageQuery, answer=SourceList)
async def list_sources(call: Call) -> SourceList:
    """How each source does: last heard, lag, what became of its facts, and whether it is stale."""
    return await insight.list_sources(call.services, call.caller, call.query)


ENDPOINTS = [record_events, list_levels, list_movements, put_source, list_sources]
