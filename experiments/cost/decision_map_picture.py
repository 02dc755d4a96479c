"""The decision map: which contender is cheapest where, how likely, and which constant to measure next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.cost.picture import colours_of
from experiments.tools import style

if TYPE_CHECKING:
    from experiments.cost.decision_map import Found
    from experiments.cost.decision_map_file import DecisionMap, MapAxis

LAMBDA = "lambda-"
LINES: dict[float, Any] = {0.5: "-", 0.95: ":"}
WORTH_SHOWN = 8


def draw_map(asked: DecisionMap, found: Found, path: Path) -> None:
    """Draw regions, probability and, where it pays, what to measure next to `path`.png and `path`.svg."""
    rows = [(name, worth) for name, worth in found.worth.items() if worth > 0][:WORTH_SHOWN][::-1]
    figure = style.new_figure(10.0 if rows else 6.5, 4.6)
    panels = figure.subplots(1, 2, width_ratios=(1.7, 1)) if rows else [figure.subplots()]
    _regions(panels[0], asked, found)
    for axes in panels[1:]:
        axes.barh([name for name, _ in rows], [100 * worth for _, worth in rows], color=style.GREEN)
        axes.set_xlabel("saved by knowing it, % of the bill,\nmean over the map")
        axes.tick_params(axis="y", labelsize=7)
        axes.set_title("what to measure next", loc="left", fontsize=9)
    style.save(figure, path)


def lambdas(asked: DecisionMap, found: Found) -> np.ndarray:
    """Probability that Lambda is cheapest, in whatever way, shape (y, x)."""
    shares = [sum(p for name, p in cell.probability.items() if name.startswith(LAMBDA)) for cell in found.cells]
    return np.array(shares).reshape(len(asked.y.values()), len(asked.x.values()))


def _regions(axes: Any, asked: DecisionMap, found: Found) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    from experiments.cost.decision_map_page import title, winners

    x, y, likely = asked.x.values(), asked.y.values(), lambdas(asked, found)
    colours = colours_of(winners(found))
    sure = np.array([cell.probability.get(cell.winner, 1.0) for cell in found.cells]).reshape(likely.shape)
    strength = np.clip((sure - 1 / 3) / (2 / 3), 0.2, 1)[..., None]
    colour = np.array([to_rgb(colours[cell.winner]) for cell in found.cells]).reshape(*likely.shape, 3)
    axes.pcolormesh(x, y, 1 - strength * (1 - colour) * 0.8, shading="nearest", rasterized=True)
    shown = [level for level in LINES if likely.min() < level < likely.max()]
    for level in shown:
        axes.contour(x, y, likely, levels=[level], colors="black", linestyles=LINES[level], linewidths=1.2)
    for name, side in (("x", asked.x), ("y", asked.y)):
        _scale(axes, name, side)
    axes.set_title(f"{title(asked)}: cheapest in all; darker: surer", loc="left", fontsize=9)
    handles: list[Any] = [Patch(color=each, alpha=0.8, label=name) for name, each in colours.items()]
    handles += [
        Line2D([], [], color="black", linestyle=LINES[level], label=f"Lambda cheapest, probability {level:.0%}")
        for level in shown
    ]
    axes.figure.legend(handles=handles, fontsize=8, loc="outside lower left", ncols=4, frameon=False)


def _scale(axes: Any, name: str, side: MapAxis) -> None:
    """Scale, ticks and label of one axis."""
    from experiments.cost.decision_map_page import LABELS

    if side.models:
        getattr(axes, f"set_{name}ticks")(range(len(side.models)), side.models, fontsize=7)
        return
    getattr(axes, f"set_{name}scale")("log" if side.log else "linear")
    getattr(axes, f"set_{name}label")(LABELS[side.axis])
