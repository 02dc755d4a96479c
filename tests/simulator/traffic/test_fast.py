"""The fast way to play traffic: if these fail, what a month costs depends on which of two ways played it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from moe.errors import InputError
from simulator.cloud.platform import Platform, platform_of_profile
from simulator.draws import Ahead, Chances, Draws, Exponentials, Halvings, Lifetimes, Retries, Stream
from simulator.profiles.schema import load_profile
from simulator.records import Record, to_pandas
from simulator.traffic import fast, leaving
from simulator.traffic.metrics import Batch, Sample
from simulator.traffic.open_loop import Inputs, Replication, Served, read_inputs, replication_rngs
from simulator.traffic.scenario import Scenario
from tests.simulator.traffic.cases import at_once

WORKS: list[dict[str, Any]] = [
    {"exponential_mean_s": 0.3},
    {"constant_s": 0.5},
    {"constant_s": 0.0},
    {"quantiles_s": {0.5: 0.1, 0.9: 0.5, 0.99: 3.0}},
]
PROFILE = load_profile()
AGAIN = ("throttled", "timeout", "handler-error", "instance-lost")


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def aws() -> Platform | None:
    return None


def ideal() -> Platform:
    return at_once()


def failing() -> Platform:
    """Where everything goes wrong, and at round times."""
    failures = {"handler_error": Chances(0.2, rng(1)), "instance_life": Lifetimes(1.0, rng(2))}
    return at_once(failures=failures, retries=Retries(3, 0.1, 1.0, rng(3), AGAIN))


def narrow() -> Platform:
    """AWS with little concurrency, instances that go early, and some that fail."""
    return platform_of_profile(PROFILE, None, rng(4)).changed(
        start={"keep_alive": Draws({0.1: 1.0, 0.9: 20.0}, rng(5)), "instance_age_s": 20.0},
        failures={"handler_error": Chances(0.1, rng(6)), "instance_life": Lifetimes(5.0, rng(7))},
        concurrency={"account": 6.0, "scaling_burst": 3.0, "scaling_per_s": 0.5},
    )


@st.composite
def scenarios(draw: st.DrawFn, folder: Path) -> Scenario:
    rate, requests = draw(st.sampled_from([0.05, 2.0, 30.0])), draw(st.sampled_from([1, 20, 300]))
    arrivals: dict[str, Any] = draw(
        st.sampled_from(
            [
                {"poisson": {"rate_per_s": rate}},
                {"mmpp": {"rates_per_s": (rate, 10 * rate), "mean_sojourns_s": (30 / rate, 5 / rate)}},
                {"diurnal": {"mean_rate_per_s": rate, "peak_to_mean": 1.7, "period_s": 100 / rate}},
                {"trace": {"file": str(folder / "round.txt")}},
            ]
        )
    )
    function: dict[str, Any] = {"memory_mb": 1769, "work": draw(st.sampled_from(WORKS))}
    reserved = draw(st.sampled_from([None, 1, 4]))
    function |= {
        "call_s": draw(st.sampled_from([0.0, 0.5])),
        "reserved_concurrency": reserved,
        "provisioned_instances": draw(st.integers(0, reserved or 3)),
        "warm_instances": draw(st.sampled_from([0, 3])),
        "timeout_s": draw(st.sampled_from([None, 0.05, 1.0])),
        "tmp_mb": draw(st.sampled_from([512, 2000])),
    }
    batching = draw(st.sampled_from([(1, 0.0), (3, 0.0), (4, 0.5), (2, 1.0)]))
    return Scenario.model_validate(
        {
            "name": "random",
            "seed": draw(st.integers(0, 1000)),
            "arrivals": arrivals,
            "requests": requests,
            "warm_up_s": draw(st.sampled_from([0.0, 0.4 * requests / rate])),
            "slo_s": 0.6,
            "batching": {"max_requests": batching[0], "timeout_s": batching[1]},
            "function": function,
            "stop_when": draw(
                st.sampled_from([{}, {"backlog_requests": 12}, {"no_success_s": 2.0}, {"backlog_requests": 3}])
            ),
        }
    )


def played(
    kind: type[Replication], made: Scenario, platform: Platform | None
) -> tuple[Served, list[Record], list[Batch]]:
    rows: list[Record] = []
    batches: list[Batch] = []
    one = kind(Inputs(made, PROFILE), replication_rngs(made)[0], rows.append, batches.append, platform)
    return one.run(), rows, batches


@settings(
    max_examples=40,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_both_ways_come_to_the_same_rows_and_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    """Every time, instance and bill, the stops, and all sums to the last bit; arrivals at round times included."""
    (tmp_path / "round.txt").write_text("\n".join(str(k // 3 / 2) for k in range(300)))
    monkeypatch.setattr(leaving, "CHUNK", data.draw(st.sampled_from([7, 50, 32_768]), "chunk"))
    made = data.draw(scenarios(tmp_path), "scenario")
    platform = data.draw(st.sampled_from([aws, ideal, failing, narrow]), "platform")
    slow, fast_ = (played(kind, made, platform()) for kind in (Replication, fast.FastReplication))
    pd.testing.assert_frame_equal(to_pandas(slow[1]), to_pandas(fast_[1]), check_exact=True)
    assert slow[2] == fast_[2]
    first, second = asdict(slow[0]), asdict(fast_[0])
    assert (first.pop("engine"), second.pop("engine")) == ("simpy", "fast")
    np.testing.assert_equal(first, second)


STREAMS = [
    lambda: Draws({0.1: 1.0, 0.5: 2.0, 0.9: 3.0}, rng(1)),
    lambda: Draws(np.arange(9.0), rng(1)),
    lambda: Draws(3.0, rng(1)),
    lambda: Exponentials(2.0, rng(1)),
    lambda: Lifetimes(3.0, rng(1)),
    lambda: Halvings(380.0, rng(1)),
    lambda: Chances(0.3, rng(1)),
]


@pytest.mark.parametrize("make", STREAMS)
def test_a_stream_gives_the_same_numbers_one_by_one_and_many_at_once(make: Any) -> None:
    one, many = make(), make()
    expected = [one.next() for _ in range(9000)]
    found = [*many.many(3), *many.many(1024), *many.many(0), *(many.next() for _ in range(500)), *many.many(7473)]
    assert found == expected
    stream: Stream = make()
    ahead, seen = Ahead(stream), list[float]()
    for count in (0, 5, 3000, 1, 40_000):
        seen += ahead.peek(count)[: count // 8].tolist()
        ahead.skip(count // 8)
        seen.append(ahead.next())
    assert seen == expected[: len(seen)]


def test_a_sample_of_many_is_that_of_each() -> None:
    values = rng(2).random(1000)
    one, many = Sample(rng(3), 100), Sample(rng(3), 100)
    for value in values.tolist():
        one.add(value)
    for part in np.split(values, [60, 61, 150, 700]):
        many.add_many(part)
    assert (one.kept() == many.kept()).all()
    assert (one.count, one.total) == (many.count, many.total)


def test_the_engine_is_chosen_by_what_it_can_and_a_wrong_one_is_named() -> None:
    data = {"name": "x", "arrivals": {"poisson": {"rate_per_s": 9.0}}, "requests": 100, "slo_s": 1.0}
    function = {"function": {"memory_mb": 1024, "work": {"constant_s": 0.1}}}
    served = {}
    for engine in ("auto", "fast", "simpy"):
        inputs = read_inputs(Scenario.model_validate(data | function | {"engine": engine}))
        served[engine] = fast.replication(inputs, rng(1)).run().engine
    assert served == {"auto": "simpy", "fast": "fast", "simpy": "simpy"}  # so few do not pay
    application = {"functions": {"f": {"memory_mb": 1024}}, "entry": "f", "engine": "fast"}
    with pytest.raises(InputError, match="engine: expected simpy or auto, got fast: it plays one `function`"):
        fast.replication(read_inputs(Scenario.model_validate(data | application)), rng(1))
