"""Fig. 10: how many tokens the predicted popularity is off, bayes against lina."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import Field, model_validator

from experiments.paper.claims import OWN, Claim, counted
from experiments.paper.figure import PaperFigure, Rows
from experiments.paper.routing import Cell, cell_fields, routing_of, with_interval, with_variant
from experiments.paper.settings import FigureSettings, Variant
from experiments.tools import style
from optimizer.popularity import ProfileTable, TablePredictor, prediction_error, predictor

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LOOKS = {"bayes": (style.BLUE, "o"), "lina": (style.ORANGE, "s")}
COUNTING = ("hard", "expected")
"""`hard` counts each token for its likeliest expert, as the paper does; `expected` its whole posterior."""


class Settings(FigureSettings):
    """Fig. 10: numbers of experts and top-k; `pairs` of model and text, all of them where none is named.

    `test_tokens` are held out, the rest is profiled.
    """

    variants: tuple[Variant, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    test_tokens: int = Field(10240, ge=128)

    @model_validator(mode="after")
    def _known(self) -> Self:
        """Pairs are of the figure's models and texts."""
        models, texts = {x.title for x in self.models}, {x.title for x in self.texts}
        for model, text in self.pairs:
            if model not in models or text not in texts:
                raise ValueError(f"pairs: [{model}, {text}]: expected one of models and one of texts")
        return self


def cells(settings: Settings) -> list[Cell]:
    """One for each pair of model and text, variant and seed of the gates."""
    return [
        Cell(
            **with_variant(fields, variant) | {"profiled_share": 1 - settings.test_tokens / fields["text"].tokens}
        )
        for fields in cell_fields(settings)
        if not settings.pairs or (fields["model"].title, fields["text"].title) in settings.pairs
        for variant in settings.variants
    ]


def compute(cell: Cell) -> Rows:
    """A row for each predictor: its error on all held-out tokens, which it was not profiled on."""
    routing = routing_of(cell)
    profile, test = ProfileTable.from_trace(routing.profiled), routing.held_out
    real = test.popularity()
    found = []
    for name in ("bayes", "lina"):
        for counting in COUNTING:
            made = predictor(name, counting=counting)
            assert isinstance(made, TablePredictor)
            error = prediction_error(made.fit_table(profile).predict(test.token_id), real)
            found.append(
                cell.about
                | {"gate_seed": cell.gate_seed, "predictor": name, "counting": counting}
                | {"tokens": error.tokens, "share": error.share}
                | {"test_tokens": test.tokens, "profiled_tokens": routing.profiled.tokens}
            )
    return found


GROUP = ["model", "text", "experts", "top_k", "counting", "predictor", "test_tokens", "profiled_tokens"]


def table(rows: Rows) -> pd.DataFrame:
    """Means over the seeds of the gates, with their intervals."""
    import pandas as pd

    found: list[dict[str, Any]] = []
    for key, group in pd.DataFrame(rows).groupby(GROUP, sort=False):
        found.append(
            dict(zip(GROUP, key, strict=True))
            | with_interval("tokens", group["tokens"].to_numpy())
            | with_interval("share", group["share"].to_numpy())
            | {"gates": len(group)}
        )
    return pd.DataFrame(found)


def claims(data: pd.DataFrame) -> list[Claim]:
    """Bayes better in all; top-2 better than top-1; error falls with more experts."""
    found = []
    for counting in COUNTING:
        own = data[data["counting"] == counting]
        cases = own.pivot_table(index=["model", "text", "experts", "top_k"], columns="predictor", values="tokens")
        ratio = float((cases["bayes"] / cases["lina"]).mean())
        hard = counting == "hard"  # as the paper counts
        claim = counted("10", f"bayes is less off than lina{'' if hard else ', expected counting'}",
                        "in all" if hard else OWN, list(cases["bayes"] < cases["lina"]), "cases",
                        f"on average bayes' error is {ratio:.3f} times lina's")  # fmt: skip
        found.append(replace(claim, main=hard))
    hard = data[(data["counting"] == "hard") & (data["predictor"] == "bayes")]
    by = hard.set_index(["model", "text", "experts", "top_k"])
    places = hard[["model", "text"]].drop_duplicates().itertuples(index=False)
    top, more = [], []
    for model, text in places:
        for experts in sorted(hard["experts"].unique()):
            one, two = ((model, text, experts, k) for k in (1, 2))
            if one in by.index and two in by.index:
                top.append(
                    (by.loc[one, "tokens"], by.loc[two, "tokens"], by.loc[one, "share"], by.loc[two, "share"])
                )
        mine = [e for e in sorted(hard["experts"].unique()) if (model, text, e, 1) in by.index]
        for few, many in itertools.pairwise(mine):
            a, b = by.loc[(model, text, few, 1)], by.loc[(model, text, many, 1)]
            more.append((a["tokens"], b["tokens"], a["share"], b["share"]))
    found += [
        _compared("top-2 is predicted better than top-1", top, "models and texts"),
        _compared("the error in tokens falls with more experts", more, "steps to more experts"),
    ]
    return found


def _compared(claim: str, pairs: list[tuple[float, float, float, float]], of: str) -> Claim:
    """Whether the second of each pair of errors is the smaller one; in tokens, with the shares beside it."""
    shares = int(np.sum([d < c for _, _, c, d in pairs]))
    reason = (
        f"as a share of an expert's mean load the error falls in {shares} of {len(pairs)}: more experts share the "
        "same tokens, two choices double them"
    )
    return counted("10", claim, "yes", [b < a for a, b, _, _ in pairs], of, reason)


def draw(data: pd.DataFrame) -> Figure:
    """Errors by variant, in tokens and as shares: the mean over models and texts, and each as a small mark."""
    variants = list(data[["experts", "top_k"]].drop_duplicates().itertuples(index=False))
    figure = style.new_figure(7.2, 2.9)
    for axes, column in zip(figure.subplots(1, 2), ("tokens", "share"), strict=True):
        for k, (name, counting) in enumerate(itertools.product(("bayes", "lina"), COUNTING)):
            colour, marker = LOOKS[name]
            rows = data[(data["predictor"] == name) & (data["counting"] == counting)]
            for place, (experts, top_k) in enumerate(variants):
                errors = rows[(rows["experts"] == experts) & (rows["top_k"] == top_k)][column]
                x, face = place + (k - 1.5) * 0.17, colour if counting == "hard" else "white"
                axes.plot([x] * len(errors), errors, "_", color=colour, markersize=4, alpha=0.6)
                axes.plot(x, errors.mean(), marker, color=colour, markerfacecolor=face, markersize=5,
                          label=f"{name}, {counting}" if place == 0 else "_")  # fmt: skip
        axes.set_xticks(range(len(variants)), [f"{e} experts\ntop-{k}" for e, k in variants], fontsize=8)
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", alpha=0.25)
    left, right = figure.axes
    left.set_ylabel("error, tokens an expert")
    right.set_ylabel("error, share of an\nexpert's mean load")
    right.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    figure.legend(
        *left.get_legend_handles_labels(), frameon=False, fontsize=8, ncols=4, loc="outside upper center"
    )
    return figure


FIGURE = PaperFigure("10", Settings, cells, compute, table, claims, draw)
