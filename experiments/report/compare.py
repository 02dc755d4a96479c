"""Two runs of one kind side by side: what was asked differently, and what came out differently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.report.difference import Difference, paired, unpaired, unrepeated
from experiments.report.latency_path import latency_s
from experiments.report.page import Value
from experiments.report.parts import flat
from experiments.report.reading import (
    ExperimentResult,
    Run,
    TrafficResult,
    TuningResult,
    read_records,
    records_of,
)
from experiments.report.tables_page import GROUPS
from experiments.report.tuning_page import JUDGED, NAMES
from experiments.run.methods import MILLION, title_of
from experiments.traffic.report import SHOWN
from moe.errors import InputError
from moe.statistics import finite
from simulator.records import Bill, bill

if TYPE_CHECKING:
    import pandas as pd

ROW_NUMBER = "point"  # of a sweep's points: says where a row stands, not what it is
WALL_TIMES = "wall_times.csv"
HALF_WIDTH = "ci95_half_width"  # of columns that say how sure another one is
METHOD_NUMBERS = (
    ("whole bill", "$/M", "total_usd"),
    ("experts' compute", "$/M", "billed_usd"),
    ("experts, with requests", "$/M", "full_usd"),
    ("warm latency", "s", "latency_s"),
    ("throughput", "tokens/s", "tokens_per_s"),
    ("cold latency", "s", "cold_latency_s"),
)
MEANS_ONLY = "means of batches only, records.parquet is missing"
ONE_COLD = "one cold batch in each"
OF_EVERY_RUN = ("key", "started", "seed", "command")  # of the provenance, never the same or said elsewhere
NOT_CONFIGURED = ("name", "about", "schema")  # differences that are none of the experiment's


@dataclass(frozen=True)
class Setting:
    """A key whose value differs."""

    key: str
    a: Value
    b: Value


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        configuration: keys that differ. provenance: versions, code and machine that differ.
        differences: every number.
        confidence: what the intervals rest on, in one sentence, or why there are none.
    """

    a: Run
    b: Run
    configuration: list[Setting]
    provenance: list[Setting]
    differences: list[Difference]

    @property
    def confidence(self) -> str:
        """What the intervals rest on, in one sentence."""
        sure = Counter(each.how for each in self.differences if each.low is not None)
        unknown = Counter(each.how for each in self.differences if each.low is None)
        said = []
        if sure:
            alone = "each stands alone: of twenty numbers that are the same, one is expected to look different"
            said.append(f"95% intervals of the difference: {'; '.join(sure)} ({alone}).")
        if unknown:
            reasons = "; ".join(f"{how} ({count} numbers)" for how, count in unknown.items())
            said.append(f"No repetition and so no confidence: {reasons}.")
        return " ".join(said) or "Nothing to compare."

    @property
    def as_data(self) -> dict[str, Any]:
        """For --json."""
        return {
            "a": str(self.a.path),
            "b": str(self.b.path),
            "kind": self.a.kind,
            "configuration": [asdict(setting) for setting in self.configuration],
            "provenance": [asdict(setting) for setting in self.provenance],
            "confidence": self.confidence,
            "differences": [
                asdict(each) | {"change": each.change, "relative": each.relative, "verdict": each.verdict}
                for each in self.differences
            ],
        }


def compare(a: Run, b: Run) -> Comparison:
    """Two runs of one kind. Raises InputError for others, and for files that are broken."""
    if a.kind != b.kind:
        raise InputError(f"{b.path}: expected the same kind of run as {a.path}, {a.kind}; got {b.kind}")
    differences = {
        "experiment": _experiments,
        "traffic": _traffic,
        "tuning": _tunings,
        "tables": _tables,
    }[a.kind](a, b)
    asked = [setting for setting in _changed(_asked(a), _asked(b)) if setting.key not in NOT_CONFIGURED]
    made = [each for each in _changed(flat(a.provenance), flat(b.provenance)) if each.key not in OF_EVERY_RUN]
    return Comparison(a, b, asked, made, list(differences))


def _asked(run: Run) -> dict[str, Value]:
    """The configuration; of tuning, which has no file of its own, what the result says of it."""
    if run.kind != "tuning":
        return flat(run.config)
    names = ("sampler", "objective", "seed", "latency_limit_s", "settings")
    return flat({name: run.result[name] for name in names if name in run.result})


def _changed(a: dict[str, Value], b: dict[str, Value]) -> list[Setting]:
    keys = dict.fromkeys((*a, *b))
    return [Setting(key, a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)]


def _experiments(a: Run, b: Run) -> Iterator[Difference]:
    """Each number of each method: over batches where both folders have their records."""
    left, right = a.read(ExperimentResult), b.read(ExperimentResult)
    batches = _batch_numbers(a, left), _batch_numbers(b, right)
    same_batches = all(a.config.get(key) == b.config.get(key) for key in ("workload", "seed"))
    test = paired if same_batches and a.config else unpaired
    methods = dict.fromkeys(row.method for row in (*left.methods, *right.methods))
    for method in methods:
        rows = [next((row for row in each.methods if row.method == method), None) for each in (left, right)]
        for what, unit, key in METHOD_NUMBERS:
            means = [getattr(row, key, None) for row in rows]
            if all(mean is None for mean in means):
                continue
            samples = [each.get((method, key), []) for each in batches]
            if all(samples):
                together = test if len(samples[0]) == len(samples[1]) else unpaired
                yield together(method, what, unit, samples[0], samples[1], "batches")
            else:
                is_lambda = any(row is not None and row.platform == "lambda" for row in rows)
                how = ONE_COLD if key == "cold_latency_s" else MEANS_ONLY if is_lambda else "computed, not sampled"
                yield unrepeated(method, what, unit, means[0], means[1], how)


def _batch_numbers(run: Run, result: ExperimentResult) -> dict[tuple[str, str], list[float]]:
    """Each number of each plan, batch by batch, by (method, key); empty without the record table."""
    table = read_records(run)
    if table is None:
        return {}
    numbers: dict[tuple[str, str], list[float]] = {}
    millions = result.batch_tokens / MILLION
    bills: dict[str, Callable[[Bill], float]] = {
        "billed_usd": lambda found: found.billed_cost_usd,
        "full_usd": lambda found: found.full_cost_usd,
        "total_usd": lambda found: found.total_cost_usd,
    }
    for plan in dict.fromkeys(table["plan"]):
        method = title_of(plan)
        for _, records in sorted(records_of(table, plan, "warm").items()):
            found, taken_s = bill(records), latency_s(records)
            for key, of in bills.items():
                numbers.setdefault((method, key), []).append(of(found) / millions)
            numbers.setdefault((method, "latency_s"), []).append(taken_s)
            numbers.setdefault((method, "tokens_per_s"), []).append(result.batch_tokens / taken_s)
    return numbers


def _traffic(a: Run, b: Run) -> Iterator[Difference]:
    """Each metric, over replications: pairs where the seed is the same, since their random numbers are."""
    left, right = a.read(TrafficResult), b.read(TrafficResult)
    pairs = left.seed == right.seed and len(left.replications) == len(right.replications)
    for name, unit, scale, _, about in SHOWN:
        values = [[_scaled(row.get(name), scale) for row in each.replications] for each in (left, right)]
        if any(value is not None for each in values for value in each):
            yield (paired if pairs else unpaired)("", about, unit, values[0], values[1], "replications")


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _tunings(a: Run, b: Run) -> Iterator[Difference]:
    """Scores, bills and latencies, untuned, tuned and of the oracle."""
    left, right = a.read(TuningResult), b.read(TuningResult)
    how = "one tuning run in each folder"
    units = {"score": left.unit, "cost": left.unit, "latency_s": "s", "prediction_error_tokens": "tokens"}
    for batches in ("tuning_batches", "unseen_batches"):
        for judged in JUDGED:
            for name in NAMES:
                x, y = (getattr(each, batches).get(judged, {}).get(name) for each in (left, right))
                yield unrepeated(f"{judged}, {batches.replace('_', ' ')}", name, units.get(name, ""), x, y, how)


def _tables(a: Run, b: Run) -> Iterator[Difference]:
    """The numbers of tables that both folders have, of each method where they name methods."""
    names = [name for name in a.tables if name in b.tables and name != WALL_TIMES]
    if not names:
        raise InputError(f"{b.path}: no table of {a.path} is there: {', '.join(a.tables)}")
    for name in names:
        for of, numbers, rows in _matched(name, a.tables[name], b.tables[name]):
            for column, (x, y) in numbers.items():
                if not len(finite(x)) and not len(finite(y)):
                    continue
                if rows is None:
                    mean_a, mean_b = (float(np.nanmean(each)) if len(finite(each)) else None for each in (x, y))
                    yield unrepeated(of, column, "", mean_a, mean_b, "means only, rows cannot be matched")
                else:
                    yield paired(of, column, "", x, y, rows)


def _matched(
    name: str, a: pd.DataFrame, b: pd.DataFrame
) -> Iterator[tuple[str, dict[str, tuple[list[float], list[float]]], str | None]]:
    """Numbers of a table, of each method: from rows that have a partner, and what these are; None: of all rows."""
    keys = _keys(a, b)
    shared = [column for column in a.columns if column in b.columns and column not in (*keys, ROW_NUMBER)]
    shared = [column for column in shared if not column.endswith(HALF_WIDTH)]
    numbers = [column for column in shared if all(table[column].dtype.kind in "if" for table in (a, b))]
    if not keys:
        yield name, {column: (a[column].tolist(), b[column].tolist()) for column in numbers}, None
        return
    both = a.merge(b, on=keys, suffixes=("", " of B"))
    left, right = len(a) - len(both), len(b) - len(both)
    rows = "rows" + (f" ({left} of A and {right} of B have no partner)" if left or right else "")
    by = next((column for column in GROUPS if column in keys), None)
    for of, group in [(name, both)] if by is None else both.groupby(by, sort=False):
        yield (
            str(of),
            {column: (group[column].tolist(), group[f"{column} of B"].tolist()) for column in numbers},
            rows,
        )


def _keys(a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    """The first columns that have the same values in both tables and name each row once; none where none do."""
    keys: list[str] = []
    for column in a.columns:
        if column == ROW_NUMBER or column not in b.columns or set(a[column].dropna()) != set(b[column].dropna()):
            continue
        keys.append(column)
        if not (a.duplicated(keys).any() or b.duplicated(keys).any()):
            return keys
    return []
