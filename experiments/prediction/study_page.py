"""docs/popularity.md: how well expert popularity is predicted, as measured."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.prediction.real_routing import LeftOut, mixtral_left_out, olmoe_left_out

if TYPE_CHECKING:
    import pandas as pd

SKEWS = (1.0, 1.25, 1.5, 2.0, 3.0, np.inf)
CASE = ["model", "gate", "experts", "top_k", "seed", "profiled", "served"]
TEXTS = ((True, "same text"), (False, "other text"))
VARIANTS = ("printed", "mixture", "backoff")


def page(rows: pd.DataFrame, routing: Path | None) -> str:
    """The page, as Markdown.

    Args:
        rows: of `popularity_study.measured`.
        routing: folder of `real_routing`; None: without that section.
    """
    of_model = rows.groupby([*CASE, "same", "predictor"], sort=False, as_index=False).agg(
        share=("share", "mean"),
        tokens=("tokens", "mean"),
        regret=("regret", "first"),
        overrun=("overrun", "first"),
        failed=("failed", "first"),
    )
    predicted = of_model[of_model.predictor != "oracle"]
    parts = [
        _INTRODUCTION,
        *_findings(predicted),
        _BY_MODEL,
        *_by_model(predicted),
        _BY_EXPERTS,
        *_by_experts(predicted),
        _BY_SKEW,
        *_by_skew(rows[rows.predictor != "oracle"]),
        _BAYES_LINA,
        *_bayes_against_lina(predicted),
        _REGRET,
        *_regret(of_model[of_model.failed.notna()]),
    ]
    if routing is not None:
        parts += [_REAL, *_real(mixtral_left_out(routing), olmoe_left_out(routing))]
    return "\n".join(parts) + "\n"


def _findings(rows: pd.DataFrame) -> list[str]:
    """The least mean error on each model and text, in words."""
    lines = []
    for model in rows.model.unique():
        for same, text in TEXTS:
            some = rows[(rows.model == model) & (rows.same == same)]
            if some.empty:
                continue
            means = some.groupby("predictor", sort=False).share.mean().sort_values(kind="stable")
            first, second = means.index[:2]
            errors = f"{means.iloc[0]:.1%} off), then `{second}` ({means.iloc[1]:.1%})"
            lines.append(f"- {model}, {text}: `{first}` is best ({errors}.")
    expected, hard = (rows[rows.predictor == f"lina, {x}"].share.mean() for x in ("expected", "hard"))
    lines.append(
        f"- Expected counting beats hard counting: `lina` {expected:.1%} against {hard:.1%} over all cases."
    )
    for counting in ("expected", "hard"):
        gap = _gap(rows, "printed", counting)
        lines.append(
            f"- `bayes` (printed) and `lina`, {counting} counting, differ by {gap.abs().mean() * 100:.2f} points "
            f"on average; `bayes` is the better one in {(gap < 0).mean():.0%} of {len(gap)} cases."
        )
    return lines


def _by_model(rows: pd.DataFrame) -> list[str]:
    columns = [(model, same) for model in rows.model.unique() for same, _ in TEXTS]
    lines = _head("predictor", [f"{model}, {dict(TEXTS)[same]}" for model, same in columns])
    for name in rows.predictor.unique():
        cells = []
        for model, same in columns:
            share = rows[(rows.predictor == name) & (rows.model == model) & (rows.same == same)].share
            cells.append(f"{share.mean():.1%} ± {share.std():.1%}" if len(share) else "")
        lines.append(_line(name, cells))
    return lines


def _by_experts(rows: pd.DataFrame) -> list[str]:
    columns = [(k, experts) for k in sorted(rows.top_k.unique()) for experts in sorted(rows.experts.unique())]
    lines = _head("predictor", [f"{experts} experts, top-{k}" for k, experts in columns])
    for name in rows.predictor.unique():
        cells = []
        for k, experts in columns:
            some = rows[(rows.predictor == name) & (rows.top_k == k) & (rows.experts == experts)]
            cells.append(" / ".join(f"{some[some.same == same].share.mean():.1%}" for same, _ in TEXTS))
        lines.append(_line(name, cells))
    lina = rows[(rows.predictor == "lina, expected") & rows.same]
    tokens = [f"{lina[(lina.top_k == k) & (lina.experts == n)].tokens.mean():,.0f}" for k, n in columns]
    return [*lines, "", f"`lina, expected`, same text, in tokens of an expert: {', '.join(tokens)}."]


def _by_skew(rows: pd.DataFrame) -> list[str]:
    bins = list(itertools.pairwise(SKEWS))
    lines = _head("predictor", [f"{a:g} to {b:g}" if np.isfinite(b) else f"from {a:g}" for a, b in bins])
    first = rows[rows.predictor == rows.predictor.iloc[0]]
    lines.append(_line("layers", [str(int(((first["skew"] >= a) & (first["skew"] < b)).sum())) for a, b in bins]))
    for name in rows.predictor.unique():
        some = rows[rows.predictor == name]
        cells = []
        for a, b in bins:
            within = some[(some["skew"] >= a) & (some["skew"] < b)]
            cells.append(" / ".join(_percent(within[within.same == same].share.mean()) for same, _ in TEXTS))
        lines.append(_line(name, cells))
    return lines


def _bayes_against_lina(rows: pd.DataFrame) -> list[str]:
    lines = _head(
        "variant, counting", [f"{text}: {what}" for _, text in TEXTS for what in ("points", "better in")]
    )
    for counting in ("expected", "hard"):
        for variant in VARIANTS:
            cells = []
            for same, _ in TEXTS:
                gap = _gap(rows[rows.same == same], variant, counting)
                cells += [f"{gap.mean() * 100:+.2f}", f"{(gap < 0).mean():.0%} of {len(gap)}"]
            lines.append(_line(f"{variant}, {counting}", cells))
    return lines


def _regret(rows: pd.DataFrame) -> list[str]:
    lines = []
    for same, text in TEXTS:
        some = rows[rows.same == same]
        lines += _head(text, ["error", "regret", "over the limit by", "late", "no plan, or failed"])
        for name in some.predictor.unique():
            own = some[some.predictor == name]
            made = own[own.regret.notna()]
            cells = [f"{own.share.mean():.1%}", f"{made.regret.mean():+.2%}", f"{made.overrun.mean():.1%}"]
            cells += [f"{(made.overrun > 1e-9).mean():.0%}", f"{len(own) - len(made)} of {len(own)}"]
            lines.append(_line(name, cells))
        lines.append("")
    return lines[:-1]


def _real(mixtral: list[LeftOut], olmoe: list[LeftOut]) -> list[str]:
    lines = []
    for found in (mixtral, olmoe):
        names = list(found[0].shares)
        lines += _head("left out", ["skew", "unseen token IDs", *names])
        for row in found:
            unseen = "not known" if row.unseen is None else f"{row.unseen:.1%}"
            cells = [f"{row.skew:.2f}", unseen, *(f"{row.shares[name]:.1%}" for name in names)]
            lines.append(_line(f"{row.model}, {row.corpus}", cells))
        mean = {name: float(np.mean([row.shares[name] for row in found])) for name in names}
        lines.append(_line("mean", ["", "", *(f"{mean[name]:.1%}" for name in names)]))
        best = min(mean, key=lambda name: mean[name])
        lines += ["", f"Best on {found[0].model}: `{best}`, {mean[best]:.1%} off.", ""]
    return lines[:-1]


def _gap(rows: pd.DataFrame, variant: str, counting: str) -> pd.Series:
    """Error of bayes minus that of lina in each case."""
    wide = rows.pivot(index=CASE, columns="predictor", values="share")
    return wide[f"bayes, {variant}, {counting}"] - wide[f"lina, {counting}"]


def _head(first: str, columns: list[str]) -> list[str]:
    return [_line(first, columns), "|---" * (len(columns) + 1) + "|"]


def _line(first: str, cells: list[str]) -> str:
    return "| " + " | ".join([first, *cells]) + " |"


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{share:.1%}"


_INTRODUCTION = """# How well expert popularity is predicted

Written by `./smoe bench predictors --accuracy --routing DIR --out docs/popularity.md`. The predictors are on
the page [predictors](predictors.md). Error: mean over layers and experts of |predicted - real| tokens, as a
share of the mean tokens of an expert. Profiled are the first 20,480 tokens of a text, in sequences of 128;
predicted are the last 10,240 tokens of the same text, which were not profiled, or of another text.

Recorded on MiniLM (its six layers) and SmolLM2-135M (layers 0, 6, 12, 17, 23, 29), whose MLPs became MoE
layers: experts are copies of the MLP, gates are random linear layers (on raw and on standardised hidden states,
three seeds each). So the hidden states are those of real models on real text, and the gates are not trained.
Texts: wikipedia, news, python-docs. `similar-prompts` has no embeddings here, it compares bags of token IDs;
its prompts are the sequences.

What was found:
"""
_BY_MODEL = """
## By model and text

Mean and standard deviation over gates, experts, top-k, seeds and pairs of texts.
"""
_BY_EXPERTS = """
## By experts and top-k

Same text / other text, both models.
"""
_BY_SKEW = """
## By skew

Error of a layer, by the skew of its real popularity (tokens of the hottest expert over the mean): same text /
other text.
"""
_BAYES_LINA = """
## bayes against lina

Error of `bayes` minus that of `lina` with the same counting, percentage points (below 0: `bayes` is better),
and in how many cases `bayes` is better. What `bayes` adds is the attention ID; position is summed out.
"""
_REGRET = """
## Regret

What a plan costs (billed GB-s) on the real tokens beside the plan made from the real tokens, both by Eq. 3-11
with the replicas that the real tokens need: MiniLM MoE, 4 and 8 experts, top-1, both gates, exact solver,
latency limit 1.2 x the least latency. A plan uses up the limit on the tokens that it was made for, so with
other tokens it is late: read regret and lateness together. A plan that is cheaper than the best one is so by
being late.
"""
_REAL = """
## Routing of real models

From allenai/OLMoE (Apache-2.0), `scripts/routing_output`: 208,896 tokens of each corpus, three layers of
Mixtral-8x7B (0, 7, 15; top-2 of 8 experts) and of OLMoE-1B-7B (top-8 of 64). Each corpus is predicted from the
other three. There are no attention and position IDs in these files, so `bayes` is `lina`, and of OLMoE no token
IDs.
"""
