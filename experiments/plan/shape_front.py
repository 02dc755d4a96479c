"""The front over all shapes: the least whole bill at each latency, the shape that it is, and where cutting
begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.tools import style
from experiments.tools.shapes import COLOURS, LANES, WHOLE, shape_of
from optimizer.blocks import ShapeName
from optimizer.exact import Infeasible
from optimizer.solvers import solve_stages
from simulator.plan import DeploymentProblem
from simulator.staged_plan import StagedPlan

if TYPE_CHECKING:
    import pandas as pd

POINTS = 40
"""Latency limits that are solved for, from the least latency to that of the cheapest plan, in equal ratios."""


@dataclass(frozen=True)
class ShapeFront:
    """The cheapest plan at each of some latency limits, fastest first.

    Attributes:
        name, batch_tokens: of the problem.
        gap: how far each plan's cost may be above the optimum, as a share.
        plans: of which none is slower and dearer than another.
    """

    name: str
    batch_tokens: float
    gap: float
    plans: tuple[StagedPlan, ...]

    @property
    def shapes(self) -> list[str]:
        """Of each plan."""
        return [shape_of(plan) for plan in self.plans]

    @property
    def cut_from_s(self) -> float | None:
        """The longest latency at which the cheapest plan cuts the model; None: it never does."""
        cut = [plan.latency_s for plan, shape in zip(self.plans, self.shapes, strict=True) if _is_cut(shape)]
        return max((x for x in cut if x is not None), default=None)

    def table(self) -> pd.DataFrame:
        """The points, a row each."""
        import pandas as pd

        rows = [
            {
                "latency_s": plan.latency_s,
                "total_cost_usd": plan.total_cost_usd,
                "usd_per_million_tokens": (plan.total_cost_usd or 0.0) / self.batch_tokens * 1e6,
                "shape": shape,
                "stages": len(plan.stages),
                "functions": plan.functions,
                "peak_concurrency": plan.peak_concurrency,
                "in_words": plan.shape_in_words,
            }
            for plan, shape in zip(self.plans, self.shapes, strict=True)
        ]
        return pd.DataFrame(rows)


def _is_cut(shape: str) -> bool:
    return shape not in (WHOLE, LANES)


def shape_front(
    problem: DeploymentProblem,
    shapes: Sequence[ShapeName] | None = None,
    gap: float = 0.0,
    points: int = POINTS,
) -> ShapeFront:
    """The front of a problem with `blocks`, whatever its own latency limit.

    Args:
        problem: the problem. shapes: how the model may be cut; None: in any way.
        gap: of each point. points: limits that are solved for.

    Raises InputError where nothing fits.
    """
    cheapest = solve_stages(problem.with_limit(None), shapes=shapes, gap=gap)
    assert cheapest.latency_s is not None
    try:
        solve_stages(problem.with_limit(1e-30), shapes=shapes)
    except Infeasible as error:
        least_s = error.least_latency_s
    limits = np.geomspace(least_s, cheapest.latency_s, points)[:-1]
    found = [solve_stages(problem.with_limit(x), shapes=shapes, gap=gap) for x in limits.tolist()]
    plans: list[StagedPlan] = []
    for plan in [*found, cheapest]:
        if plans and plan.latency_s == plans[-1].latency_s:
            continue
        plans.append(plan.model_copy(update={"violations": (), "feasible": True}))
    return ShapeFront(problem.name, problem.served_tokens, gap, tuple(plans))


def draw_shape_front(data: ShapeFront, path: Path) -> None:
    """Draw cost over latency, each shape in its colour, to `path`.png and `path`.svg."""
    figure = style.new_figure(7.2, 3.6)
    axes = figure.subplots()
    table = data.table()
    latency, usd = table["latency_s"].to_numpy(float), table["usd_per_million_tokens"].to_numpy(float)
    axes.step(latency, usd, where="post", color=style.GREY, linewidth=1, zorder=1)
    for shape in dict.fromkeys(data.shapes):
        at = (table["shape"] == shape).to_numpy()
        axes.plot(latency[at], usd[at], "o", color=COLOURS[shape], markersize=5, label=shape, zorder=3)
    cut_s = data.cut_from_s
    if cut_s is not None:
        axes.axvline(cut_s, color=style.RED, linewidth=1, linestyle="--", zorder=2)
        axes.annotate(
            f" cutting pays up to {style.rounded(cut_s)} s",
            (cut_s, 0.97),
            xycoords=("data", "axes fraction"),
            color=style.RED,
            fontsize=8,
            va="top",
            ha="left" if cut_s < np.sqrt(latency[0] * latency[-1]) else "right",
        )
    axes.set_xscale("log")
    axes.set_ylim(0, 1.12 * usd.max())
    axes.set_xlabel(f"latency limit, s (batches of {data.batch_tokens:,.0f} tokens)")
    axes.set_ylabel("whole bill, USD per million tokens")
    axes.set_title(f"{data.name}: the cheapest shape at each latency", loc="left", fontsize=9)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False, loc="lower left")
    style.save(figure, path)
