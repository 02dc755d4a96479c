"""All speeds in one run: ratios side by side, how each grows with size, and the peak of memory."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from experiments.benches.optimizer import GAP, optimizer_speed, slope
from experiments.benches.simulator import Workload, batch_times, month, scaling, simulator_speed, slope_us
from experiments.tools.provenance import provenance

Said = Callable[[str], object]


def everything(requests: int = 200_000, say: Said = lambda _: None) -> dict[str, Any]:
    """Every benchmark of speed.

    Args:
        requests: of the workload. say: told what is measured next.

    Returns:
        Machine and commit; `requests`, `month`, `batches`, `scaling`, `optimizer`: rows; `slope_us`: of another
        invocation; `exponents`: time grows like size to that; `peak_memory_mb`: of the process after each part.
    """
    peaks: dict[str, float] = {}

    def part(name: str, measure: Callable[[], Any]) -> Any:
        say(name)
        found = measure()
        peaks[name] = peak_memory_mb()
        return found

    served = part("requests", lambda: simulator_speed(Workload(requests=requests)))
    long = part("month", month)
    batches = part("batches", batch_times)
    sizes = part("scaling", scaling)
    solved = part("optimizer", optimizer_speed)
    counts = np.log([each.invocations for each in sizes])
    exponents = {"one batch": float(np.polyfit(counts, np.log([each.seconds for each in sizes]), 1)[0])}
    exponents |= {job: slope(solved, job) for job in ("exact", f"exact, gap {GAP:g}", "ODS")}
    return provenance() | {
        "cores": os.cpu_count(),
        "requests": [asdict(row) for row in served],
        "month": asdict(long),
        "batches": [asdict(row) for row in batches],
        "scaling": [asdict(row) for row in sizes],
        "slope_us": slope_us(sizes),
        "optimizer": [asdict(row) for row in solved],
        "exponents": exponents,
        "peak_memory_mb": peaks,
    }


def peak_memory_mb() -> float:
    """The most that the process has had so far, MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
