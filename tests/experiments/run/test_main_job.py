"""The main job, small: if these fail, a newcomer's first command does not work, or its numbers do not add up."""

import json
from pathlib import Path

import pandas as pd
import pytest

from experiments.run import methods
from experiments.run.folder import RunFolder
from experiments.run.main_job import run_experiment
from experiments.run.schema import load_experiment
from experiments.run.timeline_picture import COLOURS, bars
from simulator.profiles.schema import load_profile
from simulator.records import PHASES, bill
from simulator.serving.decode import Decode
from simulator.serving.simulate import simulate
from tests.conftest import EXAMPLES, reference
from tests.experiments.conftest import Run

QUICKSTART = "experiments/configs/quickstart.yaml"
SMALL = [
    f"--set=workload.{key}"
    for key in (
        "profiled_tokens=512",
        "batch_tokens=256",
        "batches=2",
        "sequence_tokens=64",
        "experts=4",
        "generate=3",
    )
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOE_CACHE", str(cache))


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a run that must not depend on the clock."""
    names = (
        "result.json",
        "methods.parquet",
        "records.parquet",
        "popularity.parquet",
        "problem.json",
        "trace.json",
    )
    plans = [f"plans/{path.name}" for path in sorted((folder / "plans").iterdir())]
    return {
        name: (folder / name).read_bytes()
        for name in (*names, "methods.png", "methods.svg", "timeline.png", *plans)
    }


@pytest.fixture(scope="module")
def small_run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run."""
    experiment = load_experiment(QUICKSTART, [each.removeprefix("--set=") for each in SMALL])
    folder = tmp_path_factory.mktemp("runs") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMOE_CACHE", str(cache))
        run_experiment(experiment, RunFolder.possible(experiment, folder)[0])
    return folder


def test_from_text_to_a_bill_and_again(smoe: Run, small_run: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "a")
    code, out, err = smoe("run", QUICKSTART, *SMALL, "--out", folder)
    assert code == 0, err
    assert "LambdaML" in out
    assert "CPU, 1 h per batch" in out
    assert max(map(len, out.splitlines())) <= 100
    assert all(f"[{n}/5]" in err for n in range(1, 6))
    first = files(tmp_path / "a")
    assert files(small_run) == first  # same seed, same bytes

    code, again, err = smoe("run", QUICKSTART, *SMALL, "--out", folder)
    assert (code, again) == (0, out)
    assert "Already there" in err

    code, out, _ = smoe("run", QUICKSTART, *SMALL, "--out", folder, "--json")
    assert (code, json.loads(out)) == (0, json.loads(first["result.json"]))

    code, _, err = smoe("run", QUICKSTART, *SMALL, "--seed", "1", "--out", folder)
    assert code == 2
    assert "results of another experiment" in err
    assert files(tmp_path / "a") == first  # nothing lost


def test_the_answer_is_computed_from_the_record_table(small_run: Path) -> None:
    result = json.loads((small_run / "result.json").read_text())
    table = pd.read_parquet(small_run / "records.parquet")
    rows = {row["method"]: row for row in result["methods"]}
    warm = table[(table.plan == "lambdaml") & (table.start == "warm")]
    experts = warm[warm.role == "expert"]
    million_tokens = 2 * 256 / 1e6
    assert rows["LambdaML"]["billed_usd"] == pytest.approx(experts.compute_cost_usd.sum() / million_tokens)
    everything = warm.compute_cost_usd.sum() + warm.request_cost_usd.sum()
    assert rows["LambdaML"]["total_usd"] == pytest.approx(everything / million_tokens)
    assert (experts.memory_mb == 3008).all()
    assert not warm.cold.any()
    cold = table[table.start == "cold"]
    assert cold.cold.all()
    assert set(zip(cold.batch, cold.layer, cold.tokens, strict=True)) == set(
        zip(
            table[table.start == "warm"].batch,
            table[table.start == "warm"].layer,
            table[table.start == "warm"].tokens,
            strict=True,
        )
    )  # the same batches
    gates = warm[warm.role == "non-moe"].groupby("batch")
    taken_s = gates.ended_s.max() - gates.requested_s.min()
    assert rows["LambdaML"]["latency_s"] == pytest.approx(taken_s.mean())
    late = rows["LambdaML"]["late_share"]
    assert rows["LambdaML"]["late_share_low"] <= late <= rows["LambdaML"]["late_share_high"]
    assert rows["LambdaML"]["late_share_high"] - rows["LambdaML"]["late_share_low"] < 0.2
    assert result["judged_batches"] == 100
    assert result["planning_limit_s"] <= result["latency_limit_s"]
    assert 0 <= result["planning_late_share"] <= 1
    assert result["late_share"] == 0.05
    served = experts.groupby(["batch", "layer"]).tokens.sum()
    assert (served == 256).all()
    assert result["optimality_gap"]["exact"] == 0
    for row in rows.values():
        assert row["billed_usd"] <= (row["full_usd"] or row["billed_usd"]) <= row["total_usd"]
    popularity = pd.read_parquet(small_run / "popularity.parquet")
    assert popularity.groupby("layer")[["tokens", "real"]].sum().to_numpy() == pytest.approx(256)


def test_an_unreachable_target_says_the_least_latency(smoe: Run, tmp_path: Path) -> None:
    changes = ["--set=target={tokens_per_s: 1e6}"]
    code, _, err = smoe("run", QUICKSTART, *SMALL, *changes, "--out", str(tmp_path))
    assert code == 2
    assert "the least achievable latency is" in err.splitlines()[-1]


def test_each_step_alone_gives_a_file_for_the_next(smoe: Run, tmp_path: Path) -> None:
    def path(name: str) -> str:
        return str(tmp_path / name)

    recording = ["--tokens", "512", "--set", "sequence_tokens=64", "--experts", "4"]
    assert smoe("record", *recording, "--corpus", "wikipedia", "--out", path("a.parquet"))[0] == 0
    assert smoe("record", *recording, "--corpus", "news", "--out", path("b.parquet"))[0] == 0
    code, out, _ = smoe(
        "predict",
        "--profiled",
        path("a.parquet"),
        "--serve",
        path("b.parquet"),
        "--out",
        path("p.parquet"),
        "--json",
    )
    assert code == 0
    assert json.loads(out)["mean_error_share"] < 1
    code, _, err = smoe(
        "problem", "--model", "minilm-moe", "--popularity", path("p.parquet"), "--out", path("problem.json")
    )
    assert code == 0, err
    code, out, _ = smoe("plan", path("problem.json"), "--out", path("plan.json"), "--json")
    assert code == 0
    assert json.loads(out)["feasible"] is True
    code, out, _ = smoe(
        "simulate", path("problem.json"), path("plan.json"), "--profile", "aws-us-east-1-2026",
        "--runs", "2", "--trace", path("t.json"), "--set", f"records={path('r.parquet')}", "--json",
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["total_cost_usd"] > json.loads(out)["full_cost_usd"] > 0
    assert json.loads(Path(path("t.json")).read_text())["traceEvents"]
    assert set(pd.read_parquet(path("r.parquet")).batch) == {0, 1}


def test_json_means_json_alone(smoe: Run) -> None:
    problem = str(EXAMPLES / "tiny.problem.json")
    _, out, err = smoe("simulate", problem, str(EXAMPLES / "tiny.plan.json"), "--json")
    keys = ["billed_gb_s", "billed_cost_usd", "full_cost_usd", "total_cost_usd", "latency_s", "violations"]
    assert list(json.loads(out)) == [*keys, "parts"]
    assert err == ""


def test_claims_are_judged_not_assumed() -> None:
    def row(method: str, billed: float, speed: float, **more: object) -> methods.Row:
        return methods.Row(method, "lambda", billed, billed, billed, 1.0, None, speed, **more)  # type: ignore[arg-type]

    rows = [row("ODS", 0.5, 90), row("LambdaML", 1.0, 100), row("CPU", 1.0, 1000, period="second")]
    found = {claim.what: claim.holds for claim in methods.claims(rows)}
    assert found == {
        "ODS's experts' compute below LambdaML's": True,
        "its throughput below LambdaML's": True,
        "its experts' compute below the CPU cluster's, seconds used": False,
    }


def test_a_lower_bill_that_costs_more_in_all_is_said() -> None:
    def row(method: str, billed: float, total: float) -> methods.Row:
        return methods.Row(method, "lambda", billed, billed, total, 1.0, None, 100)

    dearer = methods.finding([row("ODS", 0.5, 2.0), row("LambdaML", 1.0, 1.9)], "m", 10)
    cheaper = methods.finding([row("ODS", 0.5, 1.8), row("LambdaML", 1.0, 1.9)], "m", 10)
    assert "5.3% above LambdaML's whole bill" in dearer
    assert "gates and requests cost more than the experts save" in dearer
    assert "gates and requests" not in cheaper


def test_the_schema_for_editors_knows_every_packaged_experiment(smoe: Run) -> None:
    for what in ("traffic", "profile", "problem", "plan"):
        assert json.loads(smoe("schema", what)[1])["additionalProperties"] is False
    schema = json.loads(smoe("schema")[1])
    assert "workload" in schema["properties"]
    assert schema["additionalProperties"] is False


def test_the_timeline_shows_every_phase_of_every_call() -> None:
    problem, plan, _ = reference("tiny")
    records = simulate(problem, plan).records
    drawn = bars(records)
    assert len(drawn) == sum(len(record.phases) for record in records)
    assert {instance for instance, *_ in drawn} == {record.instance for record in records}
    assert all(start <= end for _, _, start, end in drawn)
    assert set(COLOURS) == set(PHASES)


def test_generation_is_the_decode_steps_rows() -> None:
    """Its cost is what the rows of all decode steps cost, over the tokens that they gave."""
    problem, plan, _ = reference("tiny")
    run = simulate(problem, plan, load_profile(), decode=Decode(3, 4), seed=1)
    found = methods.generation(run, 4, 4)
    steps = bill(row for row in run.records if row.step).total_cost_usd
    assert found["usd_per_million_output_tokens"] == pytest.approx(steps / 12 * 1e6)
    assert found["token_s"] == pytest.approx(run.decode_s.mean())
    assert found["first_token_s"] == run.mean_latency_s
    assert methods.generation(simulate(problem, plan), 1, 4)["token_s"] is None
