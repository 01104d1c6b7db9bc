"""What a run leaves behind: results.json, results.md and a chart."""

from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from load_tests.chart import draw
from load_tests.result import Figure

HEAD = "| Figure | Ours | Base | Ratio | Target | Met? | Rounds (ratio) | Notes |"
RULE = "|---|--:|--:|--:|--:|:-:|---|---|"


def write_report(
    folder: Path, facts: dict[str, Any], figures: list[Figure], missing: dict[str, str]
) -> None:
    """Write all three. missing: figures that could not be measured, and why."""
    folder.mkdir(parents=True, exist_ok=True)
    results = {
        "machine": facts,
        "figures": [as_result(figure) for figure in figures],
        "missing": missing,
    }
    encoded = msgspec.json.format(msgspec.json.encode(results), indent=2)
    (folder / "results.json").write_bytes(encoded + b"\n")
    (folder / "results.md").write_text(as_markdown(facts, figures, missing), encoding="utf-8")
    if figures:
        draw(folder / "results.svg", figures)


def as_result(figure: Figure) -> dict[str, Any]:
    """A figure with what is computed from its samples."""
    computed = {
        "our_rate": figure.our_rate,
        "base_rate": figure.base_rate,
        "ratio": figure.ratio,
        "reached": figure.reached,
        "met": figure.met,
    }
    return msgspec.structs.asdict(figure) | computed | {"faults": figure.faults}


def as_markdown(facts: dict[str, Any], figures: list[Figure], missing: dict[str, str]) -> str:
    """The table, over it what it was measured on."""
    lines = ["# Benchmarks", "", *about(facts), "", "![Ratio against target](results.svg)", ""]
    lines += [HEAD, RULE, *(row(figure) for figure in figures), ""]
    lines += [f"- **{name}** could not be measured: {why}" for name, why in missing.items()]
    lines += ["", *faults(figures)]
    return "\n".join(lines).rstrip() + "\n"


def about(facts: dict[str, Any]) -> list[str]:
    """The machine, in a paragraph."""
    postgresql = facts["postgresql"]
    packages = ", ".join(f"{name} {number}" for name, number in facts["packages"].items())
    return [
        f"Measured {facts['date']} by `make bench` on {facts['cores']} cores ({facts['processor']},"
        f" {facts['memory_gb']} GB, a flush to disk takes {facts['flush_ms']} ms), with the load"
        " generator and the databases on the same cores."
        f" Python {facts['python']}, PostgreSQL {postgresql['server_version']}"
        f" (fsync {postgresql['fsync']}, synchronous_commit {postgresql['synchronous_commit']}),"
        f" {packages}, wrk {facts['wrk']}.",
        "",
        f"Medians of {facts['rounds']} round(s) of {facts['seconds']:g} s each, by turns."
        " What each figure means: [load_tests](../../load_tests/README.md).",
    ]


def row(figure: Figure) -> str:
    """A line of the table."""
    if figure.ratio is None or figure.base_rate is None:
        base, ratio, target = "", "", f"< {figure.target:g} {figure.unit}"
        rounds = ", ".join(f"{sample.rate:,.0f}" for sample in figure.ours)
    else:
        base = f"{figure.base_rate:,.0f}"
        ratio, target = f"**{figure.ratio:.2f}**", f"≥ {figure.target:.2f}"
        pairs = zip(figure.ours, figure.base, strict=True)
        rounds = ", ".join(f"{ours.rate / base.rate:.2f}" for ours, base in pairs)
    cells = [
        figure.title,
        f"{figure.our_rate:,.0f} {figure.unit}",
        base,
        ratio,
        target,
        "yes" if figure.met else "**no**",
        rounds,
        "; ".join(notes(figure)),
    ]
    return f"| {' | '.join(cells)} |"


def notes(figure: Figure) -> list[str]:
    """What to know beside the numbers: the base, the latency, and what went wrong."""
    said = [f"base: {figure.base_name}"] if figure.base_name else []
    if figure.ours[0].p99_ms is not None:
        middle = len(figure.ours) // 2
        typical = sorted(figure.ours, key=lambda sample: sample.p99_ms or 0)[middle]
        said.append(f"p50 {typical.p50_ms:.1f} ms, p99 {typical.p99_ms:.1f} ms")
        costs = [
            f"{median(sample.cpu_us or 0 for sample in side):.0f} µs"
            for side in (figure.ours, figure.base)
        ]
        said.append(f"the server's CPU a request: {costs[0]}, base {costs[1]}")
    if figure.note:
        said.append(figure.note)
    wrong = figure.faults
    said.append(f"oversold {wrong.oversold}, lost {wrong.lost}, twice {wrong.twice}")
    if wrong.drifts or wrong.failed:
        said.append(f"**drifts {wrong.drifts}, failed {wrong.failed}**")
    return said


def faults(figures: list[Figure]) -> list[str]:
    """What was checked after each round, and whether it held."""
    wrong = [figure.name for figure in figures if figure.faults.any]
    found = f"Not so: {', '.join(wrong)}." if wrong else "So it was, in every round."
    return [
        "After each round that writes, the database is held against the answers: every 201 has its"
        " row, no row is there twice, no level has promised more than it has, and the ledger's own"
        f" proof (`ledger.check`) finds no drift. {found}"
    ]
