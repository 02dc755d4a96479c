"""The routing trace: which experts the gates chose for every token, and the token's features.

File: parquet, one row per (token, MoE layer), sorted by layer, then token; zstd. Columns:

| column | type | what |
|---|---|---|
| layer | int16 | MoE layer e, from 0 |
| sequence | int32 | index of the text sequence the token is in |
| token_id | int32 | f1: the token ID |
| position_id | int32 | f2: position in the sequence, from 0 |
| attention_id | int32 | f3: token ID that the token attends to most in the attention block before the layer |
| expert_0 .. expert_{k-1} | int16 | the chosen experts, best first |
| weight_0 .. weight_{k-1} | float32 | their gate weights, renormalised to sum to 1 |

The schema's metadata key `serverless-moe` holds JSON: `schema` ("routing-trace/1"), `experts` (their number) and
`origin`, whatever the recorder says of it (model, gate, corpus, seed, versions).
"""

import builtins
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from moe.errors import InputError
from moe.parquet import about_of, column, no_others, read_parquet, whole_number, write_parquet
from moe.shown import Shown

SCHEMA = "routing-trace/1"
CHECKED_AT_ONCE = 1024
"""Tokens: what a check makes of them stays small."""
WEIGHTS_WITHIN = 1e-3
"""How far a token's weights of a layer may sum to something else than 1."""


@dataclass(frozen=True, repr=False)
class RoutingTrace(Shown):
    """Routing of T tokens through L MoE layers of E experts, top-k.

    Attributes:
        sequence, token_id, position_id: shape (T,) int32.
        attention_id: shape (T, L) int32.
        experts: shape (T, L, k) int16, best first.
        weights: shape (T, L, k) float32, each token's weights of a layer sum to 1.
        num_experts: E.
        origin: what it was recorded on (model, gate, corpus, seed, ...).
    """

    sequence: np.ndarray
    token_id: np.ndarray
    position_id: np.ndarray
    attention_id: np.ndarray
    experts: np.ndarray
    weights: np.ndarray
    num_experts: int
    origin: dict[str, Any] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """T."""
        return len(self.token_id)

    @property
    def layers(self) -> int:
        """L."""
        return self.experts.shape[1]

    @property
    def top_k(self) -> int:
        """k."""
        return self.experts.shape[2]

    def _facts(self) -> dict[str, Any]:
        return {"tokens": self.tokens, "layers": self.layers, "experts": self.num_experts, "top_k": self.top_k}

    def slice(self, start: int, stop: int) -> "RoutingTrace":
        """The tokens start..stop-1."""
        return self.take(slice(start, stop))

    def take(self, part: builtins.slice | np.ndarray) -> "RoutingTrace":
        """These tokens: a slice, or their indices in the order wanted."""
        return replace(
            self,
            sequence=self.sequence[part],
            token_id=self.token_id[part],
            position_id=self.position_id[part],
            attention_id=self.attention_id[part],
            experts=self.experts[part],
            weights=self.weights[part],
        )

    def with_layers(self, layers: list[int]) -> "RoutingTrace":
        """A trace whose layer e is this one's layer `layers[e]` (a layer may be taken more than once)."""
        return replace(
            self,
            attention_id=self.attention_id[:, layers],
            experts=self.experts[:, layers],
            weights=self.weights[:, layers],
            origin=self.origin | {"layers_of_recording": list(layers)},
        )

    @staticmethod
    def joined(traces: "Sequence[RoutingTrace]") -> "RoutingTrace":
        """One trace of several of one model, one after the other; none of their sequences go on in the next.

        Raises InputError where they differ in layers, experts or top-k.
        """
        first, before = traces[0], 0
        sequences = []
        for trace in traces:
            if (trace.num_experts, trace.experts.shape[1:]) != (first.num_experts, first.experts.shape[1:]):
                shapes = [(x.layers, x.num_experts, x.top_k) for x in (first, trace)]
                raise InputError(
                    f"trace: expected {shapes[0]} layers, experts and top-k, as in the others, got {shapes[1]}"
                )
            sequences.append(trace.sequence - trace.sequence.min(initial=0) + before)
            before = int(sequences[-1].max(initial=before - 1)) + 1
        names = ("token_id", "position_id", "attention_id", "experts", "weights")
        columns: dict[str, Any] = {name: np.concatenate([getattr(x, name) for x in traces]) for name in names}
        return replace(first, sequence=np.concatenate(sequences).astype(np.int32), **columns)

    def popularity(self) -> np.ndarray:
        """d[e, i]: tokens routed to expert i of layer e, shape (L, E) int64; rows sum to T k."""
        return np.stack(
            [np.bincount(self.experts[:, e].ravel(), minlength=self.num_experts) for e in range(self.layers)]
        )


@dataclass(frozen=True)
class Batches:
    """Batches to be served: what is known of them before, and what their gates then do.

    Attributes:
        token_ids: of each batch, arrays (tokens,) int.
        real: tokens of each expert, shape (batches, layers, experts).
    """

    token_ids: tuple[np.ndarray, ...]
    real: np.ndarray

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def tokens(self) -> int:
        """Tokens of all batches."""
        return sum(len(ids) for ids in self.token_ids)

    @property
    def mean(self) -> np.ndarray:
        """Real popularity of the mean batch, shape (layers, experts)."""
        return self.real.mean(axis=0)

    @staticmethod
    def of(traces: Sequence[RoutingTrace]) -> "Batches":
        """Each trace as one batch."""
        return Batches(tuple(x.token_id for x in traces), np.stack([x.popularity() for x in traces]))


def resampled(trace: RoutingTrace, rng: np.random.Generator) -> RoutingTrace:
    """As many sequences of the trace, drawn with replacement; each draw is a sequence of its own."""
    order = np.argsort(trace.sequence, kind="stable")
    tokens = np.unique(trace.sequence, return_counts=True)[1]
    parts = np.split(order, np.cumsum(tokens)[:-1])
    drawn = rng.integers(len(parts), size=len(parts))
    sequence = np.repeat(np.arange(len(drawn), dtype=trace.sequence.dtype), tokens[drawn])
    return replace(trace.take(np.concatenate([parts[k] for k in drawn])), sequence=sequence)


def check_routing(source: str | Path, experts: np.ndarray, weights: np.ndarray | None, num_experts: int) -> None:
    """Raise InputError, with token and layer, for routing that no gate gives.

    Args:
        source: what the error begins with.
        experts, weights: shape (T, L, k). Weights need not sum to 1; None: not known.
        num_experts: E.
    """
    if num_experts > np.iinfo(np.int16).max:
        raise InputError(f"{source}: experts: expected at most {np.iinfo(np.int16).max}, got {num_experts}")
    for first in range(0, len(experts), CHECKED_AT_ONCE):
        part = slice(first, first + CHECKED_AT_ONCE)
        _check_part(source, first, experts[part], None if weights is None else weights[part], num_experts)


def _check_part(
    source: str | Path, first: int, experts: np.ndarray, weights: np.ndarray | None, num_experts: int
) -> None:
    """`check_routing` of tokens from the `first` on."""

    def refuse(wrong: np.ndarray, key: str, expected: str, values: np.ndarray) -> None:
        if wrong.any():
            token, layer, *_ = np.argwhere(wrong)[0]
            where, got = (
                f"token {first + token}, layer {layer}",
                ", ".join(map(str, values[token, layer].tolist())),
            )
            raise InputError(f"{source}: {key}: {where}: expected {expected}, got {got}")

    outside = (experts < 0) | (experts >= num_experts)
    refuse(outside, "expert", f"0..{num_experts - 1}", experts)
    top_k = experts.shape[2]
    if top_k > 1:
        ordered = np.sort(experts.astype(np.int16, copy=False), axis=2)
        same = ordered[:, :, 1:] == ordered[:, :, :-1]
        refuse(same, "expert", f"{top_k} different experts (not captured, or padding?)", experts)
    if weights is not None:
        impossible = ~(np.isfinite(weights) & (weights >= 0)).all(axis=2) | ~(weights.sum(axis=2) > 0)
        refuse(impossible, "weights", "numbers from 0, not all 0", weights)


def save_trace(trace: RoutingTrace, path: str | Path) -> None:
    """Write the trace as parquet (columns above), atomically: the file is whole or absent."""
    tokens, layers, top_k = trace.experts.shape
    by_layer = {
        "layer": np.repeat(np.arange(layers, dtype=np.int16), tokens),
        "sequence": np.tile(trace.sequence, layers),
        "token_id": np.tile(trace.token_id, layers),
        "position_id": np.tile(trace.position_id, layers),
        "attention_id": trace.attention_id.T.ravel(),
    }
    by_layer |= {f"expert_{j}": trace.experts[:, :, j].T.ravel() for j in range(top_k)}
    by_layer |= {f"weight_{j}": trace.weights[:, :, j].T.ravel() for j in range(top_k)}
    about = {"schema": SCHEMA, "experts": trace.num_experts, "origin": trace.origin}
    write_parquet(path, by_layer, about)


def load_trace(path: str | Path) -> RoutingTrace:
    """Read a routing trace. Raises InputError when the file is missing, unreadable or not a trace."""
    table = read_parquet(path)
    about = about_of(path, table, SCHEMA, "routing trace")
    num_experts = whole_number(path, about, "experts")
    top_k = sum(name.startswith("expert_") for name in table.column_names)
    types: dict[str, type] = dict.fromkeys(
        ("layer", "sequence", "token_id", "position_id", "attention_id"), np.int32
    )
    types |= {f"expert_{j}": np.int16 for j in range(top_k)} | {f"weight_{j}": np.float32 for j in range(top_k)}
    missing = [name for name in types if name not in table.column_names]
    if missing or not table.num_rows or not top_k:
        what = missing or ("rows" if top_k else "expert_0, weight_0")
        raise InputError(f"{path}: expected rows with columns {list(types)}, missing {what}")
    no_others(path, table.column_names, types)
    data = {name: column(path, table, name, kind) for name, kind in types.items()}
    layers, origin = int(data["layer"].max()) + 1, about.get("origin", {})
    tokens = table.num_rows // max(layers, 1)
    is_whole = layers * tokens == table.num_rows
    if not is_whole or not np.array_equal(data["layer"], np.repeat(np.arange(layers), tokens)):
        raise InputError(f"{path}: layer: expected the same tokens for each of {layers} layers, sorted by layer")
    for name in ("sequence", "token_id", "position_id"):
        if (data[name].reshape(layers, tokens) != data[name][:tokens]).any():
            raise InputError(f"{path}: {name}: expected the same in each layer, token by token")

    def per_layer(what: str) -> np.ndarray:
        return np.stack([data[f"{what}_{j}"].reshape(layers, tokens).T for j in range(top_k)], axis=2)

    experts, weights = per_layer("expert"), per_layer("weight")
    check_routing(path, experts, weights, num_experts)
    uneven = np.argwhere(np.abs(weights.sum(axis=2) - 1) > WEIGHTS_WITHIN)
    if len(uneven):
        token, layer = uneven[0]
        got = weights[token, layer].sum()
        raise InputError(f"{path}: weights: token {token}, layer {layer}: expected a sum of 1, got {got:.6g}")
    return RoutingTrace(
        sequence=data["sequence"][:tokens],
        token_id=data["token_id"][:tokens],
        position_id=data["position_id"][:tokens],
        attention_id=data["attention_id"].reshape(layers, tokens).T,
        experts=experts,
        weights=weights,
        num_experts=num_experts,
        origin=origin if isinstance(origin, dict) else {"told": origin},
    )
