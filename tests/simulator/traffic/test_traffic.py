"""Open-loop traffic: if these fail, requests are lost, batches break rules, SLOs or bills are miscounted."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import simpy

from moe.errors import InputError
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.platform import Platform
from simulator.profiles.schema import load_profile
from simulator.records import Record, bill, to_pandas
from simulator.serving.replicas import whole_tokens
from simulator.traffic.metrics import Batch, Sample
from simulator.traffic.open_loop import Replication, Served, open_loop, read_inputs, replication_rngs
from simulator.traffic.scenario import Scenario, load_scenario
from tests.simulator.traffic.cases import at_once

CONFIGS = Path(__file__).parents[3] / "experiments" / "configs" / "traffic"


def scenario(**changes: Any) -> Scenario:
    given = {
        "name": "test",
        "arrivals": {"poisson": {"rate_per_s": 20}},
        "requests": 2000,
        "slo_s": 0.3,
        "function": {"memory_mb": 1024, "work": {"exponential_mean_s": 0.1}},
    }
    return Scenario.model_validate(given | changes)


def play(given: Scenario, platform: Platform | None = None) -> tuple[Served, list[Record], list[Batch]]:
    """The first replication of a scenario, with its rows and batches."""
    rows: list[Record] = []
    batches: list[Batch] = []
    rng = replication_rngs(given)[0]
    served = Replication(read_inputs(given), rng, rows.append, batches.append, platform).run()
    return served, rows, batches


@pytest.mark.parametrize(("most", "timeout_s"), [(1, 0.0), (4, 0.15), (64, 0.05), (3, 10.0)])
def test_batches_keep_their_size_and_timeout_and_serve_every_request_once(most: int, timeout_s: float) -> None:
    policy = {"max_requests": most, "timeout_s": timeout_s}
    _, rows, batches = play(scenario(batching=policy, requests=500))
    alone = play(scenario(requests=500))[2]
    arrived = sorted(at for batch in batches for at in batch.arrived_s)
    assert arrived == sorted(at for batch in alone for at in batch.arrived_s)
    assert len(arrived) == 500
    assert (
        sorted(batch.number for batch in batches)
        == sorted({row.batch for row in rows})
        == list(range(len(batches)))
    )
    for batch in batches:
        assert 1 <= len(batch.arrived_s) <= most
        waited = batch.left_s - batch.arrived_s[0]
        assert waited <= timeout_s + 1e-9
        assert len(batch.arrived_s) == most or waited == pytest.approx(timeout_s)


def test_without_a_limit_latency_and_concurrency_are_those_of_m_m_inf() -> None:
    served, _, _ = play(scenario(requests=40_000, warm_up_s=20), at_once())
    found = served.metrics
    assert found.latency_mean_s == pytest.approx(0.1, rel=0.03)
    assert found.latency_p50_s == pytest.approx(0.1 * math.log(2), rel=0.04)
    assert found.latency_p99_s == pytest.approx(0.1 * math.log(100), rel=0.06)
    assert found.concurrency_mean == pytest.approx(2.0, rel=0.03)
    assert found.slo_attainment == pytest.approx(1 - math.exp(-3), rel=0.01)


def test_a_full_function_throttles_as_erlang_b_says() -> None:
    limited = {"memory_mb": 1024, "work": {"exponential_mean_s": 0.1}, "reserved_concurrency": 3}
    found = play(scenario(requests=30_000, function=limited), at_once())[0].metrics
    expected = (2**3 / 6) / sum(2**k / math.factorial(k) for k in range(4))
    assert found.throttled_share == pytest.approx(expected, rel=0.05)
    assert found.failed_share == found.throttled_share  # one attempt each
    assert found.concurrency_peak == 3
    assert found.slo_attainment < 1 - found.failed_share


def test_metrics_are_those_of_the_rows_after_the_warm_up() -> None:
    given = scenario(batching={"max_requests": 3, "timeout_s": 0.1}, warm_up_s=30, slo_s=0.4)
    found, rows, batches = play(given)
    metrics = found.metrics
    counted = [batch for batch in batches if batch.arrived_s[0] >= 30]
    latency_s = np.concatenate([batch.ended_s - np.array(batch.arrived_s) for batch in counted])
    assert metrics.requests == len(latency_s) < 2000
    assert metrics.slo_attainment == np.mean(latency_s <= 0.4)
    assert metrics.latency_p99_s == pytest.approx(np.quantile(latency_s, 0.99))
    kept = to_pandas(row for row in rows if row.batch >= min(batch.number for batch in counted))
    assert metrics.cold_share == kept.cold.mean()
    cost = bill(row for row in rows if row.batch in {batch.number for batch in counted})
    assert metrics.total_usd_per_1000_requests == pytest.approx(1000 * cost.total_cost_usd / len(latency_s))
    busy = sum(max(0.0, min(r.ended_s, batches[-1].left_s) - max(r.requested_s, 30)) for r in rows)
    assert metrics.concurrency_mean == pytest.approx(busy / (counted[-1].arrived_s[-1] - 30), rel=0.02)


def moe_scenario(**changes: Any) -> Scenario:
    return load_scenario(CONFIGS / "moe.yaml").model_copy(update={"duration_s": 12.0, "warm_up_s": 0.0} | changes)


def test_every_token_of_every_batch_of_an_moe_model_is_computed_in_every_layer() -> None:
    served, rows, batches = play(moe_scenario())
    table = to_pandas(rows)
    computed = table[(table.role == "expert") & (table.status == "ok")].groupby(["batch", "layer"]).tokens.sum()
    assert len(batches) > 3
    for batch in batches:
        assert batch.ok
        assert (computed[batch.number] == 128 * len(batch.arrived_s)).all()
        assert len(computed[batch.number]) == 6
    requests = sum(len(batch.arrived_s) for batch in batches)
    cost, metrics = bill(rows), served.metrics
    for name in ("billed", "full", "total"):
        usd = getattr(cost, f"{name}_cost_usd")
        assert getattr(metrics, f"{name}_usd_per_1000_requests") == pytest.approx(1000 * usd / requests)
        assert getattr(metrics, f"{name}_usd_per_1000_tokens") == pytest.approx(1000 * usd / requests / 128)
    starts, ends = (
        table.groupby("batch")[f"{edge}_s"].agg(how) for edge, how in (("requested", "min"), ("ended", "max"))
    )
    assert (starts.iloc[1:].to_numpy() < ends.iloc[:-1].to_numpy()).any()  # batches overlap


@pytest.mark.parametrize("tokens", [[1.5, 1.5, 1.0], [0.2, 0.2, 0.6], [0, 0, 7.0], [10.0, 2.0, 3.0]])
def test_whole_tokens_keep_their_sum_and_are_less_than_one_off(tokens: list[float]) -> None:
    whole = whole_tokens(np.array(tokens))
    assert whole.sum() == round(sum(tokens))
    assert (abs(whole - np.array(tokens)) < 1).all()


def test_the_same_seed_gives_the_same_rows_and_replications_differ() -> None:
    for given in (scenario(), moe_scenario()):
        first, again = (to_pandas(play(given)[1]) for _ in range(2))
        pd.testing.assert_frame_equal(first, again, check_exact=True)
    one, two = replication_rngs(scenario(replications=2))
    served = [Replication(read_inputs(scenario()), rng).run().latency_s for rng in (one, two)]
    assert not np.array_equal(*served)


def test_a_backlog_without_bound_stops_with_what_was_found() -> None:
    slow = {"memory_mb": 1024, "work": {"constant_s": 800}}
    given = scenario(function=slow, requests=100_000, stop_when={"backlog_requests": 50})
    served, _, _ = play(given)
    assert "more than 50 requests waited" in (served.stopped or "")
    assert served.arrived == 51
    assert served.metrics.unfinished_share == 1
    assert served.metrics.slo_attainment == 0


def test_timeouts_for_ever_stop_with_what_was_found() -> None:
    never = {"memory_mb": 1024, "work": {"constant_s": 10}, "timeout_s": 1}
    served, rows, _ = play(scenario(function=never, requests=100_000, stop_when={"no_success_s": 60}))
    assert served.stopped is not None
    assert "no request succeeded for 60 s" in served.stopped
    assert "timeout" in served.stopped
    assert {row.status for row in rows} == {"timeout"}
    assert math.isnan(served.metrics.latency_p99_s)
    assert served.metrics.failed_share > 0.5


def test_the_plain_open_loop_plays_every_gap() -> None:
    rng, rows = np.random.default_rng(8), []
    service = LambdaService(simpy.Environment(), at_once(), keep=rows.append)
    gaps, works = rng.exponential(0.01, 1000).tolist(), rng.exponential(0.2, 1000).tolist()
    open_loop(service, gaps, works, lambda k: Record(k, 0, "function", "f", 1024))
    service.env.run()
    rows.sort(key=lambda row: row.batch)
    assert [row.requested_s for row in rows] == pytest.approx(np.cumsum(gaps))
    assert [row.ended_s - row.started_s for row in rows] == pytest.approx(works)
    assert service.records == []


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("arrivals.poison.rate_per_s=3", "arrivals.poison: unknown key; did you mean 'poisson'?"),
        ("arrivals.poisson.rate=3", "arrivals.poisson.rate: unknown key; expected one of: rate_per_s"),
        ("arrivals.poisson.rate_per_s=0", "arrivals.poisson.rate_per_s: input should be greater than 0, got 0"),
        ("arrivals.diurnal.mean_rate_per_s=3", "arrivals.diurnal.peak_to_mean: required"),
        ("arrivals.mmpp={rates_per_s: [0, 0], mean_sojourns_s: [1, 1]}", "rates_per_s: expected two rates >= 0"),
        ("requests=5", "expected one of duration_s and requests, got both"),
        ("warm_up_s=1000", "warm_up_s: expected less than duration_s = 600, got 1000"),
        ("function.work.constant_s=1", "expected one of constant_s, exponential_mean_s, quantiles_s"),
        ("function.work={quantiles_s: {0.5: 2, 0.9: 1}}", "increasing values"),
        ("function.memory_mb=64", "function.memory_mb: input should be greater than or equal to 128, got 64"),
        ("function.timeout_s=901", "function.timeout_s: input should be less than or equal to 900, got 901"),
        ("function.reserved_concurrency=5000", "expected at most the account's 1000, got 5000"),
        ("batching.max_requests=1", "a batch of 1 request does not wait"),
        ("slo_s=.inf", "slo_s"),
        ("function=null", "expected one of function, functions and moe"),
        ("profile=aws-us-east-1", "did you mean 'aws-us-east-1-2026'?"),
        ("seed", "expected key.key=value"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(setting: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        read_inputs(load_scenario(CONFIGS / "function.yaml", (setting,)))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_beside_the_scenario_is_found_and_a_missing_one_named(tmp_path: Path) -> None:
    (tmp_path / "times.txt").write_text("0\n1\n2\n")
    data = scenario().model_dump(mode="json", by_alias=True) | {"arrivals": {"trace": {"file": "times.txt"}}}
    path = tmp_path / "scenario.yaml"
    path.write_text(json.dumps(data))
    assert play(load_scenario(path))[0].arrived == 3
    with pytest.raises(InputError, match="no such file"):
        read_inputs(load_scenario(path, ("arrivals.trace.file=elsewhere.txt",)))


def test_the_profile_of_a_scenario_is_that_of_its_calls() -> None:
    served, _, _ = play(scenario(function={"memory_mb": 1769, "work": {"constant_s": 0.1}}))
    warm_s = load_profile().start.warm_s.median
    assert served.metrics.latency_p50_s == pytest.approx(0.1 + warm_s, rel=0.1)


def test_beyond_its_size_a_sample_keeps_every_number_with_the_same_chance() -> None:
    kept = np.zeros(400)
    for seed in range(300):
        sample = Sample(np.random.default_rng(seed), most=40)
        for value in range(400):
            sample.add(float(value))
        assert len(sample.kept()) == 40
        assert (sample.count, sample.total) == (400, 400 * 399 / 2)
        kept[sample.kept().astype(int)] += 1
    early, late = kept[:200].mean(), kept[200:].mean()  # each expected 30, standard error 0.37
    assert early == pytest.approx(30, abs=1.5)
    assert late == pytest.approx(30, abs=1.5)


def sparse(**more: object) -> Served:
    """One call in half an hour, on average: every one is cold unless somebody sees to it."""
    data = {
        "schema": "traffic-scenario/1",
        "name": "sparse",
        "arrivals": {"poisson": {"rate_per_s": 1 / 1800}},
        "requests": 60,
        "slo_s": 0.2,
    }
    made = Scenario.model_validate(data | {"function": {"memory_mb": 1024, "work": {"constant_s": 0.1}}} | more)
    return Replication(read_inputs(made), np.random.default_rng(1)).run()


def test_what_keeps_instances_saves_cold_starts_and_costs() -> None:
    alone = sparse().metrics
    pinged = sparse(prewarming={"options": {"every_s": 300, "for_s": 14400}}).metrics
    function = {"memory_mb": 1024, "work": {"constant_s": 0.1}, "provisioned_instances": 1}
    provisioned = sparse(function=function).metrics
    assert alone.cold_share > 0.5 > pinged.cold_share
    assert provisioned.cold_share == 0
    costs = [each.total_usd_per_1000_requests for each in (alone, pinged, provisioned)]
    assert costs == sorted(costs)
    assert alone.requests == pinged.requests == provisioned.requests


def test_an_unknown_package_or_policy_of_a_scenario_is_named() -> None:
    for setting, said in (
        (
            "function.package=python3.12-x86_64-zop",
            "function.package: no package 'python3.12-x86_64-zop'; did you",
        ),
        ("prewarming.policy=keep-wram", "prewarming: no policy 'keep-wram'; did you mean 'keep-warm'?"),
        ("prewarming.options.often=1", "prewarming: keep-warm: "),
    ):
        with pytest.raises(InputError, match=r".") as refused:
            read_inputs(load_scenario(CONFIGS / "function.yaml", (setting,)))
        assert said in str(refused.value)
