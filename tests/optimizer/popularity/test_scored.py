"""Predictors that score experts from the profile table, against the formulas written out slowly."""

import itertools
from collections import Counter

import numpy as np
import pytest

from moe.errors import InputError
from moe.trace import RoutingTrace
from optimizer.popularity import ProfileTable, prediction_error, predictor, skew
from optimizer.popularity.table import _Packing

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


def slow_backoff(profiled: RoutingTrace, served: np.ndarray, e: int, f1: int, strength: float) -> dict[int, float]:
    """sum_f3 P(i | f1, f3) P'(f3), where each is smoothed with what is less particular."""
    every, by_id, by_pair = Counter[int](), Counter[int](), Counter[tuple[int, int]]()
    for t in range(profiled.tokens):
        for i in profiled.experts[t, e].tolist():
            every[i] += 1
            if profiled.token_id[t] == f1:
                by_id[i] += 1
                by_pair[int(profiled.attention_id[t, e]), i] += 1
    of_id = {
        i: (by_id[i] + strength * every[i] / every.total()) / (by_id.total() + strength) for i in range(EXPERTS)
    }
    posterior = dict.fromkeys(range(EXPERTS), 0.0)
    for f3 in set(served.tolist()):
        seen = sum(count for (g3, _), count in by_pair.items() if g3 == f3)
        for i in range(EXPERTS):
            of_pair = (by_pair[f3, i] + strength * of_id[i]) / (seen + strength)
            posterior[i] += of_pair * float(np.mean(served == f3))
    return posterior


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("strength", [0.3, 1.0, 20.0])
def test_backoff_smooths_pairs_with_token_ids_and_those_with_the_layer(strength: float, top_k: int) -> None:
    profiled = random_trace(1, tokens=60, top_k=top_k, vocabulary=5)
    served = np.random.default_rng(1).integers(1, 7, 25)  # 5 and 6 were never profiled
    expected = np.zeros((LAYERS, EXPERTS))
    for e, f1 in itertools.product(range(LAYERS), range(1, 7)):
        posterior = slow_backoff(profiled, served, e, f1, strength)
        assert sum(posterior.values()) == pytest.approx(1)
        expected[e] += np.sum(served == f1) * top_k * np.array(list(posterior.values()))
    fitted = predictor("bayes", variant="backoff", counting="expected", strength=strength).fit(profiled)
    np.testing.assert_allclose(fitted.predict(served), expected, rtol=1e-9)


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
@pytest.mark.parametrize("counting", ["hard", "expected"])
def test_position_counts_by_position_alone(counting: str, top_k: int) -> None:
    profiled = random_trace(3, top_k=top_k)
    served = random_trace(4, tokens=25, top_k=top_k)
    served.position_id[:5] = 77  # a position that was never profiled
    wanted = np.zeros((LAYERS, EXPERTS))
    for e, f2 in itertools.product(range(LAYERS), served.position_id):
        some = profiled.position_id == f2
        chosen = profiled.experts[some if some.any() else slice(None), e]
        counts = np.bincount(chosen.ravel(), minlength=EXPERTS)
        if counting == "hard":
            wanted[e, np.argsort(-counts, kind="stable")[:top_k]] += 1
        else:
            wanted[e] += top_k * counts / counts.sum()
    found = predictor("position", counting=counting).fit(profiled).predict(served.token_id, served)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_where_routing_depends_on_position_alone_position_is_the_oracle() -> None:
    profiled, served = random_trace(5, tokens=300), random_trace(6, tokens=90)
    for trace in (profiled, served):
        trace.experts[:] = (trace.position_id[:, None, None] + np.arange(LAYERS)[None, :, None]) % EXPERTS
    of = {
        name: prediction_error(
            predictor(name, **more).fit(profiled).predict(served.token_id, served), served.popularity()
        ).tokens
        for name, more in (("position", {}), ("lina", {"counting": "expected"}), ("history", {}))
    }
    assert of["position"] == 0
    assert min(of["lina"], of["history"]) > 1


def test_unknown_positions_are_spread_as_profiled() -> None:
    """Without sequences a service still wants a prediction: the mean of the profile."""
    profiled = random_trace(5, tokens=300)
    found = predictor("position", counting="expected").fit(profiled).predict(np.zeros(60, int))
    np.testing.assert_allclose(found, profiled.popularity() / 5, rtol=1e-9)


def test_a_large_vocabulary_of_large_ids_is_no_trouble() -> None:
    """IDs that do not fit into one number together are sorted another way; those of foreign traces are -1."""
    profiled, served = random_trace(8, tokens=200), random_trace(9, tokens=50)
    small = predictor("bayes", counting="expected").fit(profiled).predict(served.token_id)
    for trace in (profiled, served):
        trace.token_id[:] = trace.token_id * 400_000_000 - 1
        trace.attention_id[:] = trace.attention_id * 400_000_000 - 1
        trace.position_id[:] *= 1_000_000_000
    columns = (profiled.token_id, profiled.attention_id[:, 0], profiled.position_id)
    assert _Packing.of(columns) is None
    table = ProfileTable.from_trace(profiled)
    assert np.array_equal(table.expert_counts(), profiled.popularity())
    lina = predictor("lina").fit(profiled).predict(served.token_id)
    assert lina.sum() == 50 * LAYERS
    assert small.shape == lina.shape


def test_the_simple_predictors_are_what_they_say() -> None:
    profiled, served = random_trace(6), random_trace(7, tokens=60)
    ids = served.token_id
    np.testing.assert_array_equal(predictor("oracle").fit(profiled).predict(ids, served), served.popularity())
    assert np.all(predictor("uniform").fit(profiled).predict(ids) == 60 / EXPERTS)
    np.testing.assert_allclose(
        predictor("history").fit(profiled).predict(ids), profiled.popularity() * 60 / 40, rtol=1e-12
    )


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
