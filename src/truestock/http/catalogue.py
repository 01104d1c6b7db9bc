"""Reference data: items, locations, groups of locations, and buffers."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from truestock.config import MAX_BULK_ENTRIES
from truestock.flows import catalogue as flow
from truestock.http.endpoint import Call, endpoint
from truestock.http.problems import invalid
from truestock.ledger.commands import Answer, encode
from truestock.model.buffers import BufferRule
from truestock.model.caller import Scope
from truestock.model.catalogue import (
    BulkResult,
    ItemBody,
    ItemDocument,
    ItemList,
    LocationBody,
    LocationDocument,
    LocationList,
)
from truestock.model.keys import PageQuery
from truestock.model.refusal import Code, FieldError, Refusal
from truestock.model.stock import Name

Entries = Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=MAX_BULK_ENTRIES)]


class ItemEntries(msgspec.Struct, forbid_unknown_fields=True):
    """`PUT /v1/items`: items with their sku in each."""

    items: Entries


class LocationEntries(msgspec.Struct, forbid_unknown_fields=True):
    """`PUT /v1/locations`: locations with their code in each."""

    locations: Entries


class BulkResults(msgspec.Struct):
    """What became of each entry, in the order sent."""

    results: list[BulkResult]


class GroupBody(msgspec.Struct, forbid_unknown_fields=True):
    """`PUT /v1/location-groups/{group}`: its members from now on."""

    locations: Annotated[list[Name], Meta(max_length=10_000)]


class GroupDocument(GroupBody):
    """A group as it was put."""

    group: str


Rules = Annotated[list[BufferRule], Meta(max_length=1_000)]


def explain(error: Exception) -> FieldError:
    """A decoding error with its pointer."""
    return invalid(error).refusal.errors[0]


def put_answer(outcome: Any) -> Answer | Refusal:
    """201 for a new one, 200 for one that was there."""
    if isinstance(outcome, Refusal):
        return outcome
    created, document = outcome
    return Answer(201 if created else 200, encode(document))


def found(document: Any, kind: str, name: str) -> Any:
    """The document, or that there is none."""
    return document or Refusal(Code.NOT_FOUND, f"There is no {kind} {name!r}.")


@endpoint(
    "PUT",
    "/v1/locations/{location}",
    Scope.ADMIN,
    body=LocationBody,
    answer=LocationDocument,
    creates=True,
)
async def put_location(call: Call) -> Answer | Refusal:
    """Create or replace a location."""
    return put_answer(await flow.put_one(call.services, call.path("location"), call.body))


@endpoint("PUT", "/v1/locations", Scope.ADMIN, body=LocationEntries, answer=BulkResults)
async def put_locations(call: Call) -> BulkResults:
    """Create or replace up to 1,000 locations; a result for each."""
    entries = call.body.locations
    return BulkResults(await flow.put_many(call.services, LocationBody, entries, explain))


@endpoint(
    "GET",
    "/v1/locations/{location}",
    Scope.AVAILABILITY_READ,
    answer=LocationDocument,
    refuses=(Code.NOT_FOUND,),
)
async def get_location(call: Call) -> Any:
    """One location."""
    name = call.path("location")
    return found(await flow.read_one(call.services, LocationBody, name), "location", name)


@endpoint("GET", "/v1/locations", Scope.AVAILABILITY_READ, query=PageQuery, answer=LocationList)
async def list_locations(call: Call) -> Any:
    """Locations by code, page by page."""
    locations, cursor = await flow.list_page(call.services, LocationBody, call.query)
    return {"locations": locations} | ({"cursor": cursor} if cursor else {})


@endpoint("PUT", "/v1/items/{sku}", Scope.ADMIN, body=ItemBody, answer=ItemDocument, creates=True)
async def put_item(call: Call) -> Answer | Refusal:
    """Create or replace an item; a GTIN's check digit is verified."""
    return put_answer(await flow.put_one(call.services, call.path("sku"), call.body))


@endpoint("PUT", "/v1/items", Scope.ADMIN, body=ItemEntries, answer=BulkResults)
async def put_items(call: Call) -> BulkResults:
    """Create or replace up to 1,000 items; a result for each."""
    return BulkResults(await flow.put_many(call.services, ItemBody, call.body.items, explain))


@endpoint(
    "GET",
    "/v1/items/{sku}",
    Scope.AVAILABILITY_READ,
    answer=ItemDocument,
    refuses=(Code.NOT_FOUND,),
)
async def get_item(call: Call) -> Any:
    """One item."""
    sku = call.path("sku")
    return found(await flow.read_one(call.services, ItemBody, sku), "item", sku)


@endpoint("GET", "/v1/items", Scope.AVAILABILITY_READ, query=PageQuery, answer=ItemList)
async def list_items(call: Call) -> Any:
    """Items by sku, page by page."""
    items, cursor = await flow.list_page(call.services, ItemBody, call.query)
    return {"items": items} | ({"cursor": cursor} if cursor else {})


@endpoint(
    "PUT",
    "/v1/location-groups/{group}",
    Scope.ADMIN,
    body=GroupBody,
    answer=GroupDocument,
    refuses=(Code.UNKNOWN_LOCATION,),
)
async def put_location_group(call: Call) -> Any:
    """Replace a group of locations."""
    refusal = await flow.put_group(call.services, call.path("group"), call.body.locations)
    return refusal or {"group": call.path("group"), "locations": call.body.locations}


@endpoint(
    "GET",
    "/v1/location-groups/{group}",
    Scope.AVAILABILITY_READ,
    answer=GroupDocument,
    refuses=(Code.NOT_FOUND,),
)
async def get_location_group(call: Call) -> Any:
    """A group's members."""
    group, reference = call.path("group"), call.services.reference
    if group not in reference.groups:
        return Refusal(Code.NOT_FOUND, f"There is no location group {group!r}.")
    members = [reference.locations_by_id[number].location for number in reference.groups[group]]
    return {"group": group, "locations": members}


@endpoint("PUT", "/v1/buffers", Scope.ADMIN, body=Rules, answer=Rules)
async def put_buffers(call: Call) -> Any:
    """Replace the buffer rules; the most specific one binds reads and reservations alike."""
    await flow.put_buffers(call.services, call.body)
    return call.body


@endpoint("GET", "/v1/buffers", Scope.ADMIN, answer=Rules)
async def get_buffers(call: Call) -> Any:
    """The buffer rules, the most specific first."""
    return call.services.reference.buffers


ENDPOINTS = [
    put_location,
    put_locations,
    get_location,
    list_locations,
    put_item,
    put_items,
    get_item,
    list_items,
    put_location_group,
    get_location_group,
    put_buffers,
    get_buffers,
]
