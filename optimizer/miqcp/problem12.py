"""Problem (12) of Liu, Wang, Wu, INFOCOM 2025, written down as a mixed-integer quadratic programme.

As printed, but for its misprints: an indicator selects the cost, `direct` is for payloads that fit (12f), beta is
a size in Eq. 6. Decisions, with the names of their variables:

- `a[e,method]`: the communication method of layer e; no variable where one method is left.
- `x[e,i,j,g]`: expert i has memory j and g replicas. A deployment that its memory does not hold (12c) is not
  listed. What a deployment costs and takes with `storage` and `direct` (Eq. 8, 10) is a constant, so all that is
  linear in x.
- `beta[e]`, or `beta` for all layers: minibatch size; `largest[e,i]`: replicas of expert i hold beta (12e).

Kept quadratic as in the paper: the method's selector x cost and latency (3, 12d); number of minibatches x block,
beta x time per token, memory x time (5, 6). Made linear, as the paper's solver needs: each maximum is an
auxiliary variable that is at least each of its terms, and each minimum one that is at least a chosen one, since
cost and latency press them down. The ceiling of r/beta is the least integer n with n beta >= ceil(r), which is
the same. A solver that is stopped can leave such variables too large; the plan's cost is then lower than it says.

Coefficients come from `optimizer.cost_model`. Where the shape of an equation had to be written again, it is
cited, and the tests hold the programme against `evaluate`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from optimizer import cost_model
from optimizer.evaluation import latency_budget_s
from optimizer.exact import Beta, check_experts_fit
from optimizer.exact.layer_fronts import minibatch_breakpoints
from optimizer.miqcp.decisions import Methods, method_name, option_name, witness_name
from optimizer.miqcp.programme import Programme, Range
from simulator.plan import (
    COMMUNICATIONS,
    MB,
    Communication,
    DeploymentProblem,
    needed_memory_bytes,
    payload_bytes,
)


def money_unit(problem: DeploymentProblem) -> float:
    """What the programme counts costs in, in the objective's unit: a hundredth of the least cost with `storage`,
    since solvers' tolerances are absolute, and a bill can be thousands of GB-s or a thousandth of a USD."""
    least = 0.0
    for e in range(len(problem.layers)):
        layer = _Layer(problem, e)
        result = cost_model.outcome(problem.platform, layer.part, layer.x, "storage")
        least += np.where(layer.fits, result.objective(problem), np.inf).min(axis=(1, 2)).sum()
    return float(least) / 100 or 1.0


def usable_methods(problem: DeploymentProblem) -> list[Methods]:
    """The methods that each layer can use: `direct` only where every expert's payloads can be made to fit (12f).

    Raises InputError where an expert fits no memory size.
    """
    found: list[Methods] = []
    for e in range(len(problem.layers)):
        layer = _Layer(problem, e)
        direct = layer.payload_fits.any(axis=(1, 2)).all()
        found.append(tuple(x for x in COMMUNICATIONS if x != "direct" or direct))
    return found


def describe(m: Programme, problem: DeploymentProblem, beta: Beta, methods: Sequence[Methods]) -> None:
    """Write problem (12) down.

    Args:
        m: the reader.
        problem: with or without a latency limit.
        beta: a minibatch size for each pipelined layer, or one for all.
        methods: those that each layer chooses from; all for (12), one for the problems of Alg. 1, step 1.

    Raises InputError where an expert fits no memory size.
    """
    layers = {e: _Layer(problem, e) for e in range(len(problem.layers))}
    layers = {e: layer for e, layer in layers.items() if layer.reached}
    pipelined = [e for e in layers if "pipelined" in methods[e]]
    largest = {e: float(np.ceil(layers[e].tokens.max())) for e in pipelined}
    if beta == "global" and pipelined:
        one = m.variable("beta", "integer", Range(1, max(largest.values())))
        betas = {e: (one, max(largest.values())) for e in pipelined}
    else:
        betas = {e: (m.variable(f"beta[{e}]", "integer", Range(1, largest[e])), largest[e]) for e in pipelined}
    unit = money_unit(problem)
    parts = [_LayerProgramme(m, layer, methods[e], betas.get(e), unit).write() for e, layer in layers.items()]
    m.minimise(m.total(np.ones(len(parts)), [cost for cost, _ in parts]))
    if problem.latency_limit_s is not None and parts:
        latency = m.total(np.ones(len(parts)), [latency for _, latency in parts])
        m.require(latency, "<=", latency_budget_s(problem))  # Eq. 12d


class _Layer:
    """The experts of a layer that tokens reach, and their deployments; masks are (experts, sizes, replicas)."""

    def __init__(self, problem: DeploymentProblem, e: int) -> None:
        check_experts_fit(problem, e)
        self.problem, self.e = problem, e
        whole = problem.layers[e]
        self.experts = [i for i, expert in enumerate(whole.experts) if expert.tokens > 0]
        self.reached = bool(self.experts)
        kept = [whole.experts[i] for i in self.experts] or list(whole.experts)
        self.part = whole.model_copy(update={"experts": tuple(kept)})
        self.tokens = self.part.tokens
        self.x = cost_model.all_deployments(problem.platform, self.part)
        self.shape = (len(kept), len(problem.platform.memory_mb), problem.platform.max_replicas)
        r = np.broadcast_to(self.x.replica_tokens, self.shape)
        self.fits = needed_memory_bytes(self.part, r) <= self.x.memory_mb * MB
        payload = payload_bytes(self.part, problem.platform, r)
        self.payload_fits = self.fits & (payload <= problem.platform.payload_limit_bytes)


class _LayerProgramme:
    """Writes one layer down. `k` counts the experts that tokens reach."""

    def __init__(
        self, m: Programme, layer: _Layer, methods: Methods, beta: tuple[Any, float] | None, unit: float
    ) -> None:
        self.m, self.layer, self.methods, self.beta, self.unit = m, layer, methods, beta, unit
        self.p, self.e = layer.problem.platform, layer.e
        self.limited = layer.problem.latency_limit_s is not None
        self.every = range(len(layer.experts))
        self.options = [
            [
                m.binary(option_name(self.e, layer.experts[k], self.p.memory_mb[j], int(g) + 1))
                for j, g in np.argwhere(layer.fits[k])
            ]
            for k in self.every
        ]
        for variables in self.options:
            m.require(m.total(np.ones(len(variables)), variables), "==", 1)

    def write(self) -> tuple[Any, Any]:
        """The layer's cost and latency, as expressions (latency None where there is no limit)."""
        m, e = self.m, self.e
        one = len(self.methods) == 1
        a = {method: 1.0 if one else m.binary(method_name(e, method)) for method in self.methods}
        if not one:
            m.require(m.total(np.ones(len(a)), list(a.values())), "==", 1)
        parts = {}
        for method in self.methods:
            write = self._pipelined if method == "pipelined" else self._constant
            parts[method] = write(method, a[method])
        cost = self._selected("cost", a, {method: part[0] for method, part in parts.items()})
        if not self.limited:
            return cost, None
        return cost, self._selected("latency", a, {method: part[1] for method, part in parts.items()})

    def _selected(
        self, what: str, a: dict[Communication, Any], parts: dict[Communication, tuple[Any, Range]]
    ) -> Any:
        """The chosen method's part: Eq. 3's selector as an indicator."""
        if len(parts) == 1:
            return next(iter(parts.values()))[0]
        within = Range(min(r.low for _, r in parts.values()), max(r.high for _, r in parts.values()))
        chosen = sum((a[method] * part for method, (part, _) in parts.items()), 0.0)
        return self.m.maximum(f"{what}[{self.e}]", [chosen], within)

    def _constant(self, method: Communication, a: Any) -> tuple[tuple[Any, Range], tuple[Any, Range]]:
        """`storage` or `direct`: Eq. 8-11 are constants of a deployment."""
        m, layer = self.m, self.layer
        result = cost_model.outcome(self.p, layer.part, layer.x, method)
        if method == "direct":
            for k in self.every:  # Eq. 12f
                too_large = self._of(~layer.payload_fits, k)
                m.require(m.total(too_large, self.options[k]) + a, "<=", 1)
        objective = result.objective(layer.problem) / self.unit
        cost = self._sum_of_experts(f"cost[{self.e},{method}]", [self._linear(objective, k) for k in self.every])
        if not self.limited:
            return cost, cost
        finish = [self._linear(result.finish_s, k) for k in self.every]
        payload = [self._linear(result.input_s, k) for k in self.every]
        slowest = self._max(f"finish[{self.e},{method}]", [(result.floor_s, Range.of(result.floor_s)), *finish])
        if method == "direct":
            largest = self._max(f"payload[{self.e}]", payload)
            slowest = slowest[0] + largest[0], _added([slowest[1], largest[1]])
        return cost, self._latency(method, slowest, result.rest_s)

    def _pipelined(self, method: Communication, a: Any) -> tuple[tuple[Any, Range], tuple[Any, Range]]:
        """`pipelined`: Eq. 5-7 for all experts; the ranges of their parts over all deployments and betas."""
        m, layer, p = self.m, self.layer, self.p
        assert self.beta is not None
        beta, most = self.beta
        ceil_r = np.ceil(layer.x.replica_tokens)
        holds = [m.binary(witness_name(self.e, layer.experts[k])) for k in self.every]
        m.require(m.total(np.ones(len(holds)), holds), "==", a)
        for k in self.every:  # Eq. 12e: some expert's replicas hold beta
            m.require(beta, "<=", self._linear(ceil_r, k)[0] + most * (1 - holds[k]))
        # At these betas the number of some replica's minibatches has changed, or is about to; between them all
        # grows with beta. So the least and the most are among them.
        steps = minibatch_breakpoints(layer.x.replica_tokens)
        betas = np.unique(np.concatenate([steps, steps - 1, [1.0, most]]))
        betas = betas[(betas >= 1) & (betas <= most)].reshape(-1, 1, 1, 1)
        result = cost_model.outcome(p, layer.part, layer.x, method, betas)
        time = cost_model.pipelined_s(p, layer.x, betas, cost_model.minibatches(layer.x, betas))
        times = [self._replica_s(k, beta, most, ceil_r, self._range(time, k)) for k in self.every]
        objective = result.objective(layer.problem) / self.unit
        costs = [self._billed(k, *times[k], self._range(objective, k)) for k in self.every]
        cost = self._sum_of_experts(f"cost[{self.e},{method}]", costs)
        if not self.limited:
            return cost, cost
        first0 = float(cost_model.first_minibatch_s(p, layer.part, 0.0))
        per_token = (float(cost_model.first_minibatch_s(p, layer.part, np.inf)) - first0) / layer.tokens.sum()
        minibatch = [
            m.minimum(f"first[{self.e},{layer.experts[k]}]", beta, float(d), Range.of(min(1.0, d), d))
            for k, d in enumerate(layer.tokens)
        ]
        first = first0 + m.total(np.full(len(minibatch), per_token), minibatch)
        terms: list[tuple[Any, Range]] = [(result.floor_s, Range.of(result.floor_s))]
        for k in self.every:
            within = self._range(result.finish_s, k)
            head, _ = self._linear(cost_model.head_s(p, layer.x), k)
            terms += [(x, within) for x in (times[k][0], first + times[k][0] - head, self._tail(k, beta, most))]
        slowest = self._max(f"finish[{self.e},{method}]", terms)
        return cost, self._latency(method, slowest, result.rest_s)

    def _replica_s(self, k: int, beta: Any, most: float, ceil_r: np.ndarray, within: Range) -> tuple[Any, Any]:
        """Eq. 6: t = T_h + n max(compute, send) + send, and n = ceil(r/beta)."""
        m, p, x = self.m, self.p, self.layer.x
        name = f"[{self.e},{self.layer.experts[k]}]"
        r, r_range = self._linear(ceil_r, k)
        n = m.quotient(f"n{name}", r, beta, round(r_range.high))
        one, many = cost_model.block_s(p, x, 1.0), cost_model.block_s(p, x, most)
        blocks = []
        for what, at_0, at_1 in zip(("compute", "send"), cost_model.block_s(p, x, 0.0), one, strict=True):
            slope = self._variable(f"{what}{name}", at_1 - at_0, k)
            blocks.append(self._linear(at_0, k)[0] + beta * slope)
        block_range = Range.of(self._of(np.maximum(*one), k), self._of(np.maximum(*many), k))
        block = m.maximum(f"block{name}", blocks, block_range)
        head, _ = self._linear(cost_model.head_s(p, x), k)
        return m.maximum(f"t{name}", [head + n * block + blocks[1]], within), n

    def _billed(self, k: int, time: Any, n: Any, within: Range) -> tuple[Any, Range]:
        """Eq. 5: GB of all replicas x time; their requests where the objective counts them."""
        m, p, x, problem = self.m, self.p, self.layer.x, self.layer.problem
        name = f"[{self.e},{self.layer.experts[k]}]"
        price = 1.0 if problem.objective == "gb_s" else p.price_per_gb_s
        gb = self._variable(f"gb{name}", cost_model.billed_gb_s(x, np.ones(1)) * price / self.unit, k)
        cost = gb * time
        if problem.objective == "usd":
            fixed, one = cost_model.requests_usd(p, x, 0), cost_model.requests_usd(p, x, 1)
            each = self._variable(f"requests{name}", (one - fixed) / self.unit, k)
            cost = cost + self._linear(fixed / self.unit, k)[0] + n * each
        return m.maximum(f"c{name}", [cost], within), within

    def _tail(self, k: int, beta: Any, most: float) -> Any:
        """upload + tail_i: the last minibatch, of min(beta, r) tokens, once it is uploaded."""
        m, p, x, d = self.m, self.p, self.layer.x, float(self.layer.tokens[k])
        name = f"[{self.e},{self.layer.experts[k]}]"
        at_0 = cost_model.last_minibatch_s(p, x, 0.0)
        per_token = (cost_model.last_minibatch_s(p, x, np.inf) - at_0) / x.replica_tokens
        slope = self._variable(f"last_s{name}", per_token, k)
        r, r_range = self._linear(x.replica_tokens, k)
        last = m.minimum(f"last{name}", beta, r, Range.of(min(1.0, r_range.low), min(most, d)))
        return cost_model.upload_s(p, self.layer.part) + self._linear(at_0, k)[0] + last * slope

    def _latency(self, method: Communication, slowest: tuple[Any, Range], rest_s: float) -> tuple[Any, Range]:
        """Eq. 7, 9, 11, as one variable."""
        within = _added([slowest[1], Range(rest_s, rest_s)])
        return self.m.equal(f"latency[{self.e},{method}]", slowest[0] + rest_s, within), within

    def _sum_of_experts(self, name: str, parts: list[tuple[Any, Range]]) -> tuple[Any, Range]:
        within = _added([r for _, r in parts])
        return self.m.equal(name, self.m.total(np.ones(len(parts)), [x for x, _ in parts]), within), within

    def _max(self, name: str, terms: list[tuple[Any, Range]]) -> tuple[Any, Range]:
        within = Range(max(r.low for _, r in terms), max(r.high for _, r in terms))
        return self.m.maximum(name, [x for x, _ in terms], within), within

    def _of(self, values: np.ndarray | float, k: int) -> np.ndarray:
        """The values of expert k's listed deployments, (..., options)."""
        values = np.asarray(values)
        full = np.broadcast_to(values, values.shape[: max(0, values.ndim - 3)] + self.layer.shape)
        return full[..., k, :, :][..., self.layer.fits[k]]

    def _range(self, values: np.ndarray | float, k: int) -> Range:
        return Range.of(self._of(values, k))

    def _linear(self, values: np.ndarray | float, k: int) -> tuple[Any, Range]:
        """The value of expert k's chosen deployment."""
        of = self._of(values, k)
        if (of == of[0]).all():
            return float(of[0]), Range.of(of)
        return self.m.total(of, self.options[k]), Range.of(of)

    def _variable(self, name: str, values: np.ndarray | float, k: int) -> Any:
        """The same as a variable, to be multiplied."""
        expression, within = self._linear(values, k)
        of = self._of(values, k)
        return expression if (of == of[0]).all() else self.m.equal(name, expression, within)


def _added(ranges: list[Range]) -> Range:
    return Range(sum(r.low for r in ranges), sum(r.high for r in ranges))
