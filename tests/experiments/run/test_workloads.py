"""Workloads that an experiment names: recorded, imported, made up; the wrong ones told in one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.run.inputs import load_inputs
from experiments.run.report import described
from experiments.run.schema import Experiment, load_experiment
from experiments.run.workload import made_up, split_routing
from moe.errors import InputError
from moe.routing.foreign import import_trace
from moe.spec import load_spec
from moe.trace import RoutingTrace
from tests.experiments.conftest import Run

CONFIGS = Path("experiments/configs")
ZIPF = str(CONFIGS / "workloads" / "olmoe-zipf.yaml")
SHARED = Path(__file__).parents[4] / "shared" / "data" / "routing"
SMALL = ("profiled_tokens=256", "batch_tokens=128", "batches=2", "sequence_tokens=64")


def files() -> list[Path]:
    """The packaged experiments, but for sweeps."""
    found = (*sorted(CONFIGS.glob("*.yaml")), *sorted(CONFIGS.glob("workloads/*.yaml")))
    texts = {path: path.read_text() for path in found}
    return [path for path, text in texts.items() if "schema: experiment/1" in text and "\nsweep:" not in text]


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_every_packaged_experiment_can_be_read(path: Path) -> None:
    work = load_experiment(path).workload
    spec = load_spec(work.spec, experts=work.experts, top_k=work.top_k)
    assert work.layers_of_recording is None or len(work.layers_of_recording) == spec.moe_layers


def test_there_is_an_example_for_each_kind_of_workload() -> None:
    works = [load_experiment(path).workload for path in files()]
    assert {"bert-moe", "gpt2-moe", "bert2bert-moe"} <= {work.spec for work in works if work.is_recorded}
    assert {1, 2} <= {work.top_k for work in works}
    assert any(work.popularity for work in works)
    assert any(work.trace for work in works)
    assert any(work.gate == "own" for work in works)
    assert any(work.bootstrap for work in works)


@pytest.mark.parametrize("spec", ["bert-moe", "gpt2-moe", "bert2bert-moe"])
@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("experts", [4, 8, 16])
def test_each_of_the_papers_models_can_be_named(spec: str, experts: int, top_k: int) -> None:
    name = spec.removesuffix("-moe")
    experiment = load_experiment(
        CONFIGS / f"{name}.yaml",
        (f"workload.experts={experts}", f"workload.top_k={top_k}", "workload.corpus=news"),
    )
    inputs = load_inputs(experiment)
    assert (inputs.spec.experts, inputs.spec.top_k) == (experts, top_k)
    assert inputs.spec.moe_layers == (24 if spec == "bert2bert-moe" else 12)


def test_experts_that_are_not_said_are_those_of_the_preset() -> None:
    work = load_experiment(ZIPF).workload
    assert (work.experts, work.top_k) == (64, 8)
    assert load_experiment(ZIPF, ("workload.experts=32", "workload.top_k=2")).workload.experts == 32
    assert load_experiment(ZIPF, ("workload.spec=mixtral-8x7b",)).workload.top_k == 2


def routed(folder: Path, tokens: int = 600, layers: int = 6, experts: int = 8, top_k: int = 2) -> Path:
    order = np.random.default_rng(0).random((tokens, layers, experts)) ** np.arange(1, experts + 1)
    np.save(folder / "routed.npy", order.argsort(axis=2)[:, :, :top_k])
    return folder / "routed.npy"


def experiment(settings: list[str]) -> Experiment:
    return load_experiment(ZIPF, [f"workload.{x}" for x in (*SMALL, *settings)])


def of_trace(path: Path, *more: str) -> list[str]:
    return ["spec=minilm-moe", "experts=8", "top_k=2", "popularity=null", f"trace={path}", *more]


def test_a_run_serves_the_routing_of_a_file(smoe: Run, tmp_path: Path) -> None:
    """The whole job on what vLLM returned: the served popularity is the file's, token for token."""
    path = routed(tmp_path)
    settings = [f"--set=workload.{x}" for x in (*SMALL, *of_trace(path))]
    code, out, err = smoe(
        "run",
        ZIPF,
        *settings,
        "--set=plans=[exact]",
        "--set=target.late_share=null",
        "--out",
        str(tmp_path / "run"),
        "--json",
    )
    assert code == 0, err
    assert json.loads(out)["routing_recorded_on"]["imported_from"] == "routed.npy"
    real = pd.read_parquet(tmp_path / "run" / "popularity.parquet").real.to_numpy().reshape(6, 8)
    served = np.load(path)[256:512]
    expected = [np.bincount(served[:, layer].ravel(), minlength=8) / 2 for layer in range(6)]
    assert np.array_equal(real, expected)


def test_padding_of_a_file_is_left_out_where_the_experiment_says_so(tmp_path: Path) -> None:
    """Padding that is served would be tokens that nobody sent."""
    path = routed(tmp_path)
    read = np.load(path)
    np.save(path, np.concatenate([np.full((40, 6, 2), -1), read]))
    inputs = load_inputs(experiment(of_trace(path, "trace_drop_padding=true")))
    assert inputs.trace is not None
    assert np.array_equal(inputs.trace.experts, read)
    assert "without 40 tokens of padding" in described(inputs.trace.origin, range(6))
    with pytest.raises(InputError, match=r"got padding \(-1\); .*workload.trace_drop_padding leaves it out"):
        load_inputs(experiment(of_trace(path)))


def test_a_run_serves_a_law_of_popularity_and_says_so(smoe: Run, tmp_path: Path) -> None:
    settings = [f"--set=workload.{x}" for x in (*SMALL, "spec=minilm-moe", "popularity={exponent: 1.5}")]
    run = ["run", ZIPF, *settings, "--set=plans=[exact]", "--set=target.late_share=null"]
    code, out, err = smoe(*run, "--out", str(tmp_path / "a"))
    assert code == 0, err
    assert "Routing made up: zipf, exponent 1.5, drift 0." in out
    config = tmp_path / "a" / "config.yaml"
    assert smoe("run", str(config), "--out", str(tmp_path / "b"))[0] == 0, "a resolved config can be run again"
    assert (tmp_path / "a" / "result.json").read_bytes() == (tmp_path / "b" / "result.json").read_bytes()


def test_a_problem_is_made_from_a_file(smoe: Run, tmp_path: Path) -> None:
    path = routed(tmp_path)
    made = str(tmp_path / "problem.json")
    args = ["problem", "--model", "minilm-moe", "--experts", "8", "--top-k", "2", "--trace", str(path)]
    assert smoe(*args, "--batch-tokens", "300", "--out", made)[0] == 0
    found = json.loads(Path(made).read_text())
    assert found["batch_tokens"] == 300
    tokens = [x["tokens"] for x in found["layers"][2]["experts"]]
    assert tokens == pytest.approx(np.bincount(np.load(path)[:, 2].ravel(), minlength=8) / 2)
    code, _, err = smoe(*args, "--layers", "0,0,0,0,0,9", "--out", made)
    assert code == 2
    assert "--layers: " in err
    assert "has layers 0..5, got [0, 0, 0, 0, 0, 9]" in err
    code, _, err = smoe("problem", "--model", "minilm-moe", "--out", made)
    assert code == 2
    assert "expected either it, or --trace" in err


def test_an_imported_trace_can_be_predicted_from(smoe: Run, tmp_path: Path) -> None:
    trace = str(tmp_path / "trace.parquet")
    code, out, _ = smoe("import", str(routed(tmp_path)), "--experts", "8", "--out", trace, "--json")
    assert code == 0
    assert {"tokens": 600, "layers": 6, "experts": 8, "top_k": 2}.items() <= json.loads(out).items()
    code, out, err = smoe("predict", "--profiled", trace, "--serve", trace, "--predictor", "history", "--json")
    assert code == 0, err
    assert json.loads(out)["mean_error_share"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("sizes", "more", "says"),
    [
        ({"experts": 16}, [], r"expert: token 0, layer 0: expected 0\.\.7, got 1\d"),
        ({"top_k": 1}, [], "expected routing of top-2, as minilm-moe has, got top-1"),
        ({"layers": 5}, [], "has 5 layers and minilm-moe 6; expected a list"),
        ({"tokens": 400}, [], r"512 tokens asked \(profiled_tokens \+ batches x batch_tokens\), but it has 400"),
        ({"tokens": 400}, ["bootstrap=true"], "bootstrap needs at least 2"),
        ({}, ["layers_of_recording=[0,1,2,3,4,6]"], r"has layers 0\.\.5, got"),
        ({}, ["trace_part=c4"], "no part 'c4'; this format has none"),
        ({}, ["popularity={law: zipf}"], "expected at most one of trace, popularity"),
        ({}, ["trace=null", "trace_part=c4"], "trace_part: expected only with trace"),
        ({}, ["trace=null", "trace_drop_padding=true"], "trace_drop_padding: expected only with trace"),
    ],
)
def test_a_trace_of_another_model_is_told_in_one_line(
    sizes: dict[str, int], more: list[str], says: str, tmp_path: Path
) -> None:
    path = routed(tmp_path, **sizes)

    def served() -> None:
        inputs = load_inputs(experiment(of_trace(path, *more)))
        assert inputs.trace is not None
        split_routing(inputs, inputs.trace)

    with pytest.raises(InputError, match=says) as caught:
        served()
    assert "\n" not in str(caught.value)


def requests(folder: Path, count: int) -> Path:
    """Routing of requests of 64 tokens each, which all go to the experts 2r and 2r + 1 of request r, modulo 8."""
    arrays = {f"r{r}": np.tile([2 * r % 8, 2 * r % 8 + 1], (64, 6, 1)) for r in range(count)}
    np.savez(folder / "requests.npz", **arrays)
    return folder / "requests.npz"


def test_a_short_trace_is_drawn_from_what_was_not_profiled_and_labelled(tmp_path: Path) -> None:
    """Else what is served was learnt from, and the prediction looks better than it is."""
    path = requests(tmp_path, 7)  # 256 profiled tokens: requests 0 to 3; held out: 4, 5, 6
    inputs = load_inputs(experiment(of_trace(path, "bootstrap=true", "batches=20")))
    assert inputs.trace is not None
    routing = split_routing(inputs, inputs.trace)
    real = routing.in_order(128).real
    assert (routing.profiled.tokens, routing.held_out.tokens, len(real)) == (256, 2560, 20)
    assert (real[:, :, 6:] == 0).all(), "request 3's experts were only profiled"
    assert real[:, :, :6].any(axis=(0, 1)).all()
    assert (real.sum(axis=2) == 256).all()
    sentence = described(routing.held_out.origin, range(6))
    assert "batches drawn with replacement from 3 sequences that were not profiled" in sentence
    again = split_routing(inputs, inputs.trace)
    assert np.array_equal(again.held_out.experts, routing.held_out.experts)


def test_a_text_that_is_too_short_is_told_or_drawn_from(smoe: Run, tmp_path: Path) -> None:
    text = tmp_path / "mine.txt"
    text.write_text(
        "\n\n".join(f"The {word} of the sea was long and grey. " * 40 for word in ("tide", "ship", "fog"))
    )
    settings = [
        f"--set=workload.{x}"
        for x in ("profiled_tokens=512", "batch_tokens=1024", "batches=2", "sequence_tokens=64", "experts=4")
    ]
    run = [
        "run",
        str(CONFIGS / "quickstart.yaml"),
        *settings,
        f"--set=workload.corpus={text}",
        "--set=plans=[exact]",
        "--set=target.late_share=null",
    ]
    code, _, err = smoe(*run, "--out", str(tmp_path / "a"))
    assert code == 2
    assert "2560 tokens asked, but it has" in err.splitlines()[-1]
    assert "bootstrap: true" in err.splitlines()[-1]
    code, out, err = smoe(*run, "--set=workload.bootstrap=true", "--out", str(tmp_path / "b"))
    assert code == 0, err
    assert "drawn with replacement from" in " ".join(out.split())


def test_made_up_routing_has_the_layers_of_the_preset() -> None:
    inputs = load_inputs(experiment(["batches=1"]))
    trace: RoutingTrace = made_up(inputs)
    assert (trace.layers, trace.num_experts, trace.top_k, trace.tokens) == (16, 64, 8, 384)
    assert described(trace.origin, range(16)) == "Routing made up: zipf, exponent 0.8, drift 0.5"


def test_a_real_models_popularity_is_named_and_refused_for_another_model() -> None:
    """`workload.popularity: olmoe-1b-7b` in a file; its experts must be the spec's."""
    inputs = load_inputs(experiment(["popularity=olmoe-1b-7b", "batches=1"]))
    trace = made_up(inputs)
    assert (trace.layers, trace.num_experts, trace.top_k) == (16, 64, 8)
    assert described(trace.origin, range(16)) == "Routing made up: popularity counted of olmoe-1b-7b, all texts"
    with pytest.raises(InputError, match=r"experts: expected 8, as mixtral-8x7b has, .*, got 64"):
        load_inputs(experiment(["popularity=mixtral-8x7b"]))
    with pytest.raises(
        InputError, match=r"workload.popularity: no counts of 'mixtral'; did you mean 'mixtral-8x7b'"
    ):
        experiment(["popularity=mixtral"])


def test_corpora_lists_what_there_is_and_measures_it(smoe: Run, tmp_path: Path, own_cache: Path) -> None:
    text = tmp_path / "mine.txt"
    text.write_text("\n\n".join(["one two three " * 200] * 3))
    code, out, _ = smoe("corpora", "--with", str(text), "--json")
    assert code == 0
    listed: dict[str, Any] = {row["name"]: row for row in json.loads(out)["corpora"]}
    assert {"wikipedia", "news", "python-docs", "fiction", str(text)} == set(listed)
    assert listed["wikipedia"]["characters"] > 2_000_000
    code, _, err = smoe("corpora", "--with", "nowhere.txt")
    assert code == 2
    assert "nowhere.txt: no such file" in err


def test_the_divergence_is_0_of_the_same_and_1_of_nothing_in_common() -> None:
    from experiments.studies.corpora import jensen_shannon_bits

    a, b = np.array([0.5, 0.5, 0, 0]), np.array([0, 0, 0.3, 0.7])
    assert jensen_shannon_bits(a, a) == 0
    assert jensen_shannon_bits(a, b) == pytest.approx(1)
    third = np.array([0.25, 0.25, 0.25, 0.25])
    from scipy.spatial.distance import jensenshannon

    assert jensen_shannon_bits(a, third) == pytest.approx(float(jensenshannon(a, third, base=2)) ** 2)


@pytest.mark.slow
def test_the_measured_corpora_differ_more_than_their_halves(tmp_path: Path, own_cache: Path) -> None:
    from experiments.studies.corpora import measured

    found = measured(["wikipedia", "news"], "minilm", 512, experts=4, top_k=1, seed=0)
    assert found.tokens == 512
    assert found.divergence[0, 1] == found.divergence[1, 0] > 0
    assert (found.skew["random"] > found.skew["standardised"]).all()
    assert found.moved[0, 1] > 0


def test_real_counts_are_served_where_they_are_at_hand() -> None:
    """Mixtral's and OLMoE's published counts, whole, through the same key."""
    if not SHARED.is_dir():
        pytest.skip("the published counts are not here")
    trace = import_trace(SHARED / "mixtral_token_expert_counts.npz", part="wikipedia")
    assert (trace.popularity().sum(axis=1) == 417_792).all()
    trace = import_trace(SHARED / "real_moe_expert_counts.json", part="olmoe/c4")
    assert (trace.num_experts, trace.top_k, trace.tokens) == (64, 8, 208_896)
    path = SHARED / "mixtral_token_expert_counts.npz"
    inputs = load_inputs(
        load_experiment(CONFIGS / "workloads" / "mixtral-counts.yaml", [f"workload.trace={path}"])
    )
    assert inputs.trace is not None
    routing = split_routing(inputs, inputs.trace)
    real = routing.in_order(10_240).mean
    assert real.shape == (32, 8)
    assert (real.sum(axis=1) == 2 * 10_240).all()
    assert len(np.unique(routing.held_out.token_id)) > 1000, "token IDs are kept, for token tables"
