"""Fig. 10: how many tokens the predicted popularity is off, bayes against lina."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from experiments.paper.figure import PaperFigure, Rows
from experiments.paper.figures.fig10.claims import claims
from experiments.paper.figures.fig10.counting import COUNTING
from experiments.paper.figures.fig10.picture import draw
from experiments.paper.routing import Cell, cell_fields, routing_of, with_interval, with_variant
from experiments.paper.settings import FigureSettings, Variant
from optimizer.popularity import ProfileTable, TablePredictor, prediction_error, predictor

if TYPE_CHECKING:
    import pandas as pd


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


FIGURE = PaperFigure("10", Settings, cells, compute, table, claims, draw)
