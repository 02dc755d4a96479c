"""./smoe plan with the paper's solvers: what a user sees of ODS's rounds and of a MIQCP that fails."""

import json
from pathlib import Path

from simulator.plan import read_plan, read_problem
from tests.conftest import EXAMPLES
from tests.experiments.conftest import Run

TINY = str(EXAMPLES / "tiny.problem.json")


def test_ods_shows_its_rounds_and_its_ratio_beside_the_true_one(smoe: Run, tmp_path: Path) -> None:
    trace, out = tmp_path / "trace.json", tmp_path / "plan.json"
    code, said, _ = smoe("plan", TINY, "--solver", "ods", "--latency-limit", "6.5", "--set", f"trace={trace}")
    assert code == 0
    assert "round 1:" in said
    assert "Theorem 1's ratio (the paper's claim):" in said
    found = json.loads(trace.read_text())
    assert found["rounds"][-1]["layer"] is None
    assert found["paper_ratio"] >= 1
    code, said, _ = smoe("plan", TINY, "--solver", "ods", "--latency-limit", "6.5", "--json", "--out", str(out))
    plan = json.loads(said)
    assert found["optimum"] == plan["lower_bound"]
    assert found["cost_over_optimum"] == plan["billed_gb_s"] / plan["lower_bound"]
    assert read_plan(out, read_problem(TINY)).solver == "ods"


def test_only_ods_has_a_trace(smoe: Run, tmp_path: Path) -> None:
    code, _, err = smoe("plan", TINY, "--set", f"trace={tmp_path / 'trace.json'}")
    assert code == 2
    assert "--set trace: solver 'exact' has no rounds" in err


def test_a_miqcp_without_a_plan_in_time_is_one_line_and_exit_1(smoe: Run) -> None:
    code, out, err = smoe("plan", TINY, "--solver", "miqcp", "--set", "time_limit_s=0.000001", "--json")
    assert code == 1
    assert json.loads(out) == {"feasible": None, "time_limit_s": 1e-6, "lower_bound": None}
    assert "miqcp-scip: no plan found within the time limit of 1e-06 s" in err
    assert len(err.splitlines()) == 1


def test_options_reach_the_solver_that_takes_them(smoe: Run) -> None:
    options = ("--set", "backend=scip", "--set", "warm_start=ods", "--set", "time_limit_s=1", "--json")
    code, out, _ = smoe("plan", TINY, "--solver", "miqcp", *options)
    assert (code, json.loads(out)["solver"]) == (0, "miqcp-scip")
    code, out, _ = smoe(
        "plan", TINY, "--solver", "ods", "--set", "inner=scip", "--latency-limit", "none", "--json"
    )
    assert (code, json.loads(out)["solver"]) == (0, "ods-scip")
    code, _, err = smoe("plan", TINY, "--solver", "ods", "--set", "backend=scip")
    assert code == 2
    assert "solver 'ods': no option 'backend'" in err
