"""What a person gets wrong: one line that names it, exit 2, no traceback. Else they are left alone with it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import EXAMPLES
from tests.experiments.conftest import Run

QUICKSTART = "experiments/configs/quickstart.yaml"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("workload.topk=2", "workload.topk: unknown key; did you mean 'top_k'?"),
        ("wrokload.top_k=2", "wrokload: unknown key; did you mean 'workload'?"),
        ("workload.top_k=9", "top_k: expected at most experts = 8, got 9"),
        ("workload.batch_tokens=many", "workload.batch_tokens: input should be a valid integer"),
        ("workload.batch_tokens=-5", "workload.batch_tokens: input should be greater than or equal to 1, got -5"),
        (
            "workload.gate=randm",
            "expected 'random', 'standardised', 'trained' or 'own', got 'randm'; did you mean 'random'?",
        ),
        ("workload.spec=bert-mo", "no preset 'bert-mo'; did you mean 'bert-moe'?"),
        ("workload.spec=bert-moe", "workload.layers_of_recording"),
        ("workload.corpus=wikipdia", "did you mean 'wikipedia'?"),
        (
            "platform.memory_mb=[64, 128]",
            "platform.memory_mb.0: input should be greater than or equal to 128, got 64",
        ),
        ("platform.memory_mb=[20000]", "less than or equal to 10240, got 20000"),
        ("platform.profile=aws-us-east-1", "did you mean 'aws-us-east-1-2026'?"),
        ("prediction.predictor=bays", "did you mean 'bayes'?"),
        ("target.latency_limit_s=-1", "target.latency_limit_s: input should be greater than 0, got -1"),
        ("plans=[odds]", "no solver 'odds'; did you mean 'ods'?"),
        ("workload.batch_tokens", "expected key.key=value"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_is_computed(
    smoe: Run, setting: str, said: str, tmp_path: Path
) -> None:
    code, out, err = smoe("run", QUICKSTART, "--set", setting, "--out", str(tmp_path / "out"))
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_a_missing_file_is_named(smoe: Run) -> None:
    assert smoe("run", "nowhere.yaml") == (2, "", "smoe: nowhere.yaml: no such file\n")


def test_broken_yaml_says_where(smoe: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("workload: [1, 2\nname: x\n")
    code, _, err = smoe("run", str(tmp_path / "broken.yaml"))
    assert code == 2
    assert "not valid yaml" in err
    assert "line 2" in err


def test_an_unknown_command_names_the_nearest(smoe: Run) -> None:
    assert smoe("rnu", QUICKSTART)[::2] == (2, "smoe: no command 'rnu'; did you mean 'run'?\n")


def test_no_command_shows_the_help(smoe: Run) -> None:
    code, out, err = smoe()
    assert (code, err) == (0, "")
    assert len(out.splitlines()) > 10


def test_an_unreadable_trace_is_named(smoe: Run, tmp_path: Path) -> None:
    (tmp_path / "trace.parquet").write_bytes(b"PAR1 no such thing")
    path = str(tmp_path / "trace.parquet")
    code, _, err = smoe("predict", "--profiled", path, "--serve", path, "--out", str(tmp_path / "pop.parquet"))
    assert code == 2
    assert path in err


def test_a_limit_that_nothing_meets_says_the_least_latency(smoe: Run) -> None:
    code, out, err = smoe("plan", str(EXAMPLES / "bert-4.problem.json"), "--latency-limit", "27.3", "--json")
    assert code == 2
    answer = json.loads(out)
    assert answer["feasible"] is False
    assert 27.345 < answer["least_latency_s"] < 27.649
    assert "least achievable latency" in err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p["layers"][0]["experts"][1].update(tokens=-1), "layers.0.experts.1.tokens"),
        (lambda p: p["layers"][1]["seconds_per_token"].pop(), "layers.1.seconds_per_token has 2 values for 3"),
        (
            lambda p: p["platform"].update(storage_bandwidth_bytes_per_s=0),
            "platform.storage_bandwidth_bytes_per_s",
        ),
        (lambda p: p["platform"].update(memory_mb=[768, 64, 3072]), "platform.memory_mb.1"),
        (lambda p: p.pop("head_s"), "head_s: required, but missing"),
        (
            lambda p: p["platform"].update(warm_strat_s=1),
            "warm_strat_s: unknown key; did you mean 'warm_start_s'?",
        ),
        (
            lambda p: p["layers"][0]["experts"][0].update(parameter_bytes=9e9),
            "problem.json: layers.0.experts.0: needs 8733 MB with 4 replicas, the largest of platform.memory_mb",
        ),
        (lambda p: p["layers"][0]["experts"][0].update(tokens=float("nan")), "should be a finite number, got nan"),
        (lambda p: p["layers"][0].update(token_out_bytes=-1), "layers.0.token_out_bytes: input should be greater"),
        (
            lambda p: p["platform"].update(storage_bandwidth_bytes_per_s=[1e6, 1e6]),
            "storage_bandwidth_bytes_per_s has 2 values for 3 memory_mb",
        ),
        (
            lambda p: p["platform"].update(direct_bandwidth_bytes_per_s=0),
            "platform.direct_bandwidth_bytes_per_s: input should be greater than 0, got 0",
        ),
        (lambda p: p["layers"][0].update(seconds_per_call=[1.0]), "seconds_per_call has 1 values for 3 memory_mb"),
        (lambda p: p["platform"].update(memory_mb=[3072, 768, 128]), "memory_mb must increase"),
        (lambda p: p["platform"].update(max_replicas=0), "platform.max_replicas"),
        (lambda p: p.update(layers=[]), "layers: tuple should have at least 1 item"),
        (lambda p: p.update(latency_limit_s=0), "latency_limit_s: input should be greater than 0, got 0"),
        (lambda p: p.update(objective="gbs"), "got 'gbs'; did you mean 'gb_s'?"),
    ],
)
def test_an_impossible_problem_is_named(
    smoe: Run, tmp_path: Path, change: Callable[[dict], object], said: str
) -> None:
    problem = json.loads((EXAMPLES / "tiny.problem.json").read_text())
    change(problem)
    (tmp_path / "problem.json").write_text(json.dumps(problem))
    code, _, err = smoe("plan", str(tmp_path / "problem.json"))
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_a_plan_for_another_problem_is_refused(smoe: Run) -> None:
    code, _, err = smoe("simulate", str(EXAMPLES / "tiny.problem.json"), str(EXAMPLES / "bert-4.plan.json"))
    assert code == 2
    assert "layers: expected 2, as in the problem, got 12" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--solver", "exat"], "did you mean 'exact'?"),
        (["--set", "gap=-1"], "gap: expected a share from 0 to below 1, got -1.0"),
        (["--set", "gap=nan"], "gap: input should be a finite number, got 'nan'"),
        (["--set", "gap=0.1", "--solver", "lambdaml"], "solver 'lambdaml': no option 'gap'"),
        (["--latency-limit", "nan"], "--latency-limit: expected seconds > 0, or none, got 'nan'"),
        (["--front", "--set", "tolerance=-1"], "tolerance: expected a share of the cost, at least 0, got -1.0"),
        (["--front", "--out", "front.txt"], "--out: with --front expected a name ending in .csv or .parquet"),
        (
            ["--front", "--set", "figure=front.pdf"],
            "--set figure: with --front expected a name ending in .png",
        ),
        (["--set", "figure=front.png"], "--set figure, tolerance: expected together with --front"),
        (["--front", "--latency-limit", "5"], "the least achievable latency is 6.21228 s"),
    ],
)
def test_a_wrong_option_of_plan_is_named(smoe: Run, options: list[str], said: str) -> None:
    code, out, err = smoe("plan", str(EXAMPLES / "tiny.problem.json"), *options)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "command",
    [
        ("run", "experiments/configs/quickstart.yaml"),
        ("figures", "--quick", "--only", "4"),
        ("schema", "plan"),
    ],
    ids=lambda command: command[0],
)
def test_what_cannot_be_written_is_one_line(smoe: Run, command: tuple[str, ...]) -> None:
    """A folder that cannot be made costs a line and exit code 1, not a page of Python."""
    code, _, err = smoe(*command, "--out", "/proc/no/there")
    assert code == 1
    assert len(err.strip().splitlines()) == 1
    assert "/proc/no/there" in err
    assert ": cannot be written: " in err
