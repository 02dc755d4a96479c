"""Fig. 13: what tuning the profile table is worth: billed cost and prediction error over those without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from experiments.paper.cells import Rows
from experiments.paper.claims import Claim, counted
from experiments.paper.figure import PaperFigure
from experiments.paper.plans import problem_of, within_lambdaml
from experiments.paper.routing import Cell, Routing, cell_fields, routing_of, with_interval
from experiments.paper.settings import FigureSettings
from experiments.prediction.tune_picture import colour_of
from experiments.tools import style
from moe.statistics import estimate
from optimizer.bo import (
    Alg2,
    Batches,
    Budget,
    Judge,
    KeyRange,
    Known,
    Objective,
    Planner,
    Tuned,
    Tuning,
    closed_form,
    sampler,
    tune,
)
from optimizer.popularity import ProfileTable, TablePredictor, predictor

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PAPERS = ("random", "single-epsilon", "tpe", "multi-epsilon")
OWN = ("few", "recount")
"""This project's, which tune a few numbers instead of pairs."""


class Settings(FigureSettings):
    """Fig. 13: samplers, objectives, seeds of each, trials, batches that a trial serves."""

    samplers: tuple[str, ...] = (*PAPERS, *OWN)
    objectives: tuple[Objective, ...] = ("bill", "bill+slo")
    runs: int = Field(5, ge=2)
    trials: int = Field(30, ge=2)
    tuned_on: int = Field(4, ge=1)


class TuneCell(Cell):
    """One run of one sampler."""

    sampler: str
    objective: Objective
    run: int
    trials: int
    tuned_on: int


def cells(settings: Settings) -> list[TuneCell]:
    """One for each objective, run and sampler."""
    return [
        TuneCell(**fields, sampler=name, objective=objective, run=run, trials=settings.trials,
                 tuned_on=settings.tuned_on)
        for fields in cell_fields(settings)
        for objective in settings.objectives
        for run in range(settings.runs)
        for name in settings.samplers
    ]  # fmt: skip


def compute(cell: TuneCell) -> Rows:
    """One row: bills, errors and latencies on the test batches, untuned, tuned, and of the oracle's plan."""
    routing = routing_of(cell)
    tuned_on, test = routing.sets([cell.tuned_on, cell.batches], cell.batch_tokens, cell.seed + cell.run)
    planner, tuned = tuned_table(
        cell, routing, tuned_on.batches, cell.sampler, cell.objective, cell.trials, cell.seed + cell.run
    )
    judge = Judge(planner, test.batches, closed_form(), cell.objective, Alg2(batches=cell.tuned_on))
    before, after = (judge(x)[0] for x in (Tuning(), tuned.tuning))
    return [
        cell.about
        | {"sampler": cell.sampler, "objective": cell.objective, "run": cell.run, "trials": len(tuned.rows)}
        | {"cost_ratio": after.cost / before.cost, "oracle_ratio": judge.oracle.cost / before.cost}
        | {"error_ratio": after.prediction_error_tokens / before.prediction_error_tokens}
        | {"latency_ratio": after.latency_s / before.latency_s, "late": after.over_limit}
        | {"late_before": before.over_limit, "batches": test.kind}
    ]


def tuned_table(
    cell: Cell, routing: Routing, batches: Batches, name: str, objective: Objective, trials: int, seed: int
) -> tuple[Planner, Tuned]:
    """A sampler's run on some batches: the paper's predictor, at 81.24% of LambdaML's throughput.

    All trials are run: none stops early, so that samplers have the same budget.
    """
    problem = within_lambdaml(problem_of(cell, routing.popularity(cell.batch_tokens)))
    made = predictor("bayes", counting="hard")
    assert isinstance(made, TablePredictor)
    table_ = ProfileTable.from_trace(routing.profiled)
    planner = Planner(problem, table_, made)
    settings = Alg2(batches=len(batches), patience=trials)
    judge = Judge(planner, batches, closed_form(), objective, settings)
    known = Known(planner, KeyRange.of(table_, batches, settings.by_frequency), batches)
    return planner, tune(judge, sampler(name, known, settings, seed), name, Budget(trials))


RATIOS = ("cost_ratio", "error_ratio", "latency_ratio", "oracle_ratio")
GROUP = ["model", "text", "experts", "top_k", "objective", "sampler"]


def table(rows: Rows) -> pd.DataFrame:
    """Means over runs, with intervals; the ratio of each run's cost is kept for paired comparisons."""
    import pandas as pd

    found: list[dict[str, Any]] = []
    for key, group in pd.DataFrame(rows).groupby(GROUP, sort=False):
        row = dict(zip(GROUP, key, strict=True))
        for name in RATIOS:
            row |= with_interval(name, group[name].to_numpy())
        late = {name: float(group[name].mean()) for name in ("late", "late_before")}
        each = " ".join(f"{x:.9g}" for x in group.sort_values("run")["cost_ratio"])
        found.append(row | late | {"runs": len(group), "cost_ratios": each, "batches": group["batches"].iloc[0]})
    return pd.DataFrame(found)


def claims(data: pd.DataFrame) -> list[Claim]:
    """Multi epsilon best in cost, paired over runs with each of its rivals; the oracle and ours beside it."""
    found = []
    for (model, text, objective), group in data.groupby(["model", "text", "objective"], sort=False):
        where = f"({model}, {text}, objective {objective}{', as in the paper' if objective == 'bill' else ''})"
        by = group.set_index("sampler")
        if "multi-epsilon" not in by.index:
            continue
        own = by.loc["multi-epsilon"]
        rivals = [name for name in PAPERS if name in by.index and name != "multi-epsilon"]
        apart = {name: _apart(own["cost_ratios"], by.loc[name, "cost_ratios"]) for name in rivals}
        said = ", ".join(f"{name} {m:+.2%} ({a:+.2%} to {b:+.2%})" for name, (m, a, b) in apart.items())
        late = f"late batches: {own['late_before']:.0%} before, {own['late']:.0%} after"
        found.append(
            counted("13", f"multi epsilon gives the least bill {where}", "best",
                    [b < 0 for _, _, b in apart.values()], "rivals have surely a higher one",
                    f"its bill less theirs, of the untuned bill: {said}; {late}")
        )  # fmt: skip
        found.append(
            Claim("13", f"multi epsilon's bill over that without tuning {where}", "",
                  _shown(own, "cost_ratio"), None,
                  f"the plan for the real counts comes to {own['oracle_ratio']:.3f}; "
                  f"prediction error {_shown(own, 'error_ratio')} times, latency {own['latency_ratio']:.3f} times",
                  *(float(own[f"cost_ratio{end}"]) for end in ("", "_low", "_high")))
        )  # fmt: skip
        for name in OWN:
            if name in by.index:
                row = by.loc[name]
                found.append(
                    Claim("13", f"this project's '{name}', bill over that without tuning {where}", "",
                          _shown(row, "cost_ratio"), None,
                          f"error {row['error_ratio']:.2f} times; late batches: {row['late']:.0%}",
                          *(float(row[f"cost_ratio{end}"]) for end in ("", "_low", "_high")))
                )  # fmt: skip
    return found


def _shown(row: Any, name: str) -> str:
    return f"{row[name]:.3f} ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"


def _apart(ours: str, theirs: str) -> tuple[float, float, float]:
    """Mean difference of two rows of ratios, run by run, and its interval."""
    a, b = (np.array(x.split(), float) for x in (ours, theirs))
    found = estimate(a - b)
    return found.mean, found.low, found.high


def draw(data: pd.DataFrame) -> Figure:
    """Cost and error ratios of each sampler, a row of panels for each objective."""
    panels = list(data.groupby(["model", "text", "objective"], sort=False))
    figure = style.new_figure(7.2, 2.1 * len(panels) + 0.4)
    every = figure.subplots(len(panels), 2, squeeze=False)
    for axes, ((model, text, objective), rows) in zip(every, panels, strict=True):
        for one, name, label in (
            (axes[0], "cost_ratio", "billed cost / that without tuning"),
            (axes[1], "error_ratio", "prediction error / that without tuning"),
        ):
            for place, (_, row) in enumerate(rows.iterrows()):
                error = [[row[name] - row[f"{name}_low"]], [row[f"{name}_high"] - row[name]]]
                colour = colour_of(row["sampler"])
                one.errorbar(row[name], place, xerr=error, fmt="o", color=colour, capsize=3, markersize=6)
            one.axvline(1, color=style.GREY, linewidth=1)
            one.set_ylim(len(rows) - 0.5, -0.5)
            one.set_yticks(range(len(rows)), rows["sampler"] if one is axes[0] else [""] * len(rows), fontsize=8)
            one.grid(axis="x", alpha=0.25)
            one.set_xlabel(label, fontsize=8)
        axes[0].axvline(rows["oracle_ratio"].mean(), color="black", linewidth=1, linestyle="--", label="oracle")
        axes[0].legend(frameon=False, fontsize=7)
        axes[0].set_title(f"{model}, {text}, objective {objective}", loc="left", fontsize=9)
    return figure


FIGURE = PaperFigure("13", Settings, cells, compute, table, claims, draw)
