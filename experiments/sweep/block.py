"""The `sweep:` of an experiment or scenario file: which keys take which values, and in which order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from moe.files import FileModel

MAX_POINTS = 100_000
Changes = dict[str, Any]
"""What one point changes in its file: key -> value."""


def _is_list(value: Any) -> Any:
    if isinstance(value, list | tuple) and value:
        return value
    raise ValueError(f"expected a list of at least one value, got {value!r}")


Values = Annotated[tuple[Any, ...], BeforeValidator(_is_list)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]


class Range(FileModel):
    """Numbers from `low` to `high`, drawn uniformly, or uniformly in their logarithm."""

    low: float
    high: float
    log: bool = Field(False, description="uniform in the logarithm")
    integer: bool = Field(False, description="whole numbers, both ends included")

    @model_validator(mode="after")
    def _possible(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"expected low < high, got {self.low:g} and {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"expected low > 0 with log, got {self.low:g}")
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(f"expected whole numbers with integer, got {self.low:g} and {self.high:g}")
        return self

    def draw(self, rng: np.random.Generator) -> float:
        """One number."""
        low, high = self.low, self.high + self.integer
        value = math.exp(rng.uniform(math.log(low), math.log(high))) if self.log else rng.uniform(low, high)
        return max(int(self.low), min(math.floor(value), int(self.high))) if self.integer else value


Drawn = Annotated[
    Annotated[Values, Tag("list")] | Annotated[Range, Tag("range")],
    Discriminator(lambda value: "range" if isinstance(value, dict | Range) else "list"),
]


class RandomPoints(FileModel):
    """Points at which every key is drawn on its own; more points leave the first ones as they were."""

    points: int = Field(ge=1)
    seed: int = Field(0, ge=0)
    of: dict[str, Drawn] = Field(min_length=1, description="key -> a list to choose from, or a range")

    def draws(self) -> Iterator[Changes]:
        """The points, in their order."""
        rng = np.random.default_rng(self.seed)
        for _ in range(self.points):
            yield {
                key: of.draw(rng) if isinstance(of, Range) else of[int(rng.integers(len(of)))]
                for key, of in self.of.items()
            }


class Sweep(FileModel):
    """Values for keys such as `workload.experts`. Parts that are given together are all combined."""

    list_: tuple[Changes, ...] | None = Field(None, alias="list", min_length=1, description="points, written out")
    zip_: dict[str, Values] | None = Field(
        None, alias="zip", min_length=1, description="key -> values; the first of each, the second of each, ..."
    )
    grid: dict[str, Values] | None = Field(None, min_length=1, description="key -> values; every combination")
    random: RandomPoints | None = None
    seeds: Annotated[int, Field(ge=1)] | Seeds | None = Field(
        None, description="so many seeds from 0, or a list of them"
    )

    @model_validator(mode="after")
    def _possible(self) -> Sweep:
        lengths = {key: len(values) for key, values in (self.zip_ or {}).items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            raise ValueError(f"zip: expected lists of the same length, got: {told}")
        _check_keys(self._keys())
        if self.count < 1:
            raise ValueError("expected at least one of grid, zip, list, random and seeds")
        if self.count > MAX_POINTS:
            raise ValueError(f"expected at most {MAX_POINTS:,} points, got {self.count:,}")
        return self

    @property
    def count(self) -> int:
        """How many points there are; 0 of an empty sweep."""
        lengths = [
            len(self.list_ or ()),
            len(next(iter((self.zip_ or {"": ()}).values()))),
            math.prod(map(len, self.grid.values())) if self.grid else 0,
            self.random.points if self.random else 0,
            self.seeds if isinstance(self.seeds, int) else len(self.seeds or ()),
        ]
        given = [length for length in lengths if length]
        return math.prod(given) if given else 0

    @property
    def keys(self) -> list[str]:
        """Every key that some point changes, in the order of the file."""
        return list(dict.fromkeys(key for _, key in self._keys()))

    def points(self) -> Iterator[Changes]:
        """What each point changes, in the fixed order of the sweep: seeds vary fastest, then random, grid, zip."""
        parts: list[list[Changes]] = []
        if self.list_:
            parts.append(list(self.list_))
        if self.zip_:
            parts.append(_side_by_side(self.zip_, zip(*self.zip_.values(), strict=True)))
        if self.grid:
            parts.append(_side_by_side(self.grid, itertools.product(*self.grid.values())))
        if self.random:
            parts.append(list(self.random.draws()))
        if self.seeds is not None:
            seeds = range(self.seeds) if isinstance(self.seeds, int) else self.seeds
            parts.append([{"seed": seed} for seed in seeds])
        for together in itertools.product(*parts):
            yield {key: value for changes in together for key, value in changes.items()}

    def _keys(self) -> Iterator[tuple[str, str]]:
        """Part and key, as often as a part names it (`list`: once)."""
        yield from (("list", key) for key in dict.fromkeys(key for point in self.list_ or () for key in point))
        yield from (("zip", key) for key in self.zip_ or {})
        yield from (("grid", key) for key in self.grid or {})
        yield from (("random", key) for key in (self.random.of if self.random else {}))
        if self.seeds is not None:
            yield "seeds", "seed"


def _side_by_side(keys: dict[str, Values], rows: Iterator[tuple[Any, ...]]) -> list[Changes]:
    return [dict(zip(keys, row, strict=True)) for row in rows]


def _check_keys(named: Iterator[tuple[str, str]]) -> None:
    """Raise ValueError where two parts mean the same key, or one key is inside another."""
    part_of: dict[str, str] = {}
    for part, key in named:
        if key in part_of:
            raise ValueError(f"{key}: expected in one part only, got it in {part_of[key]} and {part}")
        part_of[key] = part
    for key in part_of:
        for inner, part in part_of.items():
            if inner.startswith(f"{key}."):
                raise ValueError(f"{inner} (in {part}) is inside {key} (in {part_of[key]}); expected one of them")
