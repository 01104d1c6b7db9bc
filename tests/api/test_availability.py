"""Availability: the same figures by GET and POST, for each channel, method and place."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.api.shop import Api, Shop, ago, fresh, pointers

FIGURES = {
    "location", "on_hand", "unavailable", "held", "allocated", "safety_stock", "available",
    "sellable", "status",
}  # fmt: skip


@pytest.fixture
async def buffers(api: Api) -> AsyncIterator[Any]:
    """Puts buffers, which bind everyone, and takes them away at the end."""

    async def put(*rules: dict[str, Any]) -> None:
        await api.put("/v1/buffers", list(rules))

    yield put
    await put()


async def ask(shop: Shop, **query: Any) -> list[dict[str, Any]]:
    """The locations that are answered for the first item; by POST, and by GET the same."""
    body = {"skus": [shop.sku], **query}
    posted = await shop.api.post("/v1/availability/query", body)
    params = {k: v for k, v in query.items() if k != "near"} | query.get("near", {})
    got = await shop.api.get(f"/v1/availability/{shop.sku}", **params)
    assert got["items"] == posted["items"]
    assert isinstance(posted["as_of_seq"], int)
    return posted["items"][0]["locations"]


async def test_an_item_is_answered_wherever_it_is_stocked(shop: Shop) -> None:
    locations = await ask(shop)
    assert [place["location"] for place in locations] == sorted(shop.locations[:2])
    for place in locations:
        assert place.keys() == FIGURES
    first = next(place for place in locations if place["location"] == shop.location)
    assert first == {
        "location": shop.location,
        "on_hand": 10,
        "unavailable": 0,
        "held": 0,
        "allocated": 0,
        "safety_stock": 0,
        "available": 10,
        "sellable": 10,
        "status": "in_stock",
    }


async def test_totals_are_the_sums_of_what_is_answered(api: Api, shop: Shop) -> None:
    await api.post("/v1/reservations", shop.cart(shop.line(3)), expect=201)
    (item,) = (await api.get(f"/v1/availability/{shop.sku}"))["items"]
    assert (item["sku"], item["known"]) == (shop.sku, True)
    for name, total in item["totals"].items():
        assert total == sum(place[name] for place in item["locations"]), name
    assert item["totals"]["available"] == 12


async def test_an_unknown_item_is_answered_as_unknown(api: Api, shop: Shop) -> None:
    asked = [shop.sku, "nobody-knows", shop.skus[1], shop.sku]
    items = (await api.post("/v1/availability/query", {"skus": asked}))["items"]
    assert [(item["sku"], item["known"]) for item in items] == [
        (shop.sku, True), ("nobody-knows", False), (shop.skus[1], True)
    ]  # fmt: skip
    assert items[1]["locations"] == []
    (item,) = (await api.get("/v1/availability/nobody-knows"))["items"]
    assert item == items[1]


async def test_locations_and_groups_are_answered_in_the_order_asked(api: Api, shop: Shop) -> None:
    first, second, third = shop.locations
    for asked in ([third, first], [second], [first, second, third]):
        assert [p["location"] for p in await ask(shop, locations=asked)] == asked
    name = fresh("group")
    await api.put(f"/v1/location-groups/{name}", {"locations": [second, first]})
    assert [p["location"] for p in await ask(shop, groups=[name])] == [second, first]
    assert [p["location"] for p in await ask(shop, locations=[third], groups=[name])] == [
        third, second, first
    ]  # fmt: skip


async def test_lists_may_be_repeated_or_comma_separated(api: Api, shop: Shop) -> None:
    path, pair = f"/v1/availability/{shop.sku}", shop.locations[:2]
    one = await api.get(path, locations=",".join(pair))
    assert one == await api.get(path, locations=pair)
    assert len(one["items"][0]["locations"]) == 2


async def test_what_a_location_never_had_is_not_stocked(shop: Shop) -> None:
    (place,) = await ask(shop, locations=[shop.locations[2]])
    assert (place["status"], place["available"]) == ("not_stocked", 0)


async def test_unknown_locations_and_groups_are_pointed_at(api: Api, shop: Shop) -> None:
    body = {"skus": [shop.sku], "locations": [shop.location, "nowhere"], "groups": ["nobody"]}
    problem = await api.post("/v1/availability/query", body, expect=422)
    assert problem["code"] == "unknown_location"
    assert pointers(problem) == ["/locations/1", "/groups/0"]
    await api.get(f"/v1/availability/{shop.sku}", locations="nowhere", expect=422)


@pytest.mark.parametrize(
    ("units", "status"), [(0, "out_of_stock"), (1, "low_stock"), (3, "low_stock"), (4, "in_stock")]
)
async def test_the_status_says_how_much_is_left(shop: Shop, units: int, status: str) -> None:
    await shop.record(shop.event("count", units, occurred_at=ago()))
    (place,) = await ask(shop, locations=[shop.location])
    assert (place["sellable"], place["status"]) == (units, status)


async def test_a_shortage_is_never_shown_as_less_than_nothing(api: Api, shop: Shop) -> None:
    await api.post("/v1/reservations", shop.cart(shop.line(8)), expect=201)
    await shop.record(shop.event("count", 5, occurred_at=ago()))
    (place,) = await ask(shop, locations=[shop.location])
    assert (place["available"], place["sellable"], place["held"]) == (0, 0, 8)
    assert (await shop.level())["shortage"] == 3


async def test_a_change_is_seen_at_once(api: Api, shop: Shop) -> None:
    for sold in range(1, 4):
        await shop.record(shop.event("sale", 1))
        assert await shop.sellable() == 10 - sold
        held = await api.post("/v1/reservations", shop.cart(), expect=201)
        assert await shop.sellable() == 9 - sold
        await api.post(f"/v1/reservations/{held['reservation_id']}/release")
        assert await shop.sellable(consistency="strong") == 10 - sold


# Near ---------------------------------------------------------------------------


async def test_near_answers_the_nearest_within_the_radius(api: Api, shop: Shop) -> None:
    """Oslo, Rome and nowhere: asked from Bergen, 305 km from Oslo."""
    places = [(59.91, 10.75), (41.9, 12.5), None]
    for location, place in zip(shop.locations, places, strict=True):
        body = {"kind": "store"}
        if place:
            body |= {"latitude": place[0], "longitude": place[1]}
        await api.put(f"/v1/locations/{location}", body)
    bergen = {"latitude": 60.39, "longitude": 5.32}
    (place,) = await ask(shop, near=bergen | {"radius_km": 400})
    assert place["location"] == shop.location
    assert place["distance_km"] == pytest.approx(305, abs=2)
    assert await ask(shop, near=bergen | {"radius_km": 50}) == []
    found = await ask(shop, near=bergen | {"radius_km": 3000})
    assert [p["location"] for p in found] == shop.locations[:2]
    assert len(await ask(shop, near=bergen | {"radius_km": 3000, "limit": 1})) == 1
    found = await ask(shop, near=bergen | {"radius_km": 3000}, locations=[shop.locations[1]])
    assert [p["location"] for p in found] == [shop.locations[1]]


async def test_half_a_place_is_refused(api: Api, shop: Shop) -> None:
    for params in ({"latitude": 1}, {"longitude": 1}, {"radius_km": 1}, {"limit": 1}):
        problem = await api.get(f"/v1/availability/{shop.sku}", **params, expect=400)
        assert pointers(problem)


# Buffers -------------------------------------------------------------------------


async def test_a_buffer_binds_reads_and_reservations_alike(
    api: Api, shop: Shop, buffers: Any
) -> None:
    await buffers({"channel": "web", "sku": shop.sku, "safety_stock": 2, "max_sellable": 5})
    (place,) = await ask(shop, locations=[shop.location], channel="web")
    assert (place["available"], place["sellable"]) == (10, 5)
    (place,) = await ask(shop, locations=[shop.location], channel="store")
    assert place["sellable"] == 10
    problem = await api.post("/v1/reservations", shop.cart(shop.line(6)), expect=409)
    assert problem["shortages"][0]["available"] == 5
    await api.post("/v1/reservations", shop.cart(shop.line(6), channel="store"), expect=201)
    assert await shop.sellable(channel="web") == 2
    await api.post("/v1/reservations", shop.cart(shop.line(3)), expect=409)
    await api.post("/v1/reservations", shop.cart(shop.line(2)), expect=201)
    assert await shop.sellable(channel="web") == 0


async def test_the_most_specific_rule_wins_whole(api: Api, shop: Shop, buffers: Any) -> None:
    """sku before category, then location, then method, then channel."""
    await api.put(f"/v1/items/{shop.sku}", {"category": "tops"})
    rules = [
        {"safety_stock": 1},
        {"channel": "web", "safety_stock": 2},
        {"method": "pickup", "safety_stock": 3},
        {"location": shop.location, "safety_stock": 4},
        {"category": "tops", "safety_stock": 5},
        {"sku": shop.sku, "max_sellable": 9},
    ]
    for count, left in zip(range(1, 7), (9, 8, 7, 6, 5, 9), strict=True):
        await buffers(*rules[:count])
        assert await shop.sellable(channel="web", method="pickup") == left
        held = await api.post(
            "/v1/reservations", shop.cart(shop.line(left), method="pickup"), expect=201
        )
        await api.post(f"/v1/reservations/{held['reservation_id']}/release")
        too_much = shop.cart(shop.line(left + 1), method="pickup")
        await api.post("/v1/reservations", too_much, expect=409)


async def test_buffers_are_read_as_they_were_put(api: Api, shop: Shop, buffers: Any) -> None:
    rules = [{"sku": shop.sku, "safety_stock": 2}, {"channel": "web", "max_sellable": 0}]
    assert await api.put("/v1/buffers", rules) == rules
    assert await api.get("/v1/buffers") == rules
    assert await api.put("/v1/buffers", []) == await api.get("/v1/buffers") == []
    problem = await api.put("/v1/buffers", {"buffers": rules}, expect=400)
    assert pointers(problem) == [""]


# Bounds --------------------------------------------------------------------------


async def test_5000_skus_are_taken_and_no_more(api: Api) -> None:
    skus = [f"sku-{number}" for number in range(5001)]
    answer = await api.post("/v1/availability/query", {"skus": skus[:5000]})
    assert len(answer["items"]) == 5000
    assert pointers(await api.post("/v1/availability/query", {"skus": skus}, expect=400)) == [
        "/skus"
    ]
    await api.post("/v1/availability/query", {"skus": []}, expect=400)
    many = {"skus": ["a"], "locations": ["x"] * 101}
    assert pointers(await api.post("/v1/availability/query", many, expect=400)) == ["/locations"]
