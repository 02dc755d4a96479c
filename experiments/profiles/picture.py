"""A quantity as it was measured and as it was fitted, with residuals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from calibration.fitting.bootstrap import Fitted
from experiments.tools import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MANY = 60
"""Points from which on they are drawn small."""


def draw_fit(found: Fitted, path: Path) -> None:
    """Draw data, fit and base profile, and below measured over fitted, to `path`.png and `path`.svg."""
    quantity = found.quantity
    curve = quantity.law.curve(quantity.runs)
    fitted = curve.predict(found.fitted.value)
    figure = style.new_figure(5.2, 4.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.3))
    small = 2 if len(curve.x) > MANY else 5
    above.plot(curve.x, curve.y, "o", color=style.GREY, markersize=small, label=f"measured ({len(curve.x):,})")
    _line(above, curve.x, fitted, style.BLUE, "-", f"fit: {found.fit.method}")
    if found.before is not None:
        _line(above, curve.x, curve.predict(found.before.value), style.RED, "--", "base profile")
    if quantity.x_label == "probability" and curve.y.max() > 3 * curve.y.min():
        above.set_yscale("log")
    above.set_ylabel(quantity.y_label)
    above.set_title(".".join(quantity.path), loc="left", fontsize=9)
    above.grid(alpha=0.25)
    above.legend(fontsize=7, frameon=False)
    residual = np.round(100 * (curve.y / np.where(fitted > 0, fitted, np.nan) - 1), 4)
    below.axhline(0, color="black", linewidth=0.8)
    below.plot(curve.x, residual, "o", color=style.BLUE, markersize=small)
    below.set_ylabel("measured\nover fit, %")
    below.set_xlabel(quantity.x_label)
    below.grid(alpha=0.25)
    if quantity.x_label in ("run", "runtime", "campaign"):
        below.set_xticks(np.unique(curve.x))
    style.save(figure, path)


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str, dashes: str, name: str) -> None:
    """A line through the predicted points; a level, where there is one x only."""
    order = np.argsort(x, kind="stable")
    if len(set(x.tolist())) == 1:
        axes.axhline(y[0], color=colour, linestyle=dashes, linewidth=1.4, label=name)
    else:
        axes.plot(x[order], y[order], dashes, color=colour, linewidth=1.4, label=name)
