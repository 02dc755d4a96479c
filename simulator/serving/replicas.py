"""How the tokens of an MoE layer are dealt out to replicas, and to minibatches."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from moe.errors import InputError
from simulator.plan import MOST_REPLICAS, DeploymentProblem, LayerPlan, memory_indices, memory_terms


@dataclass(frozen=True)
class Replica:
    """One call of an expert: its share of the tokens and what it costs to compute them."""

    layer: int
    expert: int
    number: int
    tokens: float
    memory_mb: int
    parameter_bytes: float
    needed_bytes: float
    seconds_per_call: float
    seconds_per_token: float

    @property
    def compute_s(self) -> float:
        """t_call + r t_cal: all its tokens in one call, s."""
        return self.seconds_per_call + self.tokens * self.seconds_per_token


def replicas_of(
    problem: DeploymentProblem, e: int, plan: LayerPlan, tokens: np.ndarray, replicas: np.ndarray, whole: bool
) -> list[Replica]:
    """The calls of layer e: `tokens` (experts,) shared by `replicas` (experts,); none without tokens.

    Whole tokens are dealt out so that the first d mod g replicas get one more; else each gets d/g.

    Raises InputError: more replicas than can be played.
    """
    check_can_be_played(e, replicas)
    layer, sizes = problem.layers[e], memory_indices(problem, plan)
    fixed, per_token = memory_terms(layer)
    per_call = layer.seconds_per_call or (0.0,) * len(problem.platform.memory_mb)
    calls = []
    for i, (d, g, j) in enumerate(zip(tokens.tolist(), replicas.tolist(), sizes.tolist(), strict=True)):
        for number, share in enumerate(_shares(d, g, whole)):
            if share > 0:
                x = layer.experts[i]
                calls.append(
                    Replica(
                        layer=e,
                        expert=i,
                        number=number,
                        tokens=share,
                        memory_mb=problem.platform.memory_mb[j],
                        parameter_bytes=x.parameter_bytes,
                        needed_bytes=float(fixed[i] + share * per_token[i]),
                        seconds_per_call=per_call[j],
                        seconds_per_token=layer.seconds_per_token[j],
                    )
                )
    return calls


def check_can_be_played(e: int, replicas: np.ndarray) -> None:
    """Raise InputError for a layer with more replicas of an expert (experts,) than are played one by one."""
    for i in np.flatnonzero(replicas > MOST_REPLICAS)[:1]:
        raise InputError(
            f"layers.{e}.experts.{i}: expected at most {MOST_REPLICAS:,} replicas in a simulation, "
            f"got {int(replicas[i]):,}"
        )


def split(problem: DeploymentProblem, replica: Replica, times: int) -> list[Replica]:
    """A replica's whole tokens on so many replicas instead."""
    fixed, per_token = (float(term[replica.expert]) for term in memory_terms(problem.layers[replica.layer]))
    return [
        replace(replica, tokens=share, needed_bytes=fixed + share * per_token)
        for share in _shares(replica.tokens, times, whole=True)
        if share > 0
    ]


def minibatches(tokens: float, size: int) -> np.ndarray:
    """Tokens of each minibatch of a replica: full ones, then the rest; shape (ceil(tokens / size),)."""
    count = math.ceil(tokens / size)
    return np.append(np.full(count - 1, float(size)), tokens - (count - 1) * size)


def whole_tokens(tokens: np.ndarray) -> np.ndarray:
    """Tokens of each expert made whole by largest remainder, with the same (rounded) sum, shape (experts,)."""
    whole = np.floor(tokens + 1e-9)
    missing = round(float(tokens.sum())) - int(whole.sum())
    order = np.argsort(whole - tokens, kind="stable")
    whole[order[:missing]] += 1
    return whole.astype(int)


def problem_of_size(
    problem: DeploymentProblem, batch_tokens: float, sequences: int | None = None
) -> DeploymentProblem:
    """The problem for batches of another size: popularity and non-MoE compute in proportion, loads as they are.

    `sequences`: of the batch; None: in proportion as well, at least one.
    """
    share = batch_tokens / problem.served_tokens
    layers = tuple(
        layer.model_copy(
            update={
                "non_moe_s": layer.non_moe_s * share,
                "experts": tuple(x.model_copy(update={"tokens": x.tokens * share}) for x in layer.experts),
            }
        )
        for layer in problem.layers
    )
    changes = {"layers": layers, "tail_s": problem.tail_s * share, "batch_tokens": float(batch_tokens)}
    problem, blocks = problem.model_copy(update=changes), problem.blocks
    if blocks is None:
        return problem
    sequences = sequences or max(1, round(blocks.sequences * share))
    return problem.with_blocks(blocks.model_copy(update={"sequences": sequences}))


def _shares(tokens: float, replicas: int, whole: bool) -> list[float]:
    if not whole:
        return [tokens / replicas] * replicas
    share, more = divmod(int(tokens), replicas)
    return [float(share + (number < more)) for number in range(replicas)]
