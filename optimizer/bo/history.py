"""The history of a tuning run: one row a trial, kept as parquet, from which a stopped run goes on.

Columns: those of `Row`. The schema's metadata key `serverless-moe` holds JSON: `schema` ("bo-history/1") and
`about`, what the run is of (sampler, seed, objective, settings, hashes of its inputs).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moe.errors import InputError
from moe.parquet import about_of, read_parquet, write_parquet
from optimizer.bo.judge import Judged
from optimizer.bo.sampler import Proposal

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "bo-history/1"


@dataclass(frozen=True)
class Row:
    """One trial.

    Attributes:
        trial: its number; 0 is the profiled table.
        sampler: its name.
        score, cost, latency_s, over_limit, prediction_error_tokens, rho, cheaper_than_oracle: see `Judged`.
        best_score: least score so far.
        wrong_batches: batches with an error, separated by spaces.
        failed: why a batch failed, or nothing.
        epsilon_mean, epsilon_largest: over the pairs; 0 where the sampler has no epsilon.
        drawn: pairs that are new in this trial.
        limited: token IDs in the limited range L.
        served_tokens: so far.
        wall_s: seconds of this trial. The only column that differs from run to run.
    """

    trial: int
    sampler: str
    score: float
    best_score: float
    cost: float
    latency_s: float
    over_limit: float
    prediction_error_tokens: float
    cheaper_than_oracle: bool
    rho: float
    wrong_batches: str
    failed: str
    epsilon_mean: float
    epsilon_largest: float
    drawn: int
    limited: int
    served_tokens: int
    wall_s: float

    @property
    def judged(self) -> Judged:
        """What the trial came to."""
        return Judged(
            score=self.score,
            cost=self.cost,
            latency_s=self.latency_s,
            over_limit=self.over_limit,
            prediction_error_tokens=self.prediction_error_tokens,
            rho=self.rho,
            wrong_batches=tuple(map(int, self.wrong_batches.split())),
            failed=self.failed or None,
            cheaper_than_oracle=self.cheaper_than_oracle,
        )


def row_of(
    sampler: str, earlier: Sequence[Row], proposal: Proposal, judged: Judged, batch_tokens: int, wall_s: float
) -> Row:
    """The row of the trial after the earlier ones, which served so many tokens."""
    epsilon = np.zeros(1) if proposal.epsilon is None else proposal.epsilon
    return Row(
        trial=len(earlier),
        sampler=sampler,
        score=judged.score,
        best_score=min([judged.score, *(row.best_score for row in earlier[-1:])]),
        cost=judged.cost,
        latency_s=judged.latency_s,
        over_limit=judged.over_limit,
        prediction_error_tokens=judged.prediction_error_tokens,
        cheaper_than_oracle=judged.cheaper_than_oracle,
        rho=judged.rho,
        wrong_batches=" ".join(map(str, judged.wrong_batches)),
        failed=judged.failed or "",
        epsilon_mean=float(epsilon.mean()),
        epsilon_largest=float(epsilon.max()),
        drawn=proposal.drawn,
        limited=proposal.limited,
        served_tokens=batch_tokens + sum(row.served_tokens for row in earlier[-1:]),
        wall_s=wall_s,
    )


def to_pandas(rows: Sequence[Row]) -> "pd.DataFrame":
    """The rows as a table, columns in the order of `Row`."""
    import pandas as pd

    return pd.DataFrame([asdict(row) for row in rows], columns=[field.name for field in fields(Row)])


def save_history(rows: Sequence[Row], path: Path, about: dict[str, Any]) -> None:
    """Write the history, atomically: the file is the old one or the new one."""
    table = to_pandas(rows)
    columns = {name: table[name].to_numpy() for name in table}
    write_parquet(path, columns, {"schema": SCHEMA, "about": about})


def load_history(path: Path, about: dict[str, Any]) -> list[Row]:
    """The rows of a stopped run. Raises InputError where the file is none, is damaged, or of another run."""
    if not path.exists():
        raise InputError(f"{path}: no such file; expected the history of a run to resume")
    table = read_parquet(path)
    held = about_of(path, table, SCHEMA, "tuning history").get("about")
    try:
        rows = [Row(**row) for row in table.to_pylist()]
    except TypeError as error:
        raise InputError(f"{path}: not a readable history: {error}") from None
    for key, value in about.items():
        found = held.get(key) if isinstance(held, dict) else None
        if found != value:
            raise InputError(
                f"{path}: of another run: {key}: expected {value!r}, got {found!r}; "
                "--out a new folder, or leave out --resume"
            )
    if [row.trial for row in rows] != list(range(len(rows))):
        raise InputError(f"{path}: trial: expected 0, 1, 2, ..., got {[row.trial for row in rows][:10]}")
    return rows
