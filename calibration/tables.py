"""Public files as tables: found by name, hashed, cut to a period, rows in an order of their own."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moe.errors import InputError, shortened

if TYPE_CHECKING:
    import pandas as pd

DATE_COLUMNS = ("date", "run_date")
MONTH = re.compile(r"20\d\d(-\d\d)?(-\d\d)?")
UNDATED = {
    "lambda_vcpu_tiers.csv": "2021-02",
    "skyrise_lambda_network_per_function.csv": "2024-03",
    "mlperf_inference_single_node.csv": "2025-09",
}
"""Days of files that say them neither in a column nor in their name (README of the data)."""


@dataclass(frozen=True)
class Period:
    """Measurements from `since` to `until`, both included: years, months or days (`2026`, `2026-04`).

    None: no bound. A file without days inside counts as measured in the year of its name.
    """

    since: str | None = None
    until: str | None = None

    def __post_init__(self) -> None:
        for name, bound in (("since", self.since), ("until", self.until)):
            if bound is not None and not MONTH.fullmatch(bound):
                raise InputError(
                    f"--{name}: expected a year, month or day such as 2026-04, got {shortened(bound)}"
                )
        if self.since and self.until and self.until < self.since[: len(self.until)]:
            raise InputError(f"--until: expected nothing before --since {self.since}, got {shortened(self.until)}")

    def has(self, day: str) -> bool:
        """Whether a day (or month, or year) is inside."""
        after = self.since is None or day[: len(self.since)] >= self.since[: len(day)]
        return after and (self.until is None or day[: len(self.until)] <= self.until[: len(day)])

    def rows(self, table: pd.DataFrame, file: str) -> pd.DataFrame:
        """The rows of a file that are inside."""
        if self == Period():
            return table
        column = date_column(table)
        if column is None:
            return table if self.has(date_of(file)) else table.iloc[:0]
        return table[table[column].astype(str).map(self.has)]


@dataclass(frozen=True)
class Origin:
    """Where a quantity's values were read.

    Attributes:
        file: its name. sha256: of its sorted lines. date: last month of the rows.
        region: of AWS, None where not stated.
    """

    file: str
    sha256: str
    date: str
    region: str | None = None


def date_column(table: pd.DataFrame) -> str | None:
    """The column of days, if there is one."""
    return next((column for column in DATE_COLUMNS if column in table), None)


def date_of(file: str) -> str:
    """When a file without days inside was measured, by its name."""
    known = UNDATED.get(file) or next((found.group() for found in MONTH.finditer(file)), "")
    return known or "unknown"


def read_table(path: Path, period: Period, region: str | None) -> tuple[pd.DataFrame, Origin]:
    """The rows of a period, in an order that does not depend on the file's, and where they are from.

    Raises InputError when it is no table.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV file: {' '.join(str(error).split())}") from None
    rows = period.rows(table, path.name).sort_values(list(table.columns), kind="stable").reset_index(drop=True)
    column = date_column(rows)
    date = str(rows[column].max())[:7] if column and len(rows) else date_of(path.name)
    return rows, Origin(path.name, sorted_sha256(path), date, region)


def sorted_sha256(path: Path) -> str:
    """SHA-256 of a file's sorted lines, as of `LC_ALL=C sort FILE | sha256sum`: the same in whatever order."""
    lines = sorted(path.read_bytes().splitlines())
    return hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()
