"""The notebook: if this fails, the first thing that a reader runs in Jupyter ends in an error."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

NOTEBOOK = Path(__file__).resolve().parents[3] / "docs" / "notebook.ipynb"


def test_its_cells_run_in_order_and_say_what_they_conclude(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # it needs no file of the repository
    matplotlib.use("agg")
    cells = [
        cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"
    ]
    assert len(cells) >= 5
    assert not any(cell["outputs"] for cell in cells), "outputs are not committed"
    names: dict[str, Any] = {}
    for cell in cells:
        exec("".join(cell["source"]), names)
    exact, lambdaml = names["plans"]["exact"], names["plans"]["lambdaml"]
    assert exact.feasible
    assert exact.billed_gb_s <= names["plans"]["ods"].billed_gb_s
    _, experts, whole = (over_lambdaml(names["played"], k) for k in range(3))
    assert exact.billed_gb_s < lambdaml.billed_gb_s
    assert abs(experts - 1) > abs(whole - 1), "the bill of the experts differs more than the whole bill"
    assert names["axes"].get_legend() is not None
    names["plt"].close("all")


def over_lambdaml(played: dict[str, tuple[float, ...]], k: int) -> float:
    """What the exact plan has of LambdaML's, when played."""
    return played["exact"][k] / played["lambdaml"][k]
