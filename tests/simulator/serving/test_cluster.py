"""The CPU cluster: if these fail, serverless is compared with a cluster that cannot exist."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe.spec import load_spec
from simulator.profiles.constant import Constant
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.profiles.walk import with_constant
from simulator.serving.cluster import ClusterRun, LayerType, run_on_cluster

SPEC, PROFILE = load_spec("bert-moe"), load_profile()
CLUSTER = PROFILE.cluster
CORE = PROFILE.compute.flops_per_vcpu.median * 1.7 * 0.9  # FLOP/s of a core among 128
TOKENS = st.lists(st.lists(st.integers(0, 3000), min_size=4, max_size=4), min_size=1, max_size=4)


def changed(**values: float) -> PlatformProfile:
    """The profile with other values of some constants of the cluster."""
    profile = PROFILE
    for name, value in values.items():
        profile = with_constant(profile, ("cluster", name), value)
    return profile


def run(tokens: list[list[int]], profile: PlatformProfile = PROFILE, **options: object) -> ClusterRun:
    array = np.array(tokens)
    return run_on_cluster(SPEC, array, max(1, int(array[0].sum())), profile, **options)  # type: ignore[arg-type]


@given(TOKENS)
def test_no_layer_is_faster_than_all_cores_or_the_memory(tokens: list[list[int]]) -> None:
    array = np.array(tokens)
    flops_s = SPEC.expert_flops * array.sum() / (128 * CORE)
    weights_s = SPEC.expert_parameter_bytes * (array > 0).sum() / 370e9
    assert run(tokens).moe_s >= (flops_s + weights_s) * (1 - 1e-12)
    assert run(tokens, changed(smallest_task_flops=1.0)).moe_s == pytest.approx(flops_s + weights_s)


def test_a_small_batch_pays_for_its_weights_and_for_cores_that_have_nothing_to_do() -> None:
    """One token reads a whole expert: per token it costs 40 times what it does in a large batch."""
    one, many = run([[1, 0, 0, 0]]).moe_s, run([[100_000, 0, 0, 0]]).moe_s / 100_000
    weights_s = SPEC.expert_parameter_bytes / 370e9
    assert one > weights_s
    assert many < 0.03 * one


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_what_scales_a_vcpu_scales_a_core(factor: float) -> None:
    """Else an axis or a draw of the one asks how much faster Lambda is than a cluster of other processors."""
    vcpu = PROFILE.compute.flops_per_vcpu.median * factor
    faster = with_constant(changed(memory_bytes_per_s=1e30), ("compute", "flops_per_vcpu"), vcpu)
    tokens = [[2560] * 4] * 12
    was, now = run(tokens, changed(memory_bytes_per_s=1e30)), run(tokens, faster)
    assert now.moe_s == pytest.approx(was.moe_s / factor)
    assert now.latency_s == pytest.approx(was.latency_s / factor)


def test_an_expert_uses_no_more_cores_than_it_has_tasks_for() -> None:
    # One token is 9.4 MFLOP: nine tasks of 1 MFLOP and a rest keep ten cores busy; ten tokens all of them.
    cluster = changed(smallest_task_flops=1e6, memory_bytes_per_s=1e30)
    one_token = 2 * 2 * 768 * 3072
    assert run([[1, 0, 0, 0]], cluster).moe_s == pytest.approx(one_token / (10 * CORE))
    assert run([[1, 1, 1, 1]], cluster).moe_s == pytest.approx(one_token / (10 * CORE))
    assert run([[100, 0, 0, 0]], cluster).moe_s == pytest.approx(100 * one_token / (128 * CORE))


@given(TOKENS, st.floats(1e4, 1e9))
def test_finer_tasks_are_never_slower(tokens: list[list[int]], task: float) -> None:
    assert (
        run(tokens, changed(smallest_task_flops=task)).moe_s
        >= run(tokens, changed(smallest_task_flops=task / 2)).moe_s
    )


@pytest.mark.parametrize("layer_type", ["attention", "encoder"])
def test_better_transformer_helps_other_layers_than_experts(layer_type: LayerType) -> None:
    tokens = [[800, 100, 60, 64]] * 12
    plain, better = run(tokens), run(tokens, better_transformer=True, layer_type=layer_type)
    constant: Constant = getattr(CLUSTER.better_transformer, layer_type)
    assert better.moe_s == plain.moe_s
    assert 1.0 <= constant.median <= 2.0
    attention_s = 12 * SPEC.non_moe_flops * 1024 / (128 * CORE * PROFILE.compute.transformer_speed.median)
    assert plain.latency_s - better.latency_s == pytest.approx(attention_s * (1 - 1 / constant.median))
    assert better.cost_usd["second"] == plain.cost_usd["second"]
    assert better.cost_usd["hour"] > plain.cost_usd["hour"]  # the MoE layers' share of the hour grows


def test_what_is_charged_is_a_share_of_the_whole() -> None:
    tokens = [[2560] * 4] * 12
    whole = run(tokens, charged="whole")
    assert whole.cost_usd["hour"] == CLUSTER.price_per_hour.median
    assert whole.cost_usd["second"] == pytest.approx(CLUSTER.price_per_hour.median / 3600 * whole.latency_s)
    # BERT-base with four experts a layer: 226.5 M parameters of experts, 28.3 M of attention, 23.4 M embeddings.
    share = 226_492_416 / (226_492_416 + 28_311_552 + 36_864 + 23_440_896)
    in_memory = run(tokens, charged="memory-share")
    for period, usd in in_memory.cost_usd.items():
        assert usd == pytest.approx(share * whole.cost_usd[period])
    assert run(tokens).cost_usd["month"] == pytest.approx(whole.cost_usd["month"] * whole.moe_s / whole.latency_s)
