"""Where cutting a model pays: public models at each precision, whole, in blocks, and an expert a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.studies.presets import GROUPS, LARGEST_MB, MEMORY_MB, MILLION
from experiments.tools.markdown import number, table
from moe.errors import InputError
from moe.files import write_whole
from moe.routing.synthetic import zipf
from moe.spec import Weights, load_spec
from optimizer.blocks import SHAPES, needed_mb
from optimizer.exact.shapes import solve_shapes
from optimizer.grouped import group_experts
from optimizer.problem import make_problem
from optimizer.solvers import solve, solve_stages
from optimizer.staged_evaluation import evaluate_staged
from simulator.plan import DeploymentProblem
from simulator.profiles.schema import PlatformProfile

PRECISIONS: tuple[Weights, ...] = ("fp32", "bf16", "int8", "int4")
GAP = 1e-3
"""How far the cost of a model in blocks may be above the optimum, as a share."""


@dataclass(frozen=True)
class ShapeRow:
    """One model at one precision, without a latency limit, by the closed form; money is USD per million tokens.

    Attributes:
        model, weights: preset and precision. parameters: of the model.
        needs_mb: memory of the whole model in one function.
        whole_usd, whole_s: in one function, and its latency; NaN where it does not fit.
        cut_usd, cut_s, cut_functions: in two functions of whole blocks at least; NaN where a block does not fit.
        experts_usd, experts_s, experts_functions: a function for each expert, or for each group of them.
    """

    model: str
    weights: str
    parameters: float
    needs_mb: float
    whole_usd: float = np.nan
    whole_s: float = np.nan
    cut_usd: float = np.nan
    cut_s: float = np.nan
    cut_functions: int = 0
    experts_usd: float = np.nan
    experts_s: float = np.nan
    experts_functions: int = 0

    @property
    def cheapest(self) -> str:
        """The shape that costs least."""
        costs = {"whole": self.whole_usd, "blocks": self.cut_usd, "expert functions": self.experts_usd}
        return min(costs, key=lambda name: np.nan_to_num(costs[name], nan=np.inf))


def study_shapes(
    names: Sequence[str],
    profile: PlatformProfile,
    batch_tokens: int,
    skew: float,
    seed: int = 0,
    precisions: Sequence[Weights] = PRECISIONS,
    update: Callable[[int, int], None] = lambda done, total: None,
) -> list[ShapeRow]:
    """A row for each preset and precision, by model size.

    Args:
        names: presets, or files of a model's sizes. profile: the platform.
        batch_tokens: tokens of a batch. skew: Zipf exponent of expert popularity.
        precisions: of the weights. update: told (done, all).
    """
    rows = []
    for name in names:
        for weights in precisions:
            rows.append(_row(name, weights, profile, batch_tokens, skew, seed))
            update(len(rows), len(names) * len(precisions))
    return sorted(rows, key=lambda row: (row.parameters, PRECISIONS.index(row.weights)))


def _row(
    name: str, weights: Weights, profile: PlatformProfile, batch_tokens: int, skew: float, seed: int
) -> ShapeRow:
    spec = load_spec(name, weights=weights)
    tokens = batch_tokens * spec.top_k * zipf(spec.moe_layers, spec.experts, skew, np.random.default_rng(seed))
    problem = make_problem(
        spec,
        tokens,
        profile,
        memory_mb=MEMORY_MB,
        non_moe_memory_mb=LARGEST_MB,
        objective="total",
        shapes=SHAPES,
    )
    found: dict[str, Any] = {}
    for shape, of in (("whole", _whole), ("cut", _cut), ("experts", _experts)):
        try:
            usd, latency_s, functions = of(problem)
        except InputError:  # does not fit
            continue
        found |= {f"{shape}_usd": usd / batch_tokens * MILLION, f"{shape}_s": latency_s}
        found |= {} if shape == "whole" else {f"{shape}_functions": functions}
    return ShapeRow(spec.name, weights, spec.parameters, needed_mb(problem), **found)


def _whole(problem: DeploymentProblem) -> tuple[float, float, int]:
    plan = solve_stages(problem, "whole-model")
    return plan.total_cost_usd or 0.0, plan.latency_s or 0.0, 1


def _cut(problem: DeploymentProblem) -> tuple[float, float, int]:
    layers = len(problem.layers)
    pairs = [(i, j) for i in range(layers) for j in range(i + 1, layers + 1) if j - i < layers]
    found = solve_shapes(problem, ("blocks",), GAP, pairs)
    value = evaluate_staged(problem, found.plan("exact"))
    return value.total_cost_usd, value.latency_s, value.functions


def _experts(problem: DeploymentProblem) -> tuple[float, float, int]:
    group = max(1, -(-len(problem.layers[0].experts) // GROUPS))
    plan = solve(group_experts(problem.with_blocks(None), group, "load").of_problem(problem), "exact", gap=GAP)
    if not plan.feasible:
        raise InputError(f"{problem.name}: no plan fits the largest function")
    functions = sum(len(layer.experts) for layer in plan.layers) + len(plan.layers) + 1
    return plan.total_cost_usd or 0.0, plan.latency_s or 0.0, functions


HEADER = (
    *("model", "weights", "parameters", "MB in one function", "whole", "s"),
    *("blocks", "s", "functions", "expert functions", "s", "functions", "cheapest"),
)


def cells(row: ShapeRow) -> list[str]:
    """A row's text; a dash where a shape does not fit."""

    def pair(usd: float, seconds: float) -> list[str]:
        return ["-", "-"] if np.isnan(usd) else [number(usd), number(seconds)]

    return [
        *(row.model, row.weights, f"{row.parameters / 1e9:.3g} B", f"{row.needs_mb:,.0f}"),
        *pair(row.whole_usd, row.whole_s),
        *pair(row.cut_usd, row.cut_s),
        f"{row.cut_functions:,}",
        *pair(row.experts_usd, row.experts_s),
        *(f"{row.experts_functions:,}", row.cheapest),
    ]


SHOWN_HEADER = (*HEADER[:2], "whole\nmodel", "blocks", "expert\nfunctions", "cheapest")


def shown_cells(row: ShapeRow) -> list[str]:
    """Of a row's text what fits a terminal: its costs."""
    every = cells(row)
    return [*every[:2], every[4], every[6], every[9], every[-1]]


def write_shapes(rows: Sequence[ShapeRow], title: str, folder: Path) -> None:
    """shapes.csv, and shapes.md, which shows shapes.png."""
    import pandas as pd

    records = [asdict(row) | {"cheapest": row.cheapest} for row in rows]
    write_whole(folder / "shapes.csv", pd.DataFrame(records).to_csv(index=False))
    shown = table(list(HEADER), map(cells, rows))
    write_whole(folder / "shapes.md", f"# {title}\n\n![Cost by shape](shapes.png)\n\n{shown}\n")
