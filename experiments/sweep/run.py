"""Compute a sweep: what is not there yet, several points at once, and the tables of all."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path

from experiments.run.folder import dump
from experiments.run.schema import Experiment
from experiments.sweep.executors import Executor, executor
from experiments.sweep.folder import SweepFolder
from experiments.sweep.points import Point, SweepFile
from experiments.sweep.tables import FAILED, SHOWN_ERRORS, SHOWN_POINTS, Swept, summary, write_tables
from experiments.sweep.worker import Outcome, Task
from experiments.tools.console import faint, log, out, progress
from moe.errors import InputError

LABEL = 60
PICTURE = "sweep"
DIED = "the worker was killed or crashed (out of memory?), also when it computed nothing else"


@dataclass(frozen=True)
class How:
    """How a sweep is computed; it makes no difference to the results.

    Attributes:
        workers: points at once; None: as many as there are cores.
        executor: `local` or `ray`. ray_address: of a cluster; None: $RAY_ADDRESS, else one of this machine.
        fresh: also compute what is there already.
    """

    workers: int | None = None
    executor: str = "local"
    ray_address: str | None = None
    fresh: bool = False


def run_sweep(sweep: SweepFile, out: Path | None, how: How) -> tuple[Swept, SweepFolder]:
    """Compute what is missing of a sweep, write its tables, and return them, and the folder.

    A point that failed is tried again. Raises InputError for a folder of another experiment or one that is in
    use, and for an executor that is not there.
    """
    with SweepFolder.held(sweep.file, out) as folder:
        todo = _todo(sweep, folder, how.fresh)
        there = len({point.folder for point in sweep.points}) - len(todo)
        if there:
            log.print(f"{there:,} of {there + len(todo):,} points are already there (--fresh recomputes)")
        if todo:
            with executor(how.executor, how.workers, how.ray_address) as computes:
                folder.run.begin(sweep.file)
                _record(todo)
                _compute_all(sweep, folder, todo, computes)
        swept = write_tables(sweep, folder)
        if sweep.kind.draw is not None:
            sweep.kind.draw(
                swept.result["rows"], swept.result["parameters"], sweep.file.name, folder.run.path / PICTURE
            )
        folder.run.finish(swept.result)
    return swept, folder


def _todo(sweep: SweepFile, folder: SweepFolder, fresh: bool) -> list[Point]:
    """The points to compute, each folder once."""
    first = {point.folder: point for point in reversed(sweep.points)}
    points = sorted(first.values(), key=lambda point: point.number)
    return [point for point in points if fresh or folder.result(point) is None]


def _record(points: list[Point]) -> None:
    """Record the routing that the points share, a pass of the model for all gates at once, before they need it.

    What cannot be recorded is left to its points, which then say so.
    """
    from experiments.run.workload import recording_settings

    every = [point.runnable for point in points if isinstance(point.runnable, Experiment)]
    experiments = [experiment for experiment in every if experiment.workload.is_recorded]
    if not experiments:
        return
    from moe.routing.record import cached_records, uncached_passes

    try:
        passes = uncached_passes([recording_settings(each) for each in experiments])
        for number, settings in enumerate(passes, 1):
            log.print(f"Recording routing, pass {number} of {len(passes)}: {len(settings):,} traces")
            with progress("recording", "tokens") as update:
                cached_records(settings, progress=update)
    except InputError:
        return


def _compute_all(sweep: SweepFile, folder: SweepFolder, todo: list[Point], computes: Executor) -> None:
    """Compute points and store each as soon as it is there, with progress."""
    began = time.perf_counter()

    def task(point: Point) -> Task:
        scratch = str(folder.points.resolve())
        return Task(point.runnable, point.key, os.getcwd(), scratch, tuple(sys.argv[1:]))

    with progress("computing", "points") as update:
        update(0, len(todo), 0.0)
        for done, (point, outcome) in enumerate(_outcomes(todo, task, computes), 1):
            folder.store(point, outcome)
            elapsed_s = time.perf_counter() - began
            left_s = elapsed_s / done * (len(todo) - done)
            said = f"failed: {outcome.error}" if outcome.error else _said(sweep, folder, point)
            log.print(
                f"[{done}/{len(todo)}] {_short(sweep.label(point))}: {said}",
                faint(f"({outcome.seconds:.1f} s; {_duration(left_s)} left)"),
                soft_wrap=True,
            )
            update(done, len(todo), done / elapsed_s)


def _outcomes(
    todo: list[Point], task: Callable[[Point], Task], computes: Executor
) -> Iterator[tuple[Point, Outcome]]:
    """Points in the order in which they are computed.

    A worker that dies takes those of the others with it: their points are tried again, each alone, so that the
    one which it is due to is known.
    """
    waiting, suspects = deque(todo), deque[Point]()
    running: dict[Future[Outcome], tuple[Point, bool]] = {}
    while waiting or suspects or running:
        alone = bool(suspects) or any(is_alone for _, is_alone in running.values())
        source = suspects if suspects else waiting
        while source and len(running) < (1 if alone else computes.workers):
            point = source.popleft()
            running[computes.submit(task(point))] = point, alone
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            point, was_alone = running.pop(future)
            try:
                yield point, future.result()
            except computes.died:
                if was_alone:
                    yield point, Outcome({"config.yaml": dump(point.runnable).encode()}, DIED)
                else:
                    suspects.append(point)


def _said(sweep: SweepFile, folder: SweepFolder, point: Point) -> str:
    result = folder.result(point)
    return ", ".join(f"{heading} {value}" for heading, value in sweep.kind.shown(result).items()) if result else ""


def _short(text: str) -> str:
    return text if len(text) <= LABEL else f"{text[: LABEL - 3]}..."


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def show(swept: Swept, folder: SweepFolder) -> None:
    """Print the summary table, what failed, and where to look."""
    points = swept.result["points"]
    out.print()
    out.print(summary(swept))
    if len(points) > SHOWN_POINTS:
        out.print(f"... and {len(points) - SHOWN_POINTS:,} more points.")
    failed = [point for point in points if point["status"] == FAILED]
    for point in failed[:SHOWN_ERRORS]:
        out.print(f"Point {point['point']} failed: {point['error']}", soft_wrap=True)
    if len(failed) > SHOWN_ERRORS:
        out.print(f"... and {len(failed) - SHOWN_ERRORS:,} more failed; points.csv has their errors.")
    drawn = f"{PICTURE}.png is the table; " if (folder.run.path / f"{PICTURE}.png").exists() else ""
    out.print(
        f"\nLook at {folder.run.shown}/: {drawn}points.csv and points.parquet have every point with all results, "
        "points/FOLDER/ what a single run would have written. "
        f"./smoe report {folder.run.shown} makes a page of it.",
        soft_wrap=True,
    )
