"""The predictors' figure, tiny: if these fail, a worse predictor is shown as the better one."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from experiments.paper.claims import Claim
from experiments.paper.figures.predictors import figure as predictors
from experiments.paper.routing import routing_of
from experiments.paper.settings import Variant
from optimizer.popularity import predictor
from tests.experiments.paper.cases import OTHER, TEXT, made, tiny

SMALL = {
    "texts": (TEXT, OTHER),
    "variants": (Variant(), Variant(top_k=2)),
    "gate_kinds": ("random",),
    "gates": 2,
    "predictors": ("bayes", "lina", "history", "oracle"),
}
Figure = tuple[pd.DataFrame, dict[str, Claim]]


@pytest.fixture(scope="module")
def figure(no_recording: None) -> Figure:
    return made(predictors.FIGURE, **SMALL)


def test_every_predictor_has_every_case_and_the_oracle_is_right(figure: Figure) -> None:
    data, _ = figure
    cases = data[data["row"] == "case"]
    assert set(cases["predictor"]) >= {"bayes, printed, hard", "lina, expected", "history", "oracle"}
    assert (cases.groupby(["on", "top_k"])["predictor"].nunique() == 10).all()
    assert (cases["cases"] == 2 * 2).all()  # texts and gates
    assert (cases[cases["predictor"] == "oracle"]["share"] == 0).all()
    layers = data[(data["row"] == "skew") & (data["predictor"] == "lina, hard")]["cases"].sum()
    assert layers == 2 * 2 * 2 * 2 * 6  # profiled x served x gates x variants x layers


@pytest.mark.usefixtures("no_recording")
def test_an_error_is_the_mean_distance_on_the_other_text(figure: Figure) -> None:
    data, _ = figure
    off = []
    for cell in predictors.cells(tiny(predictors.Settings, **SMALL)):
        if cell.top_k == 1:
            (other,) = (text for text in (TEXT, OTHER) if text != cell.text)
            test = routing_of(cell.model_copy(update={"text": other})).held_out
            made_ = predictor("lina", counting="hard").fit(routing_of(cell).profiled).predict(test.token_id)
            off.append(np.abs(made_ - test.popularity()).mean() / test.popularity().mean())
    rows = data[(data["predictor"] == "lina, hard") & (data["on"] == "other text") & (data["top_k"] == 1)]
    assert rows["share"].item() == pytest.approx(np.mean(off))


def test_bayes_is_held_against_lina_that_counts_alike(figure: Figure) -> None:
    data, claims = figure
    cases = data[data["row"] == "case"].set_index(["predictor", "on", "top_k"])["share"]
    rows = data[(data["row"] == "case") & data["predictor"].str.startswith("bayes")]
    for row in rows.itertuples():
        lina = cases[(f"lina, {row.predictor.split(', ')[2]}", row.on, row.top_k)]
        assert row.less_lina == pytest.approx(row.share - lina)
    assert data[data["predictor"].isin(["history", "oracle"])]["less_lina"].isna().all()
    assert claims["least off (same text)"].ours == "oracle 0.0%"


def test_it_is_drawn(figure: Figure) -> None:
    assert len(predictors.draw(figure[0]).axes) == 2


def test_an_unknown_predictor_is_named() -> None:
    with pytest.raises(ValidationError, match="no predictor 'bays'; did you mean 'bayes'"):
        tiny(predictors.Settings, variants=(Variant(),), predictors=("bays",))
