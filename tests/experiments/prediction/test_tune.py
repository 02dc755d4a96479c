"""smoe tune, on files that a user brings."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.prediction.tune import cut, gap_closed, verdict
from experiments.prediction.tune_picture import Curve
from moe.files import write_json
from moe.trace import save_trace
from optimizer.bo import Judged
from optimizer.popularity import ProfileTable, save_table
from optimizer.popularity.table_file import load_profile_table
from tests.experiments.conftest import Run
from tests.optimizer.bo.bo_cases import binding_limit_s, small_problem
from tests.optimizer.popularity.test_scored import random_trace


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """A problem, a profiled trace and one to serve, of 5 batches; as arguments of smoe tune."""
    write_json(tmp_path / "problem.json", small_problem(binding_limit_s()))
    save_trace(random_trace(1, tokens=400, vocabulary=20), tmp_path / "profiled.parquet")
    save_trace(random_trace(5, tokens=3100, vocabulary=40), tmp_path / "serve.parquet")
    return [
        str(tmp_path / "problem.json"),
        "--profiled",
        str(tmp_path / "profiled.parquet"),
        "--serve",
        str(tmp_path / "serve.parquet"),
        "--set",
        "pairs=40",
        "--json",
    ]


def test_a_stopped_run_goes_on_and_ends_the_same(smoe: Run, files: list[str], tmp_path: Path) -> None:
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    code, out, _ = smoe("tune", *files, "--trials", "5", "--out", whole)
    assert code == 0
    undisturbed = json.loads(out)
    assert smoe("tune", *files, "--trials", "3", "--out", parts)[0] == 0
    code, out, _ = smoe("tune", *files, "--trials", "5", "--out", parts, "--resume")
    assert (code, json.loads(out)) == (0, undisturbed)
    assert (tmp_path / "whole" / "result.json").read_text() == (tmp_path / "parts" / "result.json").read_text()
    assert {x.name for x in (tmp_path / "parts").iterdir()} == {
        "history.parquet",
        "table.parquet",
        "plan.json",
        "convergence.png",
        "convergence.svg",
        "result.json",
    }


def test_the_tuned_table_is_a_profile_table_to_go_on_with(smoe: Run, files: list[str], tmp_path: Path) -> None:
    """Untuned from the tuned table is what tuned was; 3 of the 5 batches are tuned on, 2 are unseen."""
    out = tmp_path / "out"
    first = json.loads(smoe("tune", *files, "--sampler", "random", "--trials", "6", "--out", str(out))[1])
    assert first["used"] == {"trials": 6, "served_tokens": 6 * 3 * 600}
    files[files.index("--profiled") + 1] = str(out / "table.parquet")
    again = json.loads(smoe("tune", *files, "--sampler", "none", "--out", str(tmp_path / "again"))[1])
    assert again["unseen_batches"]["untuned"] == first["unseen_batches"]["tuned"]
    assert again["tuning_batches"]["untuned"] == first["tuning_batches"]["tuned"]
    assert again["unseen_batches"]["gap_closed"] in (0.0, None)


def test_the_simulator_as_objective_agrees_with_the_closed_form(
    smoe: Run, files: list[str], tmp_path: Path
) -> None:
    found = {}
    for how in ("closed-form", "simulator"):
        out = str(tmp_path / how)
        found[how] = json.loads(
            smoe("tune", *files, "--sampler", "none", "--set", f"evaluate={how}", "--out", out)[1]
        )
    for name in ("untuned", "oracle"):
        closed, simulated = (found[how]["unseen_batches"][name] for how in ("closed-form", "simulator"))
        assert simulated["cost"] == pytest.approx(closed["cost"], rel=0.01)
        assert simulated["latency_s"] == pytest.approx(closed["latency_s"], rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sampler", "multi-epsilom"], "did you mean 'multi-epsilon'?"),
        (["--set", "paris=3"], "paris: unknown key; did you mean 'pairs'?"),
        (
            ["--set", "pairs=many"],
            "pairs: input should be a valid integer, unable to parse string as an integer, got 'many'",
        ),
        (["--set", "rho_1=0.9"], "rho_3, rho_2, rho_1, rho: expected rising numbers"),
        (["--set", "predictor=similar-prompts"], "expected one that predicts from a profile table"),
        (["--set", "layers=[0, 7]"], "layers: "),
        (["--set", "layers=[0, x]"], "layers.1: input should be a valid integer"),
        (["--set", "profile=aws-us-east-1-2026"], "expected evaluate=simulator"),
        (["--set", "test=nowhere.parquet"], "nowhere.parquet: no such file"),
        (["--resume"], "expected the history of a run to resume"),
    ],
)
def test_what_does_not_fit_is_named(
    smoe: Run, files: list[str], arguments: list[str], said: str, tmp_path: Path
) -> None:
    code, out, err = smoe("tune", *files, *arguments, "--out", str(tmp_path / "out"))
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_a_history_is_not_overwritten_and_not_mixed_with_another_runs(
    smoe: Run, files: list[str], tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    assert smoe("tune", *files, "--sampler", "none", "--out", out)[0] == 0
    assert "--resume continues it" in smoe("tune", *files, "--sampler", "none", "--out", out)[2]
    other = smoe("tune", *files, "--sampler", "none", "--seed", "1", "--out", out, "--resume")
    assert other[0] == 2
    assert "of another run: seed: expected 1, got 0" in other[2]


def test_a_trace_and_its_table_are_the_same_to_tune(tmp_path: Path) -> None:
    trace = random_trace(2, tokens=50)
    save_trace(trace, tmp_path / "trace.parquet")
    save_table(ProfileTable.from_trace(trace), tmp_path / "table.parquet")
    one, other = (load_profile_table(tmp_path / f"{name}.parquet", small_problem()) for name in ("trace", "table"))
    np.testing.assert_array_equal(one.keys, other.keys)
    np.testing.assert_array_equal(one.count, other.count)
    assert (one.layers, one.experts, one.top_k) == (other.layers, other.experts, other.top_k)


def test_tokens_that_fill_no_batch_are_left_out() -> None:
    assert [x.tokens for x in cut(random_trace(0, tokens=25), 10)] == [10, 10]


def test_the_gap_is_closed_by_the_oracle_and_not_defined_where_it_is_no_better() -> None:
    assert gap_closed(10.0, 9.0, 8.0) == pytest.approx(0.5)
    assert gap_closed(10.0, 8.0, 8.0) == pytest.approx(1.0)
    assert gap_closed(10.0, 11.0, 10.0) is None


def test_a_curve_s_band_is_the_interval_of_the_mean_and_a_stopped_run_keeps_its_last() -> None:
    curve = Curve.of("random", [[3.0, 2.0], [5.0]])
    np.testing.assert_allclose(curve.mean, [4.0, 3.5])
    # Student's t with one degree of freedom: 12.706 standard errors.
    np.testing.assert_allclose(curve.high - curve.mean, [12.706 * 1.0, 12.706 * 1.5], rtol=1e-4)


def of_scores(*scores: float) -> Judged:
    """Unseen batches that came to these scores."""
    mean = float(np.mean(scores))
    return Judged(mean, mean, 1.0, 0.0, 0.0, 0.0, (), None, scores=scores)


def test_whether_tuning_helps_is_said_only_where_there_is_room_for_an_answer() -> None:
    """A saving of half a per cent is none where batches differ by two, nor where the real counts save no more."""
    untuned, oracle = of_scores(100, 110, 90), of_scores(90, 99, 81)
    helped = verdict(untuned, of_scores(95.1, 105, 84.9), oracle)
    assert helped["verdict"] == "tuning helps"
    assert helped["room"] == pytest.approx(0.1)
    assert helped["saved"] == pytest.approx(0.05)
    assert verdict(untuned, of_scores(101, 109.9, 89), oracle)["verdict"] == "tuning does not help"
    assert verdict(untuned, of_scores(104, 114.5, 94), oracle)["verdict"] == "tuning harms"
    assert (
        verdict(untuned, of_scores(95.1, 105, 84.9), of_scores(99.9, 109.9, 89.9))["verdict"] == "cannot be judged"
    )
    assert verdict(untuned, of_scores(80, 110, 100), oracle)["verdict"] == "cannot be judged"  # far too noisy
    assert verdict(of_scores(100), of_scores(90), of_scores(80))["verdict"] == "cannot be judged"  # one batch
    assert verdict(untuned, of_scores(np.inf, 1, 1), oracle)["room"] is None


def test_tuning_without_a_limit_says_its_room(smoe: Run, files: list[str], tmp_path: Path) -> None:
    problem = small_problem(None)
    write_json(tmp_path / "problem.json", problem)
    more = ["--set", "objective=bill", "--set", "overflow=retry", "--set", "batches=1", "--sampler", "random"]
    code, out, _ = smoe("tune", *files, *more, "--trials", "3", "--out", str(tmp_path / "out"))
    assert code == 0
    found, unseen = json.loads(out)["tuning"], json.loads(out)["unseen_batches"]
    assert found["room"] == pytest.approx(1 - unseen["oracle"]["cost"] / unseen["untuned"]["cost"])
    assert found["saved"] == pytest.approx(1 - unseen["tuned"]["cost"] / unseen["untuned"]["cost"])
    said = smoe("tune", *files[:-1], *more, "--trials", "3", "--out", str(tmp_path / "shown"))[1]
    assert "On unseen batches: " in said
    assert "the plan for the real counts saves" in said
