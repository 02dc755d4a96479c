"""Prediction of expert popularity, all predictors behind one interface.

`predictor("bayes").fit(profiled).predict(token_ids)` is the popularity d[e, i] to plan with;
`prediction_error` and `skew` measure it. `predictor("my_module:MyPredictor")` is one of a user's own.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from moe.errors import InputError, nearest, shortened
from moe.plugins import load_object
from moe.trace import RoutingTrace
from optimizer.popularity.accuracy import PredictionError, prediction_error, skew
from optimizer.popularity.interface import Batch, History, Oracle, Predictor, TablePredictor, Uniform
from optimizer.popularity.lstm import Lstm
from optimizer.popularity.scored import Bayes, Lina, Position
from optimizer.popularity.similar_prompts import SimilarPrompts
from optimizer.popularity.table import ProfileTable
from optimizer.popularity.table_file import load_table, save_table

__all__ = [
    "PREDICTORS",
    "Batch",
    "PredictionError",
    "Predictor",
    "ProfileTable",
    "TablePredictor",
    "load_table",
    "options_of",
    "predict",
    "prediction_error",
    "predictor",
    "save_table",
    "skew",
]

PREDICTORS: dict[str, type[Predictor]] = {
    "bayes": Bayes,
    "lina": Lina,
    "position": Position,
    "history": History,
    "lstm": Lstm,
    "similar-prompts": SimilarPrompts,
    "uniform": Uniform,
    "oracle": Oracle,
}


def predictor(name: str | Callable[..., Predictor], **options: Any) -> Predictor:
    """The predictor of that name, not yet fitted.

    Args:
        name: a name in PREDICTORS, or a class or function that makes one, itself or as `module:name`.
        options: its arguments.

    Raises InputError for an unknown name, option or value.
    """
    make, takes = _maker(name), options_of(name)
    for option in options:
        if option not in takes:
            raise InputError(f"predictor '{_shown(name)}': no option {shortened(option)}{nearest(option, takes)}")
    made = make(**options)
    if not (callable(getattr(made, "fit", None)) and callable(getattr(made, "predict", None))):
        raise InputError(f"predictor '{_shown(name)}': expected an object with fit and predict, got {made!r}")
    return made


def predict(
    profiled: RoutingTrace, served: RoutingTrace, name: str | Callable[..., Predictor] = "bayes", **options: Any
) -> np.ndarray:
    """Predicted popularity of the tokens of one trace, learnt from another.

    Args:
        profiled: what is learnt from.
        served: the tokens to be served; of its routing only `oracle` looks.
        name, options: of the predictor, as `predictor` takes them.

    Returns:
        tokens of each expert, shape (layers, experts) float; rows sum to tokens x top-k.

    Raises InputError for an unknown predictor or option, and for traces of different models.

    >>> import numpy as np, serverless_moe as smoe
    >>> np.save("routed.npy", np.array([[[0]], [[1]], [[0]], [[0]]]))
    >>> trace = smoe.read_trace("routed.npy", experts=2)
    >>> smoe.predict(trace.slice(0, 2), trace.slice(2, 4), "history")
    array([[1., 1.]])
    """
    return predictor(name, **options).fit(profiled).predict(served.token_id, served)


def options_of(name: str | Callable[..., Predictor]) -> list[str]:
    """The options that a predictor takes. Raises InputError for an unknown name."""
    return list(inspect.signature(_maker(name)).parameters)


def _maker(name: str | Callable[..., Predictor]) -> Callable[..., Predictor]:
    if callable(name):
        return name
    if name in PREDICTORS:
        return PREDICTORS[name]
    if ":" not in name:
        raise InputError(f"predictor: no predictor {shortened(name)}{nearest(name, PREDICTORS)}")
    made: Callable[..., Predictor] = load_object(name, "predictor", ("fit", "predict"))
    return made


def _shown(name: str | Callable[..., Predictor]) -> str:
    return name if isinstance(name, str) else getattr(name, "__name__", repr(name))
