"""`python -m load_tests`: measure every figure, or some, and write the report."""

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from load_tests.bench import Bench, open_bench
from load_tests.figures.growth import growth
from load_tests.figures.ledger import writer
from load_tests.figures.reads import fifty_skus, one_sku
from load_tests.figures.reservations import hot_item, reservations
from load_tests.figures.snapshot import snapshot
from load_tests.machine import facts
from load_tests.processes import REPOSITORY
from load_tests.report import notes, write_report
from load_tests.result import BenchError, Figure
from load_tests.wrk import need_wrk

FIGURES: dict[str, Callable[[Bench], list[Figure]]] = {
    "one-sku": one_sku,
    "fifty-skus": fifty_skus,
    "reservations": reservations,
    "hot-item": hot_item,
    "writer": writer,
    "snapshot": snapshot,
    "growth": growth,
}
PUBLISHED = REPOSITORY / "docs" / "benchmarks"
# What is not a whole run does not replace the published one.
PARTIAL = REPOSITORY / "build" / "benchmarks"
QUICK_SECONDS, FULL_SECONDS = 3.0, 10.0
# A median of fewer says little.
PUBLISHED_ROUNDS = 3


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Small and short: shows that it runs, not how fast.")
@click.option(
    "--only", multiple=True, type=click.Choice(list(FIGURES)), help="Only this; repeatable."
)
@click.option("--rounds", type=click.IntRange(1, 99), help="Rounds a side [3; quick: 1].")
@click.option("--seconds", type=click.FloatRange(1, 600), help="Of each round [10; quick: 3].")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the report goes [docs/benchmarks; not a whole run: build/benchmarks].",
)
def main(
    quick: bool, only: tuple[str, ...], rounds: int | None, seconds: float | None, out: Path | None
) -> None:
    """Measure the service side by side with what it is held against, all on this machine."""
    # So that the servers are stopped as well when we are told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = [name for name in FIGURES if not only or name in only]
    try:
        need_wrk()
        with open_bench(
            quick=quick,
            rounds=rounds or (1 if quick else 3),
            seconds=seconds or (QUICK_SECONDS if quick else FULL_SECONDS),
        ) as bench:
            measured, missing = measure(bench, chosen)
            whole = not (quick or only) and bench.rounds >= PUBLISHED_ROUNDS
            folder = out or (PUBLISHED if whole else PARTIAL)
            write_report(folder, facts(bench), measured, missing)
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    print(f"The report is in {folder}.")
    if missing or any(figure.faults.any for figure in measured):
        sys.exit(1)


def measure(bench: Bench, names: list[str]) -> tuple[list[Figure], dict[str, str]]:
    """Each figure in turn; one that cannot be measured does not stop the others."""
    measured: list[Figure] = []
    missing: dict[str, str] = {}
    for name in names:
        print(name, flush=True)
        began = time.monotonic()
        try:
            figures = FIGURES[name](bench)
        except BenchError as error:
            missing[name] = str(error)
            print(f"    not measured: {error}", flush=True)
            continue
        for figure in figures:
            print(f"  {summary(figure)}", flush=True)
        print(f"  took {time.monotonic() - began:.0f} s", flush=True)
        measured += figures
    return measured, missing


def summary(figure: Figure) -> str:
    """A figure in a line."""
    met = "met" if figure.met else "NOT MET"
    value = f"{figure.our_rate:,.1f} {figure.unit}"
    if figure.ratio is not None:
        value += f", base {figure.base_rate:,.1f}, ratio {figure.ratio:.2f}"
    return f"{figure.name}: {value} (target {figure.target:g}): {met}; {'; '.join(notes(figure))}"


if __name__ == "__main__":
    main()
