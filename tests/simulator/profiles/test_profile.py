"""Platform profiles: if these fail, a wrong constant goes unnoticed into every bill."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from moe.errors import InputError
from moe.spec import load_spec
from simulator.draws import Draws, mean_of, quantile_at
from simulator.profiles.closed_form import closed_form, expert_seconds, speed, transformer_seconds
from simulator.profiles.constant import Constant
from simulator.profiles.schema import PlatformProfile, load_profile, profile_names
from simulator.serving.cluster import run_on_cluster


def constants(profile: PlatformProfile) -> dict[str, Constant]:
    return {
        f"{group}.{name}": constant
        for group, section in profile
        if hasattr(section, "model_dump")
        for name, constant in section
        if isinstance(constant, Constant)
    }


@pytest.mark.parametrize("name", profile_names())
def test_every_packaged_constant_says_where_it_comes_from(name: str) -> None:
    found = constants(load_profile(name))
    assert len(found) > 25
    for key, constant in found.items():
        assert len(constant.source) > 10, key
        assert constant.date[:2] == "20", key


def test_the_closed_form_means_the_platform_that_the_simulator_runs() -> None:
    derived = closed_form(load_profile(), [128, 1769, 3008])
    assert speed(load_profile(), np.array([128, 1769, 3008])) == pytest.approx(
        [128 / 1769, 1.0, (3008 / 1769) ** 0.91]
    )
    both_ways = 3 / (2 / 93e6 + 1 / 55e6)  # two thirds of an expert's bytes are downloads
    assert derived.storage_bandwidth_bytes_per_s == pytest.approx([128 * 71500, both_ways, both_ways])
    paper = closed_form(load_profile("paper"), [128, 1769, 3008])
    assert paper.storage_bandwidth_bytes_per_s.tolist() == pytest.approx([128 * 71500, 93e6, 93e6])
    assert derived.storage_delay_s == pytest.approx(0.029)
    assert derived.direct_bandwidth_bytes_per_s == pytest.approx(37e6 * 3 / 4)


def edited(tmp_path: Path, group: str, name: str, **changes: object) -> Path:
    data = yaml.safe_load(Path("simulator/profiles/aws-us-east-1-2026.yaml").read_text())
    data[group][name].update(changes)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(data))
    return tmp_path / "mine.yaml"


def test_a_file_with_a_base_changes_one_constant_and_nothing_else(tmp_path: Path) -> None:
    constant = "{value: 9.0e+9, unit: FLOP/s, source: my own laptop, date: '2026-11', confidence: medium}"
    mine, base = tmp_path / "mine.yaml", load_profile()
    mine.write_text(f"base: aws-us-east-1-2026\nname: mine\ncompute: {{flops_per_vcpu: {constant}}}\n")
    found = load_profile(mine)
    assert (found.name, found.compute.flops_per_vcpu.median) == ("mine", 9e9)
    changed = {"compute": base.compute.model_copy(update={"flops_per_vcpu": found.compute.flops_per_vcpu})}
    assert found == base.model_copy(update=changed | {"name": "mine"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: aws-us-east-1-2025", "mine.yaml: base: no profile 'aws-us-east-1-2025'; did you mean"),
        ("base: aws-us-east-1-2026\ncompute: {flops_per_vcpu: {value: 9.0e+9}}", "flops_per_vcpu.unit: required"),
        ("base: aws-us-east-1-2026\ncompute: {flops_per_cpu: {value: 9.0e+9}}", "mean 'flops_per_vcpu'?"),
        ("base: aws-us-east-1-2026\ncompute: 3", "mine.yaml: compute"),
    ],
)
def test_what_is_wrong_in_a_file_with_a_base_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        load_profile(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("group", "name", "changes", "message"),
    [
        ("start", "warm_s", {"unit": "ms"}, "start.warm_s: unit: expected 's', got 'ms'"),
        ("start", "keep_alive_s", {"value": -1.0}, "expected a number >= 0, got -1.0"),
        ("start", "warm_s", {"source": ""}, "start.warm_s.source: string should have at least 1 character"),
        ("start", "warm_s", {"value": {"quantiles": {0.5: 0.2, 0.9: 0.1}}}, "increasing values"),
        ("start", "warm_s", {"value": {"samples": [0.1, -0.1]}}, "start.warm_s.value.samples.1"),
        ("prices", "gb_s", {"confidence": "hihg"}, "did you mean 'high'?"),
        ("prices", "init_is_billed", {"since": {}}, "prices.init_is_billed.since"),
    ],
)
def test_a_wrong_constant_is_refused_with_its_name(
    tmp_path: Path, group: str, name: str, changes: dict[str, object], message: str
) -> None:
    path = edited(tmp_path, group, name, **changes)
    with pytest.raises(InputError) as caught:
        load_profile(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_an_unknown_package_names_the_nearest(tmp_path: Path) -> None:
    data = yaml.safe_load(Path("simulator/profiles/aws-us-east-1-2026.yaml").read_text())
    data["start"]["package"] = "python3.12-x86_64-zap"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(InputError, match=r"did you mean 'python3\.12-x86_64-zip'"):
        load_profile(tmp_path / "mine.yaml")


def test_an_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(InputError, match="no profile 'aws-us-east-2026'; did you mean 'aws-us-east-1-2026'"):
        load_profile("aws-us-east-2026")


def test_draws_have_the_quantiles_of_their_table() -> None:
    table = {0.05: 0.0146, 0.25: 0.0166, 0.5: 0.020, 0.9: 0.049, 0.99: 0.090, 0.999: 0.143}
    draws = Draws(table, np.random.default_rng(0)).many(200_000)
    for p, value in table.items():
        assert np.quantile(draws, p) == pytest.approx(value, rel=0.05)
        assert quantile_at(table, p) == pytest.approx(value)
    assert draws.mean() == pytest.approx(mean_of(table), rel=0.01)


def test_an_expert_takes_its_arithmetic_and_its_weights_from_memory() -> None:
    """Of a function of 10,240 MB not six times the bandwidth of one vCPU: no instance's memory has as much."""
    weights, flops, sizes = 4 * 2 * 768 * 3072, 2 * 2 * 768 * 3072, [512, 1769, 10_240]
    per_call, per_token = expert_seconds(load_profile(), sizes, weights, flops)
    assert per_call == pytest.approx([weights / (8e9 * 512 / 1769), weights / 8e9, weights / 20e9])
    faster = np.array([512 / 1769, 1.0, (10_240 / 1769) ** 0.91])
    assert per_token == pytest.approx(flops / (45e9 * faster))


def test_attention_is_slower_than_experts_at_the_same_work() -> None:
    profile = load_profile()
    attention_s = transformer_seconds(profile, 1769, 32e9)
    assert attention_s == pytest.approx(1.0, rel=1e-3)
    assert expert_seconds(profile, [1769], 0.0, 32e9)[1][0] == pytest.approx(32 / 45)


def test_arm64_costs_the_mean_of_two_generations() -> None:
    """Three quarters of the instances are Graviton2 and take longer: the mean is of times, not of speeds."""
    profile = load_profile()
    start = profile.start.model_copy(update={"package": "python3.12-arm64-zip"})
    arm = profile.model_copy(update={"start": start})
    x86_s, arm_s = (expert_seconds(each, [1769], 0.0, 45e9)[1][0] for each in (profile, arm))
    assert x86_s == pytest.approx(1.0)
    assert arm_s == pytest.approx(0.75 / 0.62 + 0.25 / 1.07)


def test_the_cluster_takes_the_arithmetic_and_the_weights_time_and_charges_three_ways() -> None:
    spec, cluster = load_spec("bert-moe"), load_profile()
    tokens = np.full((12, 4), 2560)
    run = run_on_cluster(spec, tokens, 10_240, cluster)
    weights_s = 12 * 4 * spec.expert_parameter_bytes / 370e9
    core = 45e9 * 1.7 * 0.9
    assert run.moe_s == pytest.approx(12 * 10_240 * 2 * 2 * 768 * 3072 / (128 * core) + weights_s)
    assert run.cost_usd["second"] == pytest.approx(run.moe_s * 7.41888 / 3600)
    assert run.cost_usd["hour"] == pytest.approx(7.41888 * run.moe_s / run.latency_s)
    assert run.cost_usd["month"] == pytest.approx(run.cost_usd["second"] / 0.2)
    one_token = run_on_cluster(spec, np.array([[1, 0, 0, 0]] * 12), 1, cluster)
    tasks = math.ceil(spec.expert_flops / cluster.cluster.smallest_task_flops.median)
    arithmetic_s = 12 * spec.expert_flops / (tasks * core)
    assert one_token.moe_s == pytest.approx(12 * spec.expert_parameter_bytes / 370e9 + arithmetic_s)
