"""Reads the folder of a run, whatever kind of run it is. Raises InputError in one clear line."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict

from experiments.run.methods import Row
from moe.errors import InputError
from moe.files import read_mapping, validated
from simulator.records import Bill, Record, from_pandas

if TYPE_CHECKING:
    import pandas as pd

Kind: TypeAlias = Literal["experiment", "traffic", "tuning", "tables"]
SCHEMAS: dict[str, Kind] = {
    "result/1": "experiment",
    "traffic-result/1": "traffic",
    "tuning/1": "tuning",
    "cost/1": "tables",
}
POINTS = "points.csv"  # of a folder with many runs: a row a point


class ResultFile(BaseModel):
    """A result.json, as far as the page reads it; what else it says is left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Predicted(ResultFile):
    """A predictor's error."""

    predictor: str
    mean_error_tokens: float
    mean_error_share: float


class ExperimentResult(ResultFile):
    """result/1, of `./smoe run`."""

    name: str
    about: str
    model: str
    profile: str
    price_list_date: str | None = None
    batch_tokens: int
    batches: int
    latency_limit_s: float | None
    planning_limit_s: float | None = None
    planning_late_share: float | None = None
    late_share: float | None = None
    routing_recorded_on: dict[str, Any]
    layers_of_recording: list[int]
    prediction: list[Predicted]
    methods: list[Row]
    bill_of_a_batch: dict[str, Bill]
    optimality_gap: dict[str, float | None]
    claims: list[str]
    finding: str


class Estimated(ResultFile):
    """A mean over replications, and half its interval."""

    mean: float | None
    ci95_half_width: float | None


Estimates: TypeAlias = dict[str, Estimated]


class TrafficResult(ResultFile):
    """traffic-result/1, of `./smoe traffic`."""

    name: str
    seed: int
    price_list_date: str | None = None
    slo_s: float
    offered_requests_per_s: float | None
    confidence: str
    stopped: list[str | None]
    metrics: Estimates
    bill_of_1000_requests: Estimates
    replications: list[dict[str, float | None]]
    functions: dict[str, Estimates] = {}


class TuningResult(ResultFile):
    """tuning/1, of `./smoe tune`."""

    sampler: str
    objective: str
    unit: str
    seed: int
    latency_limit_s: float | None
    stopped: str
    used: dict[str, Any]
    best_trial: int
    tuning_batches: dict[str, Any]
    unseen_batches: dict[str, Any]
    tuned: dict[str, Any]
    settings: dict[str, Any]


Result = TypeVar("Result", bound=ResultFile)


@dataclass(frozen=True)
class Run:
    """The folder of a finished run.

    Attributes:
        path: the folder.
        kind: what made it; `tables`: a sweep, a study, or whatever else left tables (CSV).
        result: result.json as it stands; empty where tables have none.
        config: the resolved configuration; empty where the folder has none.
        provenance, wall_times: those files, empty where there are none.
        tables: each CSV file of the folder, by its name.
    """

    path: Path
    kind: Kind
    result: dict[str, Any]
    config: dict[str, Any]
    provenance: dict[str, Any]
    wall_times: dict[str, Any]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the run calls itself, or its folder's name."""
        return str(self.result.get("name") or self.config.get("name") or self.path.resolve().name)

    @property
    def swept(self) -> list[str]:
        """Columns of a sweep's points that say what was swept."""
        keys = self.result.get("parameters", []) if POINTS in self.tables else []
        return [name for key in keys for name in (key, f"sweep.{key}") if name in self.tables[POINTS].columns]

    def read(self, model: type[Result]) -> Result:
        """result.json as what this kind of run writes. Raises InputError."""
        return validated(model, self.result, self.path / "result.json")


def load_run(path: Path) -> Run:
    """The run in a folder. Raises InputError where there is none, or only half of one."""
    if not os.path.isdir(path):
        raise InputError(f"{path}: no such folder; expected the folder of a run, as ./smoe run makes it")
    tables = {file.name: _csv(file) for file in sorted(path.glob("*.csv"))}
    if (path / "result.json").exists() and POINTS not in tables:
        result = read_mapping(path / "result.json")
        kind = _kind(path / "result.json", result)
    elif tables:
        result, kind = _mapping(path / "result.json"), "tables"
    elif (path / "config.yaml").exists():
        raise InputError(
            f"{path}: the run is not finished, result.json is missing; run the command that made it again"
        )
    else:
        raise InputError(
            f"{path}: no run; expected result.json (of ./smoe run, traffic or tune) or tables such as {POINTS}"
        )
    return Run(
        path,
        kind,
        result,
        _mapping(path / "config.yaml"),
        _mapping(path / "provenance.json"),
        _mapping(path / "wall_times.json"),
        tables,
    )


def read_records(run: Run, name: str = "records.parquet") -> pd.DataFrame | None:
    """The record table of a run, if it is there (git leaves it out). Raises InputError."""
    from moe.parquet import read_columns
    from simulator.records import COLUMNS

    path = run.path / name
    more = ("plan", "start") if name == "records.parquet" else ("replication",)
    return read_columns(path, (*more, *COLUMNS)) if path.exists() else None


def records_of(table: pd.DataFrame, plan: str, start: str) -> dict[int, list[Record]]:
    """The rows of a plan that was played warm or cold, by batch."""
    chosen = table[(table["plan"] == plan) & (table["start"] == start)]
    return {int(batch): from_pandas(rows) for batch, rows in chosen.groupby("batch")}


def _kind(path: Path, result: dict[str, Any]) -> Kind:
    schema = result.get("schema")
    if schema in SCHEMAS:
        return SCHEMAS[str(schema)]
    known = {name.split("/")[0]: name for name in SCHEMAS}
    family = str(schema).split("/")[0]
    if family in known:
        raise InputError(
            f"{path}: schema: expected '{known[family]}', got '{schema}', which another version of the "
            "code wrote; run it again"
        )
    raise InputError(f"{path}: schema: expected one of {', '.join(SCHEMAS)}, got {schema!r}")


def _mapping(path: Path) -> dict[str, Any]:
    return read_mapping(path) if path.exists() else {}


def _csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_csv(path)
    except (OSError, UnicodeDecodeError, pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: not a readable CSV table: {' '.join(str(error).split())}") from None
