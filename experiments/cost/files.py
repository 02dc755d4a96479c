"""The answer as files: JSON, a table (parquet, CSV), the best deployment of each contender."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cost.compare import Compared
from experiments.cost.offer import Offer, cheapest
from experiments.cost.question import Question
from experiments.cost.report import remarks, sentences
from experiments.cost.sure import Surety
from moe.files import write_whole
from moe.loading import dump_yaml
from simulator.profiles.closed_form import mean_speed
from simulator.profiles.schema import DEFAULT_PROFILE

REGION = "us-east-1"
GROUPS = ("parts", "monthly_usd_interval", "latency_s", "ttft_s", "tpot_s")


def as_data(compared: Compared, region: str, price_list_date: str, surety: Surety | None = None) -> dict[str, Any]:
    """The JSON contract, `cost/1`."""
    question = compared.question
    tokens_in, tokens_out = (float(each.mean()) for each in question.traffic.sample(500))
    promise = question.promise
    named = {"latency_s": promise.latency_s, "ttft_s": promise.ttft_s, "tpot_s": promise.tpot_s}
    slo = {name: value for name, value in named.items() if value is not None}
    points = [_point(question, per_month, offers) for per_month, offers in compared.points]
    data: dict[str, Any] = {
        "schema": "cost/1",
        "model": question.spec.name,
        "weights": question.spec.precision,
        "price_list_date": price_list_date,
        "region": region,
        "payment": question.payment,
        "traffic": {
            "requests_per_month": compared.points[0][0] if len(points) == 1 else [x for x, _ in compared.points],
            "tokens_in": tokens_in,
            "tokens_out": tokens_out,
            "arrivals": question.traffic.arrivals,
            "peak_to_mean": question.traffic.peak_to_mean,
        },
        "slo": slo | {"percentile": promise.percentile, "assumed": question.assumed} if slo else None,
    }
    if surety is not None:
        data["draws"] = asdict(surety)
        for row in points[0]["contenders"]:
            row["probability_cheapest"] = surety.probability.get(row["name"], 0.0)
            if row["name"] in surety.intervals:
                row["monthly_usd_interval"] = list(surety.intervals[row["name"]])
    if len(points) == 1:
        data |= {"contenders": points[0]["contenders"], "cheapest": points[0]["cheapest"]}
    else:
        data["points"] = points
    return data | {
        "crossovers": [
            {"from": each.before, "to": each.after, "requests_per_month": each.requests_per_month}
            for each in compared.crossovers
        ],
        "sentences": sentences(compared),
        "notes": remarks(compared),
    }


def _point(question: Question, per_month: float, offers: list[Offer]) -> dict[str, Any]:
    best = cheapest(offers)
    tokens = question.at(per_month).tokens_per_month
    return {
        "requests_per_month": per_month,
        "contenders": [offer.as_data(tokens) for offer in offers],
        "cheapest": None if best is None else best.contender,
    }


def write_tables(compared: Compared, data: dict[str, Any], folder: Path) -> None:
    """Write cost.csv, cost.parquet, curve.csv and plans/."""
    import pandas as pd

    stamp = {key: data[key] for key in ("price_list_date", "region", "weights", "payment")}
    table = pd.DataFrame([flat(row) for row in _table(compared)]).assign(**stamp)
    write_whole(folder / "cost.csv", table.to_csv(index=False))
    write_whole(folder / "cost.parquet", lambda path: table.to_parquet(path, index=False))
    curve = [
        {"requests_per_month": x, "contender": o.contender, "monthly_usd": o.usd if o.serves else None}
        for x, offers in compared.curve
        for o in offers
    ]
    write_whole(folder / "curve.csv", pd.DataFrame(curve).assign(**stamp).to_csv(index=False))
    for offer in compared.points[0][1]:
        if offer.serves:
            plan = deployment(compared.question, compared.points[0][0], offer)
            write_whole(folder / "plans" / f"{offer.contender}.yaml", dump_yaml(plan, width=110))


def _table(compared: Compared) -> list[dict[str, Any]]:
    question = compared.question
    return [
        {"requests_per_month": per_month} | offer.as_data(question.at(per_month).tokens_per_month)
        for per_month, offers in compared.points
        for offer in offers
    ]


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """A contender's JSON as a row of a table: groups become columns of their own, and are left out where empty."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        if key == "metrics" or (key in GROUPS and value is None):
            continue
        if isinstance(value, dict):
            found |= {f"{key}_{name}": each for name, each in value.items()}
        elif isinstance(value, list):
            found |= dict(zip((f"{key}_low", f"{key}_high"), value, strict=True))
        else:
            found[key] = value
    return found


def deployment(question: Question, per_month: float, offer: Offer) -> dict[str, Any]:
    """What to deploy: of a function a scenario that `./smoe traffic` plays, of machines how many of which."""
    if offer.memory_mb is None or offer.shape != "whole-model":
        kept = ("contender", "words", "shape", "machine", "count", "at_once", "memory_mb", "functions")
        return {key: value for key, value in asdict(offer).items() if key in kept and value is not None}
    assert offer.works_s is not None
    assert offer.package is not None
    profile, shares = question.profiles[DEFAULT_PROFILE], np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    speed = mean_speed(profile, profile.start.packages[offer.package].architecture, question.spec.precision)
    speed /= mean_speed(
        profile, profile.architecture, question.spec.precision
    )  # a scenario's work is of the latter
    works = np.quantile(offer.works_s, shares) * speed
    return {
        "schema": "traffic-scenario/1",
        "name": offer.contender,
        "about": f"{question.spec.name}: {offer.words}; work of a request by its quantiles",
        "arrivals": {"poisson": {"rate_per_s": question.at(per_month).traffic.rate}},
        "requests": 10_000,
        "slo_s": question.promise.latency_s or float(works[-1]),
        "function": {
            "memory_mb": offer.memory_mb,
            "package": offer.package,
            "provisioned_instances": offer.peak if offer.provisioned else 0,
            "work": {"quantiles_s": dict(zip(shares.tolist(), works.round(6).tolist(), strict=True))},
        },
    }
