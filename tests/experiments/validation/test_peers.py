"""Another simulator on the same calls: if these fail, one of the two counts cold starts wrongly."""

import numpy as np
import pytest

from experiments.validation.peers import KEEP_ALIVE_S, our_run, reuse_model, simfaas_run
from experiments.validation.queueing import cold_by_sliding_window, poisson


@pytest.mark.parametrize("seed", range(3))
def test_each_simulator_agrees_with_its_own_rule_of_reuse(seed: int) -> None:
    pytest.importorskip("simfaas", reason="pip install simfaas")
    calls = poisson(5.0, 0.5, 5_000, seed)
    theirs, ours = simfaas_run(*calls), our_run(*calls)
    started, used = reuse_model(*calls, "started"), reuse_model(*calls, "used")
    assert theirs.cold_share == started.cold_share
    assert theirs.instances == pytest.approx(started.instances, rel=1e-9)
    assert ours.cold_share == used.cold_share
    assert ours.instances == pytest.approx(used.instances, rel=1e-9)
    assert used.cold_share > started.cold_share  # newest first keeps slightly more instances


def test_the_model_of_last_used_first_counts_like_the_sliding_window() -> None:
    arrivals, work = poisson(2.0, 0.8, 2_000, 4)
    cold = reuse_model(arrivals, work, "used").cold_share * len(arrivals)
    assert cold == pytest.approx(cold_by_sliding_window(arrivals, work, KEEP_ALIVE_S))


def test_a_model_whose_calls_never_meet_keeps_one_instance() -> None:
    arrivals = np.arange(1.0, 100.0)
    assert reuse_model(arrivals, np.full(99, 0.1), "started").cold_share == pytest.approx(1 / 99)
