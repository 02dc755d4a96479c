"""Routing of which only counts are known, as a trace: the tokens' order and what was chosen together are drawn.

| file | what is in it |
|---|---|
| .npz | `corpora`; a row each, `corpus` (index), `layer_index`, `token` (ID), `expert`, `count`; top-2 of 8 |
| .json | a list of `model`, `kind` (`expert_counts`, `expert_counts_top1`), `corpus`, `layer_index`, `counts` |

Both are those of allenai/OLMoE's `scripts/routing_output`: Mixtral-8x7B by token ID, Mixtral-8x7B and OLMoE-1B-7B
without. A part of such a file is a corpus: `wikipedia` of the first, `olmoe/wikipedia` of the second.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from moe.errors import InputError, nearest, shortened
from moe.parquet import no_others

COLUMNS = ("corpora", "corpus", "layer_index", "token", "expert", "count")
TOKEN_COUNTS_EXPERTS, TOKEN_COUNTS_TOP_K = 8, 2
"""Of Mixtral-8x7B, whose counts by token ID the .npz file has."""
UNKNOWN = -1

Counted = tuple[np.ndarray, np.ndarray, int]
"""Token IDs (T,), chosen experts (T, L, k), and E."""


def is_token_counts(arrays: Mapping[str, Any]) -> bool:
    """Whether these are the arrays of a file of counts by token ID."""
    return set(COLUMNS) <= set(arrays)


def from_token_counts(path: Path, arrays: Mapping[str, np.ndarray], part: str | None) -> Counted:
    """The tokens of one corpus of a file of counts by token ID. Raises InputError."""
    no_others(path, arrays, COLUMNS)
    data = {name: arrays[name] for name in COLUMNS}
    for name in COLUMNS[1:]:
        x, rows = data[name], len(data["count"].ravel())
        if x.shape != (rows,) or x.dtype.kind not in "iu" or (x < 0).any():
            raise InputError(
                f"{path}: {name}: expected {rows} whole numbers from 0, got {x.dtype} of shape {x.shape}"
            )
    for name, end in (("corpus", len(data["corpora"])), ("expert", TOKEN_COUNTS_EXPERTS)):
        if data[name].max(initial=0) >= end:
            raise InputError(f"{path}: {name}: expected 0..{end - 1}, got {data[name].max()}")
    corpora = data["corpora"].tolist()
    corpus = corpora.index(_part(path, part, [corpora[i] for i in np.unique(data["corpus"]).tolist()]))
    layer, token, expert, count = (data[name][data["corpus"] == corpus] for name in COLUMNS[2:])
    rng, top_k = np.random.default_rng(0), TOKEN_COUNTS_TOP_K
    chosen, ids = [], None
    for e in np.unique(layer):
        of_layer = layer == e
        found, experts = _tokens(path, token[of_layer], expert[of_layer], count[of_layer], top_k, rng)
        if ids is not None and not np.array_equal(ids, found):
            raise InputError(f"{path}: token: expected the same tokens in each layer")
        ids = found
        chosen.append(experts)
    assert ids is not None
    order = rng.permutation(len(ids))
    return ids[order], np.stack(chosen, axis=1)[order], TOKEN_COUNTS_EXPERTS


def from_expert_counts(path: Path, part: str | None) -> Counted:
    """The tokens of one corpus of a file of tokens by expert; their IDs are not known, -1. Raises InputError."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        layers: dict[str, dict[int, np.ndarray]] = {}
        tokens: dict[str, int] = {}
        for row in rows:
            _add(row, layers, tokens)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: expected a list of counts by model, corpus and layer: {error!r:.200}") from None
    name = _part(path, part, sorted(set(layers) & set(tokens)))
    rng, chosen = np.random.default_rng(0), []
    for _, counts in sorted(layers[name].items()):
        top_k, rest = divmod(int(counts.sum()), max(tokens[name], 1))
        if rest or not top_k:
            raise InputError(f"{path}: counts of {name}: expected a multiple of its {tokens[name]} tokens")
        unknown = np.full(len(counts), UNKNOWN)
        chosen.append(_tokens(path, unknown, np.arange(len(counts)), counts, top_k, rng)[1])
    if len({x.shape for x in chosen}) != 1 or len({len(x) for x in layers[name].values()}) != 1:
        raise InputError(f"{path}: counts of {name}: expected the same experts and top-k in each layer")
    return np.full(tokens[name], UNKNOWN), np.stack(chosen, axis=1), len(counts)


def _add(row: dict[str, Any], layers: dict[str, dict[int, np.ndarray]], tokens: dict[str, int]) -> None:
    """Take in a row of tokens by expert. Raises KeyError, TypeError, ValueError."""
    name = f"{row['model']}/{row['corpus']}"
    counts, layer, kind = np.array(row["counts"]), row["layer_index"], row["kind"]
    if counts.ndim != 1 or counts.dtype.kind != "i" or (counts < 0).any() or not isinstance(layer, int):
        raise ValueError(f"counts of {name}: expected whole numbers from 0")
    if kind == "expert_counts":
        if layer in layers.setdefault(name, {}):
            raise ValueError(f"counts of {name}: layer {layer} is there twice")
        layers[name][layer] = counts
    elif kind == "expert_counts_top1":
        if tokens.setdefault(name, int(counts.sum())) != counts.sum():
            raise ValueError(f"counts of {name}: expected the same tokens in each layer")
    else:
        raise ValueError(f"kind: expected expert_counts or expert_counts_top1, got {kind!r:.60}")


def _tokens(
    path: Path, token: np.ndarray, expert: np.ndarray, count: np.ndarray, top_k: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One layer's tokens, sorted by ID: IDs (T,) and experts (T, k), each expert once for a token.

    The experts of an ID, sorted and dealt in turn to its occurrences, are distinct for each as no expert has more
    than all occurrences. Which occurrence gets which of those is drawn.
    """
    entries = np.lexsort((expert, token))
    row_id, row_expert = (np.repeat(x[entries], count[entries]) for x in (token, expert))
    ids, start, size = np.unique(row_id, return_index=True, return_counts=True)
    pairs = np.stack([row_id, row_expert])
    if (size % top_k).any() or (count[entries] > (size // top_k)[np.searchsorted(ids, token[entries])]).any():
        raise InputError(f"{path}: count: expected {top_k} different experts for each token of an ID")
    tokens, place = np.repeat(ids, size // top_k), np.arange(pairs.shape[1]) - np.repeat(start, size)
    occurrence = np.repeat(start // top_k, size) + place % np.repeat(size // top_k, size)
    chosen = np.empty((len(tokens), top_k), np.int64)
    chosen[occurrence, place // np.repeat(size // top_k, size)] = row_expert
    return tokens, chosen[np.lexsort((rng.random(len(tokens)), tokens))]


def _part(path: Path, part: str | None, parts: list[str]) -> str:
    if part is None and len(parts) == 1:
        return parts[0]
    if part is None:
        raise InputError(f"{path}: it has several parts; expected the name of one: {', '.join(parts)}")
    if part not in parts:
        raise InputError(f"{path}: no part {shortened(part)}{nearest(part, parts)}")
    return part
