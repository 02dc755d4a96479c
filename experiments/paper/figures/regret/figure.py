"""What a wrong prediction costs, over skew and over drift from the profiled text: regret and late batches. Ours.

Each batch is planned for what a predictor says and billed on its real tokens, beside the plan made for these:
regret is the one cost over the other, less one (`optimizer.regret`). A plan that misses its limit can be cheaper,
so by how much it does stands beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from experiments.paper.figure import PaperFigure, Rows
from experiments.paper.figures.regret.claims import claims
from experiments.paper.figures.regret.picture import draw
from experiments.paper.plans import problem_of
from experiments.paper.routing import Cell, cell_fields, routing_of, with_interval
from experiments.paper.settings import FigureSettings, TextChoice
from experiments.run.routing import Routing
from moe.routing.synthetic import SyntheticPopularity, synthetic_routing
from moe.trace import RoutingTrace
from optimizer.exact import least_latency_s
from optimizer.popularity import Predictor, predictor
from optimizer.regret import best_on_real_tokens, regret

if TYPE_CHECKING:
    import pandas as pd

PREDICTORS: dict[str, tuple[str, dict[str, str]]] = {
    "bayes": ("bayes", {}),
    "bayes, expected": ("bayes", {"counting": "expected"}),
    "lina": ("lina", {}),
    "lina, expected": ("lina", {"counting": "expected"}),
    "position": ("position", {}),
    "position, expected": ("position", {"counting": "expected"}),
    "history": ("history", {}),
    "similar prompts": ("similar-prompts", {}),
    "lstm": ("lstm", {}),
    "uniform": ("uniform", {}),
}
"""By title; the paper counts each token for its likeliest expert, `expected` its whole posterior."""

Title = Literal[
    "bayes",
    "bayes, expected",
    "lina",
    "lina, expected",
    "position",
    "position, expected",
    "history",
    "similar prompts",
    "lstm",
    "uniform",
]

WITHOUT_IDS = ("position", "position, expected", "history", "lstm", "uniform")
"""Predictors that need no token IDs: tokens of a law of popularity have none."""

PROFILED_BATCHES = 10


class Settings(FigureSettings):
    """The regret figure.

    Attributes:
        texts: the first is profiled, batches of each are served.
        predictors: that are compared.
        mixes: shares of a batch's sequences that are of the other text.
        exponents: of Zipf's law; draws: of the law, for each.
        slack: the limit, as a multiple of the least latency.
    """

    predictors: tuple[Title, ...] = tuple(PREDICTORS)  # type: ignore[arg-type]
    mixes: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    exponents: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5)
    draws: int = Field(10, ge=2)
    slack: float = Field(1.2, gt=1)


class RegretCell(Cell):
    """One text served, or one exponent of Zipf's law."""

    home: TextChoice
    predictors: tuple[Title, ...]
    mixes: tuple[float, ...]
    exponent: float | None
    draws: int
    slack: float


def cells(settings: Settings) -> list[RegretCell]:
    """For each model: one a text, one an exponent."""
    home = settings.texts[0]
    same = {"home": home, "slack": settings.slack, "draws": settings.draws, "predictors": settings.predictors}
    found = []
    for fields in cell_fields(settings):
        mixes = (0.0,) if fields["text"] == home else settings.mixes
        found.append(RegretCell(**fields, **same, mixes=mixes, exponent=None))
        if fields["text"] == home:
            found += [RegretCell(**fields, **same, mixes=(), exponent=x) for x in settings.exponents]
    return found


def compute(cell: RegretCell) -> Rows:
    """A row for each served batch and predictor."""
    return list(_drifted(cell) if cell.exponent is None else _skewed(cell))


def _drifted(cell: RegretCell) -> Iterator[dict[str, Any]]:
    """Profiled on one text, served batches that mix held-out sequences of it with those of another."""
    home = routing_of(cell.model_copy(update={"text": cell.home}))
    other = routing_of(cell)
    fitted = _fitted(cell.predictors, home.profiled)
    per_batch = cell.batch_tokens // cell.sequence_tokens
    independent = min(home.held_out_sequences, other.held_out_sequences) / per_batch
    for mix in cell.mixes:
        count = round(mix * per_batch)
        for batch in range(cell.batches):
            rng = np.random.default_rng([cell.seed, batch])  # the same for each mix
            parts = ((home, per_batch - count), (other, count))
            served = RoutingTrace.joined([_sequences(of, n, rng) for of, n in parts if n])
            about = {"over": "drift", "x": mix, "group": batch, "independent": independent}
            yield from (cell.about | about | row for row in _judged(cell, served, fitted))


def _fitted(titles: Iterable[str], profiled: RoutingTrace) -> dict[str, Predictor]:
    found = {}
    for title in titles:
        name, options = PREDICTORS[title]
        found[title] = predictor(name, **options).fit(profiled)
    return found


def _sequences(routing: Routing, count: int, rng: np.random.Generator) -> RoutingTrace:
    """So many held-out sequences, drawn with replacement."""
    n = routing.sequence_tokens
    at = rng.integers(0, routing.held_out_sequences, count)[:, None] * n + np.arange(n)
    return routing.held_out.take(at.ravel())


def _skewed(cell: RegretCell) -> Iterator[dict[str, Any]]:
    """Popularity by Zipf's law, profiled and served alike; a draw of the law is a group."""
    spec = cell.spec
    for number in range(cell.draws):
        trace = synthetic_routing(
            SyntheticPopularity(law="zipf", exponent=cell.exponent),
            layers=spec.moe_layers,
            experts=spec.experts,
            top_k=spec.top_k,
            profiled_tokens=PROFILED_BATCHES * cell.batch_tokens,
            batch_tokens=cell.batch_tokens,
            batches=1,
            sequence_tokens=cell.sequence_tokens,
            seed=cell.seed + number,
        )
        profiled = PROFILED_BATCHES * cell.batch_tokens
        fitted = _fitted([x for x in cell.predictors if x in WITHOUT_IDS], trace.slice(0, profiled))
        about = {"text": "Zipf's law", "over": "skew", "x": cell.exponent, "group": number}
        about |= {"independent": float(cell.draws)}
        served = trace.slice(profiled, trace.tokens)
        yield from (cell.about | about | row for row in _judged(cell, served, fitted))


def _judged(cell: RegretCell, served: RoutingTrace, fitted: dict[str, Predictor]) -> Iterator[dict[str, Any]]:
    problem = problem_of(cell, served.popularity())
    limit_s = cell.slack * least_latency_s(problem)
    problem = problem.with_limit(limit_s)
    best = best_on_real_tokens(problem)
    for name, fit in fitted.items():
        found = regret(problem, np.asarray(fit.predict(served.token_id, served), float), best)
        made = found.made
        beyond = None if made is None else made.latency_s / limit_s - 1
        late = made is None or made.late
        yield {"predictor": name, "regret": found.share, "beyond": beyond, "late": late, "failed": made is None}


GROUP = ["model", "over", "text", "x", "predictor"]


def table(rows: Rows) -> pd.DataFrame:
    """Of each predictor: mean regret, and latency beyond the limit, with intervals over batches (skew: draws).

    `late_share`, `failed_share`: of the batches; the means are of those that did not fail. `independent`: batches
    that there are sequences for.
    """
    import pandas as pd

    found = []
    for key, group in pd.DataFrame(rows).groupby(GROUP, sort=False):
        served = group[~group["failed"]]
        independent = min(float(group["independent"].iloc[0]), len(served))
        found.append(
            dict(zip(GROUP, key, strict=True))
            | _mean("regret", served, independent)
            | _mean("beyond", served, independent)
            | {"late_share": float(group["late"].mean()), "failed_share": float(group["failed"].mean())}
            | {"batches": len(group), "independent": independent}
        )
    return pd.DataFrame(found)


def _mean(name: str, rows: pd.DataFrame, independent: float) -> dict[str, Any]:
    """With its interval; NaN where no plan served."""
    empty = dict.fromkeys((name, f"{name}_low", f"{name}_high"), np.nan)
    return with_interval(name, rows[name].to_numpy(float), independent) if len(rows) else empty


FIGURE = PaperFigure("regret", Settings, cells, compute, table, claims, draw)
