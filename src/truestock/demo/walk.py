"""The walk: the main job of the service in ten steps, each of real calls that are checked.

Whom it is about is asked of the service itself, and every run makes references of its own, so that
it can be walked again and again over the same data.
"""

from collections.abc import Callable
from secrets import SystemRandom

import msgspec

from truestock.demo import steps
from truestock.demo.stage import Stage, StepFailedError
from truestock.demo.steps import PLENTY, Cast

SCARCE = range(2, 5)
STORES_ASKED = 25


class Step(msgspec.Struct, frozen=True):
    """A step: its name, what is asked and why, and what it does."""

    name: str
    why: str
    act: Callable[[Stage, Cast], None]


STEPS = (
    Step(
        "Where can I have it?",
        "A product page asks which stores near the customer have the item to be picked up today.",
        steps.near_the_customer,
    ),
    Step(
        "Hold two for a cart",
        "The checkout holds them at one store; 201 means that they are promised, and on disk.",
        steps.hold_two,
    ),
    Step(
        "The answer got lost, so the cart asks again",
        "The same request with the same Idempotency-Key gets the same answer and holds no more.",
        steps.ask_again,
    ),
    Step(
        "Three instead of two, and more time",
        "The customer changes the cart while it is held; nobody can take what it has meanwhile.",
        steps.change_and_extend,
    ),
    Step(
        "The cart becomes an order",
        "Payment went well: the held units are allocated to the order and no longer expire.",
        steps.confirm,
    ),
    Step(
        "Two carts want the last units, at the same time",
        "Both ask for all that is left of another item; a unit is promised once, so one gets them.",
        steps.two_carts,
    ),
    Step(
        "A hold that runs out",
        "A cart holds the last units for two seconds and forgets them; at that instant they are"
        " free again.",
        steps.runs_out,
    ),
    Step(
        "The shelf is counted, the till sells, and a till comes late",
        "Facts may come late and out of order: what happened before a count is in the count"
        " already, so the late sale is superseded.",
        steps.till_and_count,
    ),
    Step(
        "Why is it this figure?",
        "Every change of the level is in the ledger with its cause; their sum is the level.",
        steps.movements_explain,
    ),
    Step(
        "The proof, over all of it",
        "`truestock check` adds up every movement in the database and compares it with every"
        " level.",
        steps.proof,
    ),
)


def walk(stage: Stage) -> tuple[Cast | None, str]:
    """Walk through every step; answers the cast, and which step failed and how ('' if none)."""
    name, cast = "choosing a store and two items", None
    try:
        cast = choose(stage)
        for number, step in enumerate(STEPS, start=1):
            name = f"step {number}, {step.name!r}"
            stage.title(number, step.name, step.why)
            step.act(stage, cast)
    except StepFailedError as error:
        return cast, f"The walk failed in {name}: {error}"
    except LookupError as error:
        return cast, f"The walk failed in {name}: the answer has no {error}"
    return cast, ""


def choose(stage: Stage) -> Cast:
    """A store where customers collect, with one item in plenty and another down to its last."""
    stores = [
        location
        for location in stage.send("GET", "/v1/locations?limit=1000").body["locations"]
        # What is at its default is left out of an answer.
        if location["kind"] == "store" and location["pickup"].get("enabled", True)
    ]
    SystemRandom().shuffle(stores)
    for store in stores[:STORES_ASKED]:
        code = store["location"]
        levels = stage.send("GET", f"/v1/stock/levels?location={code}&limit=1000").body["levels"]
        plenty = [level["sku"] for level in levels if level["available"] >= PLENTY]
        scarce = [level["sku"] for level in levels if level["available"] in SCARCE]
        if plenty and scarce:
            few = SystemRandom().choice(scarce)
            much = SystemRandom().choice(plenty)
            return Cast(code, store["latitude"], store["longitude"], much, few)
    raise StepFailedError("no store has enough left: remove the data folder to begin anew")
