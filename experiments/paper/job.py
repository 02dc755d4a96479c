"""Regenerating figures: record what they need, compute their cells, write tables, verdicts, pictures, one page."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from experiments.paper.claims import as_rows, joined
from experiments.paper.figure import PaperFigure
from experiments.paper.page import write_page
from experiments.paper.settings import FigureFile, FigureSettings, Scale, config_path, resolved
from experiments.tools import style
from experiments.tools.code_key import result_key
from experiments.tools.console import faint, log, progress
from experiments.tools.kept import Store
from experiments.tools.provenance import write_provenance
from moe.errors import InputError
from moe.files import read_model, write_whole
from simulator.profiles.schema import price_list_date

NAMES = (
    *("fig02", "fig03", "fig04", "fig10", "fig11", "fig12", "fig13", "fig14", "overheads"),
    *("ranking", "predictors", "regret", "rivals", "robust", "whole_bill"),  # our own
)
"""Modules or folders of `figures/`, in the order of the page."""

FIGURES: dict[str, PaperFigure] = {
    figure.number: figure for figure in (import_module(f"{__package__}.figures.{name}").FIGURE for name in NAMES)
}
MARKER = "figures.json"
SCHEMA = "figure-result/2"


@dataclass(frozen=True)
class Asked:
    """A figure that was asked for: its file, and its settings at the scale."""

    figure: PaperFigure
    file: FigureFile
    settings: FigureSettings

    @property
    def key(self) -> str:
        """Hash of the resolved settings, and of the code that computes, judges and draws the figure."""
        return result_key(self.settings, self.figure.module, shown=True)


def asked_for(numbers: Sequence[str], scale: Scale, seed: int, configs: Path | None = None) -> list[Asked]:
    """The figures of these numbers, all where none is named, with their settings.

    Args:
        configs: folder of the YAML files; the packaged one by default.

    Raises InputError for a number that is no figure's, and for what is wrong in a file.
    """
    for number in numbers:
        if number.lstrip("0") not in FIGURES:
            raise InputError(f"--only {number}: no such figure; known: {', '.join(FIGURES)}")
    chosen = {number.lstrip("0") for number in numbers} or set(FIGURES)
    folder = configs or config_path("")
    found = []
    for number, figure in FIGURES.items():
        if number in chosen:
            path = folder / f"{figure.name}.yaml"
            file = read_model(FigureFile, path)
            settings = resolved(figure.settings, file, path, scale, seed, folder / "workloads.yaml")
            found.append(Asked(figure, file, settings))
    return found


def run_figures(
    asked: Sequence[Asked],
    scale: Scale,
    seed: int,
    out: Path,
    fresh: bool,
    workers: int,
    page: Path | None = None,
) -> dict[str, Any]:
    """Compute the figures that are not in `out` yet, and write the claims table and the page of all that are.

    Args:
        page: where the page stands; `out`/paper.md by default.

    Returns what claims.json holds. Raises InputError where `out` holds figures of another scale or seed.
    """
    _mark(out, scale, seed)
    todo = [x for x in asked if fresh or _finished(out, x) is None]
    for x in asked:
        if x not in todo:
            log.print(
                f"Figure {x.figure.number}: already there ({out / x.figure.name}.csv); --fresh recomputes it"
            )
    if todo:
        prices_of = sorted({price_list_date(x.settings.profile) for x in todo})
        write_provenance(out, scale=scale, seed=seed, price_list_dates=prices_of)
    failed = _record(todo)
    for number, x in enumerate(todo, 1):
        error = failed.get(x.figure.number)
        what = f"[{number}/{len(todo)}] {x.figure.number}: {x.file.title}"
        _make(x, Store(out / "cells", fresh, 1 if x.figure.alone else workers), scale, out, what, error)
    return _summary(out, scale, page or out / "paper.md")


def _mark(out: Path, scale: Scale, seed: int) -> None:
    """Note whose figures the folder holds."""
    mine = {"schema": "figures/1", "scale": scale, "seed": seed}
    try:
        there = json.loads((out / MARKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        there = mine
    except OSError as error:
        raise InputError(f"--out {out}: expected a folder: {error.strerror}") from None
    if there != mine:
        raise InputError(
            f"--out {out}: holds figures of scale '{there.get('scale')}', seed {there.get('seed')}; "
            f"expected a new folder for '{scale}', seed {seed}"
        )
    _write(out / MARKER, mine)


def _record(todo: Sequence[Asked]) -> dict[str, Exception]:
    """Record whatever routing the figures need, one pass for all gates of a model and text; errors by figure."""
    from moe.routing.record import cached_records

    needed: dict[tuple[Any, ...], dict[Any, list[str]]] = {}
    for x in todo:
        for cell in x.figure.cells(x.settings):
            r = cell.recording
            of_pass = needed.setdefault((r.model, r.corpus, r.tokens, r.sequence_tokens, r.seed), {})
            numbers = of_pass.setdefault(r, [])
            if x.figure.number not in numbers:
                numbers.append(x.figure.number)
    failed: dict[str, Exception] = {}
    for place, ((model, corpus, tokens, *_), recordings) in enumerate(needed.items(), 1):
        what = f"recording {place}/{len(needed)}: {tokens:,} tokens of {corpus} through {model}"
        began = time.perf_counter()
        try:
            with progress(what, "tokens") as update:
                found = cached_records(list(recordings), progress=update)
        except Exception as error:  # the figures that need it fail; the others go on
            failed |= {number: error for numbers in recordings.values() for number in numbers}
            log.print(f"{what}: failed: {error}", soft_wrap=True)
            continue
        if not all(x.was_cached for x in found):
            log.print(f"{what}, {len(recordings)} sets of gates", faint(f"({time.perf_counter() - began:.1f} s)"))
    return failed


def _make(x: Asked, store: Store, scale: Scale, out: Path, what: str, error: Exception | None) -> None:
    """Compute one figure and write its files; what goes wrong is written, too."""
    name, wall, own = x.figure.name, time.perf_counter(), time.process_time()
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "figure": x.figure.number,
        "title": x.file.title,
        "scale": scale,
        "key": x.key,
        "paper": x.file.paper,
        "recorded_on": _recorded_on(x.settings),
        "table": f"{name}.csv",
        "picture": f"{name}.png" if x.figure.draw else None,
    }
    (out / f"{name}.json").unlink(missing_ok=True)
    try:
        if error is not None:
            raise error
        cells = x.figure.cells(x.settings)
        with progress(what, "cells") as update:
            rows = store.values(name, x.figure.compute, cells, update)
        data = x.figure.table([row for of_cell in rows for row in of_cell])
        write_whole(out / f"{name}.csv", data.to_csv(index=False, float_format="%.6g"))
        if x.figure.draw is not None:
            picture = x.figure.draw(data)
            picture.supxlabel("\n".join(result["recorded_on"]), fontsize=6.5, x=0.005, ha="left", color="#555555")
            style.save(picture, out / name)
        cases = x.figure.claims(data)
        result |= {"claims": as_rows(joined(cases)), "cases": as_rows(cases), "error": None}
        confirmed = [claim["confirmed"] for claim in result["claims"]]
        said = f"{confirmed.count(True)} claims confirmed, {confirmed.count(False)} not"
    except Exception as problem:
        result |= {
            "claims": [],
            "cases": [],
            "error": f"{type(problem).__name__}: {' '.join(str(problem).split())}",
        }
        said = f"failed: {result['error']}"
    process_s = store.process_s + (time.process_time() - own if store.workers > 1 else 0.0)
    seconds = {"wall_s": time.perf_counter() - wall, "process_s": process_s}
    _write(out / f"{name}.json", result)
    times = _read(out / "wall_times.json") or {}
    _write(out / "wall_times.json", times | {name: seconds})
    log.print(f"{what}: {said}", faint(f"({seconds['wall_s']:.1f} s)"), soft_wrap=True)


def _recorded_on(settings: FigureSettings) -> list[str]:
    """Whose routing stands for each model, and which text for the paper's."""
    models = [
        f"{m.title}: sizes of {m.spec}, routing recorded on {m.record} with "
        f"{' and '.join(settings.kinds_of_gates(m))} gates"
        for m in settings.models
    ]
    return models + [f"{t.title}: {t.corpus}, {t.tokens:,} tokens, for {t.stands_for}" for t in settings.texts]


def _summary(out: Path, scale: Scale, page: Path) -> dict[str, Any]:
    """The claims table of every figure that is in the folder, as CSV, JSON and page."""
    import pandas as pd

    there = [x for figure in FIGURES.values() if (x := _read(out / f"{figure.name}.json")) is not None]
    results = [x for x in there if x.get("schema") == SCHEMA]
    for old in (x for x in there if x.get("schema") != SCHEMA):
        log.print(
            f"Figure {old.get('figure')}: left out of {page}, made by an earlier version; --only makes it again"
        )
    rows = [claim for result in results for claim in result["claims"]]
    write_whole(out / "claims.csv", pd.DataFrame(rows).to_csv(index=False))
    failed = {result["figure"]: result["error"] for result in results if result["error"]}
    summary = {"schema": "claims/1", "scale": scale, "out": str(out), "claims": rows, "failed": failed}
    _write(out / "claims.json", summary)
    made = {result["figure"] for result in results}
    missing = [f"figure {x}" if x.isdigit() else x for x in FIGURES if x not in made]
    write_page(results, scale, out, page, missing)
    return summary


def _finished(out: Path, x: Asked) -> dict[str, Any] | None:
    """The result that is there, if it is that of these settings and this code, and whole."""
    result = _read(out / f"{x.figure.name}.json")
    files = [f"{x.figure.name}.csv"] + ([f"{x.figure.name}.png", f"{x.figure.name}.svg"] if x.figure.draw else [])
    if result is None or result.get("error") or result.get("key") != x.key:
        return None
    return result if all((out / name).is_file() for name in files) else None


def _read(path: Path) -> dict[str, Any] | None:
    """The mapping in a JSON file; None where there is none, or a half-written one."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _write(path: Path, data: dict[str, Any]) -> None:
    write_whole(path, json.dumps(data, indent=1, default=str) + "\n")
