"""Stock events: each is checked by itself, then all good ones are one command to the ledger."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from truestock.db import SQL
from truestock.flows.entries import UNREADABLE, Explain, text_in
from truestock.flows.services import Services
from truestock.ledger.commands import Answer, Token
from truestock.model.caller import Caller
from truestock.model.facts import Fact, FactStatus, StockEvent, instant_fault, quantity_fault
from truestock.model.place import ItemRef
from truestock.model.record import EventResult, Record
from truestock.model.refusal import Code
from truestock.model.stock import Kind

decode_event = msgspec.json.Decoder(StockEvent).decode


class SourceRef(msgspec.Struct, frozen=True):
    """A source by its number, with the locations that it may write (None: all)."""

    source_id: int
    source: str
    location_ids: frozenset[int] | None


async def record_events(
    services: Services,
    caller: Caller,
    source: str,
    raw_events: Sequence[msgspec.Raw],
    token: Token | None,
    explain: Explain,
) -> Answer:
    """Record a source's events; one bad event never stops its neighbours."""
    known = await source_ref(services, source)
    events = [read_event(raw, explain) for raw in raw_events]
    items = await services.reference.items(
        {event.sku for event in events if isinstance(event, StockEvent)}
    )
    now = datetime.now(UTC)
    entries = [
        fact_of(services, caller, known, event, items, now)
        if isinstance(event, StockEvent)
        else event
        for event in events
    ]
    return await services.ledger.submit(Record(known.source_id, tuple(entries)), token)


async def source_ref(services: Services, source: str) -> SourceRef:
    """The source; it comes into being on first use."""
    rows = await services.pool.fetch(SQL["find_source"], source)
    if not rows:
        await services.pool.execute(SQL["create_source"], source)
        rows = await services.pool.fetch(SQL["find_source"], source)
    row = rows[0]
    locations = row["location_ids"]
    return SourceRef(row["source_id"], source, None if locations is None else frozenset(locations))


def allowed_locations(
    services: Services, caller: Caller, source: SourceRef
) -> frozenset[int] | None:
    """The locations that both the key and the source may write (None: all)."""
    if not caller.locations:
        return source.location_ids
    known = services.reference.locations
    of_key = frozenset(known[name].location_id for name in caller.locations if name in known)
    return of_key if source.location_ids is None else of_key & source.location_ids


def read_event(raw: msgspec.Raw, explain: Explain) -> StockEvent | EventResult:
    """One event as its Struct, or why it is rejected."""
    try:
        return decode_event(raw)
    except UNREADABLE as error:
        wrong = explain(error)
        detail = f"{wrong.pointer or 'event'}: {wrong.detail}"
        return rejected(text_in(raw, "event_id") or "", Code.VALIDATION_FAILED, detail)


def rejected(event_id: str, code: Code, detail: str) -> EventResult:
    """An event that is not recorded."""
    return EventResult(event_id, FactStatus.REJECTED, code, detail)


def fact_of(
    services: Services,
    caller: Caller,
    source: SourceRef,
    event: StockEvent,
    items: dict[str, ItemRef],
    now: datetime,
) -> Fact | EventResult:
    """The event with the ledger's numbers, or why it is rejected."""
    kind = Kind(event.type)
    if fault := quantity_fault(kind, event.quantity):
        return rejected(event.event_id, Code.VALIDATION_FAILED, f"/quantity: {fault}")
    if fault := instant_fault(event.occurred_at, now):
        return rejected(event.event_id, Code.VALIDATION_FAILED, f"/occurred_at: {fault}")
    if (item := items.get(event.sku)) is None:
        detail = f"There is no item {event.sku!r}: PUT it under /v1/items first."
        return rejected(event.event_id, Code.UNKNOWN_SKU, detail)
    location = services.reference.locations.get(event.location)
    if location is None or not caller.sees_location(location.location):
        # One that is not this key's is as if it did not exist.
        detail = f"There is no location {event.location!r}: PUT it under /v1/locations first."
        return rejected(event.event_id, Code.UNKNOWN_LOCATION, detail)
    if source.location_ids is not None and location.location_id not in source.location_ids:
        detail = f"The source {source.source!r} may not write {event.location!r}."
        return rejected(event.event_id, Code.FORBIDDEN, detail)
    return Fact(
        source.source_id,
        source.source,
        event.event_id,
        kind,
        item.item_id,
        location.location_id,
        event.quantity,
        event.occurred_at.astimezone(UTC),
        event.reason,
        event.reference,
    )
