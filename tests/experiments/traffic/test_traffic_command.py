"""`./smoe traffic`: if these fail, a run's files disagree with each other, or are others the next time."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.commands.traffic import traffic
from simulator.traffic.scenario import load_scenario

CONFIGS = Path(__file__).parents[3] / "experiments" / "configs" / "traffic"
EXAMPLES = ("image-pipeline", "resnet-cold", "workflow")


def test_the_command_writes_a_run_that_agrees_with_its_rows(tmp_path: Path, capsys: Any) -> None:
    outs = []
    for name in ("a", "b"):
        arguments = [str(CONFIGS / "function.yaml"), "--out", str(tmp_path / name), "--json", "--seed", "3"]
        short = ["duration_s=40", "warm_up_s=0", "replications=2", "keep_rows=true"]
        arguments += [part for setting in short for part in ("--set", setting)]
        assert traffic.main(arguments, standalone_mode=False) == 0
        outs.append(capsys.readouterr().out)
    assert outs[0] == outs[1]
    result = json.loads(outs[0])
    for name in ("rows.parquet", "requests.parquet", "latency.png", "latency.svg", "result.json", "config.yaml"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    requests = pd.read_parquet(tmp_path / "a" / "requests.parquet")
    shares = (requests.latency_s <= 0.5).groupby(requests.replication).mean()
    assert result["metrics"]["slo_attainment"]["mean"] == pytest.approx(shares.mean())
    assert len(pd.read_parquet(tmp_path / "a" / "rows.parquet").replication.unique()) == 2
    assert result["metrics"]["total_usd_per_1000_tokens"]["mean"] is None
    assert result["metrics"]["latency_p99_s"]["ci95_half_width"] > 0
    assert "seed" in json.loads((tmp_path / "a" / "provenance.json").read_text())


def test_a_stopped_run_says_so_and_keeps_what_was_found(tmp_path: Path, capsys: Any) -> None:
    arguments = [str(CONFIGS / "function.yaml"), "--out", str(tmp_path / "run")]
    for setting in ("function.timeout_s=0.01", "stop_when.no_success_s=20", "warm_up_s=0", "keep_rows=true"):
        arguments += ["--set", setting]
    assert traffic.main(arguments, standalone_mode=False) == 1
    printed = capsys.readouterr()
    assert "no request succeeded for 20 s" in printed.err
    assert all(len(line) <= 100 for line in printed.out.splitlines() if "│" in line)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["metrics"]["slo_attainment"]["mean"] == 0
    assert set(pd.read_parquet(tmp_path / "run" / "rows.parquet").status) == {"timeout"}


def test_a_trace_of_one_request_is_played(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "one.txt").write_text("0")
    data = {
        "schema": "traffic-scenario/1",
        "name": "one",
        "arrivals": {"trace": {"file": "one.txt"}},
        "slo_s": 0.3,
    }
    data["function"] = {"memory_mb": 1024, "work": {"exponential_mean_s": 0.1}}
    (tmp_path / "scenario.yaml").write_text(json.dumps(data))
    arguments = [str(tmp_path / "scenario.yaml"), "--out", str(tmp_path / "run"), "--json"]
    assert traffic.main(arguments, standalone_mode=False) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["metrics"]["requests"] == {"mean": 1.0, "ci95_half_width": None}
    assert "no confidence interval" in result["confidence"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_the_same_bytes_again_and_its_bill_is_that_of_its_rows(
    name: str, tmp_path: Path, capsys: Any
) -> None:
    outs = []
    for run in ("a", "b"):
        arguments = [str(CONFIGS / f"{name}.yaml"), "--out", str(tmp_path / run), "--json"]
        for setting in ("replications=1", "keep_rows=true", "warm_up_s=0", "duration_s=null", "requests=120"):
            arguments += ["--set", setting]
        assert traffic.main(arguments, standalone_mode=False) == 0
        outs.append(capsys.readouterr().out)
    assert outs[0] == outs[1]
    assert (tmp_path / "a" / "rows.parquet").read_bytes() == (tmp_path / "b" / "rows.parquet").read_bytes()
    result, rows = json.loads(outs[0]), pd.read_parquet(tmp_path / "a" / "rows.parquet")
    rows["usd"] = rows.compute_cost_usd + rows.request_cost_usd
    assert result["metrics"]["total_usd_per_1000_requests"]["mean"] * 0.12 == pytest.approx(rows.usd.sum())
    assert set(rows.caller) <= {"", *result["functions"]}
    for each, found in result["functions"].items():
        own = rows[rows.function == each]
        assert found["usd_per_1000_requests"]["mean"] * 0.12 == pytest.approx(own.usd.sum())
        assert found["billed_gb_s_per_1000_requests"]["mean"] * 0.12 == pytest.approx(own.billed_gb_s.sum())
        assert found["calls_per_1000_requests"]["mean"] * 0.12 == pytest.approx(len(own))
        assert found["cold_share"]["mean"] == pytest.approx(own.cold.mean())
        assert found["duration_mean_s"]["mean"] == pytest.approx((own.ended_s - own.started_s).mean())
        assert found["share_of_bill"]["mean"] == pytest.approx(own.usd.sum() / rows.usd.sum())


def test_examples_run_and_show_their_functions(tmp_path: Path, capsys: Any) -> None:
    for name in EXAMPLES:
        arguments = [str(CONFIGS / f"{name}.yaml"), "--out", str(tmp_path / name), "--set", "replications=1"]
        assert traffic.main(arguments, standalone_mode=False) == 0
        shown = capsys.readouterr().out
        assert all(each in shown for each in load_scenario(CONFIGS / f"{name}.yaml").functions or ())
        assert ("all that a request caused" in shown) == (name == "image-pipeline")
        assert all(len(line) <= 100 for line in shown.splitlines() if "│" in line)
