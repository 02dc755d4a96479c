"""The contract of predictors, to run one's own through it.

In a test file, with pytest:

    from optimizer.popularity.contract import PredictorContract

    class TestMine(PredictorContract):
        def make(self):
            return MyPredictor()

or, without: `check_predictor(MyPredictor)`, which raises AssertionError with the first law that is broken.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np

from moe.errors import InputError
from moe.trace import RoutingTrace
from optimizer.popularity.interface import Predictor, TablePredictor
from optimizer.popularity.synthetic import synthetic_trace
from optimizer.popularity.table import ProfileTable

LAYERS, EXPERTS, SEQUENCE_TOKENS = 3, 4, 16


class PredictorContract:
    """What must hold of every predictor. Inherit it, and say how yours is made.

    Attributes:
        needs_served: whether `predict` cannot do without the served trace, and looks at its routing (`oracle`).
    """

    needs_served = False

    def make(self) -> Predictor:
        """A new predictor, not fitted, the same one each time."""
        raise NotImplementedError

    def test_every_token_is_placed(self) -> None:
        """Tokens that get lost in a prediction make plans that are too small; so do experts of less than none."""
        for top_k in (1, 2):
            fitted = self.make().fit(profiled(top_k))
            batch = served(1, top_k)
            _check_places(fitted.predict(batch.token_id, batch), batch.tokens, top_k)
            never_seen = replace(batch, token_id=batch.token_id + 10_000)
            _check_places(fitted.predict(never_seen.token_id, never_seen), batch.tokens, top_k)
            if not self.needs_served:
                _check_places(fitted.predict(batch.token_id), batch.tokens, top_k)

    def test_no_tokens_are_no_tokens(self) -> None:
        """An empty batch is a batch."""
        nothing = served(1).slice(0, 0)
        popularity = self.make().fit(profiled()).predict(nothing.token_id, nothing)
        assert popularity.shape == (LAYERS, EXPERTS), f"shape: expected layers x experts, got {popularity.shape}"
        assert popularity.sum() == 0, "expected no tokens for an empty batch"

    def test_batches_do_not_depend_on_each_other(self) -> None:
        """In whatever order batches are predicted, each gets the same prediction."""
        fitted, (a, b) = self.make().fit(profiled()), (served(1), served(2))
        there = [fitted.predict(x.token_id, x).tobytes() for x in (a, b)]
        back = [fitted.predict(x.token_id, x).tobytes() for x in (b, a)]
        assert there == back[::-1], "expected the same prediction of a batch whatever was predicted before"

    def test_the_order_of_sequences_does_not_matter(self) -> None:
        """A batch is served at once: which of its sequences is named first says nothing."""
        fitted, batch = self.make().fit(profiled()), served(1)
        tokens = np.arange(batch.tokens).reshape(-1, SEQUENCE_TOKENS)
        other = batch.take(np.random.default_rng(0).permutation(tokens).ravel())
        one, two = (fitted.predict(x.token_id, x) for x in (batch, other))
        np.testing.assert_allclose(one, two, rtol=1e-6, err_msg="sequences in another order")

    def test_same_input_same_bytes(self) -> None:
        """Two predictors made and fitted alike predict alike, to the last bit."""
        batch = served(1)
        one, two = (self.make().fit(profiled()).predict(batch.token_id, batch) for _ in range(2))
        assert one.tobytes() == two.tobytes(), "expected the same bytes from a second one"

    def test_fitting_again_forgets(self) -> None:
        """A predictor that is fitted again knows the last profile alone."""
        batch, again = served(1), self.make().fit(profiled(seed=7)).fit(profiled())
        one, two = (x.fit(profiled()).predict(batch.token_id, batch) for x in (again, self.make()))
        assert one.tobytes() == two.tobytes(), "expected fit() to forget what was learnt before"

    def test_what_it_is_given_stays_as_it_is(self) -> None:
        """The trace is used again, by others."""
        profile, batch = profiled(), served(1)
        before = _bytes(profile), _bytes(batch)
        self.make().fit(profile).predict(batch.token_id, batch)
        assert (_bytes(profile), _bytes(batch)) == before, "expected fit() and predict() to leave traces alone"

    def test_it_does_not_look_at_the_served_routing(self) -> None:
        """A predictor that looks at the answer makes every saving in a report too good."""
        if self.needs_served:
            return
        fitted, batch = self.make().fit(profiled()), served(1)
        other = replace(
            batch,
            experts=(batch.experts + 1) % EXPERTS,
            weights=batch.weights[::-1],
            attention_id=np.zeros_like(batch.attention_id),
        )
        one, two = (fitted.predict(x.token_id, x) for x in (batch, other))
        assert one.tobytes() == two.tobytes(), "expected a prediction that does not look at the served routing"

    def test_bad_input_is_refused(self) -> None:
        """An empty profile, no profile, and a served trace of another model or of other tokens: InputError."""
        batch = served(1)
        _refuses("an empty profile", lambda: self.make().fit(profiled().slice(0, 0)))
        _refuses("predict() before fit()", lambda: self.make().predict(batch.token_id, batch))
        fitted = self.make().fit(profiled())
        _refuses("more layers", lambda: fitted.predict(batch.token_id, batch.with_layers([0, 1, 1, 2])))
        more = replace(batch, num_experts=EXPERTS + 1)
        _refuses("more experts", lambda: fitted.predict(batch.token_id, more))
        _refuses("another top-k", lambda: fitted.predict(batch.token_id, served(1, 2)))
        _refuses("a trace of other tokens", lambda: fitted.predict(batch.token_id + 1, batch))

    def test_a_table_says_what_its_trace_says(self) -> None:
        """Of predictors that a profile table is enough for: a table on disk stands for its trace."""
        mine = self.make()
        if not isinstance(mine, TablePredictor):
            return
        batch = served(1)
        mine.fit_table(ProfileTable.from_trace(profiled()))
        of_table = mine.predict(batch.token_id, batch)
        of_trace = self.make().fit(profiled()).predict(batch.token_id, batch)
        assert of_table.tobytes() == of_trace.tobytes(), "expected fit_table() to be fit() of the table's trace"
        empty = replace(mine.table, count=np.zeros(len(mine.table)))
        _refuses("an empty table", lambda: cast(TablePredictor, self.make()).fit_table(empty))


def check_predictor(make: Callable[[], Predictor], needs_served: bool = False) -> None:
    """Run a predictor through the contract. Raises AssertionError, which says what does not hold.

    Args:
        make: makes it, not fitted, the same one each time; a class will do.
        needs_served: whether it may look at the served routing.
    """
    contract = PredictorContract()
    contract.make = make  # type: ignore[method-assign]
    contract.needs_served = needs_served
    for name in vars(PredictorContract):
        if name.startswith("test_"):
            getattr(contract, name)()


def profiled(top_k: int = 1, seed: int = 0) -> RoutingTrace:
    """The trace that the contract fits: 512 tokens in 32 sequences, 3 layers, 4 experts."""
    return _trace(seed, 512, top_k)


def served(seed: int, top_k: int = 1) -> RoutingTrace:
    """A trace of 80 other tokens of the same model, in 5 sequences."""
    return _trace(100 + seed, 80, top_k)


def _trace(seed: int, tokens: int, top_k: int) -> RoutingTrace:
    return synthetic_trace(
        seed,
        tokens,
        layers=LAYERS,
        experts=EXPERTS,
        top_k=top_k,
        vocabulary=40,
        sequence_tokens=SEQUENCE_TOKENS,
    )


def _check_places(popularity: np.ndarray, tokens: int, top_k: int) -> None:
    assert popularity.shape == (LAYERS, EXPERTS), f"shape: expected layers x experts, got {popularity.shape}"
    assert np.isfinite(popularity).all(), "expected finite numbers"
    assert popularity.min() >= 0, f"expected tokens >= 0, got {popularity.min()}"
    rows = popularity.sum(axis=1)
    np.testing.assert_allclose(rows, tokens * top_k, rtol=1e-6, err_msg="rows must sum to tokens x top-k")


def _refuses(what: str, call: Callable[[], Any]) -> None:
    said = ""
    try:
        call()
    except InputError as error:
        said = str(error)
    assert said, f"{what}: expected an InputError, got none"
    assert "\n" not in said, f"{what}: expected one line, got {said}"


def _bytes(trace: RoutingTrace) -> bytes:
    columns = (trace.sequence, trace.token_id, trace.position_id, trace.attention_id, trace.experts, trace.weights)
    return b"".join(x.tobytes() for x in columns)
