"""Files of a live validation: record table, profile, plans, problems, and its numbers as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.live.compare import Measure
from experiments.live.run import Validation
from experiments.live.session import Served, Session
from lambda_probe.live.rows import table_of
from moe.files import write_json, write_whole

UNFINISHED = "unfinished.parquet"


def write_validation(found: Validation, folder: Path) -> None:
    """Write everything into a folder."""
    from experiments.live.page import page
    from experiments.live.picture import draw_live
    from experiments.profiles.reading import write_profile

    (folder / UNFINISHED).unlink(missing_ok=True)
    write_whole(folder / "rows.parquet", record_table(found.served).to_parquet)
    write_whole(folder / "calibration.parquet", calibrating_table(found.session).to_parquet)
    write_profile(found.session.profile, folder / "profile.yaml")
    for x in found.served:
        write_json(folder / "plans" / f"{x.live.name}.plan.json", x.live.plan)
        write_json(folder / "plans" / f"{x.live.load}.problem.json", x.problem)
    draw_live(found.comparisons, folder / "validation")
    write_whole(folder / "validation.md", page(found))
    write_whole(folder / "validation.json", json.dumps(as_json(found), indent=1, allow_nan=False))


def write_kept(session: Session, folder: Path) -> Path:
    """Keep the calls so far of a validation that may not come to its end. Raises PlatformError for a full disk."""
    file = folder / UNFINISHED
    write_whole(file, kept_table(session).to_parquet)
    return file


def as_json(found: Validation) -> dict[str, Any]:
    """The numbers as one JSON object; a number that there is not is null."""
    platform, model = found.session.platform, found.session.model
    data = {
        "schema": "live-validation/1",
        "backend": found.backend,
        "price_list_date": found.session.profile.prices.price_list_date.isoformat(),
        "seconds": found.seconds,
        "settings": asdict(found.settings) | {"gates": found.settings.gates.model_dump()},
        "summary": found.summary(),
        "plans": [
            asdict(x)
            | {
                name: _measure_json(getattr(x, name))
                for name in ("cost_usd", "full_usd", "total_usd", "latency_s")
            }
            for x in found.comparisons
        ],
        "rankings": [asdict(x) for x in found.rankings],
        "faults": [asdict(x) | {"reported": x.reported} for x in found.faults],
        "platform": asdict(platform) if platform is not None else None,
        "model": asdict(model) if model is not None else None,
        "blocks": [asdict(x) for x in found.session.blocks],
    }
    clean: dict[str, Any] = _without_nan(data)
    return clean


def record_table(served: Sequence[Served]) -> pd.DataFrame:
    """Every call, live and simulated, in the record table's columns; `plan`, `load`, `live` say whose."""
    tables = []
    for x in served:
        about = {"plan": x.live.name, "load": x.live.load}
        tables += [table_of(batch.rows, about | {"live": True}) for batch in x.live.batches]
        tables.append(x.simulated.to_pandas().assign(**about, live=False))
    return pd.concat(tables, ignore_index=True)


def kept_table(session: Session) -> pd.DataFrame:
    """Every call of every batch that was served, calibrating ones too; `plan`, `load` say of which."""
    tables = [table_of(rows, {"plan": plan, "load": load, "live": True}) for plan, load, rows in session.kept]
    return pd.concat(tables, ignore_index=True)


def calibrating_table(session: Session) -> pd.DataFrame:
    """The calls that constants were fitted to; `communication`, `load`, `parameter_bytes` say of what: of expert
    functions, and without these three of stages of blocks."""
    rows = session.calibrating_rows()
    table = table_of([x.row for x in rows], {})
    for name, column in (("communication", "communication"), ("batch_tokens", "load"), ("parameter_bytes",) * 2):
        table[column] = [getattr(x, name) for x in rows]
    return pd.concat([table, table_of(session.block_rows, {})], ignore_index=True)


def _measure_json(x: Measure) -> dict[str, float]:
    return asdict(x) | {"error": x.error}


def _without_nan(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(key): _without_nan(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_without_nan(value) for value in data]
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    return data
