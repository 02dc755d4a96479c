"""How every figure looks: colour-blind-safe, readable in print, saved as PNG and SVG."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from moe.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#8c8c8c",
)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches, that needs no display."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "smoe"})
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """Write `path`.png and `path`.svg, without dates, so that the same data gives the same bytes.

    Names are shown as they are: dollars make no formula, but in matplotlib's own numbers on logarithmic axes.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if "$" in text.get_text() and not text.get_text().startswith(r"$\mathdefault{"):
            text.set_parse_math(False)
    png = partial(figure.savefig, format="png", dpi=160, metadata={"Software": None})
    svg = partial(figure.savefig, format="svg", metadata={"Date": None})
    write_whole(path.with_suffix(".png"), png)
    write_whole(path.with_suffix(".svg"), svg)


def rounded(value: float) -> str:
    """A number with three significant figures; above a hundred, whole."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
