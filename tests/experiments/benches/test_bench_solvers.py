"""The leaderboard of solvers: the problems are those that its table is of, and a solver of one's own joins it."""

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from experiments.benches import solvers
from experiments.cli import cli
from moe.errors import InputError

OWN = """
from optimizer.solvers import solve

def dearer(problem):
    return solve(problem, "lambdaml")
"""


@pytest.mark.parametrize("name", solvers.problem_names())
def test_each_kept_problem_is_the_one_that_was_committed(name: str) -> None:
    """Costs of two boards compare only if both are of the same problem."""
    if "58x256" not in name:  # its 2 MB are read where it is played
        assert solvers.read_kept(name).latency_limit_s
    assert len(solvers.problem_names()) == 10


def test_a_changed_problem_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = solvers.problem_names()[0]
    (tmp_path / "problems.yaml").write_text((solvers.FOLDER / "problems.yaml").read_text())
    changed = json.loads(gzip.decompress((solvers.FOLDER / f"{name}.json.gz").read_bytes()))
    changed["latency_limit_s"] *= 2
    (tmp_path / f"{name}.json.gz").write_bytes(gzip.compress(json.dumps(changed).encode()))
    monkeypatch.setattr(solvers, "FOLDER", tmp_path)
    with pytest.raises(InputError, match="expected SHA-256"):
        solvers.read_kept(name)


def test_an_own_solver_joins_and_no_solver_is_below_the_certified_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solvers, "PLAYED", 2)
    monkeypatch.setattr(solvers, "OF_EXPERTS", ("exact", "lambdaml", "reactive"))
    (tmp_path / "own_board.py").write_text(OWN)
    arguments = ["bench", "solvers", "--problem", "bert-12x4-usd", "--solver", "own_board:dearer"]
    done = CliRunner().invoke(cli, [*arguments, "--plugins", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    rows = {row["solver"]: row for row in json.loads(done.stdout)["rows"]}
    assert set(rows) == {*solvers.OF_EXPERTS, "own_board:dearer"}
    assert rows["own_board:dearer"]["cost"] == rows["lambdaml"]["cost"] > rows["exact"]["cost"]
    assert rows["exact"]["over_front"] == pytest.approx(0, abs=1e-9)
    assert all(row["over_front"] >= -1e-9 for row in rows.values() if row["over_front"] is not None)
    assert rows["reactive"]["over_front"] is None  # it breaks a constraint that no front allows
    assert "payload" in rows["reactive"]["broken"]
