"""Loads the demo retailer through the public API, once, as its systems would send it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import msgspec
from rich.console import Console

from truestock.demo.child import DemoError
from truestock.demo.retailer import Feeds, generate, write_feeds
from truestock.demo.stock import TILL_SPAN
from truestock.feed import (
    Report,
    Sent,
    Snapshot,
    bars,
    in_words,
    send_events,
    send_reference,
    send_snapshot,
)

SEED = 7
WAREHOUSES = 4
# The stock count lies so far back that the last of the late till events is past, too.
COUNTED_AGO = TILL_SPAN + timedelta(hours=1)
MARK = "loaded.json"
# Every demo retailer has it, so it shows whether this database is the one that was loaded.
WEB_SHOP = "ecom-us"


class Size(msgspec.Struct, frozen=True):
    """How large a retailer to make up."""

    stores: int = 120
    items: int = 2_000


def load_once(client: httpx.Client, folder: Path, size: Size, console: Console) -> None:
    """Load the retailer unless it was: each step may be repeated, so a load cut short begins anew.

    Raises FeedError, or DemoError where the service did not take what it should.
    """
    there = client.get(f"/v1/locations/{WEB_SHOP}").is_success
    if there and (folder / MARK).exists():
        console.print("Found the demo retailer as it was left.")
        return
    console.print("Loading a made-up retailer through the public API, as its systems would:")
    begun = time.perf_counter()
    counted_at = datetime.now(UTC).replace(microsecond=0) - COUNTED_AGO
    made = generate(
        SEED, as_of=counted_at, stores=size.stores, items=size.items, warehouses=WAREHOUSES
    )
    load(client, write_feeds(made, folder), console)
    (folder / MARK).write_bytes(msgspec.json.encode({"as_of": counted_at, "size": size}))
    console.print(f"Loaded in {time.perf_counter() - begun:.1f} s.")


def load(client: httpx.Client, feeds: Feeds, console: Console) -> None:
    """Send every feed, in the order in which each finds what it speaks of."""
    about = Snapshot("erp", feeds.as_of)

    def one(path: Path, send: Callable[[Report], Sent]) -> None:
        begun = time.perf_counter()
        with bars(console, path.name) as report:
            sent = send(report)
        seconds = time.perf_counter() - begun
        console.print(f"  {path.name:20} {in_words(sent)} in {seconds:.1f} s")
        if not sent.taken:
            raise DemoError("\n".join([f"{path.name} was not taken as a whole.", *sent.notes]))

    for path in (*feeds.locations, *feeds.items):
        one(path, lambda report, path=path: send_reference(client, path, report))  # type: ignore[misc]
    one(feeds.snapshot, lambda report: send_snapshot(client, feeds.snapshot, about, report))
    one(feeds.events, lambda report: send_events(client, feeds.events, "tills", report))
