"""Orders."""

import msgspec

from truestock.db import SQL
from truestock.http.endpoint import Call, endpoint
from truestock.ledger.commands import Answer
from truestock.model.caller import Scope
from truestock.model.order import Order
from truestock.model.refusal import Code, Refusal


@endpoint(
    "GET", "/v1/orders/{order_id}", Scope.ORDERS_WRITE, answer=Order, refuses=(Code.NOT_FOUND,)
)
async def get_order(call: Call) -> Answer | Refusal:
    """An order with its lines, where their units come from, and its fulfilments."""
    order_id = call.path("order_id")
    body = await call.services.pool.fetchval(SQL["get_order"], order_id)
    if body is None:
        return Refusal(Code.NOT_FOUND, f"There is no order {order_id}.")
    return Answer(200, msgspec.json.encode(msgspec.json.decode(body, type=Order)))


ENDPOINTS = [get_order]
