"""One constant of a platform profile: a value, a distribution, a table or a dated rule, with its source."""

import math
from datetime import date
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import AfterValidator, Field, PositiveFloat, field_validator

from moe.errors import shortened
from moe.files import FileModel
from simulator.draws import median_of

Confidence: TypeAlias = Literal["high", "medium", "low"]


class Quantiles(FileModel):
    """A distribution as a table of quantiles: log-linear between them on the scale of normal quantiles."""

    quantiles: dict[float, float] = Field(min_length=1)

    @field_validator("quantiles")
    @classmethod
    def _increasing(cls, table: dict[float, float]) -> dict[float, float]:
        table = dict(sorted(table.items()))
        values = list(table.values())
        if not all(0 < p < 1 for p in table) or values[0] <= 0 or values != sorted(values):
            raise ValueError(f"expected probabilities in (0, 1) and positive, increasing values, got {table}")
        return table

    @property
    def draws_from(self) -> dict[float, float]:
        """What `Draws` takes."""
        return self.quantiles


class Samples(FileModel):
    """A distribution as measured samples, each as likely as the others."""

    samples: tuple[PositiveFloat, ...] = Field(min_length=1)

    @property
    def draws_from(self) -> np.ndarray:
        """What `Draws` takes."""
        return np.array(self.samples)


class Fit(FileModel):
    """What a calibrated value rests on.

    `method` is the family or estimator; `samples` counts values in `runs` independent runs (fit and selection,
    without the test); `interval` is the 95% interval of the value, of a distribution of its median (of one around
    1, its 99% quantile): Student's t over what each of all runs says, or the bracket that the data cannot tell
    apart; `draws` are of the same number, as wide; `held_out_error` is the relative error on the runs by which
    nothing was chosen; `sha256` is of the sorted lines of the `file`.
    """

    method: str
    samples: int = Field(ge=1)
    runs: int = Field(ge=1)
    interval: tuple[float, float] | None = None
    draws: tuple[float, ...] | None = None
    held_out_error: float | None = None
    region: str | None = None
    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


Kept: TypeAlias = Literal["not measured", "better than the fit"]


class Constant(FileModel):
    """A value or a distribution, and where it comes from.

    `interval` is the 95% interval of its value (of a distribution its median) as the source has it. A calibration
    adds its `fit`, or why it `kept` the value that was there.
    """

    value: float | Quantiles | Samples
    unit: str
    source: str = Field(min_length=1)
    date: str = Field(min_length=4)
    confidence: Confidence
    interval: tuple[float, float] | None = None
    fit: Fit | None = None
    kept: Kept | None = None

    @field_validator("interval")
    @classmethod
    def _ordered(cls, interval: tuple[float, float] | None) -> tuple[float, float] | None:
        if interval is not None and not 0 <= interval[0] <= interval[1]:
            raise ValueError(f"expected 0 <= low <= high, got {interval[0]:g} to {interval[1]:g}")
        return interval

    @property
    def median(self) -> float:
        """The value, or the median of the distribution."""
        return self.value if isinstance(self.value, float) else median_of(self.value.draws_from)

    def with_value(self, value: float) -> "Constant":
        """The constant with another value, or the value in place of its distribution, as unsure as it was."""
        interval = self.interval
        if interval is not None and self.median:
            factor = value / self.median
            interval = interval[0] * factor, interval[1] * factor
        return self.model_copy(update={"value": float(value), "interval": interval})

    def scaled(self, factor: float, most: float = math.inf) -> "Constant":
        """The constant with its value, or its whole distribution, times a factor, but at most `most`."""
        value: float | Quantiles | Samples
        if isinstance(self.value, Quantiles):
            value = Quantiles(quantiles={p: float(min(x * factor, most)) for p, x in self.value.quantiles.items()})
        elif isinstance(self.value, Samples):
            value = Samples(samples=tuple(float(min(x * factor, most)) for x in self.value.samples))
        else:
            return self.with_value(min(self.value * factor, most))
        return self.model_copy(update={"value": value})


class VisibleCores(FileModel):
    """Cores that a function sees: memory sizes (MB) up to which it sees so many."""

    up_to_mb: dict[int, int] = Field(min_length=1)
    source: str = Field(min_length=1)
    date: str = Field(min_length=4)
    confidence: Confidence
    fit: Fit | None = None
    kept: Kept | None = None

    @field_validator("up_to_mb")
    @classmethod
    def _increasing(cls, table: dict[int, int]) -> dict[int, int]:
        table = dict(sorted(table.items()))
        cores = list(table.values())
        if cores[0] < 1 or cores != sorted(cores):
            raise ValueError(f"expected cores from 1 on that grow with memory, got {table}")
        return table

    def at(self, memory_mb: int) -> int:
        """Cores of a memory size; beyond the table those of its last row."""
        return next(
            (cores for most, cores in self.up_to_mb.items() if memory_mb <= most), [*self.up_to_mb.values()][-1]
        )


class Dated(FileModel):
    """A rule that changed: its value since each day, and where that comes from."""

    since: dict[date, float] = Field(min_length=1)
    unit: str
    source: str = Field(min_length=1)
    confidence: Confidence

    def on(self, day: date) -> float:
        """The value on a day; before the first that of the first."""
        known = [value for first, value in sorted(self.since.items()) if first <= day]
        return known[-1] if known else self.since[min(self.since)]


Sourced: TypeAlias = Constant | Dated | VisibleCores
"""What a profile holds with its source; everything else in it is a setting."""


def in_unit(unit: str) -> AfterValidator:
    """A check that a constant has this unit, and is not negative."""

    def check(constant: Constant) -> Constant:
        if constant.unit != unit:
            raise ValueError(f"unit: expected '{unit}', got {shortened(constant.unit)}")
        if isinstance(constant.value, float) and constant.value < 0:
            raise ValueError(f"value: expected a number >= 0, got {constant.value}")
        return constant

    return AfterValidator(check)


def within(least: float, most: float = math.inf) -> AfterValidator:
    """A check that a constant's median is in a range."""

    def check(constant: Constant) -> Constant:
        if not least <= constant.median <= most:
            expected = f"a number >= {least:g}" if most == math.inf else f"a number from {least:g} to {most:g}"
            raise ValueError(f"value: expected {expected}, got {constant.median:g}")
        return constant

    return AfterValidator(check)


Seconds: TypeAlias = Annotated[Constant, in_unit("s")]
Bytes: TypeAlias = Annotated[Constant, in_unit("bytes")]
BytesPerSecond: TypeAlias = Annotated[Constant, in_unit("bytes/s")]
Ratio: TypeAlias = Annotated[Constant, in_unit("1")]
USD: TypeAlias = Annotated[Constant, in_unit("USD")]
RequestsPerSecond: TypeAlias = Annotated[Constant, in_unit("1/s"), within(1)]
AtLeastOne: TypeAlias = Annotated[Constant, in_unit("1"), within(1)]
