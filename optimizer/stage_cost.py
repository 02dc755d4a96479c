"""Cost and latency of stages of whole blocks in closed form, and the only place where they stand.

A stage of layers [i, j) is one function of memory M, of which n lanes run side by side. A lane of r tokens is
billed

    t = T_str + [P/B_s + T_dl, loaded in every call] + in + t_call + r u(M) + out,

where `in` is 0 with a payload, which comes with the call, and T_dl + r D/B_s from S3, and `out` is r D/B_f in the
response, or T_dl + r D/B_s to S3. All lanes are billed, each for its own tokens; the stage ends with its largest
lane, and the next one begins then. Everything is linear in tokens, so all lanes together cost n times the fixed
part and what the batch's tokens cost. How stages are served: docs/formats.md.
"""

from dataclasses import dataclass

import numpy as np

from simulator.plan import MB, DeploymentProblem
from simulator.stage_rules import (
    StageSizes,
    block_bandwidths,
    fits_payload,
    input_handover,
    largest_lane_tokens,
    needed_lane_bytes,
    stage_sizes,
)
from simulator.staged_plan import blocks_of
from simulator.stages import Handover


@dataclass(frozen=True)
class StageCosts:
    """What stages of blocks come to; arrays of shape (stages, sizes, lanes).

    Attributes:
        total_usd: the whole bill: GB-s and requests of all lanes, and the front's wait; without the GETs of hidden
            states (`gets_usd`), which depend on the stage before.
        billed_gb_s: of all lanes.
        latency_s: from the invocation of its lanes to the end of the largest.
        fits: whether the largest lane fits its memory, and its hidden states the payloads that carry them.
    """

    total_usd: np.ndarray
    billed_gb_s: np.ndarray
    latency_s: np.ndarray
    fits: np.ndarray


def stage_costs(
    problem: DeploymentProblem,
    first: np.ndarray,
    end: np.ndarray,
    lanes: np.ndarray,
    arrives: Handover,
    leaves: Handover,
) -> StageCosts:
    """Cost and latency of the stages of layers first..end-1, with each memory size and each number of lanes.

    Args:
        problem: with `blocks`.
        first, end: of each stage, shape (stages,) int.
        lanes: numbers of lanes, shape (lanes,) int.
        arrives: how hidden states come from the stage before; of a first stage it says nothing: token IDs come in
            payloads where they fit.
        leaves: how hidden states, or results, leave.

    Raises InputError: the problem has no `blocks`.
    """
    p, blocks, sizes = problem.platform, blocks_of(problem), stage_sizes(problem, first, end)
    memory_mb = np.array(blocks.memory_mb, float)[:, None]
    bandwidth = block_bandwidths(problem)[:, None]
    tokens, largest = problem.served_tokens, largest_lane_tokens(problem, lanes)
    in_bytes, out_bytes, parameters, is_first = (
        x[:, None, None] for x in (sizes.in_bytes, sizes.out_bytes, sizes.parameter_bytes, sizes.is_first)
    )
    by_payload = np.where(is_first, input_handover(problem) == "payload", arrives == "payload")
    loads = blocks.reload == "every-invocation"

    # A lane's billed time is fixed_s + r token_s; its payload takes r payload_s before.
    fixed_s = p.warm_start_s + sizes.seconds_per_call[:, :, None]
    fixed_s = fixed_s + loads * (p.storage_delay_s + parameters / bandwidth)
    fixed_s = fixed_s + (~by_payload + (leaves == "storage") * 1.0) * p.storage_delay_s
    token_s = sizes.seconds_per_token[:, :, None] + np.where(by_payload, 0.0, in_bytes / bandwidth)
    token_s = token_s + out_bytes / (bandwidth if leaves == "storage" else p.direct_bandwidth_bytes_per_s)
    payload_s = np.where(by_payload, in_bytes / p.direct_bandwidth_bytes_per_s, 0.0)

    billed_gb_s = memory_mb / 1024 * (lanes * fixed_s + tokens * token_s)
    latency_s = largest * payload_s + fixed_s + largest * token_s
    requests = p.price_per_invocation + loads * p.price_per_get + (leaves == "storage") * p.price_per_put
    front_usd = front_usd_per_s(problem) * latency_s
    fits = (
        needed_lane_bytes(problem, sizes, np.broadcast_to(largest, (len(first), 1, len(lanes)))) <= memory_mb * MB
    )
    carried = fits_payload(problem, in_bytes * largest) | is_first | ~by_payload
    carried = carried & (
        (leaves == "storage") | fits_payload(problem, out_bytes * _answered(problem, sizes, largest))
    )
    return StageCosts(
        total_usd=billed_gb_s * p.price_per_gb_s + lanes * requests + front_usd,
        billed_gb_s=np.broadcast_to(billed_gb_s, latency_s.shape),
        latency_s=latency_s,
        fits=np.broadcast_to(fits & carried, latency_s.shape),
    )


def _answered(problem: DeploymentProblem, sizes: StageSizes, largest: np.ndarray) -> np.ndarray:
    """Tokens of the largest payload that a stage leaves in: of a lane, or of the front's answer to the client."""
    by_front = sizes.is_last[:, None, None] & (blocks_of(problem).front == "function")
    return np.where(by_front, problem.served_tokens, largest)


def gets_usd(problem: DeploymentProblem, gets: np.ndarray | int) -> np.ndarray | float:
    """Price of the GETs with which a stage downloads its input (`simulator.stage_rules.handover_gets`)."""
    return gets * problem.platform.price_per_get


def front_usd_per_s(problem: DeploymentProblem) -> float:
    """Price of a second in which a front function waits; 0: the client waits."""
    blocks, p = blocks_of(problem), problem.platform
    return p.price_per_gb_s * blocks.memory_mb[0] / 1024 if blocks.front == "function" else 0.0


def front_itself(problem: DeploymentProblem, result_by_payload: bool) -> tuple[float, float]:
    """What a front function adds beside its wait, USD, and to the latency, s: it starts with all token IDs where
    they fit a payload, and answers with all results that its lanes returned."""
    blocks, p = blocks_of(problem), problem.platform
    if blocks.front == "client":
        return 0.0, 0.0
    input_bytes = blocks.input_bytes_per_token * (input_handover(problem) == "payload")
    asked_s = problem.served_tokens * input_bytes / p.direct_bandwidth_bytes_per_s
    answer_bytes = blocks.result_bytes_per_token * result_by_payload
    billed_s = p.warm_start_s + problem.served_tokens * answer_bytes / p.direct_bandwidth_bytes_per_s
    return p.price_per_invocation + front_usd_per_s(problem) * billed_s, asked_s + billed_s
