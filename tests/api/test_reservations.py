"""Reservations: what is held, for whom, for how long, and what becomes of it."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.api.shop import Api, Shop, ago, fresh, pointers

FIELDS = {"reservation_id", "status", "reference", "channel", "expires_at", "lines"}


async def hold(shop: Shop, *lines: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Hold these lines, or one unit."""
    return await shop.api.post("/v1/reservations", shop.cart(*lines, **more), expect=201)


def at(reservation: dict[str, Any], step: str = "") -> str:
    """The path of a reservation, or of a step."""
    return f"/v1/reservations/{reservation['reservation_id']}{step}"


async def test_a_reservation_holds_its_lines(api: Api, shop: Shop) -> None:
    held = await hold(shop, shop.line(3))
    assert held.keys() >= FIELDS
    assert (held["status"], held["reference"], held["channel"]) == ("held", "cart", "web")
    assert held["lines"] == [shop.line(3)]
    level = await shop.level()
    assert (level["held"], level["available"], level["on_hand"]) == (3, 7, 10)
    assert await api.get(at(held)) == held


async def test_it_lasts_600_seconds_unless_it_says_otherwise(shop: Shop) -> None:
    for more, seconds in (({}, 600), ({"ttl_seconds": 86_400}, 86_400)):
        held = await hold(shop, **more)
        assert held["expires_at"].endswith("Z")
        left = datetime.fromisoformat(held["expires_at"]) - datetime.now(UTC)
        assert timedelta(seconds=seconds - 5) < left <= timedelta(seconds=seconds)


async def test_it_lasts_a_day_at_most(api: Api, shop: Shop) -> None:
    problem = await api.post("/v1/reservations", shop.cart(ttl_seconds=86_401), expect=400)
    assert pointers(problem) == ["/ttl_seconds"]


async def test_its_id_may_be_the_callers(api: Api, shop: Shop) -> None:
    name = fresh("cart")
    assert (await hold(shop, reservation_id=name))["reservation_id"] == name
    problem = await api.post("/v1/reservations", shop.cart(reservation_id=name), expect=409)
    assert problem["code"] == "already_exists"
    assert (await shop.level())["held"] == 1


async def test_a_name_with_a_slash_can_be_read_again(api: Api, shop: Shop) -> None:
    held = await hold(shop, reservation_id=fresh("web/cart"))
    path = at(held).replace("web/", "web%2F")
    assert await api.get(path) == held
    assert (await api.post(f"{path}/release"))["status"] == "released"


async def test_too_little_stock_holds_nothing(api: Api, shop: Shop) -> None:
    lines = [shop.line(2), shop.line(11, line_id="2", sku=shop.skus[1])]
    problem = await api.post("/v1/reservations", shop.cart(*lines), expect=409)
    assert problem["code"] == "insufficient_stock"
    assert problem["shortages"] == [
        {
            "line_id": "2",
            "sku": shop.skus[1],
            "location": shop.location,
            "requested": 11,
            "available": 10,
        }
    ]
    assert (await shop.level())["held"] == 0


async def test_lines_of_one_request_share_a_level(api: Api, shop: Shop) -> None:
    lines = [shop.line(6), shop.line(5, line_id="2")]
    problem = await api.post("/v1/reservations", shop.cart(*lines), expect=409)
    assert [(s["line_id"], s["available"]) for s in problem["shortages"]] == [("2", 4)]


async def test_one_line_id_is_not_for_two_items(api: Api, shop: Shop) -> None:
    lines = [shop.line(1), shop.line(1, sku=shop.skus[1])]
    problem = await api.post("/v1/reservations", shop.cart(*lines), expect=400)
    assert pointers(problem) == ["/lines/1/line_id"]


async def test_with_allow_partial_what_can_be_had_is_held(api: Api, shop: Shop) -> None:
    lines = [shop.line(99), shop.line(1, line_id="2", sku=shop.skus[1])]
    held = await hold(shop, *lines, allow_partial=True)
    assert [(line["line_id"], line["quantity"]) for line in held["lines"]] == [("1", 10), ("2", 1)]
    nothing = shop.cart(shop.line(1), allow_partial=True)
    assert (await api.post("/v1/reservations", nothing, expect=409))["shortages"]


async def test_unknown_skus_and_locations_are_pointed_at(api: Api, shop: Shop) -> None:
    lines = [shop.line(sku="no-sku"), shop.line(line_id="2", location="nowhere")]
    problem = await api.post("/v1/reservations", shop.cart(*lines), expect=422)
    assert problem["code"] == "unknown_sku"
    assert [(e["pointer"], e["code"]) for e in problem["errors"]] == [
        ("/lines/0/sku", "unknown_sku"),
        ("/lines/1/location", "unknown_location"),
    ]
    problem = await api.post("/v1/reservations", shop.cart(lines[1]), expect=422)
    assert problem["code"] == "unknown_location"


async def test_a_line_without_a_location_is_sourced(shop: Shop) -> None:
    """Where there is enough; 10 lie at the first location, 5 at the second."""
    held = await hold(shop, shop.line(8, location=None))
    assert [(line["location"], line["quantity"]) for line in held["lines"]] == [(shop.location, 8)]
    held = await hold(shop, shop.line(4, location=None))
    assert held["lines"][0]["location"] == shop.locations[1]


async def test_a_line_without_a_location_goes_to_the_nearest(api: Api, shop: Shop) -> None:
    for location, latitude in zip(shop.locations, (59.9, 41.9, -12.0), strict=True):
        place = {"kind": "store", "latitude": latitude, "longitude": 10.0}
        await api.put(f"/v1/locations/{location}", place)
    held = await hold(
        shop, shop.line(1, location=None), destination={"latitude": 42.0, "longitude": 10.0}
    )
    assert held["lines"][0]["location"] == shop.locations[1]


async def test_512_lines_are_taken_and_no_more(api: Api, shop: Shop) -> None:
    await shop.record(shop.event("receipt", 1000))
    lines = [shop.line(line_id=str(number)) for number in range(513)]
    assert len((await hold(shop, *lines[:512]))["lines"]) == 512
    problem = await api.post("/v1/reservations", shop.cart(*lines), expect=400)
    assert pointers(problem) == ["/lines"]


@pytest.mark.parametrize("quantity", [0, -1, 2**31, 2**63, 1.0, 1.5, True, "1", None])
async def test_a_quantity_is_a_whole_number_from_1_to_2_31(
    api: Api, shop: Shop, quantity: Any
) -> None:
    line = shop.line() | {"quantity": quantity}
    problem = await api.post("/v1/reservations", shop.cart(line), expect=400)
    assert pointers(problem) == ["/lines/0/quantity"]


# Changing ---------------------------------------------------------------------


async def test_lines_are_replaced_as_a_whole(api: Api, shop: Shop) -> None:
    held = await hold(shop, shop.line(3))
    lines = [shop.line(1), shop.line(2, line_id="2", sku=shop.skus[1])]
    changed = await api.put(at(held, "/lines"), {"lines": lines})
    assert changed == held | {"lines": lines}
    assert (await shop.level())["held"] == 1
    assert (await shop.level(shop.skus[1]))["held"] == 2


async def test_lines_may_use_what_the_reservation_itself_holds(api: Api, shop: Shop) -> None:
    held = await hold(shop, shop.line(10))
    await api.put(at(held, "/lines"), {"lines": [shop.line(9)]})
    problem = await api.put(at(held, "/lines"), {"lines": [shop.line(11)]}, expect=409)
    assert problem["shortages"][0]["available"] == 10
    assert (await shop.level())["held"] == 9


async def test_extending_makes_it_last_from_now(api: Api, shop: Shop) -> None:
    held = await hold(shop, ttl_seconds=60)
    longer = await api.post(at(held, "/extend"), {"ttl_seconds": 3600})
    assert longer["expires_at"] > held["expires_at"]
    assert longer == held | {"expires_at": longer["expires_at"]}
    shorter = await api.post(at(held, "/extend"), {"ttl_seconds": 1})
    assert shorter["expires_at"] == longer["expires_at"]


async def test_releasing_gives_it_back(api: Api, shop: Shop) -> None:
    held = await hold(shop, shop.line(4))
    released = await api.post(at(held, "/release"))
    assert released["status"] == "released"
    assert (await shop.level())["held"] == 0
    assert (await api.post(at(held, "/release"), {}))["status"] == "released"
    assert (await api.get(at(held)))["status"] == "released"
    for step, body in (("/extend", {"ttl_seconds": 9}), ("/confirm", {})):
        assert (await api.post(at(held, step), body, expect=409))["code"] == "wrong_status"


async def test_a_step_without_a_body_takes_no_fields(api: Api, shop: Shop) -> None:
    held = await hold(shop)
    assert pointers(await api.post(at(held, "/release"), {"a": 1}, expect=400)) == ["/a"]
    assert (await shop.level())["held"] == 1


async def test_what_is_not_there_is_not_found(api: Api, shop: Shop) -> None:
    nobody = {"reservation_id": "nobody"}
    await api.get(at(nobody), expect=404)
    await api.put(at(nobody, "/lines"), {"lines": [shop.line()]}, expect=404)
    for step, body in (("extend", {"ttl_seconds": 9}), ("release", None), ("confirm", {})):
        problem = await api.post(at(nobody, f"/{step}"), body, expect=404)
        assert problem["code"] == "not_found"


# Running out ------------------------------------------------------------------


async def test_a_hold_stops_counting_when_its_time_is_up(api: Api, shop: Shop) -> None:
    """No job runs in these tests: nothing has swept it up."""
    held = await hold(shop, shop.line(10), ttl_seconds=1)
    assert await shop.sellable() == 0
    await asyncio.sleep(1.05)
    assert (await api.get(at(held)))["status"] == "expired"
    assert await shop.sellable() == await shop.sellable(consistency="strong") == 10
    assert (await shop.level())["held"] == 0
    await hold(shop, shop.line(10))
    for step, body in (("/extend", {"ttl_seconds": 9}), ("/confirm", {})):
        problem = await api.post(at(held, step), body, expect=409)
        assert problem["code"] == "reservation_expired"
    changed = await api.put(at(held, "/lines"), {"lines": [shop.line()]}, expect=409)
    assert changed["code"] == "reservation_expired"
    assert (await api.post(at(held, "/release")))["status"] == "expired"
    moved = await api.get("/v1/ledger/movements", sku=shop.sku, location=shop.location)
    (expiry,) = [m for m in moved["movements"] if m["kind"] == "expire"]
    assert expiry["occurred_at"] == held["expires_at"]
    assert (expiry["bucket"], expiry["delta"]) == ("held", -10)


# Becoming an order ---------------------------------------------------------------


async def test_confirming_makes_it_an_order(api: Api, shop: Shop) -> None:
    held = await hold(shop, shop.line(2), method="pickup")
    name = fresh("order")
    body = {"order_id": name, "customer": {"name": "Ada"}, "needed_by": "2030-01-01T12:00:00+02:00"}
    order = await api.post(at(held, "/confirm"), body, expect=201)
    assert (order["order_id"], order["method"]) == (name, "pickup")
    (line,) = order["lines"]
    assert line["allocations"] == [{"location": shop.location, "quantity": 2}]
    (fulfilment,) = order["fulfilments"]
    assert fulfilment.keys() >= {"fulfilment_id", "location", "method", "lines"}
    assert order["needed_by"] == "2030-01-01T10:00:00Z"
    level = await shop.level()
    assert (level["held"], level["allocated"], level["available"]) == (0, 2, 8)
    assert (await api.get(at(held)))["status"] == "confirmed"
    assert (await api.get(f"/v1/orders/{name}"))["lines"] == order["lines"]
    assert (await api.post(at(held, "/release"), expect=409))["code"] == "wrong_status"


async def test_an_order_id_is_taken_once(api: Api, shop: Shop) -> None:
    name = fresh("order")
    await api.post(at(await hold(shop), "/confirm"), {"order_id": name}, expect=201)
    second = await hold(shop)
    problem = await api.post(at(second, "/confirm"), {"order_id": name}, expect=409)
    assert problem["code"] == "already_exists"
    assert (await api.get(at(second)))["status"] == "held"


async def test_an_order_takes_what_is_held_and_no_more(api: Api, shop: Shop) -> None:
    held = await hold(shop, shop.line(2))
    body = {"lines": [shop.line(3)]}
    assert pointers(await api.post(at(held, "/confirm"), body, expect=400)) == ["/lines"]
    await api.post(at(held, "/confirm"), {"lines": [shop.line(2)]}, expect=201)


async def test_the_last_unit_is_held_once(api: Api, shop: Shop) -> None:
    await shop.record(shop.event("count", 1, occurred_at=ago()))
    answers = await asyncio.gather(
        *(api.send("POST", "/v1/reservations", shop.cart()) for _ in range(20))
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19
