"""Routing out of a popularity law: skew as a knob, and drift between what is profiled and what is served."""

from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from moe.files import FileModel
from moe.routing.counted import counted_model, counted_shares
from moe.routing.counts import UNKNOWN
from moe.trace import RoutingTrace

_SMALLEST_SHARE = 1e-12


class SyntheticPopularity(FileModel):
    """A law of expert popularity, drawn anew for each layer; or a real model's, by its name alone."""

    law: Literal["zipf", "dirichlet", "counted"] = Field(
        "zipf",
        description="of the shares of a layer's experts: rank^-exponent in random order, Dirichlet, or a model's",
    )
    model: str | None = Field(
        None, description="of counted: mixtral-8x7b or olmoe-1b-7b, whose name alone will do"
    )
    text: str | None = Field(None, description="of counted: arxiv, c4, github or wikipedia; null: all together")
    exponent: float = Field(1.0, ge=0, le=10, description="of zipf; 0: all experts alike")
    concentration: float = Field(
        1.0, gt=0, description="of dirichlet, of each expert; the smaller, the more skewed"
    )
    drift: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the last served batch that follows another draw of the law, reached in equal steps",
    )

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, data: Any) -> Any:
        """A real model's name stands for its counts."""
        return {"law": "counted", "model": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _own_knob(self) -> "SyntheticPopularity":
        """A number that the law does not know would do nothing."""
        of_law = {"exponent": "zipf", "concentration": "dirichlet", "model": "counted", "text": "counted"}
        for key, law in of_law.items():
            value = getattr(self, key)
            if law != self.law and value != type(self).model_fields[key].default:
                raise ValueError(f"{key}: expected only with law: {law}, got {value} with law: {self.law}")
        if self.law == "counted":
            if self.drift:
                raise ValueError(
                    f"drift: expected only with a law that is drawn, got {self.drift} with law: counted"
                )
            counted_model(self.model or "")
        return self


def synthetic_routing(
    popularity: SyntheticPopularity,
    *,
    layers: int,
    experts: int,
    top_k: int,
    profiled_tokens: int,
    batch_tokens: int,
    batches: int,
    sequence_tokens: int,
    seed: int,
) -> RoutingTrace:
    """Routing of profiled tokens, then of served batches; the tokens have no IDs (-1).

    A token's k experts are different ones. Tokens are independent, layers too. An expert whose share is more than
    one of k is chosen by every token, and the others share the rest.
    """
    law, change, choice = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    before = _inclusion(_shares(popularity, layers, experts, top_k, law), top_k)
    after = _inclusion(_shares(popularity, layers, experts, top_k, change), top_k)
    parts = [_choose(before, profiled_tokens, top_k, choice)]
    for batch in range(batches):
        moved = popularity.drift * (batch + 1) / batches
        parts.append(_choose((1 - moved) * before + moved * after, batch_tokens, top_k, choice))
    chosen = np.concatenate(parts)
    tokens = len(chosen)
    index = np.arange(tokens)
    return RoutingTrace(
        sequence=(index // sequence_tokens).astype(np.int32),
        token_id=np.full(tokens, UNKNOWN, np.int32),
        position_id=(index % sequence_tokens).astype(np.int32),
        attention_id=np.full((tokens, layers), UNKNOWN, np.int32),
        experts=chosen,
        weights=np.full(chosen.shape, 1 / top_k, np.float32),
        num_experts=experts,
        origin={"popularity": popularity.model_dump(), "seed": seed},
    )


def check_law(popularity: SyntheticPopularity, layers: int, experts: int, top_k: int) -> None:
    """Raise InputError for counts of a model with other experts or another top-k."""
    if popularity.model is not None:
        counted_shares(popularity.model, popularity.text, layers, experts, top_k)


def _shares(
    popularity: SyntheticPopularity, layers: int, experts: int, top_k: int, rng: np.random.Generator
) -> np.ndarray:
    """Shares of the experts, shape (layers, experts), each layer's sum to 1."""
    if popularity.model is not None:
        return counted_shares(popularity.model, popularity.text, layers, experts, top_k)
    if popularity.law == "dirichlet":
        return rng.dirichlet(np.full(experts, popularity.concentration), layers)
    return zipf(layers, experts, popularity.exponent, rng)


def zipf(layers: int, experts: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Zipf's shares with ranks dealt anew in each layer, shape (layers, experts)."""
    shares = zipf_shares(experts, exponent)
    return np.array([rng.permutation(shares) for _ in range(layers)])


def zipf_shares(count: int, exponent: float) -> np.ndarray:
    """Zipf's law: shares in proportion to 1/rank^exponent, the largest first, their sum 1, shape (count,)."""
    shares = np.arange(1, count + 1) ** -float(exponent)
    return shares / shares.sum()


def _inclusion(shares: np.ndarray, top_k: int) -> np.ndarray:
    """Probability that a token chooses each expert: in proportion to the shares, at most 1, in sum k."""
    shares = np.maximum(shares, _SMALLEST_SHARE)
    full = np.zeros(shares.shape, bool)
    while True:  # what is too much for one goes to the others, by their share
        rest = np.where(full, 0.0, shares)
        left = (top_k - full.sum(axis=1, keepdims=True)) / np.maximum(
            rest.sum(axis=1, keepdims=True), _SMALLEST_SHARE
        )
        found = np.where(full, 1.0, rest * left)
        if not (found > 1.0).any():
            return found
        full |= found >= 1.0


def _choose(inclusion: np.ndarray, tokens: int, top_k: int, rng: np.random.Generator) -> np.ndarray:
    """Experts of each token, shape (tokens, layers, k): sampled systematically."""
    layers, experts = inclusion.shape
    chosen = np.empty((tokens, layers, top_k), np.int16)
    for e in range(layers):
        ends = np.cumsum(inclusion[e])
        ends *= top_k / ends[-1]
        points = rng.random(tokens)[:, None] + np.arange(top_k)
        chosen[:, e] = np.minimum(np.searchsorted(ends, points, side="right"), experts - 1)
    return chosen
