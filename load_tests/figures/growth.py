"""The same loads with ten times the items, the locations and the movements behind them."""

from collections.abc import Callable
from functools import partial

from load_tests.bench import Bench, Shape, alternate
from load_tests.databases import drop_database, seeded_database
from load_tests.figures import ledger, reads, reservations
from load_tests.processes import Server, service
from load_tests.result import Figure, Sample
from truestock.embedded import embedded_servers

TARGET = 0.85

Load = Callable[[Bench, Server, Shape], Sample]
# Each figure's load, on a service with a database of some shape.
LOADS: dict[str, tuple[str, Load]] = {
    "one-sku": (
        "one sku",
        lambda bench, server, shape: reads.one(bench, server, reads.one_path(shape)),
    ),
    "fifty-skus": ("50 skus", reads.many),
    "reservations": ("reservations", reservations.reserve),
    "hot-item": (
        "all buyers on one item",
        lambda bench, server, shape: reservations.reserve(
            bench, server, reservations.one_item(shape)
        ),
    ),
    "writer": (
        "the writer without HTTP",
        lambda bench, server, shape: ledger.measure(bench, server.database_url, shape),
    ),
}


def growth(bench: Bench) -> list[Figure]:
    """Small and big side by side, each behind a service of its own."""
    small, big = bench.shape, bench.shape.tenfold()
    print(f"    making {big.items:,} items at {big.locations} locations", flush=True)
    urls = [seeded_database(bench, shape) for shape in (small, big)]
    # Two services on one Redis would hear of each other's stock.
    with (
        embedded_servers(bench.folder / "second") as second,
        service(bench, urls[0]) as usual,
        service(bench, urls[1], second.redis_url) as grown,
    ):
        for server, shape in ((usual, small), (grown, big)):
            reads.warm_items(server, shape)
        figures = [compare(bench, name, (usual, small), (grown, big)) for name in LOADS]
    for url in urls:
        drop_database(bench, url)
    return figures


def compare(
    bench: Bench, name: str, usual: tuple[Server, Shape], grown: tuple[Server, Shape]
) -> Figure:
    """One load on both."""
    title, load = LOADS[name]
    print(f"  {name}", flush=True)
    sides = {"tenfold": partial(load, bench, *grown), "usual": partial(load, bench, *usual)}
    samples = alternate(bench, sides)
    title = f"Ten times as much behind it: {title}"
    unit = "reservations/s" if name == "writer" else "requests/s"
    return Figure(f"growth-{name}", title, unit, "ours, the usual size", TARGET, *samples)
