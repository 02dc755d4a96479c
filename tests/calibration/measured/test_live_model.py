"""Constants that rows were made with come back from them."""

import numpy as np
import pytest

from calibration.measured.live_model import (
    CalibratingRow,
    fit_blocks,
    fit_model,
    fit_platform,
    least_squares,
    profile_of,
)
from lambda_probe.live.rows import LiveRow
from moe.errors import InputError
from simulator.plan import MB
from simulator.profiles.schema import load_profile
from simulator.records import Record

MB_PER_VCPU, ENCODING = 4096.0, 4 / 3
CALL, TOKEN, EXPONENT = 0.002, 30e-6, 1.2  # vCPU-s, vCPU-s
GET_S, PUT_S, GET_WORK, PUT_WORK = 0.004, 0.012, 0.9e-9, 1.9e-9  # s, s, vCPU-s a byte
ASK, SEND = 0.001, 0.004  # vCPU-s a request
PAYLOAD_S, PAYLOAD_WORK, WARM_S, PARAMETERS = 0.003, 3e-9, 0.003, 4_000_000
IN, OUT = 1544.0, 1536.0


def expert(method: str, memory_mb: int, tokens: int, noise: float = 1.0) -> CalibratingRow:
    slow, row = MB_PER_VCPU / memory_mb, Record(0, 0, "expert", f"f{memory_mb}-{tokens}", memory_mb, tokens=tokens)
    compute = (CALL + TOKEN * tokens) / (memory_mb / MB_PER_VCPU) ** EXPONENT * noise
    row.add_phase("queue", 0.0, WARM_S)
    row.add_phase("parameter_download", 0.0, GET_S + (ASK + PARAMETERS * GET_WORK) * slow)
    row.add_phase("compute", 0.0, compute)
    rest = PAYLOAD_S + tokens * OUT * ENCODING * PAYLOAD_WORK * slow
    if method == "storage":
        row.add_phase("input_download", 0.0, GET_S + (ASK + tokens * IN * GET_WORK) * slow)
        row.add_phase("upload", 0.0, PUT_S + (SEND + tokens * OUT * PUT_WORK) * slow)
    row.bytes_in, row.bytes_out = PARAMETERS * (method == "storage") + tokens * IN, tokens * OUT
    duration = rest + compute + GET_S + (ASK + PARAMETERS * GET_WORK) * slow
    row.exchange_gets = row.exchange_puts = 1
    peak = 80 + round(tokens * 9000 / MB)
    return CalibratingRow(
        method, 8192, PARAMETERS, LiveRow(row, 0, compute * memory_mb / MB_PER_VCPU, duration, peak, "")
    )


def rows(noise: np.random.Generator | None = None) -> list[CalibratingRow]:
    found = [
        expert(method, memory_mb, tokens, 1.0 if noise is None else float(noise.lognormal(0, 0.05)))
        for method in ("storage", "direct")
        for memory_mb in (192, 256, 384, 512, 768, 1024)
        for tokens in (350, 900, 2300, 4600)
    ]
    head = Record(0, 0, "non-moe", "non-moe-0", 2048, tokens=8192)
    head.add_phase("compute", 0.0, 0.4)
    head.add_phase("parameter_download", 0.0, GET_S + (ASK + 5e7 * GET_WORK) * 2)
    return [*found, CalibratingRow("direct", 8192, 50_000_000, LiveRow(head, 0, 0.2, 1.0, 150, ""))]


def test_constants_come_back() -> None:
    """If they did not, errors of live validation would be the fit's and not the simulator's."""
    platform = fit_platform(rows(), MB_PER_VCPU, ENCODING)
    assert platform.warm_s == pytest.approx(WARM_S)
    assert (platform.get_s, platform.put_s) == pytest.approx((GET_S, PUT_S), rel=0.02)
    assert (platform.get_byte_work, platform.put_byte_work) == pytest.approx((GET_WORK, PUT_WORK), rel=0.02)
    assert (platform.get_work, platform.put_work) == pytest.approx((ASK, SEND), rel=0.05)
    assert platform.payload_s == pytest.approx(PAYLOAD_S, rel=0.02)
    assert platform.payload_byte_work == pytest.approx(PAYLOAD_WORK, rel=0.02)


def test_compute_of_each_size_comes_back_through_noise() -> None:
    """Sizes that were not measured, too: plans use them."""
    sizes = (128, 192, 320, 1024)
    model = fit_model(rows(np.random.default_rng(0)), sizes, MB_PER_VCPU, IN + OUT)
    for size, call, token in zip(sizes, model.seconds_per_call, model.seconds_per_token, strict=True):
        exact = (CALL + TOKEN * 3000) / (size / MB_PER_VCPU) ** EXPONENT
        assert call + 3000 * token == pytest.approx(exact, rel=0.06)
    assert model.non_moe_s == {8192: (0.4,)}
    assert model.contention == pytest.approx(1.0)


def test_memory_is_never_more_than_the_fit_says() -> None:
    """A plan that the fit calls feasible must not be killed."""
    model = fit_model(rows(), (256,), MB_PER_VCPU, IN + OUT)
    for tokens in (350, 900, 2300, 4600):
        needed = PARAMETERS + model.runtime_bytes + tokens * (model.bytes_per_token + IN + OUT)
        assert needed >= (80 + round(tokens * 9000 / MB)) * MB - 1e-3 * MB


def test_profile_has_the_constants_and_keeps_the_rest() -> None:
    base = load_profile()
    found = profile_of(base, fit_platform(rows(), MB_PER_VCPU, ENCODING), "live", MB_PER_VCPU, loopback=True)
    assert found.storage.get_latency_s.median == pytest.approx(GET_S, rel=0.02)
    per_mb = found.network.function_bytes_per_s_per_mb.median
    assert per_mb * 512 == pytest.approx(512 / MB_PER_VCPU / GET_WORK, rel=0.02)
    assert found.prices == base.prices
    assert found.payload.limit_bytes == base.payload.limit_bytes


def test_no_tail_of_s3_is_left_where_functions_run_on_this_machine() -> None:
    """Else a quiet machine's uploads are simulated at AWS's rate, and one in fifty as a second late."""
    fit = fit_platform(rows(), MB_PER_VCPU, ENCODING)
    here, there = (profile_of(load_profile(), fit, "live", MB_PER_VCPU, loopback=x) for x in (True, False))
    for name in ("slow_gets", "slow_puts", "get_drift", "put_drift", "put_connection_bytes_per_s"):
        assert getattr(here.storage, name) is None
        assert getattr(there.storage, name) is not None
    assert here.compute.instance_factor is None


def test_noisy_phases_are_fitted_to_their_mean_not_below() -> None:
    """What is billed is a sum: constants that are too low by half of the noise make every plan too cheap."""
    noise = np.random.default_rng(0).gamma(6, 1 / 6, 4000)  # mean 1, standard deviation 0.41
    size = np.random.default_rng(1).uniform(1, 5, 4000)
    points = [((1.0, float(x)), float((0.1 + 0.2 * x) * y)) for x, y in zip(size, noise, strict=True)]
    (fixed, slope), _ = least_squares(points)
    assert fixed + 3 * slope == pytest.approx(0.7, rel=0.1)


def test_blocks_come_back_from_two_lanes_and_one() -> None:
    """Each layer's block was served at one size on two lanes and at another on one: both constants come back."""
    found = []
    for layer, call in ((0, 0.2), (1, 0.05)):
        for memory_mb, tokens in ((1024, 4096), (1024, 4096), (2048, 8192)):
            row = Record(0, layer, "blocks", "f", memory_mb, tokens=tokens)
            seconds = (call + TOKEN * tokens) / (memory_mb / MB_PER_VCPU) ** EXPONENT
            found.append(LiveRow(row, 0, seconds * memory_mb / MB_PER_VCPU, seconds, 100, ""))
    fits = fit_blocks(found, (512, 2048), MB_PER_VCPU, EXPONENT)
    slow = (np.array([512, 2048]) / MB_PER_VCPU) ** -EXPONENT
    for fit, call in zip(fits, (0.2, 0.05), strict=True):
        assert fit.seconds_per_call == pytest.approx(slow * call, rel=1e-6)
        assert fit.seconds_per_token == pytest.approx(slow * TOKEN, rel=1e-6)
    with pytest.raises(InputError, match="stages of one block"):
        fit_blocks([], (512,), MB_PER_VCPU, EXPONENT)
