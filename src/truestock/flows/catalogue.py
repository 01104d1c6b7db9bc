"""Reference data: items, locations, groups and buffers, put and read."""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, Literal, TypeVar
from zoneinfo import available_timezones

import msgspec

from truestock.db import SQL
from truestock.flows.entries import UNREADABLE, Explain, text_in
from truestock.flows.services import Services
from truestock.model.buffers import BufferRule
from truestock.model.catalogue import (
    BulkResult,
    Fault,
    ItemBody,
    LocationBody,
    as_stored,
    item_fault,
    location_fault,
)
from truestock.model.keys import PageQuery
from truestock.model.refusal import Code, FieldError, Refusal, field_refusal

T = TypeVar("T", ItemBody, LocationBody)
Document = dict[str, Any]


@cache
def time_zones() -> frozenset[str]:
    """The IANA time zones that this machine knows."""
    return frozenset(available_timezones())


def fault_of(body: ItemBody | LocationBody) -> Fault | None:
    """What is wrong with an entry that its types cannot say."""
    if isinstance(body, ItemBody):
        return item_fault(body)
    return location_fault(body, time_zones())


# Writing ------------------------------------------------------------------


async def put_one(services: Services, name: str, body: T) -> tuple[bool, Document] | Refusal:
    """Put one item or location; answers whether it is new, and the document."""
    field = "sku" if isinstance(body, ItemBody) else "location"
    if (given := getattr(body, field)) not in (None, name):
        return field_refusal(f"/{field}", f"The path says {name!r}, the body {given!r}.")
    if fault := fault_of(body):
        return field_refusal(*fault)
    named = msgspec.structs.replace(body, **{field: name})
    created = await write(services, [named])
    document = await read_one(services, type(body), name)
    assert document is not None
    return created[name], document


async def put_many(
    services: Services, struct: type[T], entries: Sequence[msgspec.Raw], explain: Explain
) -> list[BulkResult]:
    """Put many; an entry that is no good is said so, and the others are put all the same."""
    field = "sku" if struct is ItemBody else "location"
    checked = [check_entry(struct, field, entry, explain) for entry in entries]
    good = {getattr(body, field): body for body in checked if not isinstance(body, BulkResult)}
    created = await write(services, list(good.values())) if good else {}
    results = []
    for body in checked:
        if isinstance(body, BulkResult):
            results.append(body)
        else:
            name = getattr(body, field)
            status: Literal["created", "updated"] = "created" if created[name] else "updated"
            results.append(BulkResult(status, **{field: name}))
    return results


def check_entry(struct: type[T], field: str, raw: msgspec.Raw, explain: Explain) -> T | BulkResult:
    """An entry as its Struct, or why it is rejected."""
    try:
        body = msgspec.json.decode(raw, type=struct)
    except UNREADABLE as error:
        wrong = explain(error)
        return rejected(field, text_in(raw, field), wrong.pointer, wrong.detail)
    name = getattr(body, field)
    if name is None:
        return rejected(field, None, f"/{field}", f"An entry names its {field}.")
    if fault := fault_of(body):
        return rejected(field, name, *fault)
    return body


def rejected(field: str, name: str | None, pointer: str, detail: str) -> BulkResult:
    """An entry that was not put."""
    return BulkResult(
        "rejected",
        code=Code.VALIDATION_FAILED,
        detail=detail,
        pointer=pointer,
        **{field: name},
    )


async def write(services: Services, bodies: Sequence[ItemBody | LocationBody]) -> dict[str, bool]:
    """Write entries that name themselves; answers by name whether each is new."""
    items = [b for b in bodies if isinstance(b, ItemBody)]
    locations = [b for b in bodies if isinstance(b, LocationBody)]
    written = []
    if items:
        item_rows = [(b.sku, b.category, b.status, as_stored(b)) for b in items]
        columns = [list(column) for column in zip(*item_rows, strict=True)]
        written += await services.pool.fetch(SQL["put_items"], *columns)
        await services.reference.reload(["items"])
    if locations:
        rows = [
            (b.location, b.kind, b.status, b.latitude, b.longitude, as_stored(b)) for b in locations
        ]
        columns = [list(column) for column in zip(*rows, strict=True)]
        written += await services.pool.fetch(SQL["put_locations"], *columns)
        await services.reference.reload(["locations"])
    return {row[0]: row["created"] for row in written}


async def put_group(services: Services, group: str, locations: list[str]) -> Refusal | None:
    """Replace a group's members; they must be known."""
    known = services.reference.locations
    if missing := [name for name in locations if name not in known]:
        errors = tuple(
            FieldError(
                f"/locations/{locations.index(name)}",
                Code.UNKNOWN_LOCATION,
                f"There is no location {name!r}.",
            )
            for name in missing
        )
        return Refusal(Code.UNKNOWN_LOCATION, errors[0].detail, errors=errors)
    ids = list(dict.fromkeys(known[name].location_id for name in locations))
    await services.pool.execute(SQL["put_location_group"], group, ids)
    await services.reference.reload(["location_groups"])
    return None


async def put_buffers(services: Services, rules: list[BufferRule]) -> None:
    """Replace the rule list."""
    await services.pool.execute(SQL["put_buffer_rules"], as_stored(rules))
    await services.reference.reload(["buffer_rules"])


# Reading ------------------------------------------------------------------

QUERIES: dict[type, tuple[str, str]] = {
    ItemBody: ("get_item", "list_items"),
    LocationBody: ("get_location", "list_locations"),
}


async def read_one(services: Services, struct: type, name: str) -> Document | None:
    """An item or location as it was put, None if there is none."""
    row = await services.pool.fetchrow(SQL[QUERIES[struct][0]], name)
    return None if row is None else document_of(struct, row["body"], row["updated_at"])


async def list_page(
    services: Services, struct: type, page: PageQuery
) -> tuple[list[Document], str | None]:
    """A page of items or locations, and the cursor of the next."""
    query = SQL[QUERIES[struct][1]]
    rows = await services.pool.fetch(query, page.cursor or "", page.limit + 1)
    documents = [document_of(struct, row["body"], row["updated_at"]) for row in rows]
    cursor = str(rows[page.limit - 1][0]) if len(rows) > page.limit else None
    return documents[: page.limit], cursor


def document_of(struct: type, body: bytes, updated_at: datetime) -> Document:
    """What was put, with the defaults said and the time of the last change."""
    stored: Any = msgspec.json.decode(body, type=struct)
    document: Document = msgspec.to_builtins(stored)
    for part in ("pickup", "ship_from"):
        if part in document:
            document[part].setdefault("enabled", True)
    if isinstance(stored, LocationBody):
        document["kind"] = stored.kind
    return document | {"status": stored.status, "updated_at": updated_at}
