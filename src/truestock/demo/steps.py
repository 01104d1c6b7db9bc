"""The steps of the walk: each makes its calls and checks what came of them."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import msgspec
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from truestock.demo.stage import INDENT, Json, Reply, Stage, demand

PLENTY = 8
FIGURES = ("on_hand", "held", "allocated", "available")
SHORT_HOLD_SECONDS = 2
# A hair after a hold's end, since two clocks need not agree to the millisecond.
HAIR = 0.02
MAX_PAGES = 50
LAST_MOVEMENTS = 8
PROOF_SECONDS = 300


class Cast(msgspec.Struct):
    """Whom the walk is about: a store, an item with plenty there, and one with few left.

    held: the reservation that becomes an order.
    """

    store: str
    latitude: float
    longitude: float
    sku: str
    scarce_sku: str
    held: str = ""


# A cart, from the question to the order ---------------------------------------


def near_the_customer(stage: Stage, cast: Cast) -> None:
    """Ask from some five kilometres away."""
    point = f"latitude={cast.latitude + 0.03:.4f}&longitude={cast.longitude + 0.03:.4f}"
    path = f"/v1/availability/{cast.sku}?{point}&radius_km=50&limit=3"
    fields = ("items", "sku", "locations", "location", "distance_km", "available", "status")
    found = stage.call("GET", path, show=fields)["items"][0]
    here = [at["location"] for at in found["locations"] if at["available"] >= PLENTY]
    demand(cast.store in here, f"{cast.store} should be among {here}")
    stage.proved(f"{cast.store} is near and has it")


def hold_two(stage: Stage, cast: Cast) -> None:
    before = figures(stage, cast.sku, cast.store)
    held = stage.call(
        "POST",
        "/v1/reservations",
        cart(stage, "cart", cast.sku, 2, cast.store),
        expect=201,
        once=f"{stage.run}-cart",
        show=("reservation_id", "status", "expires_at"),
    )
    cast.held = held["reservation_id"]
    after = ask_figures(stage, cast)
    stage.equal("held went up by {}", after["held"] - before["held"], 2)
    stage.equal("available went down by {}", before["available"] - after["available"], 2)


def ask_again(stage: Stage, cast: Cast) -> None:
    before = figures(stage, cast.sku, cast.store)
    once, body = f"{stage.run}-cart", cart(stage, "cart", cast.sku, 2, cast.store)
    stage.show_request("POST", "/v1/reservations", body, once)
    reply = stage.send("POST", "/v1/reservations", body, once)
    stage.show_reply(reply, ("reservation_id", "status", "expires_at"))
    demand(reply.status == 201 and reply.replayed, "should be the first answer, replayed")
    stage.equal("the same reservation, {}", reply.body["reservation_id"], cast.held)
    held = figures(stage, cast.sku, cast.store)["held"] - before["held"]
    stage.equal("{} units more are held than before", held, 0)


def change_and_extend(stage: Stage, cast: Cast) -> None:
    path = f"/v1/reservations/{cast.held}"
    lines = [{"line_id": "1", "sku": cast.sku, "quantity": 3, "location": cast.store}]
    changed = stage.call(
        "PUT", f"{path}/lines", {"lines": lines}, show=("status", "lines", "sku", "quantity")
    )
    stage.equal("{} units are in the cart", changed["lines"][0]["quantity"], 3)
    extended = stage.call(
        "POST", f"{path}/extend", {"ttl_seconds": 1800}, show=("status", "expires_at")
    )
    later = instant(extended["expires_at"]) - instant(changed["expires_at"])
    demand(later > timedelta(minutes=15), f"should last some 20 minutes more, not {later}")
    stage.proved(f"the hold lasts {later.total_seconds() / 60:.0f} minutes more")


def confirm(stage: Stage, cast: Cast) -> None:
    before = figures(stage, cast.sku, cast.store)
    body = {"order_id": f"{stage.run}-order", "method": "pickup", "customer": {"name": "Ada"}}
    fields = ("order_id", "status", "method", "fulfilments", "fulfilment_id", "location")
    path = f"/v1/reservations/{cast.held}/confirm"
    order = stage.call("POST", path, body, expect=201, once=f"{stage.run}-order", show=fields)
    stage.equal("{} fulfils it", order["fulfilments"][0]["location"], cast.store)
    after = ask_figures(stage, cast)
    stage.equal("held went down by {}", before["held"] - after["held"], 3)
    stage.equal("allocated went up by {}", after["allocated"] - before["allocated"], 3)
    stage.equal("available changed by {}", after["available"] - before["available"], 0)


# The last units ----------------------------------------------------------------


def two_carts(stage: Stage, cast: Cast) -> None:
    left = sellable(stage, cast)
    bodies = [cart(stage, name, cast.scarce_sku, left, cast.store) for name in ("ann", "ben")]
    with ThreadPoolExecutor(len(bodies)) as at_once:
        replies = list(
            at_once.map(lambda body: stage.send("POST", "/v1/reservations", body), bodies)
        )
    fields = (
        "reservation_id",
        "status",
        "reference",
        "code",
        "shortages",
        "requested",
        "available",
    )
    for body, reply in zip(bodies, replies, strict=True):
        stage.show_request("POST", "/v1/reservations", body)
        stage.show_reply(reply, fields)
    winner, loser = sorted(replies, key=lambda reply: reply.status)
    demand((winner.status, loser.status) == (201, 409), "should be one 201 and one 409")
    refused_for_stock(loser, left)
    stage.proved(f"one cart has all {left}, the other knows that 0 are left: nothing oversold")
    path = f"/v1/reservations/{winner.body['reservation_id']}/release"
    released = stage.call("POST", path, show=("reservation_id", "status"))
    stage.equal("the winner changed their mind: {}", released["status"], "released")
    stage.equal("{} are sellable again", sellable(stage, cast), left)


def runs_out(stage: Stage, cast: Cast) -> None:
    left = sellable(stage, cast)
    fields = (
        "reservation_id",
        "status",
        "expires_at",
        "code",
        "shortages",
        "requested",
        "available",
    )
    first = cart(stage, "slow", cast.scarce_sku, left, cast.store)
    first["ttl_seconds"] = SHORT_HOLD_SECONDS
    held = stage.call("POST", "/v1/reservations", first, expect=201, show=fields)
    second = cart(stage, "next", cast.scarce_sku, left, cast.store)
    stage.say("Another cart asks while they are held:")
    stage.call("POST", "/v1/reservations", second, expect=409, show=fields)
    ends = instant(held["expires_at"])
    wait = (ends - datetime.now(UTC)).total_seconds() + HAIR
    time.sleep(min(max(wait, 0), SHORT_HOLD_SECONDS + 1))
    stage.say("And again at the instant when the hold has run out:")
    got = stage.call("POST", "/v1/reservations", second, expect=201, show=fields)
    after = (instant(got["created_at"]) - ends) / timedelta(milliseconds=1)
    stage.proved(f"sold again {after:.0f} ms after the hold ran out: nothing has to sweep it up")
    stage.send("POST", f"/v1/reservations/{got['reservation_id']}/release")


# What happens on the shelf, and why the figures are what they are ------------------


def till_and_count(stage: Stage, cast: Cast) -> None:
    before = figures(stage, cast.sku, cast.store)["on_hand"]
    now = datetime.now(UTC)
    told = [("count", before, 2), ("sale", 1, 1), ("sale", 1, 3600)]
    events = [
        {
            "event_id": f"{stage.run}-{number}",
            "type": kind,
            "sku": cast.sku,
            "location": cast.store,
            "quantity": quantity,
            "occurred_at": (now - timedelta(seconds=ago)).isoformat(timespec="milliseconds"),
        }
        for number, (kind, quantity, ago) in enumerate(told, start=1)
    ]
    body = {"source": "tills", "events": events}
    stage.show_request("POST", "/v1/stock/events", {"source": "tills", "events": [...]})
    for event in events:
        fields = ("event_id", "type", "quantity", "occurred_at")
        told_so = ", ".join(f"{name} {event[name]}" for name in fields)
        stage.line(Text(told_so, "dim"), INDENT + 2)
    reply = stage.send("POST", "/v1/stock/events", body)
    stage.show_reply(reply, ("counts", "applied", "duplicate", "superseded", "rejected"))
    demand(reply.status == 200, f"should be 200, was {reply.status}")
    found = ", ".join(result["status"] for result in reply.body["results"])
    stage.equal("count, sale and late sale are {}", found, "applied, applied, superseded")
    after = figures(stage, cast.sku, cast.store)["on_hand"]
    stage.equal(f"on hand went from {before} to {{}}", after, before - 1)


def movements_explain(stage: Stage, cast: Cast) -> None:
    asked = f"sku={cast.sku}&location={cast.store}"
    path = f"/v1/ledger/movements?{asked}"
    stage.show_request("GET", path)
    moved = all_movements(stage, path)
    stage.console.print(Padding(table_of(moved[-LAST_MOVEMENTS:]), (0, 0, 0, INDENT)))
    level = stage.send("GET", f"/v1/stock/levels?{asked}").body["levels"][0]
    for bucket in ("on_hand", "held", "allocated"):
        total = sum(each["delta"] for each in moved if each["bucket"] == bucket)
        stage.equal(f"Σ movements of {bucket} = level = {{}}", total, level[bucket])


def all_movements(stage: Stage, path: str) -> list[Json]:
    """Every movement that the path names, page by page."""
    moved: list[Json] = []
    after = 0
    for _ in range(MAX_PAGES):
        page = stage.send("GET", f"{path}&after={after}&limit=1000")
        demand(page.status == 200, f"should be 200, was {page.status}")
        moved += page.body["movements"]
        if "cursor" not in page.body:
            break
        after = moved[-1]["seq"]
    return moved


def table_of(movements: list[Json]) -> Table:
    """Movements as a table."""
    table = Table("seq", "when it happened", "kind", "bucket", "delta", "balance", box=None)
    for each in movements:
        when = f"{instant(each['occurred_at']):%Y-%m-%d %H:%M:%S}"
        figures = (f"{each['delta']:+d}", str(each["balance"]))
        table.add_row(str(each["seq"]), when, each["kind"], each["bucket"], *figures, style="dim")
    return table


def proof(stage: Stage, _: Cast) -> None:
    stage.say("$ truestock check")
    command = [sys.executable, "-m", "truestock", "check"]
    found = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, timeout=PROOF_SECONDS, check=False
    )
    for line in (found.stdout + found.stderr).splitlines():
        stage.say(line)
    demand(found.returncode == 0, f"should end with 0, ended with {found.returncode}")
    stage.proved("nothing drifted")


# Parts -------------------------------------------------------------------------


def cart(stage: Stage, name: str, sku: str, quantity: int, location: str) -> Json:
    """A reservation's body with a reference of this run."""
    return {
        "reference": f"{stage.run}-{name}",
        "channel": "web",
        "lines": [{"line_id": "1", "sku": sku, "quantity": quantity, "location": location}],
    }


def figures(stage: Stage, sku: str, store: str) -> Json:
    """An item's figures at a store, asked without a word."""
    reply = stage.send("GET", f"/v1/availability/{sku}?locations={store}&channel=web")
    demand(reply.status == 200, f"availability of {sku} should be 200, was {reply.status}")
    return reply.body["items"][0]["locations"][0]


def ask_figures(stage: Stage, cast: Cast) -> Json:
    """The same, told."""
    path = f"/v1/availability/{cast.sku}?locations={cast.store}&channel=web"
    return stage.call("GET", path, show=("items", "locations", *FIGURES))["items"][0]["locations"][
        0
    ]


def sellable(stage: Stage, cast: Cast) -> int:
    """How many of the scarce item a cart may have."""
    units: int = figures(stage, cast.scarce_sku, cast.store)["sellable"]
    demand(units > 0, f"{cast.scarce_sku} at {cast.store} should have some left")
    return units


def refused_for_stock(reply: Reply, requested: int) -> None:
    """Check that a cart was told what it lacks."""
    short = reply.body["shortages"][0]
    found = (reply.body["code"], short["requested"], short["available"])
    demand(found == ("insufficient_stock", requested, 0), f"should lack {requested}, was {found}")


def instant(text: str) -> datetime:
    """A time of an answer."""
    return datetime.fromisoformat(text)
