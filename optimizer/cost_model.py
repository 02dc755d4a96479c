"""Billed time, cost and latency of a deployment in closed form: Eq. 3-11, and the only place where they stand.

Source: Liu, Wang, Wu, INFOCOM 2025, section III-C/D; the symbols are the paper's. Every function of an
equation works elementwise on arrays that broadcast, so the same code evaluates a plan (arrays of shape
(experts,)), lists all ways to deploy a layer (experts, sizes, replicas), and does so for many minibatch sizes
at once (a leading axis of `beta`).
"""

from dataclasses import dataclass

import numpy as np

from simulator.plan import (
    Communication,
    DeploymentProblem,
    LayerPlan,
    ProblemLayer,
    ProblemPlatform,
    handed_on_as_payload,
    memory_indices,
    non_moe_memory_mb,
)


@dataclass(frozen=True)
class Deployments:
    """Ways to deploy the experts of one layer; arrays broadcast to (experts,) or (experts, sizes, replicas).

    Attributes:
        tokens: d of each expert.
        parameter_bytes: P of each expert.
        replicas: g.
        memory_mb: M.
        storage_bandwidth: B_s of a function of that memory, bytes/s.
        seconds_per_token: t_cal = U of a function of that memory.
        seconds_per_call: t_call, 0 in the paper.
        token_in_bytes, token_out_bytes: D_in, D_o.
    """

    tokens: np.ndarray
    parameter_bytes: np.ndarray
    replicas: np.ndarray
    memory_mb: np.ndarray
    storage_bandwidth: np.ndarray
    seconds_per_token: np.ndarray
    seconds_per_call: np.ndarray
    token_in_bytes: float
    token_out_bytes: float

    @property
    def replica_tokens(self) -> np.ndarray:
        """r = d/g, fractions kept."""
        return self.tokens / self.replicas


def chosen(problem: DeploymentProblem, e: int, plan: LayerPlan) -> Deployments:
    """The deployment that a plan chooses for layer e; arrays of shape (experts,)."""
    layer = problem.layers[e]
    return _deployments(problem.platform, layer, (), memory_indices(problem, plan), plan.replicas)


def all_deployments(platform: ProblemPlatform, layer: ProblemLayer) -> Deployments:
    """Every memory size and replica count for every expert; arrays broadcast to (experts, sizes, replicas)."""
    sizes = np.arange(len(platform.memory_mb)).reshape(1, -1, 1)
    replicas = np.arange(1, platform.max_replicas + 1).reshape(1, 1, -1)
    return _deployments(platform, layer, (1, 1), sizes, replicas)


def _deployments(
    platform: ProblemPlatform, layer: ProblemLayer, trailing: tuple[int, ...], j: np.ndarray, g: np.ndarray
) -> Deployments:
    calls = layer.seconds_per_call or (0.0,) * len(platform.memory_mb)
    parameters = np.array([expert.parameter_bytes for expert in layer.experts])
    return Deployments(
        tokens=layer.tokens.reshape(-1, *trailing),
        parameter_bytes=parameters.reshape(-1, *trailing),
        replicas=g,
        memory_mb=np.asarray(platform.memory_mb, float)[j],
        storage_bandwidth=platform.storage_bandwidths[j],
        seconds_per_token=np.asarray(layer.seconds_per_token)[j],
        seconds_per_call=np.asarray(calls)[j],
        token_in_bytes=layer.token_in_bytes,
        token_out_bytes=layer.token_out_bytes,
    )


# Billed time of one replica, seconds


def head_s(p: ProblemPlatform, x: Deployments) -> np.ndarray:
    """T_h: warm start and download of the parameters, unless the instance keeps them."""
    if p.reload == "when-cold":
        return np.full_like(x.parameter_bytes / x.storage_bandwidth, p.warm_start_s)
    return x.parameter_bytes / x.storage_bandwidth + p.storage_delay_s + p.warm_start_s


def minibatches(x: Deployments, beta: np.ndarray | float) -> np.ndarray:
    """n: minibatches of a replica, of at most beta tokens each."""
    return np.ceil(x.replica_tokens / beta)


def block_s(p: ProblemPlatform, x: Deployments, beta: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """The two times of which a block of Eq. 6 takes the longer: download and compute of one minibatch, or upload
    of the results of the one before. Both are linear in beta."""
    t_in, t_out = x.token_in_bytes / x.storage_bandwidth, x.token_out_bytes / x.storage_bandwidth
    compute = x.seconds_per_call + beta * (t_in + x.seconds_per_token)
    return p.storage_delay_s + compute, p.storage_delay_s + beta * t_out


def pipelined_s(
    p: ProblemPlatform,
    x: Deployments,
    beta: np.ndarray | float,
    n: np.ndarray | float,
    block_tokens: np.ndarray | float | None = None,
) -> np.ndarray:
    """Eq. 6: billed time of a replica that works through n minibatches of beta tokens.

    What bounds it for a range of minibatch sizes has other tokens in a block (`block_tokens`) than in the last
    upload (`beta`).
    """
    compute, send = block_s(p, x, beta if block_tokens is None else block_tokens)
    last = send if block_tokens is None else p.storage_delay_s + beta * (x.token_out_bytes / x.storage_bandwidth)
    return head_s(p, x) + n * np.maximum(compute, send) + last


def storage_s(p: ProblemPlatform, x: Deployments) -> np.ndarray:
    """Eq. 8: billed time of a replica that gets all its tokens from storage and puts all results there."""
    t_io = (x.token_in_bytes + x.token_out_bytes) / x.storage_bandwidth
    per_token = t_io + x.seconds_per_token
    return head_s(p, x) + 2 * p.storage_delay_s + x.seconds_per_call + x.replica_tokens * per_token


def direct_s(p: ProblemPlatform, x: Deployments) -> np.ndarray:
    """Eq. 10: billed time of a replica that gets its tokens with the invocation and sends its results on."""
    t_out = x.token_out_bytes / p.direct_bandwidth_bytes_per_s
    return head_s(p, x) + x.seconds_per_call + x.replica_tokens * (t_out + x.seconds_per_token)


# Cost of one expert


def billed_gb_s(x: Deployments, replica_s: np.ndarray) -> np.ndarray:
    """Eq. 3-5: billed GB-s of an expert whose replicas each run `replica_s` seconds; 0 where no token comes."""
    return (x.tokens > 0) * x.replicas * (x.memory_mb / 1024) * replica_s


def requests_usd(p: ProblemPlatform, x: Deployments, objects: np.ndarray | float) -> np.ndarray:
    """Price of an expert's requests: per replica its invocation, one GET of the parameters, and 2 PUT and 2
    GET for each object exchanged (none with `direct`, one with `storage`, n with `pipelined`)."""
    exchange = 2 * p.price_per_put + 2 * p.price_per_get
    load = 0.0 if p.reload == "when-cold" else p.price_per_get
    return (x.tokens > 0) * x.replicas * (p.price_per_invocation + load + objects * exchange)


# Latency of a layer (MoE-E2E), seconds


def upload_s(p: ProblemPlatform, layer: ProblemLayer) -> float:
    """Upload of all inputs of the layer by the gate's function."""
    return p.storage_delay_s + layer.tokens.sum() * layer.token_in_bytes / p.gate_bandwidth


def first_minibatch_s(p: ProblemPlatform, layer: ProblemLayer, beta: np.ndarray | float) -> np.ndarray:
    """`first` with `pipelined`: when one minibatch for each expert is uploaded (Fig. 6a); shape of beta."""
    first_tokens = np.minimum(np.asarray(beta)[..., None], layer.tokens).sum(axis=-1)
    return p.storage_delay_s + first_tokens * layer.token_in_bytes / p.gate_bandwidth


def last_minibatch_s(p: ProblemPlatform, x: Deployments, beta: np.ndarray | float) -> np.ndarray:
    """`tail_i`: the last minibatch of a replica, once it is uploaded."""
    t_io = (x.token_in_bytes + x.token_out_bytes) / x.storage_bandwidth
    last_tokens = np.minimum(beta, x.replica_tokens)
    return 2 * p.storage_delay_s + x.seconds_per_call + last_tokens * (t_io + x.seconds_per_token)


def finish_s(p: ProblemPlatform, x: Deployments, replica_s: np.ndarray, first: np.ndarray | float) -> np.ndarray:
    """When an expert is done that waits for its `first` input: max(T_h, first) + t - T_h."""
    head = head_s(p, x)
    return (np.maximum(head, first) - head) + replica_s


def download_s(p: ProblemPlatform, layer: ProblemLayer) -> float:
    """S3: download of all results by the next non-MoE function."""
    return p.storage_delay_s + layer.tokens.sum() * layer.token_out_bytes / p.gate_bandwidth


def load_s(p: ProblemPlatform, seconds: float) -> float:
    """T_load: start of a non-MoE function and download of its parameters, unless the instance keeps them."""
    return min(seconds, p.warm_start_s) if p.reload == "when-cold" else seconds


def payload_s(p: ProblemPlatform, x: Deployments) -> np.ndarray:
    """Time that the input of a replica takes with `direct`: r D_in/B_f."""
    return x.replica_tokens * x.token_in_bytes / p.direct_bandwidth_bytes_per_s


def hand_on_s(p: ProblemPlatform, layer: ProblemLayer) -> float:
    """With `direct`, what Eq. 11 leaves out: the gate's function has all results and the next one needs them. They
    go in one payload where that is not too large, else up to storage and down again."""
    if not p.direct_hands_on:
        return 0.0
    size = float(layer.tokens.sum()) * layer.token_out_bytes
    if handed_on_as_payload(p, size):
        return size / p.direct_bandwidth_bytes_per_s
    return 2 * (p.storage_delay_s + size / p.gate_bandwidth)


@dataclass(frozen=True)
class Outcome:
    """What deployments of a layer come to with one method; arrays of the deployments' shape, led by beta's.

    The layer's latency is `max(floor_s, max_i finish_s) + rest_s` (Eq. 7, 9, 11), where `direct` has
    `max_i input_s` in addition (0 with the others).

    Attributes:
        gb_s: billed GB-s of each expert.
        requests_usd: price of each expert's requests.
        finish_s: what the expert contributes to the layer's latency.
        input_s: time of a replica's payload.
        floor_s, rest_s: what does not depend on the experts' deployment.
    """

    gb_s: np.ndarray
    requests_usd: np.ndarray
    finish_s: np.ndarray
    input_s: np.ndarray | float
    floor_s: float
    rest_s: float

    def latency_s(self, reached: np.ndarray, late_s: np.ndarray | float = 0.0) -> float:
        """Latency of a layer whose experts are deployed so, shape (experts,).

        Args:
            reached: which experts tokens reach.
            late_s: what is added to each expert's finish.
        """
        slowest = float((self.finish_s + late_s)[reached].max())
        return max(self.floor_s, slowest) + float(np.max(self.input_s)) + self.rest_s

    def objective(self, problem: DeploymentProblem) -> np.ndarray:
        """Cost of each expert in the objective's unit; with `total` the gate's part comes on top (`gate_bill`)."""
        if problem.objective == "gb_s":
            return self.gb_s
        return self.gb_s * problem.platform.price_per_gb_s + self.requests_usd


def outcome(
    p: ProblemPlatform,
    layer: ProblemLayer,
    x: Deployments,
    communication: Communication,
    beta: np.ndarray | float = 1.0,
    other_beta: np.ndarray | float | None = None,
    even: bool = False,
) -> Outcome:
    """Cost and latency contribution of every expert of a layer with one communication method.

    With `other_beta`, bounds on cost and time for every minibatch size between the two: lower ones where beta is
    the smaller, upper ones where it is the larger. There are n = ceil(r/other_beta) minibatches at least (at
    most), and together they count for at least r (at most r + beta) tokens.

    Args:
        p: the platform's constants.
        layer: the whole layer (its totals matter, even where `x` holds some of its experts).
        x: deployments, (experts,) or (experts, sizes, replicas).
        communication: the method.
        beta: minibatch size(s) of `pipelined`, tokens; a scalar, or shape (betas, 1, 1, 1).
        other_beta: the other end of a range of sizes; beta alone by default.
        even: each replica's minibatches have r/n tokens, not beta: no time for tokens that are not there. For what
            a plan comes to on other tokens than it was made for.
    """
    if communication == "direct":
        t = direct_s(p, x)
        input_s = payload_s(p, x)
        rest = hand_on_s(p, layer) + load_s(p, layer.next_load_s)
        return Outcome(billed_gb_s(x, t), requests_usd(p, x, 0), t, input_s, 0.0, rest)
    upload = upload_s(p, layer)
    floor, rest = max(upload, load_s(p, layer.next_load_s)), download_s(p, layer)
    if communication == "storage":
        t = storage_s(p, x)
        done = finish_s(p, x, t, upload)
        return Outcome(billed_gb_s(x, t), requests_usd(p, x, 1), done, 0.0, floor, rest)
    n = minibatches(x, beta if other_beta is None else other_beta)
    r = x.replica_tokens
    size = r / np.maximum(n, 1) if even else beta
    block_tokens = None if other_beta is None else np.clip(beta, r / n, (r + beta) / n)
    t = pipelined_s(p, x, size, n, block_tokens)
    done = finish_s(p, x, t, first_minibatch_s(p, layer, beta))
    done = np.maximum(done, upload + last_minibatch_s(p, x, size))
    return Outcome(billed_gb_s(x, t), requests_usd(p, x, n), done, 0.0, floor, rest)


# Gate and non-MoE functions, which the whole bill has in addition


@dataclass(frozen=True)
class GateBill:
    """What a layer adds to the whole bill beside its experts, linear in the layer's latency, USD.

    The gate's function uploads the inputs; the next non-MoE function starts just in time, so that it has loaded
    when the results are there, and downloads them. With `direct` the gate waits for its experts, and is billed.

    Attributes:
        exchange_usd: with `storage` and `pipelined`.
        direct_usd, wait_usd_per_s: with `direct`, and in addition for each second of the layer's latency.
    """

    exchange_usd: float = 0.0
    direct_usd: float = 0.0
    wait_usd_per_s: float = 0.0

    def usd(self, communication: Communication, latency_s: np.ndarray | float) -> np.ndarray | float:
        """With a method, for the layer's latency; of any shape."""
        per_s, added = self.charge(communication)
        return added + per_s * latency_s

    def charge(self, communication: Communication, usd_per_s: float = 0.0) -> tuple[float, float]:
        """What a second of the layer's latency costs where it already costs so much, and what is added, USD."""
        if communication == "direct":
            return usd_per_s + self.wait_usd_per_s, self.direct_usd
        return usd_per_s, self.exchange_usd


def gate_bill(problem: DeploymentProblem, e: int) -> GateBill:
    """The gate's bill of layer e; nothing where no token reaches the layer: its gate's function goes on."""
    p, layer = problem.platform, problem.layers[e]
    if not is_reached(layer):
        return GateBill()
    gate, after = (usd_per_s(problem, k) for k in (gate_of(problem, e), e + 1))
    load = load_s(p, layer.next_load_s)
    start = after * load + start_requests_usd(p, layer.next_load_s)
    # With `direct` the latency has in it what the next function takes: its load, and what comes through storage.
    through_storage = p.direct_hands_on and not handed_on_as_payload(p, layer.tokens.sum() * layer.token_out_bytes)
    gather = download_s(p, layer) * through_storage
    return GateBill(
        exchange_usd=gate * upload_s(p, layer) + start + after * download_s(p, layer),
        direct_usd=start
        - gate * (load + gather)
        + after * gather
        + (p.price_per_put + p.price_per_get) * through_storage,
        wait_usd_per_s=gate,
    )


def non_moe_usd(problem: DeploymentProblem) -> float:
    """What no plan's layers change in the whole bill: head, tail and the compute of all non-MoE layers."""
    p, layers = problem.platform, problem.layers
    compute = [usd_per_s(problem, gate_of(problem, e)) * layer.non_moe_s for e, layer in enumerate(layers)]
    head = usd_per_s(problem, 0) * load_s(p, problem.head_s) + start_requests_usd(p, problem.head_s)
    return head + sum(compute) + usd_per_s(problem, gate_of(problem, len(layers))) * problem.tail_s


def gate_of(problem: DeploymentProblem, e: int) -> int:
    """Which non-MoE function is the gate of layer e, or the tail: it goes on over layers that no token reaches."""
    return next((k for k in range(e, 0, -1) if is_reached(problem.layers[k - 1])), 0)


def is_reached(layer: ProblemLayer) -> bool:
    """Whether any token reaches the layer."""
    return any(expert.tokens > 0 for expert in layer.experts)


def usd_per_s(problem: DeploymentProblem, e: int) -> float:
    """Price of a second of non-MoE function e."""
    return problem.platform.price_per_gb_s * non_moe_memory_mb(problem, e) / 1024


def start_requests_usd(p: ProblemPlatform, seconds: float) -> float:
    """Price of a non-MoE function's invocation, and of the GET of its parameters if it loads any."""
    loads = p.reload != "when-cold" and p.loaded_bytes(seconds) > 0
    return p.price_per_invocation + loads * p.price_per_get
