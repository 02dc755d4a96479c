"""How good a prediction of expert popularity is, and how unevenly popular the experts are."""

from dataclasses import dataclass

import numpy as np

from moe.errors import InputError


@dataclass(frozen=True)
class PredictionError:
    """The paper's accuracy (Fig. 10).

    Attributes:
        tokens: mean over layers and experts of |predicted - real|, tokens.
        share: that as a share of the mean tokens per expert, to compare models of different expert counts.
    """

    tokens: float
    share: float


def prediction_error(predicted: np.ndarray, real: np.ndarray) -> PredictionError:
    """The error of a predicted popularity.

    Args:
        predicted, real: tokens of each expert, shape (layers, experts).

    Raises InputError when the shapes differ.
    """
    if np.shape(predicted) != np.shape(real):
        raise InputError(
            f"predicted popularity: expected {np.shape(real)} layers and experts as served, "
            f"got {np.shape(predicted)}"
        )
    tokens = float(np.abs(np.asarray(predicted, float) - real).mean())
    per_expert = float(np.mean(real))
    return PredictionError(tokens, tokens / per_expert if per_expert > 0 else 0.0)


def skew(popularity: np.ndarray) -> np.ndarray:
    """Tokens of the hottest expert over the mean, of each layer: shape (layers,), 1 where all are alike.

    Args:
        popularity: tokens of each expert, shape (layers, experts).
    """
    popularity = np.asarray(popularity, float)
    mean = popularity.mean(axis=1)
    return np.divide(popularity.max(axis=1), mean, out=np.ones(len(mean)), where=mean > 0)
