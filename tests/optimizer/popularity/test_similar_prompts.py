"""`similar-prompts`: a prompt is routed as the prompts like it were."""

import numpy as np
import pytest

from moe.errors import InputError
from moe.trace import RoutingTrace
from optimizer.popularity import prediction_error, predictor

LAYERS, EXPERTS, LENGTH = 2, 4, 10


def prompts(*kinds: int, seed: int = 0, words: range = range(5)) -> RoutingTrace:
    """Prompts of two kinds: words 0-4 or 100-104, and one that all have; experts by kind, whatever the word."""
    rng = np.random.default_rng(seed)
    kind = np.repeat(kinds, LENGTH)
    tokens = len(kind)
    token_id = np.where(np.arange(tokens) % LENGTH == 0, 999, 100 * kind + rng.choice(words, tokens))
    experts = (3 * kind[:, None, None] + np.arange(LAYERS)[None, :, None]) % EXPERTS
    return RoutingTrace(
        sequence=np.repeat(np.arange(len(kinds)), LENGTH).astype(np.int32),
        token_id=token_id.astype(np.int32),
        position_id=np.tile(np.arange(LENGTH), len(kinds)).astype(np.int32),
        attention_id=np.full((tokens, LAYERS), 999, np.int32),
        experts=experts.astype(np.int16),
        weights=np.ones((tokens, LAYERS, 1), np.float32),
        num_experts=EXPERTS,
    )


def test_two_kinds_of_prompts_are_told_apart() -> None:
    profiled, served = prompts(0, 1, 0, 1, 0, 0), prompts(1, 1, 1, 0, seed=1)
    found = predictor("similar-prompts", neighbours=2).fit(profiled).predict(served.token_id, served)
    np.testing.assert_allclose(found, served.popularity(), rtol=1e-9)
    history = predictor("history").fit(profiled).predict(served.token_id, served)
    assert prediction_error(history, served.popularity()).share > 0.5


def test_a_prompt_like_none_takes_the_mean() -> None:
    profiled = prompts(0, 1, 0, 0)
    found = predictor("similar-prompts").fit(profiled).predict(np.full(8, 55))
    np.testing.assert_allclose(found, profiled.popularity() * 8 / profiled.tokens)


def test_neighbours_are_weighted_by_the_cosine_of_their_bags() -> None:
    """The formula, prompt by prompt, with dense vectors."""
    rng = np.random.default_rng(3)
    profiled, served = prompts(*rng.integers(0, 2, 12)), prompts(*rng.integers(0, 2, 5), seed=2, words=range(3, 7))
    profiled.experts[:] = rng.integers(0, EXPERTS, profiled.experts.shape)
    vocabulary = np.unique(profiled.token_id)

    def bag(trace: RoutingTrace, s: int) -> np.ndarray:
        return np.array([np.sum(trace.token_id[trace.sequence == s] == f1) for f1 in vocabulary], float)

    bags = np.array([bag(profiled, s) for s in range(12)])
    rarity = np.log(13 / (1 + (bags > 0).sum(axis=0)))
    wanted = np.zeros((LAYERS, EXPERTS))
    for s in range(5):
        a = bag(served, s) * rarity
        cosine = np.array([a @ (b * rarity) / np.linalg.norm(a) / np.linalg.norm(b * rarity) for b in bags])
        best = np.argsort(-cosine)[:4]
        matrices = [profiled.take(profiled.sequence == p).popularity() for p in best]
        wanted += np.tensordot(cosine[best] / cosine[best].sum(), matrices, axes=1)
    found = predictor("similar-prompts", neighbours=4).fit(profiled).predict(served.token_id, served)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_embeddings_make_other_words_alike() -> None:
    """The soft cosine: prompts without a common word are alike where their words' embeddings are."""
    profiled, served = prompts(0, 1, 0, words=range(2)), prompts(1, 0, 1, 1, seed=1, words=range(2, 5))
    embeddings = np.zeros((1000, 3))
    embeddings[:100, 0] = embeddings[100:200, 1] = embeddings[999, 2] = 1
    for given, least, most in ((None, 0.1, 1.0), (embeddings, 0.0, 1e-9)):
        fitted = predictor("similar-prompts", neighbours=1, embeddings=given).fit(profiled)
        error = prediction_error(fitted.predict(served.token_id, served), served.popularity()).share
        assert least <= error <= most


def test_wrong_use_is_told() -> None:
    with pytest.raises(InputError, match="neighbours: expected at least 1"):
        predictor("similar-prompts", neighbours=0)
    with pytest.raises(InputError, match="embeddings: expected a row for each token ID up to 999, got 10 rows"):
        predictor("similar-prompts", embeddings=np.ones((10, 2))).fit(prompts(0, 1))
