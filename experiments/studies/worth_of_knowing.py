"""What it is worth to know a constant before deciding: which one to measure next."""

from __future__ import annotations

import numpy as np

SHUFFLES = 8


def worth_of_knowing(logs: np.ndarray, usd: np.ndarray) -> np.ndarray:
    """Expected value of partial perfect information of each constant, by regression; in the unit of `usd`.

    Strong, Oakley and Brennan 2014: the expected bills given a constant are a smooth function of it, here a
    parabola fitted to the draws; knowing it saves the least of the means less the mean of the least. What a
    shuffled constant would save, which is nothing but the fit's own noise, is taken off: what a constant that does
    not matter is worth is as often below 0 as above.

    Args:
        logs: of the constants' factors, shape (draws, constants). usd: bills of the choices, (draws, choices).
    """
    rng = np.random.default_rng(0)

    def saved(known: np.ndarray) -> float:
        basis = np.vander(known, 3)
        fitted = basis @ np.linalg.lstsq(basis, usd, rcond=None)[0]
        return float(fitted.mean(axis=0).min() - fitted.min(axis=1).mean())

    def by_chance(known: np.ndarray) -> float:
        return float(np.mean([saved(rng.permutation(known)) for _ in range(SHUFFLES)]))

    if (usd.argmin(axis=1) == usd.mean(axis=0).argmin()).all():
        return np.zeros(logs.shape[1])  # the same is cheapest whatever is known
    return np.array([saved(known) - by_chance(known) for known in logs.T])
