"""How the corpora differ: in their tokens, and in where a model's gates send them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moe.errors import InputError
from moe.files import validated
from moe.pretrained.settings import GateKind, Progress
from moe.text.corpora import corpus_names, load_corpus
from moe.trace import RoutingTrace
from optimizer.popularity import prediction_error, skew

GATES: tuple[GateKind, ...] = ("random", "standardised")


@dataclass(frozen=True)
class Measured:
    """Corpora on one model, with as many tokens of each.

    Attributes:
        model, tokens: what routed how much of each.
        names: of the corpora, n.
        distinct: different token IDs in each, shape (n,).
        divergence: Jensen-Shannon divergence of their token IDs, bits, shape (n, n); on the diagonal that of a
            corpus's two halves (its odd and even sequences), which is what a sample of this size shows of nothing.
        skew: tokens of a layer's hottest expert over the mean, mean over layers, for each gate, shape (n,).
        moved: mean |a - b| tokens of an expert as a share of the mean load, with `random` gates, shape (n, n);
            on the diagonal that of the halves.
    """

    model: str
    tokens: int
    names: list[str]
    distinct: np.ndarray
    divergence: np.ndarray
    skew: dict[str, np.ndarray]
    moved: np.ndarray

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "model": self.model,
            "tokens": self.tokens,
            "corpora": self.names,
            "distinct_token_ids": self.distinct.tolist(),
            "divergence_bits": self.divergence.tolist(),
            "skew": {gate: found.tolist() for gate, found in self.skew.items()},
            "popularity_moved_share": self.moved.tolist(),
        }


def listed(others: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Name, role, licence and size of each corpus; `missing` says why one is not there.

    Raises InputError for one of the others that is not there.
    """
    for name in others:
        load_corpus(name)
    rows: list[dict[str, Any]] = []
    for name in (*corpus_names(), *others):
        try:
            corpus = load_corpus(name)
            texts = list(corpus.documents())
        except InputError as error:
            rows.append({"name": name, "missing": str(error)})
            continue
        size = {"documents": len(texts), "characters": sum(map(len, texts))}
        rows.append({"name": name, "role": corpus.role, "licence": corpus.licence, **size})
    return rows


def measured(
    names: Sequence[str],
    model: str,
    tokens: int,
    experts: int,
    top_k: int,
    seed: int,
    progress: Progress | None = None,
) -> Measured:
    """Record each corpus, and compare them. Raises InputError."""
    asked = {"model": model, "tokens": tokens, "experts": experts, "top_k": top_k}
    by_gate = _traces(names, asked | {"at_most": True, "gate_seed": seed, "seed": seed}, progress)
    traces = by_gate["random"]
    shares = [_halves(trace) for trace in traces]
    of_ids = [
        [_id_shares(part) for part in (trace, *halves)] for trace, halves in zip(traces, shares, strict=True)
    ]
    loads = [[_loads(part) for part in (trace, *halves)] for trace, halves in zip(traces, shares, strict=True)]
    return Measured(
        model=model,
        tokens=traces[0].tokens,
        names=list(names),
        distinct=np.array([len(np.unique(trace.token_id)) for trace in traces]),
        divergence=_pairs(of_ids, jensen_shannon_bits),
        skew={gate: np.array([skew(t.popularity()).mean() for t in found]) for gate, found in by_gate.items()},
        moved=_pairs(loads, lambda a, b: prediction_error(a, b).share),
    )


def _traces(
    names: Sequence[str], asked: dict[str, Any], progress: Progress | None
) -> dict[GateKind, list[RoutingTrace]]:
    """A trace of each by each kind of gate, cut to the length of the shortest."""
    from moe.routing.record import RecordingSettings, cached_records

    settings = [
        validated(RecordingSettings, asked | {"corpus": name, "gate": gate}, "corpora")
        for gate in GATES
        for name in names
    ]
    traces = [recording.trace for recording in cached_records(settings, progress=progress)]
    shortest = min(trace.tokens for trace in traces)
    cut = [trace.slice(0, shortest) for trace in traces]
    return {gate: cut[k * len(names) : (k + 1) * len(names)] for k, gate in enumerate(GATES)}


def _halves(trace: RoutingTrace) -> tuple[RoutingTrace, RoutingTrace]:
    odd = trace.sequence % 2 == 1
    return trace.take(~odd), trace.take(odd)


def _id_shares(trace: RoutingTrace) -> np.ndarray:
    return np.bincount(trace.token_id, minlength=int(trace.origin["vocabulary"])) / trace.tokens


def _loads(trace: RoutingTrace) -> np.ndarray:
    return trace.popularity() / trace.tokens


def _pairs(parts: list[list[np.ndarray]], distance: Any) -> np.ndarray:
    """Distances of all pairs; on the diagonal of a corpus's halves. Of each: whole, one half, the other."""
    return np.array(
        [
            [distance(*a[1:]) if i == j else distance(a[0], b[0]) for j, b in enumerate(parts)]
            for i, a in enumerate(parts)
        ]
    )


def jensen_shannon_bits(a: np.ndarray, b: np.ndarray) -> float:
    """Divergence of two distributions, bits: 0 where they are alike, 1 where they have nothing in common."""
    middle = (a + b) / 2

    def to_middle(p: np.ndarray) -> float:
        some = p > 0
        return float((p[some] * np.log2(p[some] / middle[some])).sum())

    return (to_middle(a) + to_middle(b)) / 2


def show(names: list[dict[str, Any]], found: Measured | None) -> None:
    """Print the corpora, and what was measured of them."""
    from rich.table import Table

    from experiments.tools.console import out

    table = Table("corpus", "role", "documents", "characters", "licence", pad_edge=False)
    for row in names:
        if "missing" in row:
            table.add_row(row["name"], "not there", "", "", row["missing"])
        else:
            size = f"{row['documents']:,}", f"{row['characters']:,}"
            table.add_row(row["name"], row["role"], *size, row["licence"])
    out.print(table)
    if found is None:
        return
    out.print(f"\n{found.tokens:,} tokens of each, routed by {found.model}:")
    table = Table("corpus", "token IDs", *(f"skew, {gate}" for gate in found.skew), pad_edge=False)
    for i, name in enumerate(found.names):
        table.add_row(name, f"{found.distinct[i]:,}", *(f"{x[i]:.2f}" for x in found.skew.values()))
    out.print(table)
    for title, values, form in (
        ("Divergence of token IDs, bits (diagonal: two halves of the same text)", found.divergence, "{:.3f}"),
        ("Popularity moved, of the mean load (diagonal: two halves)", found.moved, "{:.1%}"),
    ):
        out.print(f"\n{title}:")
        table = Table("", *found.names, pad_edge=False)
        for name, row in zip(found.names, values, strict=True):
            table.add_row(name, *(form.format(x) for x in row))
        out.print(table)
