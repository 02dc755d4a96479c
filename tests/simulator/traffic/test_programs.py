"""Applications of functions: if these fail, chains, fan-out and fan-in end or are billed at the wrong time."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe.errors import InputError
from simulator.cloud.invocation import Invoke, Target
from simulator.cloud.phases import FirstCall
from simulator.cloud.platform import Platform
from simulator.draws import Draws, Retries
from simulator.profiles.schema import load_profile
from simulator.records import Record, bill
from simulator.traffic.metrics import Batch
from simulator.traffic.open_loop import Inputs, Replication, Served, replication_rngs
from simulator.traffic.scenario import Scenario, load_scenario
from tests.simulator.traffic.cases import UNUSED, at_once

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "experiments" / "configs" / "traffic"
MEASURED = ROOT.parent / "shared" / "data" / "aws" / "sebs_resnet50_coldpath_by_memory_2020.csv"
PROFILE = load_profile("paper")


def function(*program: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {"memory_mb": 1024, "program": list(program)} | settings


def work(seconds: float) -> dict[str, Any]:
    return {"compute": {"seconds": seconds}}


def call(name: str, **settings: Any) -> dict[str, Any]:
    return {"invoke": {"function": name} | settings}


def scenario(functions: dict[str, Any], entry: Any = None, **changes: Any) -> Scenario:
    """One request, unless said otherwise, of the first function."""
    base = {"name": "test", "arrivals": {"poisson": {"rate_per_s": 0.001}}, "requests": 1, "slo_s": 1}
    base |= {"functions": functions, "entry": next(iter(functions)) if entry is None else entry}
    return Scenario.model_validate(base | changes)


def play(given: Scenario, platform: Platform | None = None) -> tuple[Served, list[Record], list[Batch]]:
    """The first replication of a scenario on the packaged profile, with its rows and batches."""
    rows: list[Record] = []
    batches: list[Batch] = []
    rng = replication_rngs(given)[0]
    served = Replication(Inputs(given, PROFILE), rng, rows.append, batches.append, platform).run()
    return served, rows, batches


# -- time -------------------------------------------------------------------------------------------------


def test_a_chain_takes_the_sum_and_each_waiting_function_is_billed() -> None:
    chain = {
        "a": function(work(1), {"invoke": "b"}, work(0.5)),
        "b": function(work(2), call("c")),
        "c": function(work(3)),
    }
    served, rows, _ = play(scenario(chain), at_once())
    assert served.latency_s == pytest.approx([6.5])
    assert {row.function: row.billed_s for row in rows} == pytest.approx({"a": 6.5, "b": 5.0, "c": 3.0})
    assert {row.function: row.caller for row in rows} == {"a": "", "b": "a", "c": "b"}


def test_a_fan_in_waits_for_the_slowest() -> None:
    several = {"invoke": [{"function": "slow"}, {"function": "fast", "count": 3}]}
    functions = {"a": function(several, work(1)), "slow": function(work(5)), "fast": function(work(2))}
    served, rows, _ = play(scenario(functions), at_once())
    assert served.latency_s == pytest.approx([6.0])
    assert sorted(row.billed_s for row in rows) == pytest.approx([2, 2, 2, 5, 6])


def test_a_payload_takes_its_time_there_and_back() -> None:
    functions = {
        "a": function(call("b", payload_bytes=4e6)),
        "b": function(work(1), {"return": {"bytes": 1e6}}),
    }
    platform = at_once()
    served, rows, _ = play(scenario(functions), platform)
    assert served.latency_s == pytest.approx([1 + 5e6 / platform.payload.bytes_per_s])
    inner, outer = rows
    assert (inner.bytes_in, inner.bytes_out, outer.bytes_in, outer.bytes_out) == (4e6, 1e6, 1e6, 4e6)


def test_what_nobody_waits_for_ends_later_and_is_said_to() -> None:
    functions = {
        "a": function(work(1), call("b", wait=False)),
        "b": function(work(5), call("c")),
        "c": function(work(2)),
    }
    served, rows, _ = play(scenario(functions), at_once())
    assert served.latency_s == pytest.approx([1.0])
    assert served.all_ended_s == pytest.approx([8.0])
    assert sum(row.billed_s for row in rows) == pytest.approx(1 + 7 + 2)


@st.composite
def applications(draw: st.DrawFn) -> dict[str, Any]:
    """Functions f0, f1, ..., each of which invokes later ones only."""
    count = draw(st.integers(1, 4))
    functions = {}
    for k in range(count):
        program = []
        for _ in range(draw(st.integers(0, 3))):
            if k + 1 < count and draw(st.booleans()):
                calls = draw(
                    st.lists(st.tuples(st.integers(k + 1, count - 1), st.integers(1, 2)), min_size=1, max_size=2)
                )
                program.append({"invoke": [{"function": f"f{to}", "count": times} for to, times in calls]})
            else:
                program.append(work(draw(st.integers(1, 50)) / 8))
        functions[f"f{k}"] = function(*program)
    return functions


def by_hand(functions: dict[str, Any], name: str) -> tuple[float, float, int]:
    """Duration of a call, billed seconds of it and all that it causes, and how many calls that are."""
    duration, billed, calls = 0.0, 0.0, 1
    for phase in functions[name]["program"]:
        if "compute" in phase:
            duration += phase["compute"]["seconds"]
            continue
        below = [(each["count"], *by_hand(functions, each["function"])) for each in phase["invoke"]]
        duration += max(seconds for _, seconds, _, _ in below)
        billed += sum(count * inner for count, _, inner, _ in below)
        calls += sum(count * inner for count, _, _, inner in below)
    return duration, billed + duration, calls


@settings(max_examples=50)
@given(applications())
def test_any_application_takes_and_costs_what_a_reckoning_by_hand_says(functions: dict[str, Any]) -> None:
    served, rows, _ = play(scenario(functions), at_once())
    duration, billed, calls = by_hand(functions, "f0")
    assert served.latency_s == pytest.approx([duration])
    assert len(rows) == calls
    assert sum(row.billed_s for row in rows) == pytest.approx(billed)


def test_amounts_may_be_drawn_for_each_call() -> None:
    spread = {"seconds": {"exponential_mean": 2.0}}
    _, rows, _ = play(scenario({"a": function({"compute": spread}, {"sleep": spread})}, requests=4000), at_once())
    computed, slept = (
        np.array([end - start for row in rows for start, end in [row.phases[p]]]) for p in ("compute", "wait")
    )
    assert computed.mean() == pytest.approx(2.0, rel=0.05)
    assert computed.std() == pytest.approx(2.0, rel=0.08)
    assert abs(np.corrcoef(computed, slept)[0, 1]) < 0.05  # a stream for each phase


def test_a_transfer_may_have_parts_of_its_own() -> None:
    phases = {"get": {"bytes": 80e6, "objects": 2, "parts": 4}}, {"put": {"bytes": 80e6, "parts": 2}}
    _, (row,), _ = play(scenario({"a": function(*phases)}), at_once())
    assert (row.gets, row.puts) == (8, 4)  # creating and completing an upload are requests as well
    assert (row.bytes_in, row.bytes_out) == (160e6, 80e6)


# -- first calls ------------------------------------------------------------------------------------------


def test_an_instance_loads_its_model_once() -> None:
    loads = function({"first_call": [work(10)]}, work(1))
    one = scenario({"a": loads}, requests=5)
    assert sorted(play(one, at_once())[0].latency_s) == pytest.approx([1, 1, 1, 1, 11])
    warm = scenario({"a": loads | {"warm_instances": 1}}, requests=5)
    assert sorted(play(warm, at_once())[0].latency_s) == pytest.approx([1, 1, 1, 1, 11])


def test_a_model_that_could_not_be_loaded_is_loaded_by_the_next_call() -> None:
    loads = function({"first_call": [work(10), {"fail": {"probability": 0.5}}]}, work(1))
    _, rows, _ = play(scenario({"a": loads}, requests=30, seed=1), at_once())
    took = [row.ended_s - row.started_s for row in rows]
    ok = [row.status for row in rows].index("ok")
    assert ok > 0
    assert took[: ok + 1] == pytest.approx([10] * ok + [11])
    assert took[ok + 1 :] == pytest.approx([1] * (len(took) - ok - 1))


def test_a_first_call_cannot_wait_for_others() -> None:
    with pytest.raises(InputError, match="depend on nobody"):
        FirstCall((Invoke((Target(Record(0, 0, "function", "b", 128)),), wait=True),), "b")


# -- failures ---------------------------------------------------------------------------------------------


def test_a_queued_entry_that_fails_is_tried_twice_more_and_dropped() -> None:
    given = scenario({"a": function(work(1), {"fail": {}})}, {"function": "a", "wait": False})
    served, rows, (batch,) = play(given, at_once())
    began = [row.requested_s - batch.arrived_s[0] for row in rows]
    assert began == pytest.approx([0, 1 + 60, 1 + 60 + 1 + 120])
    assert [row.status for row in rows] == ["handler-error"] * 3
    assert sum(row.billed_s for row in rows) == pytest.approx(3)
    assert served.metrics.failed_share == 1


def test_a_child_that_fails_fails_the_parent_that_waits_and_no_other() -> None:
    for wait, status, failed in ((True, "upstream-failed", 1), (False, "ok", 0)):
        functions = {"a": function(work(1), call("b", wait=wait), work(4)), "b": function(work(2), {"fail": {}})}
        served, rows, _ = play(scenario(functions), at_once())
        (parent,) = [row for row in rows if row.function == "a"]
        assert parent.status == status
        assert parent.billed_s == pytest.approx(3 if wait else 5)
        assert served.metrics.failed_share == failed


def test_a_caller_tries_a_child_again_and_sends_its_payload_again() -> None:
    retries = Retries(3, 1.0, 20.0, np.random.default_rng(5), ("handler-error",))
    functions = {"a": function(call("b", payload_bytes=1e6)), "b": function({"fail": {"probability": 0.5}})}
    served, rows, _ = play(scenario(functions, requests=200), at_once(retries=retries))
    attempts = [row.attempt for row in rows if row.function == "b"]
    assert max(attempts) == 3
    assert served.metrics.failed_share == pytest.approx(0.5**3, abs=0.07)
    assert sum(row.bytes_out for row in rows if row.function == "a") == 1e6 * len(attempts)


def test_a_program_lists_keys_and_moves_objects_over_a_few_connections() -> None:
    phases = [{"list": {"requests": 2}}, {"get": {"bytes": 1e6, "objects": 5, "at_once": 2}}]
    few = play(scenario({"a": function(*phases, memory_mb=3008)}))[1][0]
    phases[1]["get"] = {"bytes": 1e6, "objects": 5}
    many = play(scenario({"a": function(*phases, memory_mb=3008)}))[1][0]
    assert (few.gets, few.puts, few.bytes_in) == (many.gets, many.puts, many.bytes_in) == (5, 2, 5e6)
    assert few.billed_s > many.billed_s


# -- the bill ---------------------------------------------------------------------------------------------


def test_bytes_that_are_sent_are_received() -> None:
    given = load_scenario(CONFIGS / "workflow.yaml", ("duration_s=60", "warm_up_s=0"))
    served, rows, batches = play(given)
    assert served.metrics.failed_share == 0
    assert any(row.attempt > 1 for row in rows)
    of_s3 = {name: [row for row in rows if row.function == name] for name in ("fraud", "invoice")}
    got, put = 30e6 * len({row.instance for row in of_s3["fraud"]}), 200e3 * len(of_s3["invoice"])
    clients_sent = clients_received = 2e3 * len(batches)
    sent, received = sum(row.bytes_out for row in rows), sum(row.bytes_in for row in rows)
    assert sent + got + clients_sent == pytest.approx(received + put + clients_received)


def test_provisioned_instances_are_never_cold_and_are_charged_by_time() -> None:
    functions = {"a": function(work(1), provisioned_instances=2)}
    given = scenario(functions, requests=20, arrivals={"poisson": {"rate_per_s": 0.01}}, warm_up_s=500)
    served, rows, batches = play(given)
    assert not any(row.cold for row in rows)
    (charge,) = [row for row in rows if row.status == "provisioned"]
    assert charge.ended_s == served.end_s == max(row.ended_s for row in rows)
    counted = [batch.number for batch in batches if batch.arrived_s[0] >= 500]
    calls = bill(row for row in rows if row.batch in counted and row is not charge).total_cost_usd
    share = 1 - 500 / charge.ended_s
    total = served.metrics.total_usd_per_1000_requests * len(counted) / 1000
    assert total == pytest.approx(calls + share * charge.compute_cost_usd)
    assert served.functions["a"].share_of_bill == pytest.approx(1)
    assert served.functions["a"].usd_per_1000_requests == pytest.approx(served.metrics.total_usd_per_1000_requests)


# -- against a measurement --------------------------------------------------------------------------------


def resnet(memory_mb: int, rate_per_s: float) -> dict[bool, float]:
    """Median seconds in the handler of a cold (True) and a warm call."""
    settings = f"functions.classify.memory_mb={memory_mb}", f"arrivals.poisson.rate_per_s={rate_per_s}"
    rows = play(load_scenario(CONFIGS / "resnet-cold.yaml", (*settings, "duration_s=100000")))[1]
    took = {cold: [row.ended_s - row.started_s for row in rows if row.cold == cold] for cold in (True, False)}
    assert min(map(len, took.values())) > 10
    return {cold: float(np.median(seconds)) for cold, seconds in took.items()}


@pytest.mark.parametrize(("memory_mb", "seconds"), [(512, 18.87), (1024, 9.56), (1536, 6.50), (3008, 5.18)])
def test_a_cold_resnet_takes_what_sebs_measured(memory_mb: int, seconds: float) -> None:
    """Medians of cold calls in spcl/serverless-benchmarks-artifact, AWS, 2020; see docs/simulator.md."""
    assert resnet(memory_mb, 0.001)[True] == pytest.approx(seconds, rel=0.07)


@pytest.mark.skipif(not MEASURED.exists(), reason="the measured data is not here")
def test_a_warm_resnet_takes_what_sebs_measured() -> None:
    for row in pd.read_csv(MEASURED).itertuples():
        exponent = (
            (row.memory_mb / 1769) ** 0.09 if row.memory_mb > 1769 else 1.0
        )  # of larger functions; none here
        took_ms = 1e3 * resnet(row.memory_mb, 0.002)[False] / exponent
        assert took_ms == pytest.approx(row.handler_total_ms_p50, rel=0.07)


def test_a_function_without_phases_is_an_empty_handler() -> None:
    served, (row,), _ = play(scenario({"a": {"memory_mb": 128}}), at_once(start={"warm": Draws(0.5, UNUSED)}))
    assert served.latency_s == pytest.approx([0.5])
    assert row.status == "ok"


def test_the_example_of_the_docs_runs_and_says_what_it_says(capsys: Any) -> None:
    text = (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8")
    code, printed = text.split("```python\n")[1].split("```\n\n```\n")
    exec(code, {})
    assert capsys.readouterr().out.split() == printed.split("```")[0].split()
