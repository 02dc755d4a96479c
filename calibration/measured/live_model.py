"""What a live model costs on its platform: constants fitted to rows of calibrating batches.

What depends on memory is work of the function's own vCPU, which memory buys: seconds = fixed + work / vCPUs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from calibration.measured.cpu import OF_AWS
from lambda_probe.live.rows import LiveRow
from moe.errors import InputError
from simulator.plan import MB
from simulator.profiles.constant import Constant
from simulator.profiles.schema import PlatformProfile
from simulator.profiles.walk import with_constant

UNLIMITED_BYTES_PER_S = 1e11
LARGEST_EXPONENT = 1.5
ROUNDS = 8  # of reweighted least squares
HUBER = 0.1  # relative residuals beyond count by their size, not their square
SOURCE = "fitted to calibrating batches of live validation"


@dataclass(frozen=True)
class CalibratingRow:
    """A row of a calibrating batch: the layer's method, the batch's tokens, bytes of the function's parameters."""

    communication: str
    batch_tokens: int
    parameter_bytes: int
    row: LiveRow

    def seconds(self, phase: str) -> float:
        """How long a phase took, s; 0 where the call had none."""
        start, end = self.row.record.phases.get(phase, (0.0, 0.0))
        return end - start


@dataclass(frozen=True)
class PlatformFit:
    """Constants of the platform; times s, work vCPU-s.

    Attributes:
        warm_s: from an asynchronous call to the handler.
        get_s, put_s, get_work, put_work: of a request. get_byte_work, put_byte_work: of a byte from and to S3.
        payload_s: of a payload. payload_byte_work: of an encoded byte: sent, taken in or answered.
        errors: median absolute relative residual of each fit.
    """

    warm_s: float
    get_s: float
    put_s: float
    get_work: float
    put_work: float
    get_byte_work: float
    put_byte_work: float
    payload_s: float
    payload_byte_work: float
    errors: dict[str, float]


@dataclass(frozen=True)
class ModelFit:
    """Costs of the model.

    Attributes:
        seconds_per_call, seconds_per_token: of an expert, for each memory size.
        non_moe_s: compute of each non-MoE function for each number of tokens of a batch.
        runtime_bytes, bytes_per_token: memory of an expert's function without parameters, and with each token
            beyond its input and output. non_moe_bytes: of a non-MoE function, the most that any used.
        share_exponent: compute takes vCPUs to the power of minus this; 1: a CPU-second does the same at any size.
        contention: compute time over what its CPU time says (median): over 1, cores were not there when asked for.
        errors: as of PlatformFit.
    """

    seconds_per_call: tuple[float, ...]
    seconds_per_token: tuple[float, ...]
    non_moe_s: dict[int, tuple[float, ...]]
    runtime_bytes: float
    bytes_per_token: float
    non_moe_bytes: float
    share_exponent: float
    contention: float
    errors: dict[str, float]


def fit_platform(rows: Sequence[CalibratingRow], mb_per_vcpu: float, encoding: float) -> PlatformFit:
    """Constants of the platform. Raises InputError where a method was never measured."""
    experts = [x for x in rows if x.row.record.role == "expert"]
    stored = [x for x in experts if x.communication == "storage"]
    asked = [x for x in experts if x.communication == "direct"]
    if not stored or not asked:
        raise InputError("live calibration: expected batches with 'storage' and with 'direct'")
    got, put = [], []
    for x in rows:
        record = x.row.record
        slow = mb_per_vcpu / record.memory_mb
        got.append(([1.0, slow, x.parameter_bytes * slow], x.seconds("parameter_download")))
        if x.communication != "storage":
            continue
        if x.seconds("gather") or x.seconds("input_download"):
            arrived = record.bytes_in - x.parameter_bytes
            seconds = x.seconds("gather") + x.seconds("input_download")
            got.append(([1.0, record.exchange_gets * slow, arrived * slow], seconds))
        if x.seconds("upload"):
            put.append(([1.0, record.exchange_puts * slow, record.bytes_out * slow], x.seconds("upload")))
    (get_s, get_work, get_byte), get_error = least_squares(got)
    (put_s, put_work, put_byte), put_error = least_squares(put)
    answered = []
    for x in asked:
        slow = mb_per_vcpu / x.row.record.memory_mb
        rest_s = x.row.duration_s - x.seconds("compute") - x.seconds("parameter_download")
        answered.append(([1.0, x.row.record.bytes_out * encoding * slow], rest_s))
    (payload_s, payload_byte), payload_error = least_squares(answered)
    return PlatformFit(
        warm_s=max(1e-4, _median(x.seconds("queue") for x in stored)),
        get_s=max(1e-4, float(get_s)),
        put_s=max(1e-4, float(put_s)),
        get_work=float(get_work),
        put_work=float(put_work),
        get_byte_work=float(get_byte),
        put_byte_work=float(put_byte),
        payload_s=max(1e-4, float(payload_s)),
        payload_byte_work=float(payload_byte),
        errors={"get": get_error, "put": put_error, "payload": payload_error},
    )


def fit_model(
    rows: Sequence[CalibratingRow], memory_mb: Sequence[int], mb_per_vcpu: float, token_bytes: float
) -> ModelFit:
    """Costs of the model, for each of `memory_mb`; `token_bytes`: of a token's input and output together."""
    experts = [x for x in rows if x.row.record.role == "expert"]
    exponent, work, error = _compute([x for x in experts if x.communication != "pipelined"], mb_per_vcpu)
    slow = (np.asarray(memory_mb, float) / mb_per_vcpu) ** -exponent
    by_load: dict[int, dict[int, list[float]]] = {}
    non_moe = [x for x in rows if x.row.record.role == "non-moe"]
    for x in non_moe:
        of_layer = by_load.setdefault(x.batch_tokens, {})
        of_layer.setdefault(x.row.record.layer, []).append(x.seconds("compute"))
    runtime, per_token = _memory(experts)
    parameters = max(x.parameter_bytes for x in experts)
    return ModelFit(
        seconds_per_call=tuple((slow * work[0]).tolist()),
        seconds_per_token=tuple((slow * work[1]).tolist()),
        non_moe_s={
            n: tuple(float(np.median(found)) for _, found in sorted(layers.items()))
            for n, layers in by_load.items()
        },
        runtime_bytes=max(0.0, runtime - parameters),
        bytes_per_token=max(0.0, per_token - token_bytes),
        non_moe_bytes=max((x.row.max_memory_mb * MB for x in non_moe), default=0.0),
        share_exponent=exponent,
        contention=_median(
            x.seconds("compute") * (x.row.record.memory_mb / mb_per_vcpu) / x.row.compute_cpu_s
            for x in experts
            if x.row.compute_cpu_s > 0
        ),
        errors={"compute": error},
    )


@dataclass(frozen=True)
class BlockFit:
    """Costs of a whole block in a function of its own, for each memory size, and the residual of the fit."""

    seconds_per_call: tuple[float, ...]
    seconds_per_token: tuple[float, ...]
    error: float


def fit_blocks(
    rows: Sequence[LiveRow], memory_mb: Sequence[int], mb_per_vcpu: float, exponent: float
) -> tuple[BlockFit, ...]:
    """Costs of each layer's block, of rows of stages that have one layer each; for each of `memory_mb`.

    They are fitted to CPU time, which others on the machine change less than the clock's: there are few calls.

    Args:
        exponent: to which power of its vCPUs a function is faster, as experts' are (`ModelFit.share_exponent`):
            few calls tell a call's time from a token's, not that as well.

    Raises InputError where there are no such rows.
    """
    found = []
    for e in sorted({row.record.layer for row in rows if row.record.role == "blocks"}):
        mine = [row for row in rows if row.record.role == "blocks" and row.record.layer == e]
        points = []
        for row in mine:
            more = (row.record.memory_mb / mb_per_vcpu) ** (
                1 - exponent
            )  # the smaller its share, the less a CPU-second does
            points.append(([more, row.record.tokens * more], row.compute_cpu_s))
        (call, token), error = least_squares(points)
        slow = (np.asarray(memory_mb, float) / mb_per_vcpu) ** -exponent
        found.append(BlockFit(tuple((slow * call).tolist()), tuple((slow * token).tolist()), error))
    if not found:
        raise InputError("live calibration: expected batches of stages of one block")
    return tuple(found)


def profile_of(
    base: PlatformProfile, fit: PlatformFit, name: str, mb_per_vcpu: float, loopback: bool
) -> PlatformProfile:
    """The base profile with the platform's measured constants.

    Args:
        loopback: functions run on this machine: only CPU limits what they move, and nothing is late as on AWS.
    """
    day = datetime.now(UTC).date().isoformat()

    def constant(value: float, unit: str) -> Constant:
        return Constant(value=value, unit=unit, source=SOURCE, date=day, confidence="medium")

    def per_mb(work: float) -> Constant:
        return constant(min(UNLIMITED_BYTES_PER_S, 1 / max(work * mb_per_vcpu, 1e-12)), "bytes/s/MB")

    unlimited = constant(UNLIMITED_BYTES_PER_S, "bytes/s")
    found = base.model_copy(update={"name": name, "about": SOURCE})
    limits = {
        ("storage", "connection_bytes_per_s"): unlimited,
        ("network", "burst_bytes_per_s"): unlimited,
        ("network", "sustained_bytes_per_s"): unlimited,
        ("payload", "bytes_per_s"): unlimited,
    }
    constants = {
        ("start", "warm_s"): constant(fit.warm_s, "s"),
        ("compute", "mb_per_vcpu"): constant(mb_per_vcpu, "MB"),
        ("storage", "get_latency_s"): constant(fit.get_s, "s"),
        ("storage", "put_latency_s"): constant(fit.put_s, "s"),
        ("storage", "get_vcpu_s"): constant(fit.get_work, "s"),
        ("storage", "put_vcpu_s"): constant(fit.put_work, "s"),
        ("network", "function_bytes_per_s_per_mb"): per_mb(fit.get_byte_work),
        ("network", "function_upload_bytes_per_s_per_mb"): per_mb(fit.put_byte_work),
        ("payload", "overhead_s"): constant(fit.payload_s, "s"),
        ("payload", "function_bytes_per_s_per_mb"): per_mb(fit.payload_byte_work),
    }
    for path, value in (constants | (limits if loopback else {})).items():
        found = with_constant(found, path, value)
    for path in OF_AWS if loopback else ():
        found = with_constant(found, path, None)
    return found.model_copy(update={"network": found.network.model_copy(update={"moved_by_cpu": loopback})})


def least_squares(points: Sequence[tuple[Sequence[float], float]]) -> tuple[np.ndarray, float]:
    """Non-negative weights of terms that give the seconds of each point; median absolute relative residual.

    Residuals are relative to what is fitted: relative to what was measured, a phase that is short by chance would
    count most, and every constant of noisy phases come out too low. They are weighted down as they grow (Huber):
    calls that the machine held up do not pull.
    """
    from scipy.optimize import nnls

    terms, seconds = np.array([x for x, _ in points], float), np.array([y for _, y in points], float)
    seconds = np.maximum(seconds, 1e-4)
    fitted, weights = seconds, np.ones(len(seconds))
    for _ in range(ROUNDS):
        scale = weights / fitted
        found, _ = nnls(terms * scale[:, None], seconds * scale)
        fitted = np.maximum(terms @ found, 1e-4)
        residual = np.abs(seconds / fitted - 1)
        middle = max(float(np.median(residual)), 1e-3)
        weights = np.sqrt(np.minimum(1.0, 1.5 * middle / np.maximum(residual, 1e-9)))
    return found, float(np.median(np.abs(fitted / seconds - 1)))


def _compute(experts: Sequence[CalibratingRow], mb_per_vcpu: float) -> tuple[float, tuple[float, float], float]:
    """Exponent, vCPU-s of a call and of a token, and the residual: seconds = (a + b tokens) / vCPUs^exponent.

    After each pause of its period a function finds its caches cold: the smaller its share, the less a CPU-second
    does. The law is empirical: it fits better than a fixed part of each period.
    """
    vcpus = np.array([x.row.record.memory_mb / mb_per_vcpu for x in experts])
    seconds = np.array([x.seconds("compute") for x in experts])
    best = math.inf
    for exponent in np.linspace(1.0, LARGEST_EXPONENT, 26):
        terms = np.array([(1, x.row.record.tokens) for x in experts], float) / (vcpus**exponent)[:, None]
        (call, token), error = least_squares(list(zip(terms.tolist(), seconds.tolist(), strict=True)))
        residual = np.abs((call * terms[:, 0] + token * terms[:, 1]) / seconds - 1)
        loss = float(np.where(residual < HUBER, residual**2 / 2, HUBER * (residual - HUBER / 2)).mean())
        if loss < best:
            best, found = loss, (float(exponent), (float(call), float(token)), error)
    return found


def _memory(experts: Sequence[CalibratingRow]) -> tuple[float, float]:
    """Bytes of a function without tokens, and of a token: a line that no call was above."""
    most: dict[tuple[str, str], tuple[float, float, str]] = {}
    for x in experts:  # an instance's peak is that of its largest call
        record = x.row.record
        key = (record.function, record.instance)
        tokens, peak, _ = most.get(key, (0.0, 0.0, ""))
        peak = max(peak, x.row.max_memory_mb * MB)
        most[key] = (max(tokens, record.tokens), peak, x.communication)
    slopes = []
    for method in {how for _, _, how in most.values()}:
        tokens, peaks = np.array([(n, peak) for n, peak, how in most.values() if how == method]).T
        if len(tokens) > 2 and np.ptp(tokens) > 0:
            slopes.append(float(np.polyfit(tokens, peaks, 1)[0]))
    slope = max(0.0, *slopes)
    return max(peak - slope * n for n, peak, _ in most.values()), slope


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))
