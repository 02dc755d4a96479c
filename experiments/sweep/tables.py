"""The tables of a sweep, made from the points' folders alone: how it was computed makes no difference."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.sweep.folder import SweepFolder
from experiments.sweep.kinds import Row
from experiments.sweep.points import Point, SweepFile, short_names
from moe.parquet import write_parquet

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = "sweep-points/1"
SHOWN_POINTS = 40
SHOWN_ERRORS = 5
DONE, FAILED = "done", "failed"


@dataclass(frozen=True)
class Swept:
    """A sweep's results: what result.json says, and of each point a few figures (heading -> text)."""

    result: dict[str, Any]
    shown: list[dict[str, str]]


def write_tables(sweep: SweepFile, folder: SweepFolder) -> Swept:
    """Write points.csv, points.parquet and wall_times.csv."""
    rows: list[Row] = []
    times: list[Row] = []
    points: list[Row] = []
    shown: list[dict[str, str]] = []
    for point in sweep.points:
        result, error = folder.result(point), folder.error(point)
        found = sweep.kind.rows(result) if result else [{}]
        place = {"point": point.number, "folder": point.folder}
        parameters = {key: _value(point, key) for key in sweep.keys}
        ended = {"status": DONE if result else FAILED, "error": error}
        rows += [_joined(place | parameters | ended, row) for row in found]
        points.append(place | {"parameters": parameters} | ended)
        shown.append(sweep.kind.shown(result) if result else {})
        if result:
            times.append(place | _wall_times(folder, point))
    columns = _columns(rows)
    folder.run.write("points.csv", _csv(columns))
    folder.run.write("wall_times.csv", _csv(_columns(times)))
    write_parquet(folder.run.path / "points.parquet", columns, {"schema": SCHEMA, "name": sweep.file.name})
    result = {
        "schema": "sweep-result/1",
        "key": folder.run.key,
        "name": sweep.file.name,
        "about": sweep.file.about,
        "parameters": sweep.keys,
        "failed": sum(point["status"] == FAILED for point in points),
        "points": points,
        "rows": [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)],
    }
    return Swept(result, shown)


def _value(point: Point, key: str) -> Any:
    """What a key has at a point, defaults filled in; a list or group as JSON text."""
    found: Any = point.runnable.model_dump(mode="json", by_alias=True)
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return json.dumps(found) if isinstance(found, list | dict) else found


def _joined(head: Row, row: Row) -> Row:
    """Parameters and results in one row; a parameter called as a result keeps its value under `sweep.NAME`."""
    return {(f"sweep.{name}" if name in row else name): value for name, value in head.items()} | row


def _wall_times(folder: SweepFolder, point: Point) -> Row:
    try:
        return json.loads((folder.points / point.folder / "wall_times.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def _columns(rows: list[Row]) -> dict[str, list[Any]]:
    """Columns of rows, in the order in which their names appear; values of several types as JSON text."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return {
        name: values if _one_type(values) else [json.dumps(v) for v in values] for name, values in columns.items()
    }


def _one_type(values: list[Any]) -> bool:
    types = {type(value) for value in values} - {type(None)}
    return len(types) <= 1 or types == {int, float}


def _csv(columns: dict[str, list[Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def summary(swept: Swept) -> Table:
    """The first points: parameters and a few figures, for a terminal of 100 columns."""
    from rich import box
    from rich.table import Table

    points = swept.result["points"]
    headings = list(dict.fromkeys(name for shown in swept.shown for name in shown))
    title = f"{swept.result['name']}: {len(points):,} points"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name in ["", *short_names(swept.result["parameters"]), *headings]:
        table.add_column(_folded(name), justify="left" if name == "method" else "right", overflow="fold")
    for point, shown in list(zip(points, swept.shown, strict=True))[:SHOWN_POINTS]:
        values = ["" if value is None else str(value) for value in point["parameters"].values()]
        figures = [shown.get(name, "") for name in headings]
        if point["status"] == FAILED:
            figures[:1] = [FAILED]
        table.add_row(str(point["point"]), *values, *figures)
    return table


def _folded(heading: str) -> str:
    """A long heading in two lines."""
    if len(heading) <= 8:
        return heading
    return heading.replace(" ", "\n", 1) if " " in heading else heading.replace("_", "_\n", 1)
