"""One's own campaigns beside the same campaigns on a simulated platform: every quantity that they measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from calibration.check.checks import MS, Data, Measured, scatter
from calibration.check.replay import replayed
from calibration.measured.rows import Measurements, measurements, read_campaigns, timed
from simulator.profiles.schema import PlatformProfile

if TYPE_CHECKING:
    import pandas as pd

Series: TypeAlias = "pd.Series"
TAIL_SAMPLES = 500  # from which on a 99% quantile is compared
WORK = {
    "multiply": ("work_threads",),
    "expert": ("work_tokens",),
    "get": ("work_size_bytes", "work_connections"),
    "put": ("work_size_bytes", "work_connections"),
    "send": ("work_size_bytes", "work_answer_bytes"),
}
NAMES = {
    "work_threads": "threads {:.0f}",
    "work_tokens": "tokens {:.0f}",
    "work_size_bytes": "{:,.0f} bytes",
    "work_connections": "connections {:.0f}",
    "work_answer_bytes": "answer {:,.0f} bytes",
}


@dataclass(frozen=True)
class Held:
    """Campaigns held against a profile.

    Attributes:
        rows: by quantity. skipped: packages whose start the profile does not know.
        fitted_to: whether the profile was fitted to these very measurements.
    """

    rows: list[Measured]
    skipped: tuple[str, ...]
    fitted_to: bool


def campaign_rows(folders: Sequence[Path], profile: PlatformProfile, seed: int = 0) -> Held:
    """Every quantity that the campaigns in these folders measure, beside the profile's. Raises InputError."""
    real = read_campaigns(folders)
    tables = [replayed(table, profile, seed) for table in real.tables]
    simulated = measurements(tables, [{} for _ in tables], [Path(profile.name) for _ in tables])
    known = set(profile.start.packages)
    skipped = tuple(sorted(set(real.of("cold").package) - known))
    fits = {each.fit.sha256 for each in profile.constants().values() if each.fit is not None}
    data: Data = "fitted" if real.origin.sha256 in fits else "unseen"
    rows = []
    for quantity, unit, value, of in _quantities(known):
        mine, yours = of(real), of(simulated)
        for key, group in mine.groupby("key", sort=False):
            theirs = yours[yours.key == key]
            if len(theirs) and value(group.y) > 0:  # a share of 0 has no relative error
                runs = [value(run.y) for _, run in group.groupby("run_key")]
                rows.append(
                    Measured(
                        f"{quantity}, {key}" if key else quantity,
                        unit,
                        value(group.y),
                        value(theirs.y),
                        scatter(runs),
                        f"{len(runs)} runs",
                        data,
                        real.what,
                    )
                )
    return Held(rows, skipped, data == "fitted")


def _median(values: Series) -> float:
    return float(np.median(values))


def _p99(values: Series) -> float:
    return float(np.quantile(values, 0.99))


Of: TypeAlias = "Callable[[Measurements], pd.DataFrame]"


def _quantities(packages: set[str]) -> Iterator[tuple[str, str, Callable[[Series], float], Of]]:
    """Name, unit, what is compared of `y`, and the rows with `y` and `key` of measurements."""
    yield "INIT, p50", "ms", _median, lambda m: _cold(m, packages, lambda t: t.init_s)
    yield (
        "cold start before INIT, p50",
        "ms",
        _median,
        lambda m: _cold(m, packages, lambda t: t.client_s - t.duration_s - t.init_s),
    )
    yield "warm invocation, p50", "ms", _median, _warm
    yield "warm invocation, p99", "ms", _p99, lambda m: _enough(_warm(m))
    for probe in WORK:
        yield f"{probe}, p50", "ms", _median, lambda m, probe=probe: _work(m, probe)  # type: ignore[misc]
        if probe in ("get", "put"):
            yield f"{probe}, p99", "ms", _p99, lambda m, probe=probe: _enough(_work(m, probe))  # type: ignore[misc]
    yield "largest request that is taken", "bytes", max, _taken
    yield "warm instances after an idle time", "", _mean, _still_warm
    yield "calls at once that are served", "", _mean, _served
    yield "billed duration of all calls", "s", _mean, _billed


def _mean(values: Series) -> float:
    return float(np.mean(values))


def _keyed(rows: pd.DataFrame, y: Any, columns: Sequence[str], text: Callable[[Any], str]) -> pd.DataFrame:
    """Rows with `y` and, as `key`, some columns in words."""
    rows = rows.assign(y=y)
    rows = rows[rows.y.notna()]
    rows = rows.sort_values(list(columns), kind="stable") if columns else rows
    return rows.assign(key=[text(row) for row in rows.itertuples()])


def _cold(measured: Measurements, packages: set[str], y: Callable[[pd.DataFrame], Series]) -> pd.DataFrame:
    rows = measured.of("cold")
    rows = rows[rows.package.isin(packages)]

    def text(row: Any) -> str:
        return row.package + (f" with {row.padding_bytes / 1e6:.0f} MB more" if row.padding_bytes else "")

    return _keyed(rows, y(rows) / MS, ["package", "padding_bytes"], text)


def _warm(measured: Measurements) -> pd.DataFrame:
    rows = measured.of("warm")
    return _keyed(rows, (rows.client_s - rows.duration_s) / MS, [], lambda _: "")


def _work(measured: Measurements, probe: str) -> pd.DataFrame:
    rows = timed(measured.of(probe))
    columns = ["memory_mb", *WORK[probe]]

    def text(row: Any) -> str:
        said = [NAMES[name].format(getattr(row, name)) for name in WORK[probe]]
        return ", ".join([f"{row.memory_mb:,} MB", *said])

    return _keyed(rows, rows.took_s / MS, columns, text)


def _enough(rows: pd.DataFrame) -> pd.DataFrame:
    """Those with enough samples for a tail, whatever the memory size."""
    count = rows.groupby("key").y.transform("size")
    return rows[count >= TAIL_SAMPLES]


def _taken(measured: Measurements) -> pd.DataFrame:
    rows = measured.of("payload-limit")
    rows = rows[rows.work_answer_bytes == 0]
    return _keyed(rows, rows.work_size_bytes, [], lambda _: "")


def _still_warm(measured: Measurements) -> pd.DataFrame:
    rows = measured.of("keep-alive")
    rows = rows[rows.idle_s.notna()]
    return _keyed(rows, (~rows.cold).astype(float), ["idle_s"], lambda row: f"{row.idle_s:g} s")


def _served(measured: Measurements) -> pd.DataFrame:
    import pandas as pd

    rows = pd.concat([measured.of("burst"), measured.failed[measured.failed.probe == "burst"]])
    return _keyed(rows, (rows.status == "ok").astype(float), ["at_once"], lambda row: f"of {row.at_once}")


def _billed(measured: Measurements) -> pd.DataFrame:
    rows = measured.rows[measured.rows.probe != "sizing"]
    return _keyed(rows, rows.billed_s, ["probe"], lambda row: f"{row.probe}, mean")
