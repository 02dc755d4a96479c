"""Play a traffic scenario: its replications, what they come to, and the run's files."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.run.folder import RunFolder
from experiments.tools.console import step
from experiments.traffic.picture import draw_latency
from moe.files import writing
from moe.statistics import estimate, finite
from simulator.profiles.schema import price_list_date
from simulator.records import Bill, to_pandas
from simulator.traffic.fast import replication
from simulator.traffic.metrics import Batch
from simulator.traffic.open_loop import Served, read_inputs, replication_rngs
from simulator.traffic.scenario import Scenario

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 20_000


def run_scenario(scenario: Scenario, folder: RunFolder) -> dict[str, Any]:
    """Play every replication, write the run's files, and return what stands in result.json. Raises InputError."""
    inputs = read_inputs(scenario)
    folder.begin(scenario)
    rows = _Table(folder.path / "rows.parquet", to_pandas)
    requests = _Table(folder.path / "requests.parquet", requests_table)
    keep_row, keep_batch = (rows.add, requests.add) if scenario.keep_rows else (None, None)
    served: list[Served] = []
    try:
        for number, rng in enumerate(replication_rngs(scenario)):
            rows.begin(number)
            requests.begin(number)
            with step(number + 1, scenario.replications, "serving") as report:
                served.append(replication(inputs, rng, keep_row, keep_batch).run())
                one = served[-1]
                report(f"{one.arrived:,} requests in {one.end_s:,.0f} simulated s, {one.engine}")
    finally:
        rows.close()
        requests.close()
    latencies = [each.latency_s for each in served]
    if any(len(each) for each in latencies):
        draw_latency(latencies, scenario.slo_s, scenario.name, folder.path / "latency")
    result = _result(scenario, folder.key, served)
    folder.finish(result)
    return result


def requests_table(batches: list[Batch]) -> pd.DataFrame:
    """A row a request: batch, arrived_s, left_s (with its batch), ended_s, latency_s, ok."""
    import pandas as pd

    sizes = [len(batch.arrived_s) for batch in batches]
    table = pd.DataFrame({"batch": np.repeat([batch.number for batch in batches], sizes)})
    table["arrived_s"] = np.concatenate([batch.arrived_s for batch in batches])
    for name in ("left_s", "ended_s", "ok"):
        table[name] = np.repeat([getattr(batch, name) for batch in batches], sizes)
    table["latency_s"] = table.ended_s - table.arrived_s
    return table


class _Table:
    """A parquet file that is written in chunks.

    Args:
        path: the file; made with the first chunk.
        make: turns a chunk's items into a table.
    """

    def __init__(self, path: Path, make: Callable[[list[Any]], pd.DataFrame]) -> None:
        self._path, self._make = path, make
        self._replication = 0
        self._items: list[Any] = []
        self._writer: Any = None

    def begin(self, replication: int) -> None:
        """What is added from now on is of this replication."""
        self._flush()
        self._replication = replication

    def add(self, item: Any) -> None:
        """Keep an item."""
        self._items.append(item)
        if len(self._items) == CHUNK:
            self._flush()

    def close(self) -> None:
        """Write what is left."""
        self._flush()
        if self._writer is not None:
            with writing(self._path):
                self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._items:
            return
        table = self._make(self._items)
        table.insert(0, "replication", self._replication)
        self._items = []
        schema = None if self._writer is None else self._writer.schema
        chunk = pa.Table.from_pandas(table, schema=schema, preserve_index=False)
        with writing(self._path):
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._path, chunk.schema)
            self._writer.write_table(chunk)


def _result(scenario: Scenario, key: str, served: list[Served]) -> dict[str, Any]:
    """result.json: every metric with its interval, and of each replication; null where it has no value."""
    replications = [asdict(each.metrics) for each in served]
    result = {
        "schema": "traffic-result/1",
        "name": scenario.name,
        "key": key,
        "seed": scenario.seed,
        "price_list_date": price_list_date(scenario.profile),
        "slo_s": scenario.slo_s,
        "offered_requests_per_s": _or_none(scenario.arrivals.process.mean_rate_per_s),
        "engine": served[0].engine,
        "confidence": _confidence(len(served)),
        "stopped": [each.stopped for each in served],
        "metrics": _estimates(replications),
        "bill_of_1000_requests": _estimates([_thousand(each.bill) for each in served]),
        "replications": [{name: _or_none(value) for name, value in each.items()} for each in replications],
    }
    if scenario.functions is not None:
        result["functions"] = {
            name: _estimates([asdict(each.functions[name]) for each in served]) for name in scenario.functions
        }
        result["all_ended"] = _estimates([_all_ended(each) for each in served])
    if scenario.moe is not None and scenario.moe.generated_tokens:
        result["generation"] = _estimates([each.generation for each in served])
    return result


def _thousand(bill: Bill) -> dict[str, float]:
    """The parts of a request's bill, times a thousand."""
    return {name: 1000 * value for name, value in asdict(bill).items()}


def _estimates(replications: list[dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """Each metric over replications: mean, and half its interval."""
    estimates = {}
    for name in replications[0]:
        found = estimate(finite([each[name] for each in replications]))
        estimates[name] = {"mean": _or_none(found.mean), "ci95_half_width": found.half_width}
    return estimates


def _all_ended(served: Served) -> dict[str, float]:
    """From a served request's arrival until nothing that it caused was running or queued any more, s."""
    times_s = served.all_ended_s if len(served.all_ended_s) else np.array([math.nan])
    p50, p99 = np.quantile(times_s, (0.5, 0.99)).tolist()
    return {"mean_s": float(times_s.mean()), "p50_s": p50, "p99_s": p99}


def _confidence(replications: int) -> str:
    if replications == 1:
        return "no confidence interval: 1 replication (replications: 5 gives one)"
    return f"95% intervals: Student's t over {replications} independent replications"


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
