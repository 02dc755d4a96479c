"""Best score over trials: one run, or the mean of many with its confidence interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.tools import style
from moe.statistics import t_half_width

COLOURS = {
    "none": style.GREY,
    "random": style.SKY,
    "single-epsilon": style.ORANGE,
    "tpe": style.PURPLE,
    "gp-ei": "#000000",
    "multi-epsilon": style.BLUE,
    "few": style.GREEN,
    "recount": style.RED,
}


def colour_of(sampler: str) -> str:
    """The same in every picture."""
    return COLOURS.get(sampler, style.GREY)


@dataclass(frozen=True)
class Curve:
    """A sampler's best score after each trial, over runs; arrays (trials,).

    Attributes:
        name: the sampler.
        mean: over runs.
        low, high: 95% confidence interval of the mean (Student's t); the mean itself of one run.
    """

    name: str
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @staticmethod
    def of(name: str, runs: Sequence[Sequence[float]]) -> Curve:
        """The curve of several runs; one that stopped early keeps its last score."""
        longest = max(map(len, runs))
        scores = np.array([[*run, *[run[-1]] * (longest - len(run))] for run in runs], float)
        mean, half = mean_and_half_width(scores)
        return Curve(name, mean, mean - half, mean + half)


def mean_and_half_width(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the first axis, and half of its 95% confidence interval; 0 of one value."""
    mean = values.mean(axis=0)
    return mean, t_half_width(values) if len(values) > 1 else np.zeros_like(mean)


def draw_convergence(
    curves: Sequence[Curve],
    oracle: float,
    unit: str,
    title: str,
    path: Path,
    tried: Sequence[float] = (),
) -> None:
    """Draw best scores over trials to `path`.png and `path`.svg.

    Args:
        curves: of samplers.
        oracle: score of the plan made from the real counts, drawn as a line.
        unit: what the score is.
        title: of the figure.
        path: without suffix.
        tried: the score of every trial of the one run shown.
    """
    figure = style.new_figure(6.4, 3.8)
    axes = figure.subplots()
    for curve in curves:
        colour = colour_of(curve.name)
        trials = np.arange(len(curve.mean))
        axes.step(trials, curve.mean, where="post", color=colour, linewidth=1.6, label=curve.name)
        if (curve.high > curve.low).any():
            axes.fill_between(trials, curve.low, curve.high, step="post", color=colour, alpha=0.15, linewidth=0)
    if len(tried):
        finite = [(k, x) for k, x in enumerate(tried) if np.isfinite(x)]
        axes.plot(*zip(*finite, strict=True), "o", color=style.GREY, markersize=3, label="each trial")
    axes.axhline(oracle, color="black", linewidth=1, linestyle="--", label="oracle: the real counts")
    axes.set_xlabel("trial (0: the profiled table)")
    axes.set_ylabel(unit)
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7, frameon=False)
    style.save(figure, path)
