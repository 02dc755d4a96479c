"""One quantity from its runs: split, choose, hold against the base profile's value, and say how sure it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from calibration.fitting.laws import Law, Runs, Value
from calibration.tables import Origin
from moe.statistics import percentile_interval, resamples
from simulator.profiles.constant import Constant, Fit

Errors: TypeAlias = tuple[float, float | None]
Confidence: TypeAlias = Literal["high", "medium", "low"]
RESAMPLES, DRAWS = 200, 40
LEAST_RUNS = 3  # that can be split into fit, selection and test


@dataclass(frozen=True)
class Quantity:
    """One constant that data measure.

    Attributes:
        path: where it stands in the profile. unit: of the constant.
        law: what kind of thing it is. runs: independent of each other, in the order of their names.
        origin: the file or files. source: what the profile then names.
        x_label, y_label: of its picture, with units.
        most: the confidence that the data allow at most.
        between: bounds between which the data cannot tell values apart; None: they tell any apart.
    """

    path: tuple[str, ...]
    unit: str
    law: Law
    runs: Runs
    origin: Origin
    source: str
    x_label: str
    y_label: str
    most: Confidence = "high"
    between: tuple[float, float] | None = None


@dataclass(frozen=True)
class Absent:
    """An optional constant of the profile that data would show, and do not: the profile has none.

    Attributes:
        path: where it would stand.
    """

    path: tuple[str, ...]


@dataclass(frozen=True)
class Fitted:
    """A quantity, and what became of it.

    Attributes:
        quantity: what was fitted. constant: what stands in the profile now.
        before: the base profile's; None where it had none. fitted: the value of the fit, kept or not.
        select_error, test_error: of the fit and of the base (None: it had none) on the runs that choose, and on
            those that choose nothing; None of fewer than three runs.
    """

    quantity: Quantity
    constant: Constant
    before: Constant | None
    fitted: Constant
    select_error: Errors | None
    test_error: Errors | None

    @property
    def fit(self) -> Fit:
        """What the fitted value rests on."""
        assert self.fitted.fit is not None
        return self.fitted.fit

    @property
    def samples(self) -> int:
        """Values of all runs."""
        return sum(len(run) for run in self.quantity.runs)


def split(runs: Sequence[np.ndarray]) -> tuple[Runs, Runs, Runs]:
    """Runs to fit, to select and to test: every fourth selects, every fourth tests, so that all see every season.

    Fewer than three runs cannot be split: all are fitted, and nothing is selected or tested.
    """
    if len(runs) < LEAST_RUNS:
        return list(runs), [], []
    select = [run for k, run in enumerate(runs) if k % 4 == 1]
    test = [run for k, run in enumerate(runs) if k % 4 == 2]
    return [run for k, run in enumerate(runs) if k % 4 in (0, 3)], select, test


def fit(quantity: Quantity, before: Constant | None, seed: int = 0) -> Fitted:
    """The constant of a quantity.

    The family that describes the selection best is fitted again to fit and selection together; where the base's
    value describes the selection at least as well, it is kept. The test runs choose nothing.
    """
    law = quantity.law
    first, select, test = split(quantity.runs)
    candidates = law.candidates(first)
    candidates = {name: value for name, value in candidates.items() if not law.misfits(value, first)} or candidates
    errors = {name: law.error(value, select) for name, value in candidates.items()} if select else {}
    method = min(errors, key=errors.__getitem__) if errors else next(iter(candidates))
    used = [*first, *select]
    value = law.candidates(used)[method]
    chosen = _errors(law, candidates[method], before, select)
    held_out = _errors(law, value, before, test)
    keep = chosen is not None and chosen[1] is not None and chosen[1] <= chosen[0]
    drawn = _drawn(quantity, used, value, method, seed)
    fitted = Constant(
        value=value if not isinstance(value, float) else float(f"{value:.6g}"),
        unit=quantity.unit,
        source=quantity.source,
        date=quantity.origin.date,
        confidence=_confidence(len(used), quantity.most),
        fit=Fit(
            method=method,
            samples=sum(len(run) for run in used),
            runs=len(used),
            interval=_interval(drawn),
            draws=None if drawn is None or law.tail else tuple(_rounded(x, 6) for x in drawn[:DRAWS]),
            held_out_error=_rounded(held_out[0]) if held_out else None,
            region=quantity.origin.region,
            file=quantity.origin.file,
            sha256=quantity.origin.sha256,
        ),
    )
    constant = before.model_copy(update={"kept": "better than the fit"}) if keep and before else fitted
    return Fitted(quantity, constant, before, fitted, chosen, held_out)


def _errors(law: Law, value: Value, before: Constant | None, runs: Runs) -> Errors | None:
    """Errors of a value and of the base's on runs."""
    if not runs:
        return None
    return law.error(value, runs), None if before is None else law.error(before.value, runs)


def _drawn(quantity: Quantity, runs: Runs, value: Value, method: str, seed: int) -> np.ndarray | None:
    """Draws of the value (of a distribution its median); None where a single run tells no spread."""
    if quantity.between is not None:
        return np.random.default_rng(seed).uniform(*quantity.between, RESAMPLES)
    law = quantity.law
    drawn = resampled(lambda chosen: law.centre(chosen, method), runs, seed)
    return None if drawn is None else drawn * (law.number(value) / law.centre(runs, method))


def _interval(drawn: np.ndarray | None) -> tuple[float, float] | None:
    if drawn is None:
        return None
    low, high = percentile_interval(drawn)
    return _rounded(low), _rounded(high)


def interval(centre: Callable[[Runs], float], runs: Runs, seed: int) -> tuple[float, float] | None:
    """95% interval of an estimate. None of one run."""
    return _interval(resampled(centre, runs, seed))


def resampled(centre: Callable[[Runs], float], runs: Runs, seed: int) -> np.ndarray | None:
    """An estimate of each of so many resamplings of whole runs: one run's values are not independent.

    Shape (resamples,); None of one run. The same runs are drawn for all quantities of as many runs.
    """
    if len(runs) < 2:
        return None
    return np.array([centre([runs[k] for k in row]) for row in resamples(len(runs), RESAMPLES, seed)])


def _confidence(runs: int, most: Confidence) -> Confidence:
    return most if most != "high" or runs >= 5 else "medium"


def _rounded(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}") if abs(value) > 1e-12 else 0.0
