"""The bootstrap of a predictor: sequences are drawn whole, the spread is that of the profile."""

import numpy as np
import pytest

from moe.errors import InputError
from moe.trace import RoutingTrace, resampled
from optimizer.popularity import predictor
from optimizer.robust import bootstrap, held_out_batches


def _trace(sequences: int, seed: int) -> RoutingTrace:
    """Sequences of 5 tokens through 2 layers of 3 experts; an ID's expert is drawn, with a preference."""
    rng = np.random.default_rng(seed)
    tokens = 5 * sequences
    token_id = rng.integers(0, 8, tokens)
    experts = (token_id[:, None, None] + (rng.random((tokens, 2, 1)) < 0.3)) % 3
    return RoutingTrace(
        sequence=np.repeat(np.arange(sequences), 5).astype(np.int32),
        token_id=token_id.astype(np.int32),
        position_id=np.tile(np.arange(5), sequences).astype(np.int32),
        attention_id=rng.choice(token_id, (tokens, 2)).astype(np.int32),
        experts=experts.astype(np.int16),
        weights=np.ones((tokens, 2, 1), np.float32),
        num_experts=3,
    )


def test_sequences_are_drawn_whole() -> None:
    trace = _trace(12, 0)
    drawn = resampled(trace, np.random.default_rng(3))
    assert drawn.tokens == trace.tokens
    originals = {tuple(trace.token_id[5 * k : 5 * k + 5]) for k in range(12)}
    copies = [tuple(drawn.token_id[drawn.sequence == k]) for k in range(12)]
    assert set(copies) < originals  # with replacement: some twice, some not at all
    assert (drawn.position_id == trace.position_id).all()


@pytest.mark.parametrize("resample_served", [False, True])
def test_samples_keep_the_tokens_and_follow_the_seed(resample_served: bool) -> None:
    profiled, served = _trace(40, 1), _trace(20, 2)
    one, again, other = (
        bootstrap(lambda: predictor("lina", counting="expected"), profiled, served, 8, seed, resample_served)
        for seed in (0, 0, 1)
    )
    assert one.shape == (8, 2, 3)
    assert (one == again).all()
    assert (one != other).any()
    assert one.sum(axis=2) == pytest.approx(served.tokens)


def test_what_the_profile_does_not_decide_has_no_spread() -> None:
    profiled, served = _trace(40, 1), _trace(20, 2)
    same = bootstrap(lambda: predictor("uniform"), profiled, served, 4)
    assert np.ptp(same, axis=0).max() == pytest.approx(0)
    oracle = bootstrap(lambda: predictor("oracle"), profiled, served, 4)
    assert (oracle == served.popularity()).all()


def test_the_spread_falls_with_a_longer_profile() -> None:
    served = _trace(20, 2)
    spreads = [
        bootstrap(lambda: predictor("history"), _trace(n, 1), served, 40).std(axis=0).mean() for n in (20, 2000)
    ]
    assert spreads[1] < spreads[0] / 5  # sqrt(100) = 10, give or take


def test_no_samples_at_all_are_refused() -> None:
    with pytest.raises(InputError, match="count: expected at least 1 sample, got 0"):
        bootstrap(lambda: predictor("uniform"), _trace(4, 1), _trace(4, 2), 0)


def test_batches_out_of_the_profile_err_as_batches_to_come_do() -> None:
    """Against what they stand for: other tokens of the same source."""
    make = lambda: predictor("history")  # noqa: E731
    profiled, to_come = _trace(400, 1), [_trace(80, 100 + k) for k in range(40)]
    predicted = make().fit(profiled).predict(to_come[0].token_id, to_come[0])
    found = held_out_batches(make, profiled, predicted, 400, 60, seed=0)
    assert found.shape == (60, 2, 3)
    assert (found.sum(axis=2) == 400).all()
    real = np.array([each.popularity() for each in to_come])
    spread, expected = (np.sqrt(((x - predicted) ** 2).mean()) for x in (found, real))
    assert expected <= spread * 1.1  # no less: the fold that is left out errs, and a draw of it as well
    assert spread <= expected * 2
    assert (held_out_batches(make, profiled, predicted, 400, 60, seed=0) == found).all()


def test_a_predictor_that_errs_on_the_profile_errs_so_on_batches_to_come() -> None:
    profiled = _trace(40, 1)
    predicted = np.full((2, 3), 100 / 3)
    found = held_out_batches(lambda: predictor("uniform"), profiled, predicted, 100, 40)
    assert found.mean(axis=0) == pytest.approx(profiled.popularity() / 2, abs=5)
