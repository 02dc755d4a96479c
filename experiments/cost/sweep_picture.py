"""The picture of a sweep: the monthly bill over a swept key, a line for each contender."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cost.picture import POINTS, WIDTH, looks_of
from experiments.tools import style

NUMBER, ASKED = "requests_per_month", "cost.requests_per_month"
MOST_PANELS = 6
WIDE = 20.0
"""Numbers whose largest is more times their least stand on a logarithmic axis."""
Row = Mapping[str, Any]


def draw_bills(rows: Sequence[Row], keys: Sequence[str], name: str, path: Path) -> None:
    """Draw to `path`.png and `path`.svg; nothing where no contender serves at any point.

    Args:
        rows: of the table of all points. keys: that are swept: the first with several numbers is across, or where
            none has, the first with several values; what other keys have gives a panel each; over seeds the mean
            is drawn.
    """
    rows = [row for row in rows if row.get("monthly_usd")]
    keys = list(dict.fromkeys(NUMBER if key == ASKED else key for key in (*keys, NUMBER)))
    varied = [key for key in keys if key != "seed" and len({str(row[key]) for row in rows}) > 1]
    if not varied:
        return
    numeric = [key for key in varied if all(isinstance(row[key], int | float) for row in rows)]
    across = (numeric or varied)[0]
    others = [key for key in varied if key != across]
    panels: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        panels.setdefault(tuple(f"{_short(key)} {_text(row[key])}" for key in others), []).append(row)
    _draw(panels, across, across in numeric, name, path)


def _draw(panels: dict[tuple[str, ...], list[Row]], across: str, is_number: bool, name: str, path: Path) -> None:
    from matplotlib import rc_context, rcParams

    shown = dict(list(panels.items())[:MOST_PANELS])
    columns = min(len(shown), 2)
    lines = -(-len(shown) // columns)
    places = list(dict.fromkeys(row[across] for rows in shown.values() for row in rows))
    if is_number:
        places.sort()
    at = {place: float(place) if is_number else float(k) for k, place in enumerate(places)}
    bills = [_bills(rows, across, place) for rows in shown.values() for place in places]
    looks = looks_of([each for each in bills if each])
    with rc_context({"font.size": POINTS}):
        figure = style.new_figure(WIDTH, 1.2 + 2.7 * lines)
        rcParams["font.size"] = POINTS
        grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for axes, (title, rows) in zip(grid.flat, shown.items(), strict=False):
            found = {place: _bills(rows, across, place) for place in places}
            for contender, look in looks.items():
                points = [(at[place], usd[contender]) for place, usd in found.items() if contender in usd]
                if points:
                    axes.plot(*zip(*points, strict=True), markersize=3, **({"marker": "o"} | look))
            axes.set_yscale("log")
            axes.grid(alpha=0.25)
            axes.set_title(", ".join(title), loc="left", fontsize=POINTS)
            axes.set_xlabel(_short(across))
            axes.set_ylabel("USD a month")
            if is_number and places[0] > 0 and places[-1] > WIDE * places[0]:
                axes.set_xscale("log")
            elif not is_number:
                axes.set_xticks(list(at.values()), [_text(place) for place in places])
        for axes in grid.flat[len(shown) :]:
            axes.remove()
        left = f"; {len(shown)} of {len(panels)} settings" if len(panels) > len(shown) else ""
        figure.suptitle(f"{name}: monthly bill{left}", fontsize=POINTS, x=0.01, ha="left")
        labelled: dict[str, Any] = {}
        for axes in grid.flat[: len(shown)]:
            handles, labels = axes.get_legend_handles_labels()
            labelled |= dict(zip(labels, handles, strict=True))
        figure.legend(list(labelled.values()), list(labelled), loc="outside lower left", ncols=4, frameon=False)
        style.save(figure, path)


def _bills(rows: Sequence[Row], across: str, place: Any) -> dict[str, float]:
    """USD of each contender that serves at a place, the mean over what is alike there."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row[across] == place:
            found.setdefault(row["contender"], []).append(row["monthly_usd"])
    return {contender: float(np.mean(usd)) for contender, usd in found.items()}


def _short(key: str) -> str:
    """`requests a month`, `tokens in`: the last part of a key in words."""
    return key.rpartition(".")[2].replace("requests_per_month", "requests a month").replace("_", " ")


def _text(value: Any) -> str:
    return "not said" if value is None else f"{value:,g}" if isinstance(value, int | float) else str(value)
