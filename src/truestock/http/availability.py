"""Availability: can I have it, where, and how many of it?"""

from truestock.flows import query as flow
from truestock.http.endpoint import Call, endpoint
from truestock.ledger.commands import Answer
from truestock.model.availability import AvailabilityAnswer, AvailabilityQuery, ItemQuery, Near
from truestock.model.caller import Scope
from truestock.model.refusal import Code, Refusal, field_refusal


@endpoint(
    "POST",
    "/v1/availability/query",
    Scope.AVAILABILITY_READ,
    body=AvailabilityQuery,
    answer=AvailabilityAnswer,
    refuses=(Code.UNKNOWN_LOCATION,),
)
async def query_availability(call: Call) -> Answer | Refusal:
    """Availability of many items at once, wherever they are stocked or where you ask."""
    body = await flow.availability(call.services, call.body)
    return body if isinstance(body, Refusal) else Answer(200, body)


@endpoint(
    "GET",
    "/v1/availability/{sku}",
    Scope.AVAILABILITY_READ,
    query=ItemQuery,
    answer=AvailabilityAnswer,
    refuses=(Code.UNKNOWN_LOCATION,),
)
async def get_availability(call: Call) -> Answer | Refusal:
    """Availability of one item; an item that nobody knows is answered with known=false."""
    query = item_query(call.path("sku"), call.query)
    if isinstance(query, Refusal):
        return query
    view = flow.view_of(call.services, query)
    if isinstance(view, Refusal):
        return view
    body: bytes | Refusal | None = None
    if query.consistency == "cached":
        body = flow.ready(call.services, query.skus[0], view)
    if body is None:
        body = await flow.availability(call.services, query)
    return body if isinstance(body, Refusal) else Answer(200, body)


def item_query(sku: str, query: ItemQuery) -> AvailabilityQuery | Refusal:
    """The parameters of one item's question as the question for many."""
    near = None
    if query.latitude is not None and query.longitude is not None:
        near = Near(query.latitude, query.longitude, query.radius_km or 50.0, query.limit or 50)
    elif not (query.latitude is query.longitude is query.radius_km is query.limit is None):
        detail = "latitude and longitude go together; radius_km and limit need both."
        return field_refusal("/latitude", detail)
    return AvailabilityQuery(
        [sku],
        query.locations,
        query.groups,
        query.channel,
        query.method,
        near,
        query.horizon_days,
        query.consistency,
    )


ENDPOINTS = [query_availability, get_availability]
