"""An experiment with `cost:`: the answer of `./smoe cost` in the folder of a run, and as a row of a sweep."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.cost.answer import Answer, Asking, answer, asking
from experiments.cost.files import flat, write_tables
from experiments.cost.picture import drawn
from experiments.cost.report import money
from experiments.run.cost_schema import CostExperiment
from experiments.run.folder import RunFolder
from experiments.tools.console import out
from moe.errors import InputError
from moe.files import read_settings, source_of, validated

TEXT = "cost.txt"


def load_cost(path: Path, settings: Sequence[str]) -> CostExperiment:
    """The YAML with settings applied, and all that it names checked. Raises InputError."""
    source = source_of(path, settings)
    experiment = validated(CostExperiment, read_settings(path, settings), source)
    try:
        check(experiment)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    return experiment


def check(experiment: CostExperiment) -> Asking:
    """What an experiment asks. Raises InputError, which names its keys where the command would name options."""
    try:
        return asking(experiment.cost, experiment.model(), experiment.seed)
    except InputError as error:
        raise InputError(_of_keys(str(error))) from None


def run_cost(experiment: CostExperiment, folder: RunFolder) -> dict[str, Any]:
    """Compare the contenders, fill the folder, and return what result.json holds. Raises InputError."""
    asked = check(experiment)
    folder.begin(experiment)
    found: Answer = answer(asked)
    write_tables(found.compared, found.data, folder.path)
    drawn(found.compared, folder.path / "cost")
    ending = "" if found.nobody is None else f"\n{_of_keys(found.nobody)}"
    folder.write(TEXT, f"{found.text}{ending}\n")
    about = {"name": experiment.name, "about": experiment.about, "key": folder.key}
    result = {"schema": found.data["schema"]} | about | found.data
    folder.finish(result)
    return result


def nobody(result: dict[str, Any]) -> bool:
    """Whether no contender serves at any number of requests that was asked for."""
    return all(point["cheapest"] is None for point in points_of(result))


def show_cost(folder: RunFolder) -> None:
    """Print the answer, and where to look."""
    out.print((folder.path / TEXT).read_text(encoding="utf-8"), soft_wrap=True, markup=False, highlight=False)
    out.print(
        f"Look at {folder.shown}/: cost.png, cost.csv, cost.parquet, result.json, curve.csv, plans/. "
        f"./smoe report {folder.shown} makes a page of it.",
        soft_wrap=True,
    )


def points_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Contenders at each number of requests that was asked for."""
    if "points" in result:
        points: list[dict[str, Any]] = result["points"]
        return points
    of_one = {key: result[key] for key in ("contenders", "cheapest")}
    return [{"requests_per_month": result["traffic"]["requests_per_month"]} | of_one]


def rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each contender at each number of requests."""
    return [
        {"contender": each["name"], "requests_per_month": point["requests_per_month"]}
        | {key: value for key, value in flat(each).items() if key != "name"}
        for point in points_of(result)
        for each in point["contenders"]
    ]


def shown(result: dict[str, Any]) -> dict[str, str]:
    """Who is cheapest, and who is next, at the first number of requests: heading -> text."""
    serving = [each for each in points_of(result)[0]["contenders"] if each["monthly_usd"] is not None]
    first, following = [*serving, None, None][:2]
    return {
        "cheapest": "nobody serves" if first is None else first["name"],
        "USD a month": "" if first is None else money(first["monthly_usd"]),
        "next": "" if following is None else following["name"],
        "its USD": "" if following is None else money(following["monthly_usd"]),
    }


def _of_keys(text: str) -> str:
    """`--tokens-in` as the file's `cost.tokens_in`."""
    return re.sub(r"--([a-z][a-z-]*)", lambda found: f"cost.{found[1].replace('-', '_')}", text)
