"""The chart: how much of its target each figure reaches, at one glance."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from load_tests.result import Figure

MET, NOT_MET, INK, PAPER = "#2a7f62", "#b5532a", "#22282e", "#ffffff"
LIMIT = 3.0  # a bar beyond three times its target is cut there, its number tells the rest


def draw(file: Path, figures: list[Figure]) -> None:
    """Write the chart as SVG, the same bytes for the same figures."""
    mpl.rcParams.update({"svg.hashsalt": "truestock", "svg.fonttype": "none", "font.size": 10})
    canvas = Canvas(figsize=(9.5, 0.42 * len(figures) + 1.3), layout="constrained")
    axes = canvas.add_subplot()
    places = range(len(figures))
    lengths = [min(figure.reached, LIMIT) for figure in figures]
    colours = [MET if figure.met else NOT_MET for figure in figures]
    axes.barh(places, lengths, color=colours, height=0.62)
    axes.axvline(1, color=INK, linewidth=1.2)
    for place, figure in zip(places, figures, strict=True):
        axes.text(LIMIT + 0.05, place, label(figure), va="center", color=INK, fontsize=9)
    axes.set_yticks(places, [title(figure) for figure in figures], color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, LIMIT + 0.9)
    axes.set_xticks([0, 1, 2, 3], ["0", "target", "2 ×", "3 ×"], color=INK)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.set_title("How much of its target each figure reaches", loc="left", color=INK, fontsize=12)
    canvas.savefig(file, facecolor=PAPER, metadata={"Date": None})


def title(figure: Figure) -> str:
    """Against what, in brief, where one title has several bases."""
    return f"{figure.title}\nagainst {figure.base_name}" if figure.base_name else figure.title


def label(figure: Figure) -> str:
    """The number and its target."""
    if figure.ratio is None:
        return f"{figure.our_rate:,.0f} {figure.unit} (< {figure.target:g})"
    return f"{figure.ratio:.2f} (≥ {figure.target:.2f})"
