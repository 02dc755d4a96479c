"""Policies of a user's own, from a file to a bill."""

from pathlib import Path

import pytest

from tests.experiments.conftest import Run

OWN = "class Idle:\n    def arrived(self, service, function): ...\n"
SCENARIO = """
schema: traffic-scenario/1
name: own
arrivals: {poisson: {rate_per_s: 1}}
requests: 5
slo_s: 10
function: {memory_mb: 512, work: {constant_s: 0.1}}
prewarming: {policy: "%s"}
"""


def test_a_policy_beside_the_scenario_or_named_by_the_user_is_found(
    smoe: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, module in (("scenarios", "idle_beside"), ("code", "idle_elsewhere"), ("here", "idle_here")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{module}.py").write_text(OWN)
        (tmp_path / "scenarios" / f"{module}.yaml").write_text(SCENARIO % f"{module}:Idle")
    monkeypatch.chdir(tmp_path / "here")
    there = tmp_path / "scenarios"
    assert smoe("traffic", str(there / "idle_beside.yaml"), "--out", "1", "--json")[0] == 0
    elsewhere = str(there / "idle_elsewhere.yaml")
    assert smoe("traffic", elsewhere, "--plugins", str(tmp_path / "code"), "--out", "2", "--json")[0] == 0
    for refused in (elsewhere, str(there / "idle_here.yaml")):
        code, out, err = smoe("traffic", refused, "--out", "3", "--json")
        assert (code, out, "of your own in" in err) == (2, "", True)


@pytest.mark.parametrize("policy", ["subprocess:Popen", "os:abort", "builtins:exec"])
def test_a_scenario_runs_no_command(
    smoe: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sent.yaml").write_text(SCENARIO % policy)
    code, out, err = smoe("traffic", "sent.yaml", "--out", "run")
    assert (code, out, len(err.strip().splitlines())) == (2, "", 1)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "sent.yaml"]
