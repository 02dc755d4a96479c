"""Small random problems whose plans may have stages, and random plans for them."""

from typing import Any

import numpy as np

from simulator.plan import DeploymentProblem, LayerPlan
from simulator.staged_plan import BlocksStage, ExpertStage, Groups, StagedPlan

SIZES = (512, 1769, 3008)
BLOCK_SIZES = (1769, 3008, 10240)
METHODS = ("storage", "direct", "pipelined")


def staged_problem(seed: int, layers: int = 3, **blocks: Any) -> DeploymentProblem:
    """`layers` layers of 1-3 experts with up to 500 tokens, 7 sequences; half of the optional fields are there."""
    rng = np.random.default_rng(seed)
    tokens = float(rng.integers(20, 500))
    bandwidths = np.sort(rng.uniform(30e6, 90e6, len(SIZES))).tolist()
    platform = {
        "memory_mb": SIZES,
        "max_replicas": 4,
        "storage_bandwidth_bytes_per_s": bandwidths,
        "direct_bandwidth_bytes_per_s": float(rng.uniform(20e6, 80e6)),
        "storage_delay_s": float(rng.uniform(0.0, 0.05)),
        "warm_start_s": float(rng.uniform(0.0, 0.05)),
        "payload_limit_bytes": float(rng.choice([2e5, 6291456.0])),
        "payload_encoding_factor": float(rng.choice([1.0, 4 / 3])),
        "price_per_gb_s": 1.66667e-5,
        "price_per_invocation": 2e-7,
        "price_per_put": 5e-6,
        "price_per_get": 4e-7,
    }
    given: dict[str, Any] = {
        "memory_mb": BLOCK_SIZES,
        "max_lanes": 7,
        "sequences": 7,
        "reload": str(rng.choice(["when-cold", "every-invocation"])),
        "front": str(rng.choice(["client", "function"])),
        "runtime_bytes": 6e7,
        "input_bytes_per_token": float(rng.choice([4.0, 3e4])),
        "result_bytes_per_token": float(rng.choice([0.0, 4.0])),
        "head_bytes": 9e7,
        "tail_seconds_per_token": [2e-4, 1e-4, 3e-5] if rng.integers(2) else None,
        "storage_bandwidth_bytes_per_s": [6e7, 7e7, 2e8] if rng.integers(2) else None,
        "layers": [_block(rng) for _ in range(layers)],
    }
    return DeploymentProblem.model_validate(
        {
            "schema": "deployment-problem/2",
            "name": f"staged-{seed}",
            "objective": "total",
            "platform": platform,
            "layers": [_layer(rng, tokens) for _ in range(layers)],
            "head_s": float(rng.uniform(0.1, 1.0)),
            "tail_s": float(rng.uniform(0.0, 0.5)),
            "batch_tokens": tokens,
            "blocks": given | blocks,
        }
    )


def _block(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "parameter_bytes": float(rng.uniform(2e7, 1e8)),
        "bytes_per_token": float(rng.uniform(0, 1e5)),
        "seconds_per_token": (rng.uniform(1e-4, 1e-3) / np.array([1, 1.7, 5])).tolist(),
        "seconds_per_call": [0.01, 0.006, 0.002] if rng.integers(2) else None,
    }


def _layer(rng: np.random.Generator, tokens: float) -> dict[str, Any]:
    shares = rng.multinomial(int(tokens), rng.dirichlet(np.ones(int(rng.integers(1, 4)))))
    return {
        "token_in_bytes": float(rng.choice([1536.0, 3072.0])),
        "token_out_bytes": 3072.0,
        "seconds_per_token": [0.004, 0.001, 0.0005],
        "seconds_per_call": [0.01, 0.003, 0.002] if rng.integers(2) else None,
        "non_moe_s": float(rng.uniform(0, 1)),
        "next_load_s": 0.1 + float(rng.uniform(0, 1)),
        "experts": [
            {"tokens": float(d), "parameter_bytes": 4e7, "intermediate_bytes": 1e8} for d in shares.tolist()
        ],
    }


def random_staged_plan(
    seed: int,
    problem: DeploymentProblem,
    experts: float = 0.4,
    methods: tuple[str, ...] = METHODS,
    grouped: bool = False,
) -> StagedPlan:
    """Some cut of the model; each stage a layer of expert functions by chance `experts`, else blocks. `grouped`:
    in every other of those layers the first expert and the last share a function."""
    rng, stages, layers = np.random.default_rng(seed), [], len(problem.layers)
    begins = 0
    while begins < layers:
        if rng.random() < experts:
            groups = _groups(len(problem.layers[begins].experts)) if grouped and begins % 2 == seed % 2 else None
            count = len(groups or problem.layers[begins].experts)
            layer = _plan(rng, count, methods)
            stages.append(ExpertStage(first_layer=begins, last_layer=begins, groups=groups, layer=layer))
            begins += 1
            continue
        end = int(rng.integers(begins, layers))
        stages.append(
            BlocksStage(
                first_layer=begins,
                last_layer=end,
                memory_mb=int(rng.choice(BLOCK_SIZES)),
                lanes=int(rng.integers(1, 8)),
                handover="storage" if rng.integers(2) else "payload",
            )
        )
        begins = end + 1
    for k, after in enumerate(stages[1:]):
        if isinstance(after, ExpertStage) and isinstance(stages[k], BlocksStage):
            stages[k] = stages[k].model_copy(update={"handover": "storage"})
    return StagedPlan(solver="drawn", stages=tuple(stages))


def _groups(experts: int) -> Groups:
    return (tuple(sorted({0, experts - 1})), *((i,) for i in range(1, experts - 1)))


def _plan(rng: np.random.Generator, count: int, methods: tuple[str, ...]) -> LayerPlan:
    method = str(rng.choice(methods))
    experts = [{"memory_mb": int(rng.choice(SIZES)), "replicas": int(rng.integers(1, 5))} for _ in range(count)]
    beta = int(rng.integers(1, 120)) if method == "pipelined" else None
    return LayerPlan.model_validate({"communication": method, "minibatch_tokens": beta, "experts": experts})
