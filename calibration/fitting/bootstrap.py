"""One quantity from its runs: split, choose, hold against the base profile's value, and say how sure it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from calibration.fitting.laws import Law, Runs, Value
from calibration.tables import Origin
from moe.statistics import t_half_width
from simulator.profiles.constant import Constant, Fit

Errors: TypeAlias = tuple[float, float | None]
Confidence: TypeAlias = Literal["high", "medium", "low"]
DRAWS = 40
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
        between: bounds between which the data cannot tell values apart; None: they tell any apart. Then the law's
            value of all runs stands, whatever the base has, and they are the interval.
        resolution: what cannot be told apart whatever the runs scatter, in `unit`; the interval is wider by it.
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
    resolution: float = 0.0


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

    The family that describes the selection best is fitted again to fit and selection together. The base's value
    is kept where it describes most runs at least as well as a fit to the others. The test runs choose nothing;
    how sure the value is, all runs say.
    """
    law = quantity.law
    first, select, test = split(quantity.runs)
    candidates = law.candidates(first)
    candidates = {name: value for name, value in candidates.items() if not law.misfits(value, first)} or candidates
    errors = {name: law.error(value, select) for name, value in candidates.items()} if select else {}
    method = min(errors, key=errors.__getitem__) if errors else next(iter(candidates))
    used = [*first, *select] if quantity.between is None else quantity.runs
    value = law.value(used, method)
    drawn = _drawn(quantity, method, seed)
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
            interval=quantity.between
            or interval([law.centre([run], method) for run in quantity.runs], quantity.resolution),
            draws=None if drawn is None or law.tail else tuple(_rounded(x, 6) for x in drawn),
            held_out_error=_rounded(law.error(value, test)) if test else None,
            region=quantity.origin.region,
            file=quantity.origin.file,
            sha256=quantity.origin.sha256,
        ),
    )
    keep = (
        bool(select) and quantity.between is None and before is not None and _describes(law, before, method, used)
    )
    constant = before.model_copy(update={"kept": "better than the fit"}) if keep and before else fitted
    chosen, held_out = (
        _errors(law, candidates[method], before, select),
        _errors(law, value, before, test),
    )
    return Fitted(quantity, constant, before, fitted, chosen, held_out)


def _describes(law: Law, before: Constant, method: str, runs: Runs) -> bool:
    """Whether the base's value describes most runs at least as well as what is fitted to the others."""
    better = [
        law.error(before.value, [run]) <= law.error(law.value([*runs[:k], *runs[k + 1 :]], method), [run])
        for k, run in enumerate(runs)
    ]
    return 2 * sum(better) > len(runs)


def _errors(law: Law, value: Value, before: Constant | None, runs: Runs) -> Errors | None:
    """Errors of a value and of the base's on runs."""
    if not runs:
        return None
    return law.error(value, runs), None if before is None else law.error(before.value, runs)


def interval(values: Sequence[float], resolution: float = 0.0) -> tuple[float, float] | None:
    """95% interval of what runs say, each by itself: Student's t of their logarithms. None of one run.

    Args:
        values: an estimate of each run, above 0. resolution: by which it is wider, as in `Quantity`.
    """
    if len(values) < 2:
        return None
    logs = np.log(values)
    low, high = np.exp(logs.mean() + t_half_width(logs) * np.array([-1.0, 1.0])).tolist()
    return _outward(max(0.0, low - resolution), math.floor), _outward(high + resolution, math.ceil)


def _outward(value: float, rounded: Callable[[float], int], digits: int = 5) -> float:
    """Rounded to so many digits, up or down: an interval that is written is no narrower."""
    if value <= 0 or not math.isfinite(value):
        return value
    unit = 10.0 ** (math.floor(math.log10(value)) - digits + 1)
    return float(f"{rounded(value / unit) * unit:.{digits}g}")


def _drawn(quantity: Quantity, method: str, seed: int) -> np.ndarray | None:
    """Draws of the value (of a distribution its median), as wide as its interval; None of one run.

    Each draw weighs the runs anew, the same for all quantities of as many runs: what one run has too fast in one
    constant and too slow in another stays together. Their logarithms have Student's t distribution about the mean.
    """
    rng, runs = np.random.default_rng(seed), quantity.runs
    if quantity.between is not None:
        return rng.uniform(*quantity.between, DRAWS)
    if len(runs) < 2:
        return None
    logs = np.log([quantity.law.centre([run], method) for run in runs])
    free = len(runs) - 1
    weights = rng.standard_normal((DRAWS, len(runs))) * np.sqrt(free / rng.chisquare(free, (DRAWS, 1)))
    return np.asarray(np.exp(logs.mean() + weights @ (logs - logs.mean()) / np.sqrt(free * len(runs))))


def _confidence(runs: int, most: Confidence) -> Confidence:
    return most if most != "high" or runs >= 5 else "medium"


def _rounded(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}") if abs(value) > 1e-12 else 0.0
