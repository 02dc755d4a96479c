"""Gaussian processes of scikit-optimize. Imports scikit-optimize: import it inside functions."""

import warnings
from typing import Any

import numpy as np
from scipy.optimize import minimize
from skopt.acquisition import gaussian_ei
from skopt.learning import GaussianProcessRegressor
from skopt.learning.gaussian_process.kernels import ConstantKernel, Matern

NEAR = 0.1
"""Standard deviation of candidates around the best point, as a share of a dimension."""


def next_point(
    points: np.ndarray, scores: np.ndarray, rng: np.random.Generator, candidates: int = 1000
) -> np.ndarray:
    """The candidate of largest expected improvement, half of them uniform, half around the best point.

    Args:
        points: tried so far, in the unit cube, shape (trials, dimensions).
        scores: shape (trials,).
        rng: of the candidates.
        candidates: their number.
    """
    dimensions = points.shape[1]
    around = points[scores.argmin()] + NEAR * rng.standard_normal((candidates // 2, dimensions))
    some = np.concatenate((rng.random((candidates - candidates // 2, dimensions)), np.clip(around, 0, 1)))
    return some[int(np.argmax(expected_improvement(points, scores, some)))]


def expected_improvement(points: np.ndarray, scores: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Of the least score, in a Gaussian process with a Matern 5/2 kernel; shape (candidates,).

    Args:
        points: tried so far, each dimension to the same scale of about 1, shape (trials, dimensions).
        scores: shape (trials,).
        at: the candidates, shape (candidates, dimensions).
    """
    far = np.sqrt(points.shape[1])
    kernel = ConstantKernel(1.0) * Matern(far, (0.05, 100 * far), nu=2.5)
    found: np.ndarray = gaussian_ei(at, _fitted(kernel, points, scores), y_opt=scores.min())
    return found


def _few_steps(loss: Any, theta: np.ndarray, bounds: Any) -> tuple[np.ndarray, float]:
    """Hyperparameters after a few steps of L-BFGS: a few dozen points say no more about them."""
    found = minimize(loss, theta, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 5})
    return found.x, float(found.fun)


def _fitted(kernel: Any, x: np.ndarray, y: np.ndarray) -> Any:
    process = GaussianProcessRegressor(
        kernel=kernel, normalize_y=True, noise="gaussian", optimizer=_few_steps, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # length scales at their bounds: 30 points in 1,000 dimensions
        return process.fit(x, y)
