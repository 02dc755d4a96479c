"""How sure the order of the plans is: Kendall's tau under the profile's uncertainty. This project's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from experiments.paper.claims import Claim
from experiments.paper.figure import PaperFigure, Rows
from experiments.paper.plans import problem_of, within_lambdaml
from experiments.paper.routing import Cell, cell_fields, routing_of, with_interval
from experiments.paper.settings import FigureSettings
from moe.statistics import percentile_interval
from optimizer.evaluation import evaluate
from optimizer.problem import make_problem
from optimizer.solvers import solve
from simulator.profiles.schema import PlatformProfile
from simulator.profiles.uncertainty import drawn_factors

if TYPE_CHECKING:
    import pandas as pd

PLANS = ("exact", "ods", "best-uniform", "lambdaml", "random")


class Settings(FigureSettings):
    """The ranking table: how many profiles are drawn."""

    draws: int = Field(100, ge=2)


class RankCell(Cell):
    """The plans of one model under drawn profiles."""

    draws: int


def cells(settings: Settings) -> list[RankCell]:
    """One for each model and text."""
    return [RankCell(**fields, draws=settings.draws) for fields in cell_fields(settings)]


def compute(cell: RankCell) -> Rows:
    """A row for each draw: tau of the plans' order by cost and by latency, with that of the profile as it is.

    Plans are made once, for the profile as it is; costs and latencies are the closed form's.
    """
    from scipy.stats import kendalltau

    popularity = routing_of(cell).popularity(cell.batch_tokens)
    problem = within_lambdaml(problem_of(cell, popularity))
    plans = [solve(problem, name, seed=cell.seed) for name in PLANS]
    factors = drawn_factors(cell.platform, cell.draws, cell.seed)

    def judged(profile: PlatformProfile) -> np.ndarray:
        found = [evaluate(make_problem(cell.spec, popularity, profile), plan) for plan in plans]
        return np.array([[x.billed_gb_s, x.latency_s] for x in found])

    known, found = judged(cell.platform), []
    for draw in range(cell.draws):
        costs = judged(factors.applied(cell.platform, draw))
        tau = [float(kendalltau(known[:, k], costs[:, k]).statistic) for k in (0, 1)]
        found.append(
            cell.about
            | {"draw": draw, "tau_cost": tau[0], "tau_latency": tau[1]}
            | {"same_cheapest": bool(costs[:, 0].argmin() == known[:, 0].argmin())}
            | {"ods_over_lambdaml": float(costs[PLANS.index("ods"), 0] / costs[PLANS.index("lambdaml"), 0])}
        )
    return found


def table(rows: Rows) -> pd.DataFrame:
    """A row for each model: taus, and the quantiles of ODS's bill over LambdaML's."""
    import pandas as pd

    found: list[dict[str, Any]] = []
    for (model, text), group in pd.DataFrame(rows).groupby(["model", "text"], sort=False):
        low, high = percentile_interval(group["ods_over_lambdaml"])
        found.append(
            {"model": model, "text": text, "draws": len(group), "plans": ", ".join(PLANS)}
            | with_interval("tau_cost", group["tau_cost"].to_numpy())
            | with_interval("tau_latency", group["tau_latency"].to_numpy())
            | {"same_cheapest": float(group["same_cheapest"].mean())}
            | {"ods_over_lambdaml_low": low, "ods_over_lambdaml_high": high}
        )
    return pd.DataFrame(found)


def claims(data: pd.DataFrame) -> list[Claim]:
    """Numbers of our own: the paper gives no uncertainty."""
    return [
        Claim("ranking", "Kendall's tau of the plans' order by cost", "",
              f"{x.tau_cost:.2f} ({x.tau_cost_low:.2f} to {x.tau_cost_high:.2f})", None,
              f"{x.plans}, under {x.draws} drawn profiles; by latency {x.tau_latency:.2f}; the cheapest stays so "
              f"in {x.same_cheapest:.0%}; ODS's bill is {x.ods_over_lambdaml_low:.0%} to "
              f"{x.ods_over_lambdaml_high:.0%} of LambdaML's in 95%", x.tau_cost, x.tau_cost_low, x.tau_cost_high,
              case=x.model)
        for x in data.itertuples()
    ]  # fmt: skip


FIGURE = PaperFigure("ranking", Settings, cells, compute, table, claims)
