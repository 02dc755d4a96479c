"""Fig. 13: what tuning the profile table is worth: billed cost and prediction error over those without it.

Under a latency limit, and, nearest to the paper, without one where memory binds (`memory`).

With a second text, batches drift from the profiled one; other ways of counting, other constants may be asked for.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from experiments.paper.figure import PaperFigure, Rows
from experiments.paper.figures.fig13.claims import claims
from experiments.paper.figures.fig13.memory import MemoryBinds
from experiments.paper.figures.fig13.rows import Change, Counting, TuneCell, compute
from experiments.paper.figures.fig13.samplers import CASE, OWN, PAPERS, case_title
from experiments.paper.routing import cell_fields, with_interval
from experiments.paper.settings import FigureSettings
from experiments.prediction.tune_picture import colour_of
from experiments.tools import style
from moe.errors import nearest, shortened
from moe.statistics import ratio_of_sums
from optimizer.bo import Alg2, Objective

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Settings(FigureSettings):
    """Fig. 13.

    Attributes:
        models: the first is tuned under a latency limit; those whose memory is known where memory binds.
        texts: the first is profiled; batches of it are served, and such that drift to each of the others.
        drifts: shares of a batch's sequences that are of the other text.
        samplers, objectives, counting: that are compared; counting is `bayes`'s.
        runs, trials, tuned_on: seeds of each sampler, its trials, batches that a trial serves.
        changes: of Alg. 2's constants, each tried alone, without drift.
        memory: the setting where memory binds, on the first text; None: not asked for.
    """

    drifts: tuple[float, ...] = (1.0,)
    samplers: tuple[str, ...] = (*PAPERS, *OWN)
    objectives: tuple[Objective, ...] = ("bill", "bill+slo")
    counting: tuple[Counting, ...] = ("hard",)
    runs: int = Field(5, ge=2)
    trials: int = Field(30, ge=2)
    tuned_on: int = Field(4, ge=1)
    changes: tuple[Change, ...] = ()
    memory: MemoryBinds | None = None

    @model_validator(mode="after")
    def _known(self) -> Self:
        """Changes are of constants that there are."""
        for change in self.changes:
            for name in set(change) - set(Alg2.model_fields):
                raise ValueError(f"changes: no constant {shortened(name)}{nearest(name, Alg2.model_fields)}")
            Alg2.model_validate(change)
        return self


def cells(settings: Settings) -> list[TuneCell]:
    """One for each drift, objective, way of counting, run and sampler; for each change of constants; and for each
    model, run and sampler where memory binds."""
    home, found = settings.texts[0], []
    same = {"home": home, "trials": settings.trials, "tuned_on": settings.tuned_on}
    for of_text in cell_fields(settings):
        if of_text["model"] != settings.models[0]:
            continue
        at_home = of_text["text"] == home
        for drift, objective, counting, run in itertools.product(
            (0.0,) if at_home else settings.drifts, settings.objectives, settings.counting, range(settings.runs)
        ):
            own = of_text | same | {"drift": drift, "objective": objective, "counting": counting, "run": run}
            found += [TuneCell(**own, sampler=name, change={}) for name in settings.samplers]
            if at_home and counting == "hard":
                found += [TuneCell(**own, sampler="multi-epsilon", change=x) for x in settings.changes]
    return found + _memory_cells(settings)


def _memory_cells(settings: Settings) -> list[TuneCell]:
    """One for each model, run and sampler."""
    memory = settings.memory
    if memory is None:
        return []
    same = {"home": settings.texts[0], "trials": memory.trials, "tuned_on": 1, "memory": memory, "change": {}}
    same |= {"drift": 0.0, "objective": "bill", "counting": "hard"}
    return [
        TuneCell(**of_text, **same, run=run, sampler=name)
        for of_text in cell_fields(settings)
        if of_text["text"] == settings.texts[0] and of_text["model"].title in memory.token_bytes
        for run, name in itertools.product(range(memory.runs), memory.samplers)
    ]


RATIOS = ("cost_ratio", "error_ratio", "latency_ratio", "oracle_ratio")


def table(rows: Rows) -> pd.DataFrame:
    """Means over runs, with intervals; the ratio of each run's cost is kept for paired comparisons.

    `gap_closed`: of the score's gap between the untuned table and the oracle's plan, summed over runs.
    """
    import pandas as pd

    found: list[dict[str, Any]] = []
    group_by = [*CASE, "sampler", "change"]
    for key, group in pd.DataFrame(rows).groupby(group_by, sort=False):
        row = dict(zip(group_by, key, strict=True))
        for name in RATIOS:
            row |= with_interval(name, group[name].to_numpy())
        gap = ratio_of_sums(group["gained"], group["gap"])
        row |= dict(zip(("gap_closed", "gap_closed_low", "gap_closed_high"), gap, strict=True))
        late = {name: float(group[name].mean()) for name in ("late", "late_before")}
        each = " ".join(f"{x:.9g}" for x in group.sort_values("run")["cost_ratio"])
        found.append(row | late | {"runs": len(group), "cost_ratios": each, "batches": group["batches"].iloc[0]})
    return pd.DataFrame(found)


def draw(data: pd.DataFrame) -> Figure:
    """Cost and error ratios of each sampler, a row of panels for each case."""
    panels = list(data[data["change"] == ""].groupby(CASE, sort=False))
    figure = style.new_figure(7.2, 2.1 * len(panels) + 0.4)
    every = figure.subplots(len(panels), 2, squeeze=False)
    for axes, (key, rows) in zip(every, panels, strict=True):
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
        axes[0].set_title(case_title(dict(zip(CASE, key, strict=True)))[1:-1], loc="left", fontsize=9)
    return figure


FIGURE = PaperFigure("13", Settings, cells, compute, table, claims, draw)
