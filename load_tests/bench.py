"""A run: its servers and bounds, and rounds that alternate between the sides."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from load_tests.result import Sample
from truestock.embedded import embedded_servers

CONNECTIONS = 64
LOCATIONS_EACH = 20
UNITS_EACH = 1_000_000
RECEIPTS_EACH = 2


class Shape(msgspec.Struct, frozen=True):
    """How much there is: each item is stocked at LOCATIONS_EACH of the locations.

    spread: how many of the items the load names, evenly over all of them.
    """

    items: int
    locations: int
    spread: int

    @property
    def stride(self) -> int:
        """One in so many items is named."""
        return self.items // self.spread

    @property
    def blocks(self) -> int:
        """Blocks of locations; an item is stocked in one of them."""
        return self.locations // LOCATIONS_EACH

    def tenfold(self) -> "Shape":
        """The same load with ten times as much behind it."""
        return Shape(self.items * 10, self.locations * 10, self.spread)


class Bench(msgspec.Struct, frozen=True):
    """One run on this machine. seconds, warm_seconds: of each round, and before each."""

    folder: Path
    database_url: str
    redis_url: str
    rounds: int
    seconds: float
    warm_seconds: float
    shape: Shape
    snapshot_items: int
    snapshot_locations: int


@contextlib.contextmanager
def open_bench(*, quick: bool, rounds: int, seconds: float) -> Iterator[Bench]:
    """Start the servers in a folder of their own, with the settings that users get."""
    with tempfile.TemporaryDirectory(prefix="truestock-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with embedded_servers(folder / "data") as servers:
            yield Bench(
                folder,
                servers.database_url,
                servers.redis_url,
                rounds,
                seconds,
                warm_seconds=min(seconds, 3.0),
                shape=Shape(2_000, 20, 2_000) if quick else Shape(20_000, 20, 20_000),
                snapshot_items=800 if quick else 8_000,
                snapshot_locations=125,
            )


Measure = Callable[[], Sample]


def alternate(bench: Bench, sides: Mapping[str, Measure]) -> list[list[Sample]]:
    """Measure each side by turns, as many rounds as the run has; answers samples by side."""
    samples: list[list[Sample]] = [[] for _ in sides]
    for number in range(1, bench.rounds + 1):
        for (name, measure), taken in zip(sides.items(), samples, strict=True):
            sample = measure()
            taken.append(sample)
            faults = f"  FAULTS {sample.faults}" if sample.faults.any else ""
            print(f"    round {number}  {name:<28} {sample.rate:>12,.1f}{faults}", flush=True)
    return samples
