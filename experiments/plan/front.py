"""The model's whole front: cost over throughput, and where plans lie beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.tools import style
from optimizer.exact import front
from optimizer.solvers import solve
from simulator.plan import DeploymentPlan, DeploymentProblem

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

RIVALS = ("lambdaml", "best-uniform", "random", "ods")

LOOKS = {
    "chosen": ("chosen", "*", style.RED, 11.0),
    "lambdaml": ("LambdaML", "s", style.ORANGE, 7.0),
    "best-uniform": ("best uniform", "D", style.GREEN, 6.5),
    "random": ("random methods", "^", style.PURPLE, 8.0),
    "ods": ("ODS", "o", style.SKY, 14.0),
}
"""Of each plan: its name, marker, colour and size. ODS often lies where the chosen plan does: a wide ring."""


@dataclass(frozen=True)
class Mark:
    """One plan beside the front.

    Attributes:
        name: `chosen`, or the solver's.
        solver: that made it.
        cost: in the objective's unit. cost_usd: the same bill in USD.
        latency_s: head to tail. tokens_per_s: tokens of a batch over that.
        above_front: how much more it costs than the front at its latency, as a share; None where the front has no
            plan as fast.
        violations: kinds of constraints that it breaks, the problem's latency limit among them.
    """

    name: str
    solver: str
    cost: float
    cost_usd: float
    latency_s: float
    tokens_per_s: float
    above_front: float | None
    violations: tuple[str, ...]

    @property
    def feasible(self) -> bool:
        """Whether it keeps every constraint."""
        return not self.violations


@dataclass(frozen=True)
class FrontData:
    """What the picture shows.

    Attributes:
        name, objective, latency_limit_s, batch_tokens: of the problem.
        tolerance: by how much the front was thinned, as a share of the cost; 0: exact.
        cost, cost_usd, latency_s, tokens_per_s: of each point of the front, shape (points,), fastest first.
        marks: plans beside it, the chosen one first.
    """

    name: str
    objective: str
    latency_limit_s: float | None
    batch_tokens: float
    tolerance: float
    cost: np.ndarray
    cost_usd: np.ndarray
    latency_s: np.ndarray
    tokens_per_s: np.ndarray
    marks: tuple[Mark, ...]

    def table(self) -> pd.DataFrame:
        """The points of the front, a row each."""
        import pandas as pd

        columns = ("latency_s", "tokens_per_s", "cost", "cost_usd")
        return pd.DataFrame({name: getattr(self, name) for name in columns})


def front_data(
    problem: DeploymentProblem, chosen: DeploymentPlan, tolerance: float = 0.0, seed: int = 0
) -> FrontData:
    """The front of a problem's model, and plans of other solvers under the problem's limit.

    Args:
        problem: the problem.
        chosen: an evaluated plan for it.
        tolerance: share of the cost by which the front may be thinned.
        seed: of `random`.

    Raises InputError where an expert fits no memory size.
    """
    cost, latency_s = front(problem, tolerance)
    usd = problem.platform.price_per_gb_s if problem.objective == "gb_s" else 1.0
    tokens = problem.served_tokens

    def mark(name: str, plan: DeploymentPlan) -> Mark:
        plan_cost = plan.objective_value
        latency = float(plan.latency_s or 0.0)
        at = int(np.searchsorted(latency_s, latency * (1 + 1e-12), side="right")) - 1
        above = plan_cost / cost[at] - 1 if at >= 0 and cost[at] > 0 else None
        return Mark(
            name=name,
            solver=plan.solver,
            cost=plan_cost,
            cost_usd=plan_cost * usd,
            latency_s=latency,
            tokens_per_s=tokens / latency,
            above_front=None if above is None else float(above),
            violations=tuple(sorted({kind for _, _, kind in plan.violations})),
        )

    marks = [mark("chosen", chosen), *(mark(name, solve(problem, name, seed=seed)) for name in RIVALS)]
    return FrontData(
        name=problem.name,
        objective=problem.objective,
        latency_limit_s=problem.latency_limit_s,
        batch_tokens=tokens,
        tolerance=tolerance,
        cost=cost,
        cost_usd=cost * usd,
        latency_s=latency_s,
        tokens_per_s=tokens / latency_s,
        marks=tuple(marks),
    )


def draw_front(data: FrontData, path: Path) -> None:
    """Draw the front and the plans beside it to `path`.png and `path`.svg."""
    figure = style.new_figure(7.2, 4.6)
    axes = figure.subplots()
    # The front is a staircase: for a throughput between two points the faster one is the cheapest fast enough.
    axes.step(data.tokens_per_s, data.cost, where="post", color=style.BLUE, linewidth=1.8, zorder=2)
    shown = "exact front" if data.tolerance == 0 else f"front, within {data.tolerance:.2%}"
    axes.plot([], [], color=style.BLUE, linewidth=1.8, label=shown)
    for mark in data.marks:
        _, marker, colour, size = LOOKS[mark.name]
        filled = mark.feasible and mark.name != "ods"
        axes.plot(
            mark.tokens_per_s,
            mark.cost,
            marker,
            markersize=size,
            markeredgecolor=colour,
            markeredgewidth=1.4,
            markerfacecolor=colour if filled else "none",
            linestyle="none",
            zorder=5 if mark.name == "chosen" else 4,
            label=_label(mark),
        )
    _limits(axes, data)
    if data.latency_limit_s is not None:
        target = data.batch_tokens / data.latency_limit_s
        axes.axvline(target, color=style.GREY, linewidth=1, linestyle="--", zorder=1)
        axes.annotate(
            f"limit {data.latency_limit_s:.4g} s ",
            (target, 0.01),
            xycoords=("data", "axes fraction"),
            color="#555555",
            fontsize=8,
            ha="right",
        )
    unit = "billed GB-s of a batch" if data.objective == "gb_s" else "full cost of a batch, USD"
    axes.set_xlabel(f"throughput, tokens/s (batches of {data.batch_tokens:,.0f} tokens)")
    axes.set_ylabel(unit)
    usd = float(data.cost_usd[-1] / data.cost[-1]) if data.cost[-1] else 1.0
    million = 1e6 / data.batch_tokens * usd

    def per_million(cost: Any) -> Any:
        return cost * million

    def per_batch(usd_per_million: Any) -> Any:
        return usd_per_million / million

    other = axes.secondary_yaxis("right", functions=(per_million, per_batch))
    other.set_ylabel("USD per million tokens")
    axes.set_title(f"{data.name}: cost over throughput", loc="left", fontsize=10)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    style.save(figure, path)


def _label(mark: Mark) -> str:
    name = LOOKS[mark.name][0] + (f" ({mark.solver})" if mark.name == "chosen" else "")
    above = "" if mark.above_front is None else f", {max(mark.above_front, 0):.1%} above the front"
    broken = f", breaks: {', '.join(mark.violations)}" if mark.violations else ""
    return name + above + broken


def _limits(axes: Axes, data: FrontData) -> None:
    """Room for every plan; of the front's steep end only what lies near them."""
    costs = [mark.cost for mark in data.marks]
    low = min(*costs, float(data.cost[-1]))
    high = max(*costs, float(np.quantile(data.cost, 0.5)), low * 1.5)
    axes.set_ylim(low - 0.06 * (high - low), high + 0.25 * (high - low))
    speeds = [*data.tokens_per_s[[0, -1]].tolist(), *(mark.tokens_per_s for mark in data.marks)]
    room = 0.05 * (max(speeds) - min(speeds))
    axes.set_xlim(min(speeds) - room, max(speeds) + room)
