"""Pairs in the profile table, and the predictions and plans made from it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe.errors import InputError
from optimizer.bo import Batches, KeyRange, Planner, Tuning
from optimizer.bo.space import LayeredTable, Pairs
from optimizer.popularity import ProfileTable, predictor
from optimizer.solvers import solve
from tests.optimizer.bo.bo_cases import (
    binding_limit_s,
    small_batches,
    small_problem,
    small_table,
    table_predictor,
)
from tests.optimizer.popularity.test_scored import random_trace


def drawn_pairs(seed: int, slots: int = 60) -> Pairs:
    """Pairs of which some are of keys that the table holds, some twice, and a few slots empty."""
    rng = np.random.default_rng(seed)
    keys, count = KeyRange.of(small_table(), small_batches()).draw(rng, slots)
    held = small_table().keys
    keys[: slots // 3] = held[rng.integers(0, len(held), slots // 3)]
    keys[-3:] = keys[:3]
    count[5:9] = 0
    return Pairs.empty(slots).with_drawn(np.arange(slots), keys, count, trial=1)


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_pairs_are_written_as_with_counts_would(seed: int) -> None:
    table, pairs = small_table(), drawn_pairs(seed)
    filled = pairs.count > 0
    expected = table.with_counts(pairs.keys[filled], pairs.count[filled].astype(float))
    for e, layer in enumerate(LayeredTable(table).with_pairs(pairs)):
        np.testing.assert_array_equal(layer.keys[:, 1:], expected.of_layer(e).keys[:, 1:])
        np.testing.assert_array_equal(layer.count, expected.of_layer(e).count)


@pytest.mark.parametrize("counting", ["hard", "expected"])
@pytest.mark.parametrize("name", ["bayes", "lina"])
def test_a_tuned_table_predicts_as_the_predictor_does_from_it(name: str, counting: str) -> None:
    batches, pairs = small_batches(), drawn_pairs(3)
    fitted = predictor(name, counting=counting)
    planner = Planner(small_problem(), small_table(), fitted)  # type: ignore[arg-type]
    filled = pairs.count > 0
    whole = small_table().with_counts(pairs.keys[filled], pairs.count[filled].astype(float))
    found = planner.popularity(batches, Tuning(pairs))
    expected = fitted.fit_table(whole).predict(np.concatenate(batches.token_ids)) / len(batches)  # type: ignore[attr-defined]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_none_is_the_plain_prediction_and_its_plan_that_of_ods() -> None:
    trace, batches = random_trace(1, tokens=400, vocabulary=20), small_batches()
    planner = Planner(small_problem(binding_limit_s()), small_table(), table_predictor())
    found = planner.popularity(batches, Tuning())
    plain = predictor("bayes", counting="hard").fit(trace).predict(np.concatenate(batches.token_ids)) / 3
    np.testing.assert_allclose(found, plain, rtol=1e-12)
    for _ in range(2):  # the second time from fronts that were kept
        made, expected = planner.plan(found), solve(planner.problem_for(plain), "ods")
        assert made.layers == expected.layers
        assert made.billed_gb_s == expected.billed_gb_s


def test_a_margin_is_a_lower_latency_limit() -> None:
    planner = Planner(small_problem(binding_limit_s()), small_table(), table_predictor())
    popularity = small_batches().mean
    plan = planner.plan(popularity, margin=0.02)
    assert plan.latency_s is not None
    assert plan.latency_s <= 0.98 * binding_limit_s() * (1 + 1e-9)
    assert plan.layers == solve(planner.problem_for(popularity, 0.02), "ods").layers


def test_drawn_pairs_are_of_the_range_and_limited_ones_of_the_limited_range() -> None:
    keys, rng = KeyRange.of(small_table(), small_batches()), np.random.default_rng(0)
    drawn, count = keys.draw(rng, 5000)
    assert set(drawn[:, 1]) == set(range(40))  # half of which the table does not hold
    assert set(drawn[:, 0]) == {0, 1}
    assert set(drawn[:, 4]) == {0, 1, 2, 3}
    assert count.min() == 1
    assert count.max() == keys.largest_count
    limited, _ = keys.draw(rng, 500, np.array([7, 31]))
    assert set(limited[:, 1]) == {7, 31}


@given(
    blend=st.floats(0, 1),
    sharpness=st.floats(0.25, 2),
    factor=st.floats(0.1, 10),
)
def test_a_few_numbers_move_tokens_between_experts_and_lose_none(
    blend: float, sharpness: float, factor: float
) -> None:
    popularity = np.array([[300.0, 200.0, 100.0, 0.0], [150.0, 150.0, 150.0, 150.0]])
    frequencies = np.array([[0.4, 0.3, 0.2, 0.1], [0.7, 0.1, 0.1, 0.1]])
    factors = np.array([[1, factor, 1, 1], [factor, 1, 1, 1]])
    applied = Tuning(Pairs.empty(1), blend, sharpness, 0.0, factors).applied(popularity, frequencies)
    np.testing.assert_allclose(applied.sum(axis=1), 600, rtol=1e-9)
    assert (applied >= 0).all()
    np.testing.assert_array_equal(Tuning().applied(popularity, frequencies), popularity)


def test_a_table_of_another_model_is_refused() -> None:
    trace = random_trace(0)
    table = ProfileTable.from_trace(trace.with_layers([0, 1, 0]))
    with pytest.raises(InputError, match="expected 2 layers x 4 experts"):
        Planner(small_problem(), table, table_predictor())


def test_batches_know_their_mean() -> None:
    batches = Batches.of([random_trace(0, tokens=30), random_trace(1, tokens=50)])
    assert batches.tokens == 80
    np.testing.assert_allclose(batches.mean.sum(axis=1), 40)
