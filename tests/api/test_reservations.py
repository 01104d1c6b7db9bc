from tests.api.shop import Api, Shop


async def test_x(api: Api, shop: Shop) -> None:
    a = await api.post("/v1/reservations", shop.cart(), expect=201)
    print(a, await shop.level(), await shop.sellable())
