"""Measurement tables of probe campaigns, read for calibration: which rows count, which run they belong to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.fitting.bootstrap import Confidence, Quantity
from calibration.fitting.laws import Law, Runs
from calibration.tables import Origin
from lambda_probe.campaign.measurements import FILE, read_measurements
from moe.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SINCE_S = 1e8  # a clock that shows less counts from the start of a simulation
REFUSALS = ("payload-limit", "burst")
WRONG_MEMORY = "another memory size than was asked for"
STARTED, REUSED = (
    "an instance was started, where one was to be there",
    "an instance was there, where none was to be",
)


@dataclass(frozen=True)
class Measurements:
    """Rows of one or several campaigns.

    Attributes:
        rows: attempts that went well and measured what they were to; columns of the measurement table, the work's
            as `work_size_bytes`, ...; `run_key`: number of the run over all campaigns.
        failed: attempts that failed.
        origin: file, hash of the sorted rows, day, region.
        what: campaigns and backends, in words. left_out: number of rows by reason.
        accounts: concurrency of the account of each campaign that noted it.
        mb_per_core: of the embedded endpoint, of each campaign on it.
        tables: of each campaign, as it is.
    """

    rows: pd.DataFrame
    failed: pd.DataFrame
    origin: Origin
    what: str
    left_out: dict[str, int]
    accounts: tuple[float, ...] = ()
    mb_per_core: tuple[float, ...] = ()
    tables: tuple[pd.DataFrame, ...] = ()

    def of(self, probe: str) -> pd.DataFrame:
        """The rows of one probe."""
        return self.rows[self.rows.probe == probe]

    def quantity(
        self,
        path: tuple[str, ...],
        unit: str,
        law: Law,
        runs: Runs,
        source: str,
        x_label: str,
        y_label: str,
        most: Confidence = "high",
        between: tuple[float, float] | None = None,
        resolution: float = 0.0,
    ) -> Quantity:
        """A quantity of these measurements; arguments as in `Quantity`."""
        said = f"{self.what}: {source}"
        return Quantity(path, unit, law, runs, self.origin, said, x_label, y_label, most, between, resolution)


def runs_of(rows: pd.DataFrame, values: Callable[[pd.DataFrame], Any]) -> list[np.ndarray]:
    """What each run says, in their order; runs that say nothing are left out."""
    found = [np.asarray(values(run), float) for _, run in rows.groupby("run_key", sort=True)]
    return [each for each in found if each.size]


def timed(rows: pd.DataFrame, column: str = "seconds") -> pd.DataFrame:
    """A row for each repeat that a function timed: the rows with `took_s`, in the order of time."""
    apart = rows.assign(took_s=rows[column].map(list)).explode("took_s").dropna(subset=["took_s"])
    apart["took_s"] = apart.took_s.astype(float)
    return apart[apart.took_s > 0].reset_index(drop=True)


def read_campaigns(folders: Sequence[Path]) -> Measurements:
    """The measurements of campaigns' folders. Raises InputError."""
    found = []
    for folder in folders:
        if not (folder / FILE).is_file():
            raise InputError(f"{folder}: expected a campaign's folder, with {FILE} (smoe probe)")
        table, about = read_measurements(folder / FILE)
        if not len(table):
            raise InputError(f"{folder / FILE}: it has no rows")
        found.append((table, about))
    return measurements([table for table, _ in found], [about for _, about in found], folders)


def measurements(
    tables: Sequence[pd.DataFrame], abouts: Sequence[Mapping[str, Any]], folders: Sequence[Path]
) -> Measurements:
    """Measurement tables of campaigns, with what their metadata say. Raises InputError where two are the same."""
    import pandas as pd

    hashed: dict[str, tuple[pd.DataFrame, Mapping[str, Any], Path]] = {}
    for table, about, folder in zip(tables, abouts, folders, strict=True):
        lines = _lines(table)
        order = sorted(range(len(lines)), key=lines.__getitem__)
        sha256 = hashlib.sha256("".join(f"{lines[k]}\n" for k in order).encode()).hexdigest()
        if sha256 in hashed:
            raise InputError(f"{folder}: has the same measurements as {hashed[sha256][2]}")
        hashed[sha256] = table.iloc[order].sort_values("sent_s", kind="stable"), about, folder
    apart = sorted(hashed.items(), key=lambda each: (float(each[1][0].sent_s.iloc[0]), each[0]))
    whole = [table for _, (table, _, _) in apart]
    rows = pd.concat([table.assign(campaign=k) for k, table in enumerate(whole)], ignore_index=True)
    rows = _with_works(rows)
    good, left_out = _judged(rows)
    names = [f"{about.get('campaign', folder.name)} ({folder.name})" for _, (_, about, folder) in apart]
    return Measurements(
        rows=rows[good],
        failed=rows[rows.status != "ok"],
        origin=Origin(
            ", ".join(f"{folder.name}/{FILE}" for _, (_, _, folder) in apart),
            apart[0][0] if len(apart) == 1 else hashlib.sha256("".join(sorted(hashed)).encode()).hexdigest(),
            _day(float(rows.sent_s.max())),
            ", ".join(sorted(set(rows.region))),
        ),
        what=f"campaign {', '.join(names)} on {', '.join(sorted(set(rows.backend)))}",
        left_out=left_out,
        accounts=tuple(float(about["account"]["concurrency"]) for _, (_, about, _) in apart if "account" in about),
        mb_per_core=tuple(
            float(about["account"]["mb_per_core"])
            for _, (_, about, _) in apart
            if "mb_per_core" in about.get("account", {})
        ),
        tables=tuple(whole),
    )


def _with_works(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with their work's fields and the number of their run over all campaigns."""
    import pandas as pd

    works = pd.DataFrame([json.loads(work) for work in rows.work], index=rows.index)
    rows = rows.join(works.add_prefix("work_")).copy()
    rows["run_key"] = rows.groupby(["campaign", "run"], sort=True).ngroup()
    for name in ("size_bytes", "answer_bytes", "connections", "threads", "tokens"):
        if f"work_{name}" not in rows:
            rows[f"work_{name}"] = np.nan
    return rows


def _judged(rows: pd.DataFrame) -> tuple[pd.Series, dict[str, int]]:
    """Which rows count, and how many do not, by reason."""
    reasons = rows.status.where(rows.status == "ok", "failed: " + rows.status).where(rows.status != "ok", "")
    other = rows.reported_memory_mb.notna() & (rows.reported_memory_mb != rows.memory_mb)
    reasons = reasons.mask((reasons == "") & other, WRONG_MEMORY)
    reasons = reasons.mask((reasons == "") & (rows.probe == "warm") & rows.cold, STARTED)
    reasons = reasons.mask((reasons == "") & (rows.probe == "cold") & ~rows.cold, REUSED)
    told = rows.probe.isin(REFUSALS) & (rows.status != "ok")  # what is refused is what they measure
    counts = reasons[(reasons != "") & ~told].value_counts().sort_index()
    return reasons == "", {str(reason): int(count) for reason, count in counts.items()}


def _lines(table: pd.DataFrame) -> list[str]:
    """Each row as text that does not depend on the table's order."""
    plain = table.copy()
    for name in ("seconds", "cpu_s", "target_s"):
        plain[name] = [json.dumps([float(x) for x in values]) for values in table[name]]
    return list(plain[sorted(plain)].to_json(orient="records", lines=True, double_precision=15).splitlines())


def _day(at_s: float) -> str:
    return "simulated" if at_s < SINCE_S else datetime.fromtimestamp(at_s, UTC).date().isoformat()
