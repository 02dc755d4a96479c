"""smoe plan with rivals and groups, smoe samples, smoe robust: files that fit each other."""

import json
from pathlib import Path

import numpy as np
import pytest

from moe.errors import InputError
from moe.files import read_model
from moe.trace import save_trace
from optimizer import evaluate
from optimizer.grouped import Grouping
from optimizer.popularity.popularity_file import load_samples, save_popularity, save_samples
from simulator.plan import read_plan, read_problem
from tests.conftest import EXAMPLES
from tests.experiments.conftest import Run
from tests.optimizer.robust.test_samples import _trace

BERT = str(EXAMPLES / "bert-4.problem.json")
TINY = str(EXAMPLES / "tiny.problem.json")


@pytest.mark.parametrize("solver", ["best-memory", "memory-only", "replicas-only", "reactive", "robust"])
def test_every_rival_is_there_by_name(smoe: Run, solver: str) -> None:
    code, out, _ = smoe("plan", TINY, "--solver", solver, "--json")
    plan = json.loads(out)
    assert (code, plan["solver"], plan["schema"]) == (0, solver, "deployment-plan/1")


def test_a_plan_of_groups_comes_with_their_problem_and_who_is_in_them(smoe: Run, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    assert (
        smoe(
            "plan",
            BERT,
            "--latency-limit",
            "none",
            "--set",
            "group=2",
            "--set",
            "group_by=load",
            "--out",
            str(out),
        )[0]
        == 0
    )
    grouped = read_problem(tmp_path / "plan.problem.json")
    plan = read_plan(out, grouped)
    assert plan.billed_gb_s == pytest.approx(evaluate(grouped, plan).billed_gb_s)
    grouping = read_model(Grouping, tmp_path / "plan.groups.json")
    assert grouping.of_problem(read_problem(BERT).with_limit(None)) == grouped
    code, printed, _ = smoe(
        "simulate", str(tmp_path / "plan.problem.json"), str(out), "--start", "just-in-time", "--json"
    )
    assert code == 0
    assert json.loads(printed)["billed_gb_s"] <= (plan.billed_gb_s or 0) * (1 + 1e-9)


def test_options_of_solvers_reach_them(smoe: Run, tmp_path: Path) -> None:
    popularity = np.array([[x.tokens for x in layer.experts] for layer in read_problem(BERT).layers])
    save_popularity(popularity, tmp_path / "last.parquet")
    save_samples(popularity[None], tmp_path / "batches.parquet")

    def layers(*arguments: str) -> object:
        code, out, _ = smoe("plan", BERT, "--json", *arguments)
        assert code == 0
        return json.loads(out)["layers"]

    exact = layers()
    for name in ("last", "batches"):
        assert layers("--solver", "reactive", "--set", f"history={tmp_path / name}.parquet") == exact
    fixed = layers("--solver", "replicas-only", "--set", "memory_mb=768", "--set", "replicas_per_expert=1")
    assert {(x["memory_mb"], x["replicas"]) for layer in fixed for x in layer["experts"]} == {(768, 1)}  # type: ignore[attr-defined]
    code, _, err = smoe("plan", BERT, "--set", "memory_mb=768")
    assert code == 2
    assert err.startswith("smoe: solver 'exact': no option 'memory_mb'")
    code, _, err = smoe("plan", BERT, "--set", "group=2", "--set", "group_by=lode")
    assert (code, "group_by: expected" in err, "did you mean 'load'?" in err) == (2, True, True)


def test_from_traces_to_samples_to_a_robust_plan(smoe: Run, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        save_trace(_trace(30, seed), tmp_path / f"{name}.parquet")
    samples, plan = tmp_path / "samples.parquet", tmp_path / "plan.json"
    code, out, _ = smoe(
        "samples", "--profiled", str(tmp_path / "a.parquet"), "--serve", str(tmp_path / "b.parquet"),
        "--predictor", "lina", "--count", "5", "--out", str(samples), "--json",
    )  # fmt: skip
    assert code == 0
    assert load_samples(samples).shape == (5, 2, 3)
    assert np.array(json.loads(out)["mean"]) == pytest.approx(load_samples(samples).mean(axis=0))
    code, out, _ = smoe(
        "robust", TINY, "--samples", str(samples), "--limit-share", "0.8", "--out", str(plan), "--json"
    )
    found = json.loads(out)
    assert code == 0
    assert found["lower_bound"] is None or found["lower_bound"] <= found["cost"]
    assert found["plan"] == json.loads(plan.read_text())
    code, out, _ = smoe(
        "plan", TINY, "--solver", "robust", "--set", f"samples={samples}", "--set", "limit_share=0.8", "--json"
    )
    assert json.loads(out)["layers"] == found["plan"]["layers"]
    code, out, _ = smoe("robust", TINY, "--samples", str(samples), "--risk", "quantile", "--quantile", "0.9")
    assert code == 0
    assert "90% of the samples do not exceed" in out


def test_broken_samples_are_named(tmp_path: Path) -> None:
    import pandas as pd

    path = tmp_path / "samples.parquet"
    with pytest.raises(InputError, match="no such file"):
        load_samples(path)
    table = pd.DataFrame({"sample": [0, 0, 1], "layer": 0, "expert": [0, 1, 0], "tokens": [1.0, 2.0, 3.0]})
    table.to_parquet(path)
    with pytest.raises(InputError, match="sample 1, layer 0, expert 1: expected one row, got none"):
        load_samples(path)
    table.iloc[:2].assign(tokens=[1.0, -1.0]).to_parquet(path)
    with pytest.raises(InputError, match="tokens: sample 0, layer 0, expert 1: expected a number >= 0, got -1"):
        load_samples(path)
    table[["layer"]].to_parquet(path)
    with pytest.raises(InputError, match="missing expert, sample, tokens"):
        load_samples(path)


def test_a_plan_keeps_the_share_of_late_samples_that_it_promises(smoe: Run, tmp_path: Path) -> None:
    """Planned at the limit it would be late on about every second sample."""
    problem, samples = read_problem(BERT), tmp_path / "samples.parquet"
    tokens = np.array([layer.tokens for layer in problem.layers])
    drawn = np.random.default_rng(0).dirichlet(20 * tokens[0] / tokens[0].sum(), (39, len(tokens)))
    save_samples(drawn * tokens.sum(axis=1, keepdims=True), samples)
    asked = ("plan", BERT, "--latency-limit", "90", "--set", f"samples={samples}", "--json")
    code, out, _ = smoe(*asked, "--late-share", "0.05")
    found = json.loads(out)
    assert code == 0
    assert found["planning_limit_s"] < 90
    assert found["feasible"] is True
    assert found["late_share_low"] <= found["late_share"] <= 0.05 < found["late_share_high"]
    paper = json.loads(smoe("plan", BERT, "--latency-limit", "90", "--json")[1])
    assert paper["billed_gb_s"] < found["billed_gb_s"]
    code, _, err = smoe("plan", BERT, "--late-share", "0.05")
    assert code == 2
    assert "--late-share: expected together with --set samples=FILE" in err
