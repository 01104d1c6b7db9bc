"""Reference data: items, locations and groups, one by one, in bulk, and page by page."""

from typing import Any

import pytest
from tests.api.requests import ITEM, LOCATION
from tests.api.shop import Api, Shop, ago, fresh, pointers


async def test_an_item_is_read_as_it_was_put(api: Api) -> None:
    sku = fresh("item")
    put = await api.put(f"/v1/items/{sku}", ITEM, expect=201)
    assert put == ITEM | {"sku": sku, "updated_at": put["updated_at"]}
    assert await api.get(f"/v1/items/{sku}") == put
    assert (await api.put(f"/v1/items/{sku}", {"name": "B"}))["name"] == "B"
    assert "gtin" not in await api.get(f"/v1/items/{sku}")


async def test_a_location_is_read_as_it_was_put(api: Api) -> None:
    name = fresh("place")
    put = await api.put(f"/v1/locations/{name}", LOCATION, expect=201)
    assert put.keys() == LOCATION.keys() | {"location", "updated_at"}
    assert (put["opening_hours"], put["closures"]) == (
        LOCATION["opening_hours"], LOCATION["closures"]
    )  # fmt: skip
    assert await api.get(f"/v1/locations/{name}") == put
    await api.put(f"/v1/locations/{name}", LOCATION)


async def test_what_is_not_there_is_not_found(api: Api) -> None:
    for path in ("/v1/items/nobody", "/v1/locations/nowhere", "/v1/orders/none", "/v1/nothing"):
        assert (await api.get(path, expect=404))["code"] == "not_found"


@pytest.mark.parametrize(
    "gtin", ["4006381333930", "400638133393", "１２３４５６７０", "abc", "", "0"]
)
async def test_a_gtin_is_checked(api: Api, gtin: str) -> None:
    problem = await api.put(f"/v1/items/{fresh('item')}", {"gtin": gtin}, expect=400)
    assert pointers(problem) == ["/gtin"]


@pytest.mark.parametrize("gtin", ["96385074", "036000291452", "4006381333931", "00012345600012"])
async def test_gtins_of_every_length_are_taken(api: Api, gtin: str) -> None:
    await api.put(f"/v1/items/{fresh('item')}", {"gtin": gtin}, expect=201)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"kind": "shop"}, "/kind"),
        ({"latitude": 91}, "/latitude"),
        ({"latitude": None}, "/latitude"),
        ({"time_zone": "Europe/Atlantis"}, "/time_zone"),
        ({"opening_hours": {"mon": [["20:00", "09:00"]]}}, "/opening_hours/mon"),
        ({"opening_hours": {"mon": [["09:00", "12:00"], ["11:00", "13:00"]]}},
         "/opening_hours/mon"),
        ({"opening_hours": {"mon": [["9", "12"]]}}, "/opening_hours"),
        ({"opening_hours": {"someday": []}}, "/opening_hours"),
        ({"closures": [{"date": "2026-02-30"}]}, "/closures/0/date"),
        ({"closures": [{"date": "2026-02-03", "hours": [["9:00", "10:00"]]}]},
         "/closures/0/hours/0/0"),
        ({"ship_from": {"handling_cost": {"amount": 1, "currency": "usd"}}},
         "/ship_from/handling_cost/currency"),
        ({"pickup": {"slot_minutes": 0}}, "/pickup/slot_minutes"),
        ({"location": "another"}, "/location"),
    ],
)  # fmt: skip
async def test_what_a_location_cannot_be(api: Api, change: dict[str, Any], pointer: str) -> None:
    problem = await api.put(f"/v1/locations/{fresh('place')}", LOCATION | change, expect=400)
    assert pointers(problem) == [pointer]


@pytest.mark.parametrize(("path", "field"), [("/v1/items", "sku"), ("/v1/locations", "location")])
async def test_many_are_put_at_once_with_a_result_each(api: Api, path: str, field: str) -> None:
    names = [fresh("bulk") for _ in range(3)]
    kind = {"kind": "store"} if field == "location" else {}
    entries: list[Any] = [{field: name} | kind for name in names]
    entries[1] |= {"status": "nonsense"}
    entries += [kind, "nonsense", {field: names[0]} | kind]
    many = path.removeprefix("/v1/")
    results = (await api.put(path, {many: entries}))["results"]
    assert [result["status"] for result in results] == [
        "created", "rejected", "created", "rejected", "rejected", "created"
    ]  # fmt: skip
    assert (results[1][field], results[1]["pointer"]) == (names[1], "/status")
    assert (results[1]["code"], bool(results[1]["detail"])) == ("validation_failed", True)
    await api.get(f"{path}/{names[1]}", expect=404)
    again = (await api.put(path, {many: entries[:1]}))["results"]
    assert again == [{"status": "updated", field: names[0]}]


@pytest.mark.parametrize(("path", "field"), [("/v1/items", "sku"), ("/v1/locations", "location")])
async def test_a_thousand_at_once_and_no_more(api: Api, path: str, field: str) -> None:
    kind = {"kind": "store"} if field == "location" else {}
    many = path.removeprefix("/v1/")
    entries = [{field: f"{fresh('many')}-{number}"} | kind for number in range(1001)]
    assert pointers(await api.put(path, {many: entries}, expect=400)) == [f"/{many}"]
    results = (await api.put(path, {many: entries[:1000]}))["results"]
    assert {result["status"] for result in results} == {"created"}


async def test_a_group_names_locations_that_are_known(api: Api, shop: Shop) -> None:
    name = fresh("group")
    body = {"locations": shop.locations}
    assert await api.put(f"/v1/location-groups/{name}", body) == body | {"group": name}
    body = {"locations": [shop.location, "nowhere"]}
    problem = await api.put(f"/v1/location-groups/{name}", body, expect=422)
    assert (problem["code"], pointers(problem)) == ("unknown_location", ["/locations/1"])


@pytest.mark.parametrize(
    ("path", "name", "field"),
    [
        ("/v1/items", "items", "sku"),
        ("/v1/locations", "locations", "location"),
        ("/v1/keys", "keys", "key_id"),
        ("/v1/sources", "sources", "source"),
        ("/v1/stock/levels", "levels", "version"),
    ],
)
async def test_a_list_comes_in_pages(
    api: Api, shop: Shop, path: str, name: str, field: str
) -> None:
    """All of it, each once, in order."""
    for _ in range(2):
        await api.post("/v1/keys", {"name": "one", "scopes": ["admin"]}, expect=201)
        await api.put(f"/v1/sources/{fresh('source')}", {})
    everything: list[Any] = []
    page = await api.get(path, limit=1000)
    everything += page[name]
    while "cursor" in page:
        page = await api.get(path, limit=1000, cursor=page["cursor"])
        everything += page[name]
    size = len(everything) // 3 + 1
    seen: list[Any] = []
    page = await api.get(path, limit=size)
    for _ in range(5):
        assert len(page[name]) <= size
        seen += page[name]
        if "cursor" not in page:
            break
        page = await api.get(path, limit=size, cursor=page["cursor"])
    assert [entry[field] for entry in seen] == [entry[field] for entry in everything]


async def test_pages_of_levels_go_on_behind_any_name(api: Api, shop: Shop) -> None:
    skus = [f"{fresh('pipe')}|a|b", f"{fresh('pipe')}|", fresh("pipe,comma")]
    await api.put("/v1/items", {"items": [{"sku": sku} for sku in skus]})
    await shop.record(
        *(shop.event("receipt", 1, sku=sku, location=p) for sku in skus for p in shop.locations)
    )
    seen: list[Any] = []
    asked: dict[str, Any] = {"location": ",".join(shop.locations), "limit": 2}
    page = await api.get("/v1/stock/levels", **asked)
    for _ in range(20):
        seen += [(level["sku"], level["location"]) for level in page["levels"]]
        if "cursor" not in page:
            break
        page = await api.get("/v1/stock/levels", **asked, cursor=page["cursor"])
    assert len(seen) == len(set(seen)) == 9 + 6


async def test_a_cursor_that_is_none_is_refused(api: Api) -> None:
    for cursor in ("\x00", "nonsense", "a|b", "é"):
        problem = await api.get("/v1/stock/levels", cursor=cursor, expect=400)
        assert pointers(problem) == ["/cursor"]
    for path in ("/v1/items", "/v1/locations", "/v1/keys", "/v1/sources"):
        assert pointers(await api.get(path, cursor="\x00", expect=400)) == ["/cursor"]


async def test_answers_are_in_utc(api: Api, shop: Shop) -> None:
    body = {"name": "k", "scopes": ["admin"], "expires_at": "2036-01-01T00:00:00+05:30"}
    made = await api.post("/v1/keys", body, expect=201)
    keys = (await api.get("/v1/keys", limit=1000))["keys"]
    (mine,) = [key for key in keys if key["key_id"] == made["key_id"]]
    assert mine["expires_at"] == "2035-12-31T18:30:00Z"
    await shop.record(shop.event("receipt", 1, occurred_at=ago(5)))
    assert (await shop.level())["counted_at"].endswith("Z")
