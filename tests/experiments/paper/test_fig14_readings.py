"""Both readings of the paper's saving. If this breaks, its main verdict rests on another platform."""

import numpy as np
import pytest

from experiments.paper.figures.fig14.readings import AS_PRINTED, THROUGHPUTS, TODAY, read_problem, reading_rows
from moe.spec import load_spec
from optimizer.solvers import solve
from simulator.plan import MB, needed_memory_bytes
from simulator.profiles.schema import PAPER_PROFILE, load_profile

SPEC = load_spec("bert-moe", experts=4)
TOKENS = np.array([[4300.0, 3000.0, 1800.0, 1140.0]] * SPEC.moe_layers)
PROFILE = load_profile(PAPER_PROFILE)


def test_as_printed_lambdamls_bill_is_what_equation_8_says_by_hand() -> None:
    problem = read_problem(SPEC, TOKENS, PROFILE, AS_PRINTED)
    rule = solve(problem, "lambdaml")
    assert {layer.communication for layer in rule.layers} == {"storage"}
    p, layer = problem.platform, problem.layers[0]
    seconds_per_token = layer.seconds_per_token[p.memory_mb.index(3008)]
    seconds_per_call = (layer.seconds_per_call or ())[p.memory_mb.index(3008)]
    bandwidth, gb_s = 93e6, 0.0
    assert bandwidth == p.storage_bandwidth_bytes_per_s
    for tokens in TOKENS[0]:
        head = p.warm_start_s + p.storage_delay_s + SPEC.expert_parameter_bytes / bandwidth
        moved = 2 * p.storage_delay_s + 2 * tokens * SPEC.token_bytes / bandwidth
        gb_s += (head + moved + seconds_per_call + tokens * seconds_per_token) * 3008 / 1024
    assert rule.billed_gb_s == pytest.approx(SPEC.moe_layers * gb_s, rel=1e-9)


def test_functions_that_run_pytorch_need_its_memory() -> None:
    today, printed = (read_problem(SPEC, TOKENS, PROFILE, reading) for reading in (TODAY, AS_PRINTED))
    more = needed_memory_bytes(printed.layers[0], TOKENS[0]) - needed_memory_bytes(today.layers[0], TOKENS[0])
    assert more == pytest.approx(250 * MB - PROFILE.compute.runtime_bytes.median)
    assert 128 in today.platform.memory_mb
    assert 128 not in printed.platform.memory_mb


def test_each_reading_has_its_saving_inside_its_interval_and_more_where_the_plan_may_be_slower() -> None:
    rows = reading_rows(SPEC, TOKENS, PROFILE, draws=8, seed=0)
    assert [(x["name"], x["throughput_of_lambdaml"]) for x in rows] == [
        (reading, share) for reading in (TODAY, AS_PRINTED) for share in THROUGHPUTS
    ]
    for row in rows:
        assert row["saved_share_low"] < row["saved_share"] < row["saved_share_high"] < 1
    for same, slower in (rows[:2], rows[2:]):
        assert 0 <= same["saved_share"] <= slower["saved_share"]
