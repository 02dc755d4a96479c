"""Fig. 14: cost and throughput of every way to serve, the gain over LambdaML split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from experiments.paper.figure import PaperFigure, Rows
from experiments.paper.figures.fig14.claims import claims
from experiments.paper.figures.fig14.picture import draw
from experiments.paper.figures.fig14.rows import BO, NO_BO, STEPS, Part, WayCell, compute
from experiments.paper.routing import cell_fields, with_interval
from experiments.paper.settings import FigureSettings
from moe.statistics import estimate
from optimizer.bo import Objective
from optimizer.margin import LATE_SHARE
from simulator.serving.cluster import PERIODS

if TYPE_CHECKING:
    import pandas as pd


class Settings(FigureSettings):
    """Fig. 14: runs and trials of BO, and the batches that a trial serves; `late_share` as of Fig. 12.

    `draws`: of the platform's constants, for the intervals of both readings of the paper's saving."""

    runs: int = Field(5, ge=2)
    trials: int = Field(30, ge=2)
    tuned_on: int = Field(4, ge=1)
    objective: Objective = "bill"
    late_share: float | None = LATE_SHARE
    draws: int = Field(64, ge=8)


def cells(settings: Settings) -> list[WayCell]:
    """One for each model, text and part; BO's runs one each."""
    own = {name: getattr(settings, name) for name in ("trials", "tuned_on", "objective", "late_share", "draws")}
    parts: list[tuple[Part, int]] = [("bo", run) for run in range(settings.runs)]
    parts += [("break-even", 0), ("readings", 0), ("split", 0), ("plans", 0), ("cluster", 0)]
    return [
        WayCell(**fields, **own, part=part, run=run) for fields in cell_fields(settings) for part, run in parts
    ]


def table(rows: Rows) -> pd.DataFrame:
    """Rows `serving` with ratios over LambdaML and the cluster, `split` with shares saved, `reading`,
    `break-even`."""
    import pandas as pd

    found: list[dict[str, Any]] = []
    for _, group in pd.DataFrame(rows).groupby(["model", "text"], sort=False):
        of_model = group.to_dict("records")
        serving = _with_runs_joined([row for row in of_model if row["row"] == "serving"])
        rule = next(row for row in serving if row.get("is_rule") is True)
        found += [row | _ratios(row, rule, serving) for row in serving]
        found += _shares_saved([row for row in of_model if row["row"] == "split"], serving)
        found += [row for row in of_model if row["row"] in ("reading", "break-even")]
    data = pd.DataFrame(found)
    return data.drop(columns=["gb_s_each", "latency_s_each", "independent", "run", "index"], errors="ignore")


def _with_runs_joined(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """BO's runs as one row: each batch's mean over runs, and intervals over runs where they are the wider ones."""
    runs = [row for row in rows if row["name"] == BO]
    if not runs:
        return rows
    joined = dict(runs[0])
    for name in ("gb_s_each", "latency_s_each"):
        joined[name] = np.mean([row[name] for row in runs], axis=0).tolist()
    for name in ("billed_usd", "billed_gb_s", "tokens_per_s"):
        over_runs = estimate([row[name] for row in runs])
        mean = over_runs.mean
        own = float(np.mean([row[f"{name}_high"] - row[name] for row in runs]))
        half = max(over_runs.high - mean, own)
        joined |= {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}
    for name in (
        "full_usd",
        "total_usd",
        "total_eager_usd",
        "latency_s",
        "late_share",
        "late_share_low",
        "late_share_high",
    ):
        joined[name] = float(np.mean([row[name] for row in runs]))
    return [joined, *(row for row in rows if row["name"] != BO)]


def _ratios(row: dict[str, Any], rule: dict[str, Any], serving: list[dict[str, Any]]) -> dict[str, Any]:
    """Bill and throughput over LambdaML's, paired by batch; the bill over the cluster's, for each period."""
    if not isinstance(row["gb_s_each"], list):
        return {}
    own, other = (np.array(x["gb_s_each"]) for x in (row, rule))
    faster = np.array(rule["latency_s_each"]) / np.array(row["latency_s_each"])
    found: dict[str, Any] = {}
    for name, ratio in (("of_lambdaml", own / other), ("speed_of_lambdaml", faster)):
        found |= with_interval(name, ratio, row["independent"])
    for period in PERIODS:
        cpu = next((x for x in serving if x["period"] == period and x["better_transformer"] is False), None)
        if cpu is not None:
            found[f"of_cpu_{period}"] = row["billed_usd"] / cpu["billed_usd"]
            for end, far in (("low", "high"), ("high", "low")):
                found[f"of_cpu_{period}_{end}"] = row[f"billed_usd_{end}"] / cpu[f"billed_usd_{far}"]
    return found


def _shares_saved(rows: list[dict[str, Any]], serving: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each decision saves, as a share of LambdaML's bill, for each method of LambdaML; paired by batch."""
    tuned = {row["name"]: row for row in serving if row["name"] in (BO, NO_BO)}
    found = []
    for method in dict.fromkeys(row["lambdaml_method"] for row in rows):
        own = {row["name"]: row for row in rows if row["lambdaml_method"] == method}
        first = own["LambdaML"]
        if not first["possible"]:
            found.append(first)
            continue
        whole = before = np.array(first["gb_s_each"])
        for step in STEPS:
            row = own.get(step) if step != "BO" else tuned.get(BO)
            after = before if row is None else np.array(row["gb_s_each"])
            saved = with_interval("saved_share", (before - after) / whole, first["independent"])
            speed = float("nan") if row is None else row["tokens_per_s"]
            base = {name: first[name] for name in ("model", "text", "experts", "top_k", "batch_tokens", "batches")}
            found.append(
                base
                | {"row": "split", "name": step, "lambdaml_method": method, "possible": True}
                | saved
                | {"billed_gb_s": float(after.mean()), "tokens_per_s": speed}
            )
            before = after
    return found


FIGURE = PaperFigure("14", Settings, cells, compute, table, claims, draw)
