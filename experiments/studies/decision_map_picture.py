"""The decision map: who is cheapest where, how likely, and which constant to measure next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.tools import style

if TYPE_CHECKING:
    from experiments.studies.decision_map import Found
    from experiments.studies.decision_map_file import DecisionMap

COLOURS = {"lambda": style.ORANGE, "provisioned": style.PURPLE, "cluster": style.BLUE}
LINES: dict[float, Any] = {0.5: "-", 0.75: "--", 0.95: ":"}
WORTH_SHOWN = 8


def grids(asked: DecisionMap, found: Found) -> dict[str, np.ndarray]:
    """Each choice's probability to be cheapest, shape (y, x); `winner`: the index of the cheapest on average."""
    from experiments.studies.decision_map import CHOICES

    shape = (asked.y.points, asked.x.points)
    grid = {name: np.array([c.probability[name] for c in found.cells]).reshape(shape) for name in CHOICES}
    grid["winner"] = np.array([CHOICES.index(cell.winner) for cell in found.cells]).reshape(shape)
    return grid


def draw_map(asked: DecisionMap, found: Found, path: Path) -> None:
    """Draw regions, probability and, where it pays, what to measure next to `path`.png and `path`.svg."""
    rows = [(name, worth) for name, worth in found.worth.items() if worth > 0][:WORTH_SHOWN][::-1]
    figure = style.new_figure(10.0 if rows else 6.5, 4.6)
    panels = figure.subplots(1, 2, width_ratios=(1.7, 1)) if rows else [figure.subplots()]
    _regions(panels[0], asked, found)
    for axes in panels[1:]:
        axes.barh(
            [name.replace(".", ".\n", 1) for name, _ in rows], [worth for _, worth in rows], color=style.GREEN
        )
        axes.set_xlabel("saved by knowing it, USD per million tokens,\nmean over the map")
        axes.tick_params(axis="y", labelsize=7)
        axes.set_title("what to measure next", loc="left", fontsize=9)
    style.save(figure, path)


def _regions(axes: Any, asked: DecisionMap, found: Found) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    from experiments.studies.decision_map import CHOICES
    from experiments.studies.decision_map_file import here
    from experiments.studies.decision_map_page import LABELS, TITLES

    x, y, grid = asked.x.values(), asked.y.values(), grids(asked, found)
    best = np.max([grid[name] for name in CHOICES], axis=0)
    colours = np.array([to_rgb(COLOURS[name]) for name in CHOICES])[grid["winner"]]
    strength = np.clip((best - 1 / 3) / (2 / 3), 0.15, 1)[..., None]
    axes.pcolormesh(x, y, 1 - strength * (1 - colours) * 0.8, shading="nearest", rasterized=True)
    for level, line in LINES.items():
        if grid["lambda"].min() < level < grid["lambda"].max():
            axes.contour(x, y, grid["lambda"], levels=[level], colors="black", linestyles=line, linewidths=1.2)
    own_x, own_y = here(asked)
    axes.plot([own_x], [own_y], "*", color="black", markersize=11)
    axes.set_xscale("log" if asked.x.log else "linear")
    axes.set_yscale("log" if asked.y.log else "linear")
    axes.set_xlabel(LABELS[asked.x.axis])
    axes.set_ylabel(LABELS[asked.y.axis])
    axes.set_title(f"{asked.spec}: cheapest in all; darker: surer", loc="left", fontsize=9)
    won = {CHOICES[k] for k in np.unique(grid["winner"])}
    handles: list[Any] = [
        Patch(color=COLOURS[name], alpha=0.8, label=TITLES[name]) for name in CHOICES if name in won
    ]
    handles.append(Line2D([], [], color="black", marker="*", linestyle="", label="the profile, and the setting"))
    handles += [
        Line2D([], [], color="black", linestyle=line, label=f"Lambda cheapest with probability {level:.0%}")
        for level, line in LINES.items()
    ]
    axes.figure.legend(handles=handles, fontsize=8, loc="outside lower left", ncols=3, frameon=False)
