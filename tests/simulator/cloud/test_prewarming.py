"""Prewarming: if these fail, pings keep nothing warm, never end, or are not billed."""

import numpy as np
import pytest
import simpy

from moe.errors import InputError
from simulator.cloud.lambda_service import LambdaService, Prewarming
from simulator.cloud.phases import Sleep
from simulator.cloud.platform import platform_of_profile
from simulator.cloud.prewarming import KeepWarm, prewarming_policy
from simulator.profiles.schema import load_profile
from simulator.records import Record


def served(prewarming: Prewarming | None, calls_s: list[tuple[float, int]]) -> list[Record]:
    """So many calls at once at each time; the rows of them and of the pings."""
    platform = platform_of_profile(load_profile(), None, np.random.default_rng(0))
    service = LambdaService(simpy.Environment(), platform, prewarming=prewarming)
    service.deploy("f", 1024)

    def request() -> None:
        service.invoke(Record(0, 0, "function", "f", 1024), (Sleep(0.1),))

    for at, count in calls_s:
        for _ in range(count):
            service.after(at, request)
    service.env.run()
    return service.records


def cold(rows: list[Record]) -> int:
    return sum(row.cold for row in rows if row.role == "function")


def test_an_instance_is_kept_beyond_its_keep_alive_and_no_longer_than_asked() -> None:
    assert cold(served(None, [(0.0, 1), (2000.0, 1)])) == 2
    assert cold(served(KeepWarm(every_s=500), [(0.0, 1), (2000.0, 1)])) == 1
    assert cold(served(KeepWarm(every_s=500, for_s=900), [(0.0, 1), (2000.0, 1)])) == 2


def test_so_many_instances_are_kept_as_are_asked_for() -> None:
    assert cold(served(KeepWarm(every_s=500, instances=3), [(0.0, 1), (2000.0, 4)])) == 2


def test_pings_end_and_are_billed_apart() -> None:
    rows = served(KeepWarm(every_s=100, for_s=450), [(0.0, 1)])
    pings = [row for row in rows if row.role == "ping"]
    assert len(pings) == 4
    assert all(row.billed_s > 0 or row.request_cost_usd > 0 for row in pings)


def test_an_unknown_policy_or_option_is_refused() -> None:
    assert isinstance(prewarming_policy("keep-warm", {"every_s": 60}), KeepWarm)
    with pytest.raises(InputError, match="no policy 'keep-wram'; did you mean 'keep-warm'"):
        prewarming_policy("keep-wram", {})
    with pytest.raises(InputError, match="unexpected keyword argument 'every'"):
        prewarming_policy("keep-warm", {"every": 60})
    with pytest.raises(InputError, match="expected every_s > 0"):
        prewarming_policy("keep-warm", {"every_s": -1})
    with pytest.raises(InputError, match="all finite, got every_s = inf"):
        prewarming_policy("keep-warm", {"every_s": float("inf")})
    with pytest.raises(
        InputError, match="prewarming: 'no_such_module:Policy': no module no_such_module of your own in"
    ):
        prewarming_policy("no_such_module:Policy", {})


@pytest.mark.parametrize("policy", ["subprocess:Popen", "os:system", "simulator.cloud.prewarming:KeepWarm"])
def test_a_scenario_runs_no_command(policy: str) -> None:
    """A scenario that somebody sent could do anything on the reader's machine."""
    with pytest.raises(InputError, match=f"prewarming: '{policy}': no module .* of your own"):
        prewarming_policy(policy, {"args": "touch ran", "shell": True})
