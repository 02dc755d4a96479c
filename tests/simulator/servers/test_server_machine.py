"""The model of a server against what others measured: MLPerf rows and encoders on EC2, most of them not fitted."""

from dataclasses import replace

import pytest

from moe.spec import MoESpec, Weights, load_spec
from simulator.profiles.contenders import Servers, load_contender
from simulator.profiles.instances import Instance, catalogue
from simulator.servers.machine import Machine, machines
from simulator.servers.work import Work

LLAMA = MoESpec(
    name="llama-3.1-8b",
    source="its config.json; dense: one expert",
    moe_layers=32,
    hidden=4096,
    experts=1,
    expert_ffn=14336,
    matrices=3,
    bytes_per_value=2,
    vocabulary=128256,
    head_vocabulary=128256,
    heads=32,
    key_value_heads=8,
    tied_head=False,
    generates=True,
)
BERT_LARGE = MoESpec(
    name="bert-large",
    source="its config.json; dense: one expert",
    moe_layers=24,
    hidden=1024,
    experts=1,
    expert_ffn=4096,
    vocabulary=30522,
)
BERT_BASE = load_spec("bert-moe", experts=1)
SQUAD_TOKENS = 177  # of 384 a sample, the rest is padding: 54% (Boosting BERT by removing padding, OpenReview)


def machine(contender: str, spec: MoESpec, weights: Weights, like: str, **changes: float) -> Machine:
    servers = load_contender(contender).runs
    assert isinstance(servers, Servers)
    instance: Instance = replace(catalogue()[like], **changes)  # type: ignore[arg-type]
    return machines(servers, Work(spec.model_copy(update={"weights": weights})), [instance])[0]


def tokens_per_s(one: Machine, tokens_in: float, tokens_out: float) -> float:
    """Generated tokens/s with as many sequences side by side as there is memory for."""
    at_once = one.at_once(tokens_in + tokens_out)
    taken_s = at_once * one.pass_s(tokens_in) + tokens_out * one.token_s(at_once, tokens_in + tokens_out / 2)
    return float(at_once * tokens_out / taken_s)


H100, L40S, RTX = "p5.4xlarge", "g6e.xlarge", "g7e.2xlarge"
# MLPerf Inference 4.1 and 5.1, Offline, fp8; a GPU's share of all, each with a whole copy. Mixtral's 145 tokens
# out are those of its reference; 300 in are assumed: 150 say the same, 600 would say 40% less.
GENERATED = [
    ("llama on H100 (fitted)", LLAMA, H100, (778, 128), 5777.08),
    ("llama on L40S (fitted)", LLAMA, L40S, (778, 128), 1642.22),
    ("mixtral on 8 H100", load_spec("mixtral-8x7b"), H100, (300, 145), 52524.4 / 8),
    ("mixtral on 4 H100", load_spec("mixtral-8x7b"), H100, (300, 145), 26824.4 / 4),
    ("mixtral on 8 RTX PRO 6000", load_spec("mixtral-8x7b"), RTX, (300, 145), 32738.8 / 8),
]


@pytest.mark.parametrize(("spec", "like", "tokens", "measured"), [row[1:] for row in GENERATED])
def test_gpus_generate_what_mlperf_measured(
    spec: MoESpec, like: str, tokens: tuple[float, float], measured: float
) -> None:
    found = tokens_per_s(machine("gpu", spec, "int8", like), *tokens)
    assert found == pytest.approx(measured, rel=0.25)


@pytest.mark.parametrize(("like", "measured"), [(H100, 8945.0), (L40S, 3422.3), ("g6.xlarge", 964.0)])
def test_gpus_encode_what_mlperf_measured(like: str, measured: float) -> None:
    """BERT-large, int8; L4 was not fitted."""
    one = machine("gpu", BERT_LARGE, "int8", like)
    assert 512 / float(one.pass_s(SQUAD_TOKENS, 512)) == pytest.approx(measured, rel=0.25)


@pytest.mark.parametrize(
    ("like", "vcpus", "measured"), [("c7i.48xlarge", 256, 1685.75), ("c8i.96xlarge", 512, 3024.03)]
)
def test_cpus_encode_what_mlperf_measured(like: str, vcpus: int, measured: float) -> None:
    """BERT-large, int8, 128 cores of Xeon 8592+ (fitted) and 256 of 6980P; a vCPU is half a core."""
    one = machine("ec2", BERT_LARGE, "int8", like, vcpus=vcpus)
    assert 1024 / float(one.pass_s(SQUAD_TOKENS, 1024)) == pytest.approx(measured, rel=0.25)


@pytest.mark.parametrize(("vcpus", "measured"), [(344, 819.624), (512, 1232.89)])
def test_cpus_generate_what_mlperf_measured(vcpus: int, measured: float) -> None:
    """Llama-3.1-8B on two Xeon 6787P (fitted) and two 6980P."""
    one = machine("ec2", LLAMA, "int8", "c8i.96xlarge", vcpus=vcpus)
    assert tokens_per_s(one, 778, 128) == pytest.approx(measured, rel=0.25)


@pytest.mark.parametrize(("tokens", "measured_s"), [(8, 0.01977), (32, 0.02762), (128, 0.05406), (512, 0.20545)])
def test_a_small_machine_encodes_as_fast_as_measured(tokens: int, measured_s: float) -> None:
    """BERT-base, fp32, one sequence, c6i.2xlarge: from weights read (8 tokens) to arithmetic (512)."""
    one = machine("ec2", BERT_BASE, "fp32", "c6i.2xlarge")
    assert float(one.pass_s(tokens)) == pytest.approx(measured_s, rel=0.25)


def test_the_tuned_rate_is_not_what_plain_frameworks_get() -> None:
    """TEI on L4 (fp16, 62,200 tokens/s) is 30% slower than the tuned rate: the interval has it, not the value."""
    servers = load_contender("gpu").runs
    assert isinstance(servers, Servers)
    one = machine("gpu", BERT_LARGE, "bf16", "g6.xlarge")
    share = 62_200 / (450 * 64 / float(one.pass_s(450, 64))) * servers.encode.median
    assert servers.encode.interval is not None
    assert servers.encode.interval[0] == pytest.approx(share, rel=0.15)


def test_a_model_that_does_not_fit_has_no_machine() -> None:
    servers = load_contender("gpu-g6.xlarge").runs
    assert isinstance(servers, Servers)
    assert machines(servers, Work(load_spec("mixtral-8x7b")), [catalogue()["g6.xlarge"]]) == []
    assert Work(load_spec("mixtral-8x7b")).parameter_bytes == pytest.approx(93.4e9, rel=0.01)
