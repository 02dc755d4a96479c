"""The page of `./smoe tune`: what Bayesian optimisation of the profile table came to, trial by trial."""

from __future__ import annotations

from experiments.report.page import Block, Column, DataTable, Page, Plot, Section, Value, plain
from experiments.report.parts import flat, picture, present, provenance
from experiments.report.reading import Run, TuningResult

JUDGED = ("untuned", "tuned", "oracle")
NAMES = ("score", "cost", "latency_s", "over_limit", "prediction_error_tokens")


def tuning_page(run: Run) -> Page:
    """The page. Raises InputError for files that are broken."""
    result = run.read(TuningResult)
    closed = result.unseen_batches.get("gap_closed")
    gained = (
        "the oracle is no better than no tuning" if closed is None else f"{closed:.0%} of the gap to the oracle"
    )
    lead = [
        f"{result.sampler} on the objective {result.objective}: {result.used.get('trials')} trials "
        f"({result.stopped}); on batches that it never saw, closed: {gained}."
    ]
    settings = [[key, value] for key, value in flat(result.settings).items()]
    asked = DataTable("settings", [Column("setting"), Column("value")], settings, about="Constants of Alg. 2.")
    sections = present(
        _outcome(result), _history(run, result), Section("What was asked", [asked]), provenance(run)
    )
    return Page(f"{run.name}: {result.sampler}", lead, sections, f"Made by ./smoe report from {run.path}.")


def _outcome(result: TuningResult) -> Section:
    """Untuned, tuned and the oracle, on the batches tuned on and on unseen ones."""
    columns = [
        Column("batches"),
        Column("profile table"),
        Column("score", result.unit),
        Column("billed", result.unit),
        Column("latency", "s"),
        Column("batches over the limit", "share"),
        Column("prediction error", "tokens per expert"),
    ]
    rows: list[list[Value]] = [
        [batches, name, *(plain(found.get(name, {}).get(key)) for key in NAMES)]
        for batches, found in (("tuned on", result.tuning_batches), ("unseen", result.unseen_batches))
        for name in JUDGED
    ]
    return Section("What tuning came to", [DataTable("outcome", columns, rows)])


def _history(run: Run, result: TuningResult) -> Section | None:
    """Every trial, drawn."""
    path = run.path / "history.parquet"
    if not path.exists():
        drawn = picture(run.path / "convergence.svg", "Best score over trials")
        return Section("Trials", drawn) if drawn else None
    from moe.parquet import read_columns

    table = read_columns(path, ("trial", "score", "best_score"))
    rows = [[plain(value) for value in row] for row in table.itertuples(index=False, name=None)]
    blocks: list[Block] = [
        DataTable("history", [Column(str(name)) for name in table.columns], rows),
        Plot(
            "scatter",
            "Trials",
            {"table": "history", "x": "trial", "y": "best_score", "by": "", "log": False, "line": True},
            f"The best score so far, {result.unit}; any column over any other.",
        ),
    ]
    return Section("Trials", blocks)
