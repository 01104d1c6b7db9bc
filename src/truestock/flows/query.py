"""Availability queries: which locations, which levels, and the answer in pieces that are kept.

An answer is put together from one encoded fragment an item; a fragment is made once for each
view (channel, method, selection of locations) and dropped when a level of its item changes.
"""

from collections.abc import Sequence
from itertools import count

import msgspec

from truestock.availability.cache import CachedItem, Fragment
from truestock.flows.services import Services
from truestock.ledger.commands import encode
from truestock.model.availability import (
    AvailabilityQuery,
    ItemAvailability,
    Near,
    Totals,
    at_location,
)
from truestock.model.place import ItemRef, LocationRef, distance_km
from truestock.model.refusal import Code, FieldError, Refusal


class View(msgspec.Struct, frozen=True):
    """Under what terms an item is looked at.

    number: a fragment's name in the cache, another for each view. location_ids: those asked
    for, in their order (None: wherever the item is stocked).
    """

    number: int
    channel: str | None
    method: str | None
    location_ids: tuple[int, ...] | None
    near: Near | None


async def availability(services: Services, query: AvailabilityQuery) -> bytes | Refusal:
    """The encoded answer to a query; unknown skus are answered as such, not refused."""
    view = view_of(services, query)
    if isinstance(view, Refusal):
        return view
    known = await services.reference.items(query.skus)
    ids = list({item.item_id for item in known.values()})
    levels = await services.availability.items(ids, strong=query.consistency == "strong")
    fragments = [
        fragment_of(services, known[sku], levels[known[sku].item_id], view)
        if sku in known
        else unknown(sku)
        for sku in dict.fromkeys(query.skus)
    ]
    return join(fragments)


def join(fragments: Sequence[Fragment]) -> bytes:
    """Fragments as one answer."""
    as_of_seq = max([fragment.version for fragment in fragments])
    parts = [b'{"as_of_seq":%d,"items":[' % as_of_seq]
    for fragment in fragments:
        parts += (fragment.body, b",")
    parts[-1] = b"]}"
    return b"".join(parts)


def ready(services: Services, sku: str, view: View) -> bytes | None:
    """The whole answer for one item, if this process can give it out of memory."""
    item = services.reference.known_item(sku)
    if item is None:
        return None
    levels = services.availability.ready(item.item_id)
    return None if levels is None else join([fragment_of(services, item, levels, view)])


def view_of(services: Services, query: AvailabilityQuery) -> View | Refusal:
    """The query's terms as a view; the same terms get the same one while reference data stays."""
    terms = (
        query.channel,
        query.method,
        None if query.locations is None else tuple(query.locations),
        None if query.groups is None else tuple(query.groups),
        query.near,
    )
    known: View | None = services.reference.views.get(terms)
    if known is not None:
        return known
    view = make_view(services, query)
    if isinstance(view, View):
        if len(services.reference.views) >= MAX_VIEWS:
            services.reference.views.clear()
        services.reference.views[terms] = view
    return view


MAX_VIEWS = 4_096
view_numbers = count(1)


def make_view(services: Services, query: AvailabilityQuery) -> View | Refusal:
    """A new view: the query's locations by number; unknown ones are pointed at."""
    reference = services.reference
    chosen: dict[int, None] = {}
    faults: list[FieldError] = []
    for number, name in enumerate(query.locations or ()):
        if (location := reference.locations.get(name)) is None:
            faults.append(unknown_place(f"/locations/{number}", "location", name))
        else:
            chosen[location.location_id] = None
    for number, name in enumerate(query.groups or ()):
        if (members := reference.groups.get(name)) is None:
            faults.append(unknown_place(f"/groups/{number}", "location group", name))
        else:
            chosen.update(dict.fromkeys(members))
    if faults:
        return Refusal(Code.UNKNOWN_LOCATION, faults[0].detail, errors=tuple(faults))
    named = query.locations is not None or query.groups is not None
    ids = tuple(chosen) if named else None
    return View(next(view_numbers), query.channel, query.method, ids, query.near)


def unknown_place(pointer: str, kind: str, name: str) -> FieldError:
    """There is no such location or group."""
    return FieldError(pointer, Code.UNKNOWN_LOCATION, f"There is no {kind} {name!r}.")


def unknown(sku: str) -> Fragment:
    """An item that nobody knows."""
    return Fragment(encode(ItemAvailability(sku, False, Totals(), [])), 0)


def fragment_of(services: Services, item: ItemRef, cached: CachedItem, view: View) -> Fragment:
    """The item's part of the answer, from the cache if it was made before."""
    kept = cached.fragments.get(view.number)
    if kept is not None:
        return kept
    fragment = make_fragment(services, item, cached, view)
    cached.keep(view.number, fragment)
    return fragment


def make_fragment(services: Services, item: ItemRef, cached: CachedItem, view: View) -> Fragment:
    """Encode the item's figures under a view."""
    reference, low_stock = services.reference, services.settings.low_stock
    totals = Totals()
    locations = []
    for location, far in selected(services, cached, view):
        buffer = reference.buffer(item, location.location, view.channel, view.method)
        level = cached.levels.get(location.location_id)
        figures = at_location(location.location, level, buffer, low_stock, far)
        totals.add(figures)
        locations.append(figures)
    levels = cached.levels.values()
    return Fragment(
        encode(ItemAvailability(item.sku, True, totals, locations)),
        max((level.version for level in levels), default=0),
    )


def selected(
    services: Services, cached: CachedItem, view: View
) -> list[tuple[LocationRef, float | None]]:
    """The locations that the view shows of an item, in their order, with distances if asked."""
    by_id = services.reference.locations_by_id
    ids = cached.levels.keys() if view.location_ids is None else view.location_ids
    locations = [by_id[number] for number in ids if number in by_id]
    if view.near is None:
        if view.location_ids is None:
            locations.sort(key=lambda location: location.location)
        return [(location, None) for location in locations]
    return nearest(locations, view.near)


def nearest(locations: Sequence[LocationRef], near: Near) -> list[tuple[LocationRef, float | None]]:
    """Those within the radius, the nearest first, as many as the limit says."""
    found: list[tuple[float, str, LocationRef]] = []
    for location in locations:
        if location.latitude is None or location.longitude is None:
            continue
        far = distance_km(near.latitude, near.longitude, location.latitude, location.longitude)
        if far <= near.radius_km:
            found.append((far, location.location, location))
    found.sort(key=lambda entry: entry[:2])
    return [(location, round(far, 3)) for far, _, location in found[: near.limit]]
