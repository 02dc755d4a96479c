"""`platform:` of an experiment: if these fail, it runs on another platform than it says, or at another price."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.run.platform import load_platform, serve_batch
from experiments.run.schema import PlatformChoice, Workload
from moe.errors import InputError
from moe.spec import load_spec
from tests.experiments.conftest import Run

ZIPF = "experiments/configs/workloads/olmoe-zipf.yaml"
SMALL = ("profiled_tokens=512", "batch_tokens=256", "batches=1", "sequence_tokens=64", "spec=minilm-moe")
BATCH = Workload(spec="bert-moe", batch_tokens=10240, sequence_tokens=128)


def test_contenders_that_are_lambda_have_its_profile_and_their_package() -> None:
    arm = load_platform("lambda-arm64")
    assert arm.server is None
    assert (arm.profile.name, arm.profile.architecture) == ("lambda-arm64", "arm64")
    assert arm.profile.gb_s_usd == pytest.approx(1.33334e-5)
    assert load_platform("lambda-x86_64").profile.gb_s_usd == pytest.approx(1.66667e-5)


@pytest.mark.parametrize(
    ("name", "server"),
    [("g6.xlarge", "gpu-g6.xlarge"), ("c8g.4xlarge", "ec2-c8g.4xlarge"), ("fargate-spot", "fargate-spot")],
)
def test_servers_are_contenders_or_instances_of_the_catalogue(name: str, server: str) -> None:
    assert PlatformChoice.model_validate(name).profile == name
    found = load_platform(name)
    assert found.server is not None
    assert found.server.name == server


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("g6.xlarg", "did you mean 'gpu-g6.xlarge'"),
        ("tokens", "says no times"),
        ("lambda-provisioned", "by the month"),
    ],
)
def test_what_no_batch_can_run_on_is_refused(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_platform(name)


def test_a_batch_on_a_gpu_by_hand() -> None:
    """80 sequences of 128 tokens of Bert MoE on one L4: its arithmetic at 0.52 of 30.3 TFLOP/s, and 2 ms."""
    server, spec = load_platform("g6.xlarge").server, load_spec("bert-moe")
    assert server is not None
    served = serve_batch(server, spec, BATCH, None)
    layers = 12 * (spec.non_moe_flops + spec.expert_flops)
    flops = 10240 * (layers + spec.tail_flops)
    assert served.seconds == pytest.approx(flops / (0.52 * 30.3e12) + 0.002, rel=0.01)
    assert served.usd == pytest.approx(served.seconds * 0.8048 / 3600)
    assert 0.3 < served.experts_share < 0.8


def test_of_several_machines_the_cheapest_within_the_limit_serves() -> None:
    server, spec = load_platform("ec2").server, load_spec("bert-moe")
    assert server is not None
    any_time = serve_batch(server, spec, BATCH, None)
    within = serve_batch(server, spec, BATCH, any_time.seconds / 4)
    assert within.seconds <= any_time.seconds / 4
    assert within.usd >= any_time.usd
    fastest = serve_batch(server, spec, BATCH, 1e-9)
    assert fastest.seconds <= within.seconds
    with pytest.raises(InputError, match=r"no machine of gpu-g6[.]xlarge has room for mixtral-8x7b"):
        serve_batch(load_platform("g6.xlarge").server, load_spec("mixtral-8x7b"), BATCH, None)  # type: ignore[arg-type]


def test_a_run_has_rows_of_the_server_that_its_platform_names(smoe: Run, tmp_path: Path) -> None:
    settings = [f"--set=workload.{each}" for each in (*SMALL, "generate=3")]
    settings += ["--set=plans=[lambdaml]", "--set=target.late_share=null"]
    out = str(tmp_path / "out")
    code, printed, said = smoe("run", ZIPF, *settings, "--set=platform=g6.xlarge", "--out", out)
    assert code == 0, said
    assert "gpu-g6.xlarge, by the second" in printed
    assert "One g6.xlarge costs" in printed
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["server"] == {"contender": "gpu-g6.xlarge", "machine": "g6.xlarge"}
    second, month = [row for row in result["methods"] if row["platform"] == "server"]
    assert second["total_usd"] == pytest.approx(0.2 * month["total_usd"])
    assert second["total_usd"] == pytest.approx(second["latency_s"] * 0.8048 / 3600 / 256 * 1e6)
    assert result["generation"]["gpu-g6.xlarge"]["token_s"] > 0
    code, _, said = smoe("report", out, "--out", str(tmp_path / "page.html"))
    assert code == 0, said
