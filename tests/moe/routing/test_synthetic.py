"""Popularity by a law: the knob must set the skew that it names, or a curve over skew is over something else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe.errors import InputError
from moe.files import validated
from moe.routing.synthetic import SyntheticPopularity, synthetic_routing, zipf, zipf_shares
from moe.trace import RoutingTrace


def routing(popularity: SyntheticPopularity, seed: int = 0, **changes: int) -> RoutingTrace:
    sizes = {"layers": 3, "experts": 8, "top_k": 1, "profiled_tokens": 4000, "batch_tokens": 2000, "batches": 2}
    return synthetic_routing(popularity, sequence_tokens=100, seed=seed, **(sizes | changes))


def shares(trace: RoutingTrace) -> np.ndarray:
    return trace.popularity() / trace.tokens


def test_zipf_deals_the_same_shares_anew_in_every_layer() -> None:
    """Else every layer has its popular expert at the same place, and layers are no longer independent."""
    dealt = zipf(6, 8, 1.2, np.random.default_rng(0))
    assert dealt.sum(axis=1) == pytest.approx(1)
    assert (-np.sort(-dealt, axis=1) == zipf_shares(8, 1.2)).all()
    assert len(set(dealt.argmax(axis=1))) > 1
    assert zipf_shares(4, 1.0) == pytest.approx(np.array([12, 6, 4, 3]) / 25)
    assert np.ptp(zipf_shares(8, 0.0)) == 0


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_zipf_s_shares_are_rank_to_the_minus_exponent(exponent: float) -> None:
    trace = routing(SyntheticPopularity(exponent=exponent), profiled_tokens=100_000)
    law = np.arange(1, 9) ** -exponent
    found = np.sort(shares(trace), axis=1)[:, ::-1]
    assert found == pytest.approx(np.tile(law / law.sum(), (3, 1)), abs=0.008)
    hottest = trace.popularity().argmax(axis=1)
    assert exponent == 0 or len(set(hottest.tolist())) > 1, "layers have an order of their own"


def test_a_small_concentration_is_a_large_skew() -> None:
    def hottest(concentration: float) -> float:
        drawn = SyntheticPopularity(law="dirichlet", concentration=concentration)
        return float(shares(routing(drawn, layers=40)).max(axis=1).mean())

    assert hottest(0.1) > 0.6 > 0.4 > hottest(1.0) > hottest(100.0) > 1 / 8


def test_dirichlet_s_shares_have_its_variance() -> None:
    """Variance of a share of a symmetric Dirichlet of n: (n - 1) / (n^2 (n a + 1))."""
    drawn = SyntheticPopularity(law="dirichlet", concentration=2.0)
    found = shares(routing(drawn, layers=400, profiled_tokens=20_000, batch_tokens=1, batches=1))
    assert found.var() == pytest.approx(7 / (64 * 17), rel=0.1)


@given(
    st.sampled_from(["zipf", "dirichlet"]),
    st.floats(0, 4),
    st.floats(0.05, 20),
    st.integers(2, 70),
    st.integers(1, 8),
    st.integers(0, 5),
)
def test_each_token_has_k_different_experts(
    law: str, exponent: float, concentration: float, experts: int, top_k: int, seed: int
) -> None:
    top_k = min(top_k, experts)
    knob = {"exponent": exponent} if law == "zipf" else {"concentration": concentration}
    drawn = SyntheticPopularity(law=law, **knob)
    trace = routing(drawn, seed, layers=2, experts=experts, top_k=top_k, profiled_tokens=60, batch_tokens=30)
    assert trace.experts.shape == (120, 2, top_k)
    assert trace.experts.min() >= 0
    assert trace.experts.max() < experts
    assert (np.diff(np.sort(trace.experts, axis=2), axis=2) > 0).all()


def test_top_k_keeps_the_shares_where_no_expert_is_chosen_by_all() -> None:
    law = np.arange(1, 65) ** -0.5
    trace = routing(SyntheticPopularity(exponent=0.5), experts=64, top_k=4, profiled_tokens=60_000)
    found = np.sort(shares(trace), axis=1)[:, ::-1]
    assert found == pytest.approx(np.tile(4 * law / law.sum(), (3, 1)), abs=0.012)


def test_an_expert_that_is_too_popular_is_chosen_by_all_and_the_others_share_the_rest() -> None:
    trace = routing(SyntheticPopularity(exponent=2.0), experts=4, top_k=2, profiled_tokens=60_000)
    rest = np.array([1 / 4, 1 / 9, 1 / 16])
    found = np.sort(shares(trace), axis=1)[:, ::-1]
    assert found == pytest.approx(np.tile([1.0, *(rest / rest.sum())], (3, 1)), abs=0.01)


def test_drift_moves_what_is_served_away_from_what_was_profiled_step_by_step() -> None:
    def distances(drift: float) -> list[float]:
        trace = routing(SyntheticPopularity(drift=drift), profiled_tokens=50_000, batch_tokens=50_000, batches=3)
        before = shares(trace.slice(0, 50_000))
        parts = [trace.slice(start, start + 50_000) for start in (50_000, 100_000, 150_000)]
        return [float(np.abs(shares(part) - before).mean()) for part in parts]

    assert max(distances(0.0)) < 0.003
    first, second, third = distances(1.0)
    assert second == pytest.approx(2 * first, rel=0.15)
    assert third == pytest.approx(3 * first, rel=0.15)
    assert distances(0.5)[2] == pytest.approx(third / 2, rel=0.15)


def test_the_seed_decides_everything() -> None:
    popularity = SyntheticPopularity(exponent=1.2)
    assert np.array_equal(routing(popularity).experts, routing(popularity).experts)
    assert not np.array_equal(routing(popularity).experts, routing(popularity, seed=1).experts)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("law", "zip", "expected 'zipf', 'dirichlet' or 'counted', got 'zip'; did you mean 'zipf'"),
        ("exponent", -1, "exponent: input should be greater than or equal to 0"),
        ("concentration", 0, "concentration: input should be greater than 0"),
        ("concentration", float("inf"), "concentration: input should be a finite number"),
        ("exponent", True, "exponent: expected a number, got True"),
        ("drift", 1.5, "drift: input should be less than or equal to 1"),
        ("concentration", 0.5, "concentration: expected only with law: dirichlet, got 0.5 with law: zipf"),
        ("exponnt", 1, "unknown key; did you mean 'exponent'"),
    ],
)
def test_a_wrong_knob_is_told_in_one_line(key: str, value: object, says: str) -> None:
    with pytest.raises(InputError, match=says):
        validated(SyntheticPopularity, {key: value}, "popularity")
