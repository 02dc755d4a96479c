"""Predictors on the routing of real MoE models: counts by token ID and expert, one corpus left out at a time.

Data: allenai/OLMoE (Apache-2.0), `scripts/routing_output`: Mixtral-8x7B (top-2 of 8) and OLMoE-1B-7B (top-8 of
64), three layers each; a folder with two files.

- mixtral_token_expert_counts.npz: `corpora`; and, a row each, `corpus`, `layer_index`, `token`, `expert`, `count`.
- real_moe_expert_counts.json: a list of `model`, `kind` (`expert_counts`: of all top-k), `corpus`, `layer_index`,
  `counts`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe.errors import InputError
from optimizer.popularity import ProfileTable, TablePredictor, prediction_error, predictor, skew

TOKEN_COUNTS, EXPERT_COUNTS = "mixtral_token_expert_counts.npz", "real_moe_expert_counts.json"
MIXTRAL = (8, 2)
TABLE_PREDICTORS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("lina, expected", "lina", {"counting": "expected"}),
    ("lina, hard", "lina", {"counting": "hard"}),
    ("history", "history", {}),
    ("uniform", "uniform", {}),
)


@dataclass(frozen=True)
class LeftOut:
    """Prediction of one corpus from the others.

    Attributes:
        model, corpus: what was left out.
        skew: hottest expert over the mean, mean over layers.
        unseen: share of its tokens whose ID the others do not have; None where token IDs are not known.
        shares: error as a share of the mean load, by predictor.
    """

    model: str
    corpus: str
    skew: float
    unseen: float | None
    shares: dict[str, float]


def mixtral_tables(folder: Path) -> dict[str, ProfileTable]:
    """A profile table of each corpus: token IDs and experts; positions and attention IDs are not known, 0."""
    path = folder / TOKEN_COUNTS
    try:
        data = dict(np.load(path))
        columns = [data[name] for name in ("layer_index", "token", "expert", "count")]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: expected the counts by token and expert: {error}") from None
    experts, top_k = MIXTRAL
    tables = {}
    for k, corpus in enumerate(data["corpora"].tolist()):
        layer, token, expert, count = (x[data["corpus"] == k] for x in columns)
        if not len(count):  # the file names a corpus that it has no counts of
            continue
        unknown = np.zeros(len(count), np.int32)
        keys = np.stack([x.astype(np.int32) for x in (layer, token, unknown, unknown, expert)]).T
        table = ProfileTable(keys, count.astype(float), int(layer.max()) + 1, experts, top_k)
        tables[corpus] = ProfileTable.merged([table])
    return tables


def mixtral_left_out(folder: Path) -> list[LeftOut]:
    """Every corpus from the other ones, by its token IDs."""
    tables, found = mixtral_tables(folder), []
    for corpus, table in tables.items():
        others = ProfileTable.merged([x for name, x in tables.items() if name != corpus])
        first = table.of_layer(0)
        # Each token is counted top-k times, and entries are sorted by token ID: every k-th is one token.
        token_ids = np.repeat(first.token_id, first.count.astype(int))[:: table.top_k]
        shares = {}
        for title, name, options in TABLE_PREDICTORS:
            made = predictor(name, **options)
            assert isinstance(made, TablePredictor)
            predicted = made.fit_table(others).predict(token_ids)
            shares[title] = prediction_error(predicted, table.expert_counts()).share
        unseen = float(np.mean(others.samples(0, token_ids) == 0))
        found.append(LeftOut("Mixtral-8x7B", corpus, float(skew(table.expert_counts()).mean()), unseen, shares))
    return found


def olmoe_left_out(folder: Path) -> list[LeftOut]:
    """Every corpus from the others' popularity: `history` and `uniform`, which need no token IDs."""
    path = folder / EXPERT_COUNTS
    try:
        rows = [x for x in json.loads(path.read_text()) if (x["model"], x["kind"]) == ("olmoe", "expert_counts")]
        corpora = sorted({x["corpus"] for x in rows})
        by_corpus = {
            name: np.array([x["counts"] for x in sorted(rows, key=_layer) if x["corpus"] == name], float)
            for name in corpora
        }
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: expected a list of counts by model, corpus and layer: {error}") from None
    found = []
    for corpus, real in by_corpus.items():
        rest = [x / x.sum(axis=1, keepdims=True) for name, x in by_corpus.items() if name != corpus]
        others = np.mean(rest, axis=0)
        tokens = real.sum(axis=1, keepdims=True)
        predicted = {"history": others * tokens, "uniform": np.full_like(real, 1 / real.shape[1]) * tokens}
        shares = {name: prediction_error(x, real).share for name, x in predicted.items()}
        found.append(LeftOut("OLMoE-1B-7B", corpus, float(skew(real).mean()), None, shares))
    return found


def _layer(row: dict[str, int]) -> int:
    return row["layer_index"]
