"""How many tokens every predictor is off, on the profiled text and on others, over gates, experts and skew. Ours.

What a wrong prediction costs is the regret figure.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import field_validator

from experiments.paper.figure import PaperFigure, Rows
from experiments.paper.figures.predictors.claims import claims
from experiments.paper.figures.predictors.picture import draw
from experiments.paper.routing import Cell, cell_fields, routing_of, with_interval, with_variant
from experiments.paper.settings import FigureSettings, ModelChoice, TextChoice, Variant
from experiments.prediction.judge import Profile, Served, variations
from moe.errors import nearest, shortened
from moe.pretrained.settings import GateKind
from optimizer.popularity import PREDICTORS, ProfileTable, skew

if TYPE_CHECKING:
    import pandas as pd

SKEWS = (1.0, 1.25, 1.5, 2.0, 3.0, np.inf)
"""Between these, layers are taken together: tokens of the hottest expert over the mean."""


class Settings(FigureSettings):
    """The predictors' figure.

    Attributes:
        texts: each is profiled, and the held-out part of each is predicted from it.
        variants: numbers of experts and top-k. gate_kinds: of each.
        predictors: by name, or module:Class of one's own; each with all its variants and ways of counting.
    """

    variants: tuple[Variant, ...]
    gate_kinds: tuple[GateKind, ...] = ("trained", "random")
    predictors: tuple[str, ...] = tuple(name for name in PREDICTORS if name != "oracle")

    def kinds_of_gates(self, model: ModelChoice) -> tuple[GateKind, ...]:
        """Of all cells of a model."""
        return self.gate_kinds

    @field_validator("predictors")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if ":" not in name and name not in PREDICTORS:
                raise ValueError(f"no predictor {shortened(name)}{nearest(name, PREDICTORS)}")
        return names


class PredictorCell(Cell):
    """One profiled text, and all that are served."""

    served: tuple[TextChoice, ...]
    predictors: tuple[str, ...]


def cells(settings: Settings) -> list[PredictorCell]:
    """One for each model, kind and seed of its gates, variant and profiled text."""
    own = {"served": settings.texts, "predictors": settings.predictors}
    return [
        PredictorCell(**with_variant(fields, variant) | own | {"gate": gate})
        for fields in cell_fields(settings)
        for gate, variant in itertools.product(settings.gate_kinds, settings.variants)
    ]


def compute(cell: PredictorCell) -> Rows:
    """A row for each predictor and served text; `shares`, `skews`: of each layer."""
    profiled = routing_of(cell).profiled
    held_out = {text.title: routing_of(cell.model_copy(update={"text": text})).held_out for text in cell.served}
    profile = Profile(ProfileTable.from_trace(profiled), profiled)
    about = cell.about | {"gate": cell.gate, "gate_seed": cell.gate_seed}
    found = []
    for name in cell.predictors:
        for options in variations(name, {}):
            fitted = profile.fit(name, options)
            for served, trace in held_out.items():
                judged, real = fitted.judge(Served(trace)), trace.popularity()
                off = np.abs(judged.popularity - real).mean(axis=1) / real.mean(axis=1)
                found.append(
                    about
                    | {"served": served, "predictor": judged.name, "counting": options.get("counting")}
                    | {"tokens": judged.error.tokens, "share": judged.error.share}
                    | {"shares": off.tolist(), "skews": skew(real).tolist()}
                )
    return found


CASE = ["model", "text", "experts", "top_k", "gate", "gate_seed", "served"]


def table(rows: Rows) -> pd.DataFrame:
    """Mean errors with intervals: rows `case`, over gates and texts; rows `skew`, of layers as skewed.

    `less_lina`: the error less that of `lina` with the same way of counting, case by case; `better_than_lina`: in
    which share of the cases it is below 0.
    """
    import pandas as pd

    data = pd.DataFrame(rows)
    data["on"] = np.where(data["text"] == data["served"], "same text", "other text")
    lina = data[data["predictor"].str.startswith("lina, ")][[*CASE, "counting", "share"]]
    data = data.merge(lina, how="left", on=[*CASE, "counting"], suffixes=("", "_lina"))
    data.loc[data["counting"].isna(), "share_lina"] = np.nan
    data["less_lina"] = data["share"] - data["share_lina"]
    found: list[dict[str, Any]] = []
    by = ["model", "on", "experts", "top_k", "predictor"]
    for key, group in data.groupby(by, sort=False):
        row = {"row": "case"} | dict(zip(by, key, strict=True))
        row |= with_interval("share", group["share"].to_numpy()) | {"tokens": float(group["tokens"].mean())}
        if group["less_lina"].notna().all():
            row |= with_interval("less_lina", group["less_lina"].to_numpy())
            row["better_than_lina"] = float((group["less_lina"] < 0).mean())
        found.append(row | {"cases": len(group)})
    return pd.DataFrame(found + _by_skew(data))


def _by_skew(data: pd.DataFrame) -> list[dict[str, Any]]:
    layers = data[["model", "on", "predictor", "shares", "skews"]].explode(["shares", "skews"])
    found: list[dict[str, Any]] = []
    for low, high in itertools.pairwise(SKEWS):
        within = layers[(layers["skews"] >= low) & (layers["skews"] < high)]
        for (model, on, predictor), group in within.groupby(["model", "on", "predictor"], sort=False):
            about = {"row": "skew", "model": model, "on": on, "predictor": predictor, "skew_from": low}
            found.append(about | with_interval("share", group["shares"].to_numpy(float)) | {"cases": len(group)})
    return found


FIGURE = PaperFigure("predictors", Settings, cells, compute, table, claims, draw)
