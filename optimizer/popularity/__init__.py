"""Prediction of expert popularity, all predictors behind one interface.

`predictor("bayes").fit(profiled).predict(token_ids)` is the popularity d[e, i] to plan with;
`prediction_error` and `skew` measure it.
"""

import inspect
from typing import Any

from moe.errors import InputError, nearest
from optimizer.popularity.accuracy import PredictionError, prediction_error, skew
from optimizer.popularity.predictors import (
    Bayes,
    History,
    Lina,
    Oracle,
    Predictor,
    TablePredictor,
    Uniform,
)
from optimizer.popularity.table import ProfileTable

__all__ = [
    "PREDICTORS",
    "PredictionError",
    "Predictor",
    "ProfileTable",
    "TablePredictor",
    "prediction_error",
    "predictor",
    "skew",
]

PREDICTORS: dict[str, type[Predictor]] = {
    "bayes": Bayes,
    "lina": Lina,
    "history": History,
    "uniform": Uniform,
    "oracle": Oracle,
}


def predictor(name: str, **options: Any) -> Predictor:
    """The predictor of that name, not yet fitted.

    Args:
        name: a name in PREDICTORS.
        options: its constructor's arguments.

    Raises InputError for an unknown name, option or value.
    """
    if name not in PREDICTORS:
        raise InputError(f"predictor: no predictor '{name}'{nearest(name, PREDICTORS)}")
    takes = list(inspect.signature(PREDICTORS[name]).parameters)
    for option in options:
        if option not in takes:
            raise InputError(f"predictor '{name}': no option '{option}'{nearest(option, takes)}")
    return PREDICTORS[name](**options)
