"""Folders of runs, small: the reference run's plans played again, and tables."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simulator.plan import read_plan, read_problem
from simulator.profiles.schema import load_profile
from simulator.records import to_pandas
from simulator.serving.layer import JUST_IN_TIME
from simulator.serving.simulate import simulate

REFERENCE = Path(__file__).parents[3] / "results" / "bert"
PLANS = ("ods", "lambdaml")


def played(folder: Path, slower: float = 1.0, batches: int = 3, seed: int = 0) -> Path:
    """A run folder whose records are of the reference run's plans; every batch `slower` times as large."""
    folder.mkdir()
    for name in ("config.yaml", "problem.json", "provenance.json", "result.json"):
        shutil.copy(REFERENCE / name, folder / name)
    shutil.copytree(REFERENCE / "plans", folder / "plans")
    problem, profile = read_problem(folder / "problem.json"), load_profile("aws-us-east-1-2026")
    rng = np.random.default_rng(7)
    mean = np.array([layer.tokens for layer in problem.layers]) * slower
    routing = [rng.poisson(mean) for _ in range(batches)]
    tables, bills = [], {}
    for name in PLANS:
        plan = read_plan(folder / "plans" / f"{name}.json", problem)
        for start, served in (("warm", routing), ("cold", routing[:1])):
            run = simulate(
                problem, plan, profile, routing=served, warm=start == "warm", serving=JUST_IN_TIME, seed=seed
            )
            tables.append(to_pandas(run.records).assign(plan=name, start=start))
            bills[name, start] = run
    pd.concat(tables, ignore_index=True).to_parquet(folder / "records.parquet")
    result = json.loads((folder / "result.json").read_text())
    titles = {"ods": "ODS", "lambdaml": "LambdaML"}
    result["batches"] = batches
    result["methods"] = [row for row in result["methods"] if row["method"] in titles.values()]
    millions = result["batch_tokens"] / 1e6
    for row in result["methods"]:
        name = next(name for name, title in titles.items() if title == row["method"])
        warm = bills[name, "warm"]
        row["billed_usd"] = warm.bill.billed_cost_usd / millions
        row["full_usd"] = warm.bill.full_cost_usd / millions
        row["total_usd"] = warm.bill.total_cost_usd / millions
        row["latency_s"] = warm.mean_latency_s
        row["cold_latency_s"] = bills[name, "cold"].mean_latency_s
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def committed(name: str, folder: Path) -> Path:
    """A reference run as it is in git: without the tables that come back with its command."""
    return Path(shutil.copytree(REFERENCE.parent / name, folder, ignore=shutil.ignore_patterns("*.parquet")))


@pytest.fixture(scope="session")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return played(tmp_path_factory.mktemp("runs") / "a")


@pytest.fixture(scope="session")
def a_larger_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return played(tmp_path_factory.mktemp("runs") / "b", slower=1.1)


def points(folder: Path, factor: float = 1.0, first_seed: int = 0) -> Path:
    """A folder of a sweep: eight points, one of which failed, and a name that is markup."""
    folder.mkdir()
    rows = [
        {
            "workload.batch_tokens": tokens,
            "plan": plan,
            "seed": first_seed + seed,
            "billed_usd": factor * (0.1 + 0.01 * seed + tokens / 1e5),
            "latency_s": tokens / 100 + seed + first_seed / 9,
            "error": "",
        }
        for tokens in (256, 1024)
        for plan in ("ods", "<script>alert(1)</script>")
        for seed in (0, 1)
    ]
    rows[-1] |= {"billed_usd": None, "latency_s": None, "error": "no plan reaches the target"}
    pd.DataFrame(rows).to_csv(folder / "points.csv", index=False)
    (folder / "config.yaml").write_text("name: sweep\nabout: 'a & <b>bold</b> sweep'\n")
    return folder


def study(folder: Path) -> Path:
    """A folder of a study: a table of its runs, and one that sums them up."""
    points(folder)
    (folder / "points.csv").rename(folder / "runs.csv")
    (folder / "summary.csv").write_text("sampler,score\nrandom,1.5\ntpe,1.25\n")
    return folder
