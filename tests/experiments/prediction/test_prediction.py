"""The command predict, on files that a user brings."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moe.trace import RoutingTrace, save_trace
from optimizer.popularity import ProfileTable, load_table, predictor, save_table
from optimizer.popularity.synthetic import synthetic_trace
from tests.conftest import EXAMPLES
from tests.experiments.conftest import Run


def trace_of(seed: int, tokens: int = 2048, layers: int = 2, top_k: int = 1) -> RoutingTrace:
    return synthetic_trace(
        seed, tokens, layers=layers, experts=3, top_k=top_k, vocabulary=50, sequence_tokens=16, determined=0.9
    )


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A profile in two halves, its table, and a trace to serve."""
    whole = trace_of(1)
    save_trace(whole, tmp_path / "whole.parquet")
    save_trace(whole.slice(0, 1024), tmp_path / "a.parquet")
    save_trace(whole.slice(1024, 2048), tmp_path / "b.parquet")
    save_table(ProfileTable.from_trace(whole.slice(1024, 2048)), tmp_path / "b-table.parquet")
    save_trace(trace_of(2, 640), tmp_path / "served.parquet")
    names = ("whole", "a", "b", "b-table", "served")
    return {name: str(tmp_path / f"{name}.parquet") for name in names} | {"folder": str(tmp_path)}


@pytest.mark.parametrize("options", [(), ("--predictor", "bayes", "--variant", "mixture", "--counting", "hard")])
def test_it_predicts_what_the_library_predicts(smoe: Run, files: dict[str, str], options: tuple[str, ...]) -> None:
    out = files["folder"] + "/pop.parquet"
    code, text, _ = smoe(
        "predict", "--profiled", files["whole"], "--serve", files["served"], *options, "--out", out, "--json"
    )
    assert code == 0
    answer = json.loads(text)
    chosen = {"variant": "mixture", "counting": "hard"} if options else {"counting": "expected"}
    served = trace_of(2, 640)
    wanted = predictor("bayes", **chosen).fit(trace_of(1)).predict(served.token_id, served)
    np.testing.assert_array_equal(answer["popularity"], wanted)
    assert answer["mean_error_tokens"] == pytest.approx(np.abs(wanted - served.popularity()).mean())
    assert answer["options"] == chosen
    rows = pd.read_parquet(out)
    np.testing.assert_allclose(rows.tokens, wanted.ravel())
    np.testing.assert_array_equal(rows.real, served.popularity().ravel())


def test_profiles_merge_whether_traces_or_tables(smoe: Run, files: dict[str, str]) -> None:
    answers = []
    for profile in (["whole"], ["a", "b"], ["b", "a"], ["a", "b-table"]):
        given = [x for name in profile for x in ("--profiled", files[name])]
        table = files["folder"] + "/table.parquet"
        code, text, _ = smoe("predict", *given, "--serve", files["served"], "--save-table", table, "--json")
        assert code == 0
        answers.append(json.loads(text)["popularity"])
        assert load_table(table).expert_counts().tolist() == trace_of(1).popularity().tolist()
    assert answers.count(answers[0]) == 4
    code, text, err = smoe("predict", "--profiled", files["a"], "--save-table", table)
    assert (code, err) == (0, "")
    assert "1,024 tokens" in text


def test_comparing_shows_every_predictor(smoe: Run, files: dict[str, str]) -> None:
    given = ("--profiled", files["whole"], "--serve", files["served"], "--compare")
    code, text, _ = smoe("predict", *given, "--json")
    assert code == 0
    found = {(row["predictor"], *row["options"].values()): row for row in json.loads(text)["predictors"]}
    assert len(found) == 15
    assert found["oracle",]["mean_error_share"] == 0
    assert found["lina", "expected"]["mean_error_share"] < found["uniform",]["mean_error_share"]
    code, text, _ = smoe("predict", *given, "--counting", "hard")
    assert code == 0
    assert "bayes, backoff, hard" in text.replace("\n", " ")
    assert "expected" not in text
    code, text, _ = smoe("predict", "--profiled", files["b-table"], *given[2:], "--json")
    assert code == 0
    named = {row["predictor"] for row in json.loads(text)["predictors"]}
    assert named == {"bayes", "lina", "position", "history", "uniform", "oracle"}


def test_the_regret_is_of_a_batch_of_the_problem(smoe: Run, files: dict[str, str]) -> None:
    problem = str(EXAMPLES / "tiny.problem.json")
    given = ("--profiled", files["whole"], "--serve", files["served"], "--problem", problem)
    code, text, _ = smoe("predict", *given, "--compare", "--json")
    assert code == 0, text
    rows = {row["predictor"]: row["regret"] for row in json.loads(text)["predictors"]}
    assert rows["oracle"]["share"] == 0
    assert rows["oracle"]["made"] == rows["oracle"]["best"] == rows["uniform"]["best"]
    assert {"cost", "latency_s", "late", "overflowed"} == set(rows["uniform"]["best"])
    code, text, _ = smoe("predict", *given, "--predictor", "uniform")
    assert code == 0
    assert "regret" in text
    code, text, err = smoe("predict", *given[:-1], str(EXAMPLES / "bert-4.problem.json"))
    assert code == 2
    assert "expected popularity of its 12 layers x 4 experts, got 2 x 3" in err


def test_a_predictor_of_a_user_s_own_is_compared(
    smoe: Run, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files["folder"])
    Path("theirs.py").write_text(
        "import numpy as np\n"
        "from optimizer.popularity import Predictor\n"
        "class Last(Predictor):\n"
        "    def learn(self, trace):\n"
        "        self.last = trace.slice(trace.tokens - 256, trace.tokens).popularity() / 256\n"
        "    def popularity(self, batch):\n"
        "        return self.last * len(batch.token_id)\n"
    )
    given = ("--profiled", files["whole"], "--serve", files["served"], "--predictor", "theirs:Last", "--json")
    code, text, _ = smoe("predict", *given)
    assert code == 0
    alone = json.loads(text)
    code, text, _ = smoe("predict", *given, "--compare")
    assert code == 0
    assert json.loads(text)["predictors"][-1]["popularity"] == alone["popularity"]
    for wrong, said in (("[[1.0]]", r"expected (2, 3) layers and experts"), ("self.last * np.nan", "tokens >= 0")):
        Path("bad.py").write_text(
            "import numpy as np\nimport theirs\nclass Bad(theirs.Last):\n"
            f"    def popularity(self, batch):\n        return {wrong}\n"
        )
        sys.modules.pop("bad", None)
        importlib.invalidate_caches()
        code, text, err = smoe("predict", *given[:-2], "bad:Bad")
        assert (code, text) == (2, "")
        assert said in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--predictor", "bayess"), "no predictor 'bayess'; did you mean 'bayes'?"),
        (("--predictor", "nothing:Here"), "no module nothing of your own in"),
        (("--variant", "mix"), "no variant 'mix'; did you mean 'mixture'?"),
        (("--counting", "soft"), "counting: expected 'hard' or 'expected', got 'soft'"),
        (("--predictor", "lina", "--strength", "2"), "predictor 'lina': no option 'strength'"),
        (("--predictor", "similar-prompts", "--neighbours", "0"), "neighbours: expected at least 1"),
        (("--compare", "--out", "x.parquet"), "--out: expected one prediction to write"),
        (("--problem", "none.json"), "none.json: no such file"),
    ],
)
def test_wrong_options_are_told_in_one_line(
    smoe: Run, files: dict[str, str], options: tuple[str, ...], said: str
) -> None:
    code, out, err = smoe("predict", "--profiled", files["whole"], "--serve", files["served"], *options)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_wrong_files_are_told_in_one_line(smoe: Run, files: dict[str, str]) -> None:
    folder = Path(files["folder"])
    save_trace(trace_of(3, layers=3), folder / "three.parquet")
    save_trace(trace_of(3, top_k=2), folder / "two.parquet")
    table = ProfileTable.from_trace(trace_of(1))
    empty = table.with_counts(table.keys, np.zeros(len(table)))
    save_table(empty, folder / "empty.parquet")
    pd.DataFrame({"layer": [0]}).to_parquet(folder / "other.parquet")

    def refused(profiled: list[str], served: str, *more: str) -> str:
        given = [x for name in profiled for x in ("--profiled", str(folder / f"{name}.parquet"))]
        code, out, err = smoe("predict", *given, "--serve", str(folder / f"{served}.parquet"), *more)
        assert (code, out) == (2, "")
        assert len(err.strip().splitlines()) == 1
        return err

    error = refused(["whole"], "three")
    assert (
        f"{folder}/three.parquet: expected (2, 3, 1) layers, experts and top-k as in {folder}/whole.parq" in error
    )
    assert "got (2, 3, 2)" in refused(["a", "two"], "served")
    assert "layer 0: expected more than 0 in all, got 0" in refused(["empty"], "served")
    assert f"{folder}/other.parquet: schema: expected a routing trace" in refused(["other"], "served")
    assert "a profile table is not enough" in refused(["b-table"], "served", "--predictor", "lstm")
    assert "expected a routing trace ('routing-trace/1'), got 'profile-table/1'" in refused(["a"], "b-table")
    code, _, err = smoe("predict", "--profiled", files["a"])
    assert code == 2
    assert "--serve: expected a trace to predict, or --save-table" in err
