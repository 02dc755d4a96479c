"""Prediction of popularity: what a plan is made from."""

import itertools

import numpy as np
import pytest

from moe.errors import InputError
from moe.trace import RoutingTrace
from optimizer.popularity import (
    PREDICTORS,
    ProfileTable,
    TablePredictor,
    prediction_error,
    predictor,
    skew,
)

LAYERS, EXPERTS, VOCABULARY, POSITIONS = 2, 4, 6, 3


def random_trace(seed: int, tokens: int = 40, top_k: int = 1, vocabulary: int = VOCABULARY) -> RoutingTrace:
    """A small trace whose gates prefer an expert by token ID, and often do not follow it."""
    rng = np.random.default_rng(seed)
    token_id = rng.integers(0, vocabulary, tokens).astype(np.int32)
    noise = rng.integers(0, EXPERTS, (tokens, LAYERS))
    first = np.where(rng.random((tokens, LAYERS)) < 0.5, (token_id[:, None] + np.arange(LAYERS)) % EXPERTS, noise)
    experts = (first[:, :, None] + np.arange(top_k)) % EXPERTS
    return RoutingTrace(
        sequence=np.zeros(tokens, np.int32),
        token_id=token_id,
        position_id=rng.integers(0, POSITIONS, tokens).astype(np.int32),
        attention_id=rng.integers(0, vocabulary, (tokens, LAYERS)).astype(np.int32),
        experts=experts.astype(np.int16),
        weights=np.full((tokens, LAYERS, top_k), 1 / top_k, np.float32),
        num_experts=EXPERTS,
    )


def slow_posterior(profiled: RoutingTrace, served: np.ndarray, e: int, f1: int, variant: str) -> np.ndarray:
    """Eq. 1-2 as printed (or the mixture), factor by factor, by loops over f2, f3 and experts."""
    rows = [
        (int(profiled.token_id[t]), int(profiled.position_id[t]), int(profiled.attention_id[t, e]), int(i))
        for t in range(profiled.tokens)
        for i in profiled.experts[t, e]
    ]

    def count(*wanted: int | None) -> int:
        return sum(all(w in (None, x) for w, x in zip(wanted, row, strict=True)) for row in rows)

    posterior = np.zeros(EXPERTS)
    for i, f2, f3 in itertools.product(range(EXPERTS), range(POSITIONS), range(VOCABULARY)):
        if not count(f1, f2, f3, None):
            continue
        of_expert = count(f1, f2, f3, i) / count(f1, f2, f3, None)
        as_served, position = np.mean(served == f3), 1 / POSITIONS
        if variant == "printed":
            f3_given = count(f1, f2, f3, None) / count(f1, f2, None, None)
            f2_given = count(f1, f2, None, None) / count(f1, None, None, None)
            posterior[i] += of_expert * f3_given * as_served * f2_given * position
        else:
            posterior[i] += of_expert * as_served * position
    if posterior.sum() == 0:  # none of its attention IDs is served
        posterior = np.array([count(f1, None, None, i) for i in range(EXPERTS)], float)
    if posterior.sum() == 0:  # not in the table
        posterior = np.array([count(None, None, None, i) for i in range(EXPERTS)], float)
    return posterior / posterior.sum()


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("variant", ["printed", "mixture"])
@pytest.mark.parametrize("seed", range(5))
def test_bayes_is_eq_1_and_2(seed: int, variant: str, top_k: int) -> None:
    profiled = random_trace(seed, tokens=30, top_k=top_k, vocabulary=5)
    # Token ID 5 was never profiled; 0 and 1 are not served, so some attention IDs have P'(f3) = 0.
    served = np.random.default_rng(seed).integers(2, 6, 25)
    expected = np.zeros((LAYERS, EXPERTS))
    hard = np.zeros((LAYERS, EXPERTS))
    for e, f1 in itertools.product(range(LAYERS), range(2, 6)):
        posterior = slow_posterior(profiled, served, e, f1, variant)
        tokens = np.sum(served == f1)
        expected[e] += tokens * top_k * posterior
        for i in sorted(range(EXPERTS), key=lambda i: (-round(posterior[i], 9), i))[:top_k]:
            hard[e, i] += tokens
    fitted = {
        counting: predictor("bayes", variant=variant, counting=counting).fit(profiled)
        for counting in ("hard", "expected")
    }
    np.testing.assert_allclose(fitted["expected"].predict(served), expected, rtol=1e-9)
    np.testing.assert_array_equal(fitted["hard"].predict(served), hard)


def test_backoff_trusts_what_was_seen_and_smooths_what_was_not() -> None:
    profiled = random_trace(1, tokens=400)
    served = random_trace(2, tokens=100).token_id
    weak = predictor("bayes", variant="backoff", counting="expected", strength=1e9).fit(profiled)
    frequencies = profiled.popularity() / profiled.tokens
    np.testing.assert_allclose(weak.predict(served), frequencies * 100, rtol=1e-6)
    never_seen = np.full(10, 1000)
    np.testing.assert_allclose(
        predictor("bayes", variant="backoff", counting="expected").fit(profiled).predict(never_seen),
        frequencies * 10,
        rtol=1e-9,
    )


@pytest.mark.parametrize("top_k", [1, 2])
def test_lina_counts_the_most_frequent_experts_of_each_token_id(top_k: int) -> None:
    profiled = random_trace(3, top_k=top_k)
    served = np.array([0, 0, 3, 5, 77])
    wanted = np.zeros((LAYERS, EXPERTS))
    for e, f1 in itertools.product(range(LAYERS), served):
        some = profiled.token_id == f1
        chosen = profiled.experts[some if some.any() else slice(None), e]
        counts = np.bincount(chosen.ravel(), minlength=EXPERTS)
        wanted[e, np.argsort(-counts, kind="stable")[:top_k]] += 1
    np.testing.assert_array_equal(predictor("lina").fit(profiled).predict(served), wanted)


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("name", PREDICTORS)
def test_every_prediction_places_every_token(name: str, top_k: int) -> None:
    """Tokens that get lost in a prediction make plans that are too small."""
    profiled, served = random_trace(4, top_k=top_k), random_trace(5, tokens=70, top_k=top_k, vocabulary=9)
    options: list[dict[str, str]] = [{}]
    if issubclass(PREDICTORS[name], TablePredictor):
        options = [{"counting": "hard"}, {"counting": "expected"}]
    for some in options:
        popularity = predictor(name, **some).fit(profiled).predict(served.token_id, served)
        assert popularity.shape == (LAYERS, EXPERTS)
        assert popularity.min() >= 0
        np.testing.assert_allclose(popularity.sum(axis=1), 70 * top_k)
        again = predictor(name, **some).fit(profiled).predict(served.token_id, served)
        np.testing.assert_array_equal(popularity, again)
        nothing = predictor(name, **some).fit(profiled).predict(served.token_id[:0], served.slice(0, 0))
        assert nothing.shape == (LAYERS, EXPERTS)
        assert nothing.sum() == 0


def test_the_simple_predictors_are_what_they_say() -> None:
    profiled, served = random_trace(6), random_trace(7, tokens=60)
    ids = served.token_id
    np.testing.assert_array_equal(predictor("oracle").fit(profiled).predict(ids, served), served.popularity())
    assert np.all(predictor("uniform").fit(profiled).predict(ids) == 60 / EXPERTS)
    np.testing.assert_allclose(
        predictor("history").fit(profiled).predict(ids), profiled.popularity() * 60 / 40, rtol=1e-12
    )


def test_only_the_oracle_sees_the_served_routing() -> None:
    """A predictor that looks at the answer would make every saving in the report too good."""
    profiled, served, other = random_trace(8), random_trace(9), random_trace(9)
    other.experts[:] = (other.experts + 1) % EXPERTS
    other.attention_id[:] = 0
    for name in PREDICTORS:
        if name != "oracle":
            fitted = predictor(name).fit(profiled)
            a, b = fitted.predict(served.token_id, served), fitted.predict(served.token_id, other)
            np.testing.assert_array_equal(a, b)


def test_wrong_use_is_told_in_one_line() -> None:
    trace = random_trace(0)
    with pytest.raises(InputError, match=r"no predictor 'bayess'; did you mean 'bayes'"):
        predictor("bayess")
    with pytest.raises(InputError, match=r"no variant 'mix'; did you mean 'mixture'"):
        predictor("bayes", variant="mix")
    with pytest.raises(InputError, match=r"no option 'count'; did you mean 'counting'"):
        predictor("lina", count="hard")
    with pytest.raises(InputError, match="counting: expected"):
        predictor("lina", counting="soft")
    for name in ("bayes", "lina", "history", "uniform"):
        with pytest.raises(InputError, match="profile: expected at least one token"):
            predictor(name).fit(trace.slice(0, 0))
    fitted = predictor("oracle").fit(trace)
    with pytest.raises(InputError, match="expected the trace"):
        fitted.predict(trace.token_id)
    with pytest.raises(InputError, match=r"served: expected \(2, 4, 1\) layers, experts and top-k as profiled"):
        fitted.predict(trace.token_id, trace.with_layers([0, 1, 1]))
    with pytest.raises(InputError, match="expected the trace of the given token IDs"):
        fitted.predict(trace.token_id + 1, trace)
    with pytest.raises(InputError, match=r"predicted popularity: expected \(2, 4\)"):
        prediction_error(np.zeros((3, 4)), trace.popularity())


def test_error_and_skew() -> None:
    real = np.array([[6.0, 2.0], [4.0, 4.0]])
    found = prediction_error(np.array([[4.0, 4.0], [4.0, 4.0]]), real)
    assert (found.tokens, found.share) == (1.0, 0.25)
    assert skew(real).tolist() == [1.5, 1.0]
    assert skew(np.zeros((1, 3))).tolist() == [1.0]


def test_the_profile_table_counts_and_can_be_tuned() -> None:
    """Bayesian optimisation writes pairs into the table: those, and no others, must change."""
    trace = random_trace(2, top_k=2)
    table = ProfileTable.from_trace(trace)
    np.testing.assert_array_equal(table.expert_counts(), trace.popularity())
    assert table.count.sum() == 40 * LAYERS * 2
    assert len(np.unique(table.keys, axis=0)) == len(table)
    new = np.array([[0, 99, 0, 0, 3], [0, 99, 0, 0, 3], table.keys[0]])
    tuned = table.with_counts(new, np.array([5.0, 7.0, 0.0]))
    assert len(tuned) == len(table) + 1
    assert tuned.count.sum() == table.count.sum() + 7 - table.count[0]
    assert tuned.count[0] == 0
    np.testing.assert_array_equal(tuned.keys, np.unique(tuned.keys, axis=0))
    bayes = predictor("bayes")
    assert isinstance(bayes, TablePredictor)
    assert bayes.fit_table(tuned).predict(np.array([99]))[0, 3] == 1
