"""The functions of a live model, in this process: what they compute is what the undistributed model computes."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_probe.account.packaging import installed_package
from lambda_probe.handlers.dealing import ExpertFunction, cuts, deal
from lambda_probe.handlers.exchange import pack, unpack
from lambda_probe.handlers.layers import Sizes, gelu
from lambda_probe.live.functions import handler_files
from lambda_probe.live.stages import answered, arrays_of, asked, blocks_function, stages_of
from moe.errors import InputError
from moe.pretrained.export import ExportedModel
from simulator.serving.replicas import minibatches
from simulator.staged_plan import BlocksStage, StagedPlan
from simulator.stages import Handover
from tests.lambda_probe.live.live_world import MemoryWorld, accounts, serve, tiny_model, tokens

TOLERANCE = 1e-5
METHODS = [("storage", None), ("pipelined", 1), ("pipelined", 5), ("direct", None)]


@pytest.fixture(scope="module")
def model() -> ExportedModel:
    return tiny_model()


@pytest.mark.parametrize(("method", "minibatch"), METHODS)
@pytest.mark.parametrize("replicas", [1, 3])
def test_output_is_the_undistributed_models(
    model: ExportedModel, method: str, minibatch: int | None, replicas: int
) -> None:
    """If it were not, live bills would be of something that serves nobody."""
    batch = tokens(7)
    expected, routing = model.undistributed(batch)
    world = MemoryWorld()
    found = serve(world, model, batch, method, minibatch, replicas)
    assert found is not None
    assert np.abs(found - expected).max() < TOLERANCE
    asked = np.zeros_like(routing)
    for event in world.asked:
        if event["role"] == "expert":
            asked[event["layer"], event["expert"]] += event["tokens"]
    assert (asked == routing).all()


@pytest.mark.parametrize(("method", "minibatch"), METHODS)
def test_two_experts_a_token(method: str, minibatch: int | None) -> None:
    """Weights and residual come once each: users of top-2 models would else get wrong outputs."""
    model, batch = tiny_model(top_k=2), tokens(5)
    found = serve(MemoryWorld(), model, batch, method, minibatch, 2)
    assert found is not None
    assert np.abs(found - model.undistributed(batch)[0]).max() < TOLERANCE


def test_trained_gates_are_served_as_any_other() -> None:
    """Its experts are copies as with other gates, so that what is deployed is what is priced."""
    model, batch, world = tiny_model(gate="trained"), tokens(5), MemoryWorld()
    found = serve(world, model, batch, "storage")
    assert found is not None
    assert np.abs(found - model.undistributed(batch)[0]).max() < TOLERANCE
    assert {len(x["expert_in.bias"]) for layer in model.experts for x in layer} == {24}


def test_a_token_that_goes_astray_shows(model: ExportedModel) -> None:
    """The check of outputs is worth nothing if experts are so alike that routing does not matter."""
    batch = tokens(7)

    def astray(event: dict[str, Any]) -> None:
        if event["role"] == "expert":
            event["parameters"] = "expert-0-1"

    found = serve(MemoryWorld(astray), model, batch, "storage")
    assert found is not None
    assert np.abs(found - model.undistributed(batch)[0]).max() > 100 * TOLERANCE


def test_a_load_beyond_capacity_runs_on_more_replicas(model: ExportedModel) -> None:
    """The overflow that the simulator foresees is what live functions do."""
    batch = tokens(7)
    expected, routing = model.undistributed(batch)
    world, capacity = MemoryWorld(), int(routing[0].max()) - 1
    found = serve(world, model, batch, "storage", capacity=capacity)
    assert found is not None
    assert np.abs(found - expected).max() < TOLERANCE
    asked = [x for x in world.asked if x["role"] == "expert" and x["layer"] == 0]
    assert len(asked) == sum(math.ceil(n / capacity) for n in routing[0] if n)
    assert max(x["tokens"] for x in asked) <= capacity


@pytest.mark.parametrize(("method", "minibatch"), METHODS)
def test_a_function_that_fails_is_told_to_whoever_waits(
    model: ExportedModel, method: str, minibatch: int | None
) -> None:
    """Else the rest of a batch would wait, billed, for its whole timeout."""

    def fail(event: dict[str, Any]) -> None:
        if event["role"] == "expert" and event["layer"] == 1 and event["replica"] == 0:
            event["parameters"] = "nothing"

    world = MemoryWorld(fail)
    assert serve(world, model, tokens(7), method, minibatch) is None
    assert "b/failed" in world.objects
    assert world.errors


def test_accounts_tell_phases_requests_and_bytes(model: ExportedModel, capsys: Any) -> None:
    """Bills of requests are counted from these."""
    batch = tokens(7)
    with accounts(capsys) as told:
        serve(MemoryWorld(), model, batch, "pipelined", 5)
    experts = [x for x in told if x.role == "expert"]
    assert {x.caller for x in told if x.role == "expert"} == {"f"}
    for x in experts:
        objects = math.ceil(x.tokens / 5)
        assert (x.puts, x.exchange_puts, x.exchange_gets) == (objects, objects, objects)
        assert x.gets == 1 + objects + x.polls
        assert x.bytes_out == x.tokens * 16 * 4
        assert set(x.phases) >= {"parameter_download", "input_download", "compute", "upload"}
        assert x.began_s <= x.phases["compute"][0] <= x.phases["compute"][1] <= x.ended_s
    assert sum(x.calls for x in told) + 1 == len(told)


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    replicas=st.integers(1, 4),
    capacity=st.integers(1, 50),
)
def test_dealing_is_the_simulators(counts: list[int], replicas: int, capacity: int) -> None:
    """Live and simulated replicas get the same tokens, none is lost, none holds too many."""
    experts = [ExpertFunction("f", "p", replicas, capacity)] * len(counts)
    shares = deal(counts, experts)
    for i, count in enumerate(counts):
        own = [x.tokens for x in shares if x.expert == i]
        assert sum(own) == count
        assert max(own, default=0) <= capacity
        assert max(own, default=0) - min(own, default=0) <= 1 or len(own) < replicas
    assert [x.first for x in shares] == sorted(x.first for x in shares)


@given(st.integers(1, 60), st.integers(1, 20))
def test_minibatches_are_the_simulators(count: int, size: int) -> None:
    assert [b - a for a, b in cuts(count, size)] == minibatches(count, size).tolist()


def test_gelu_is_exact() -> None:
    x = np.linspace(-8, 8, 2001, dtype=np.float32)
    exact = [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()]
    assert np.abs(gelu(x) - exact).max() < 2e-6


def test_packed_arrays_come_back() -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.weight": np.ones(5, np.float32)}
    found = unpack(pack(arrays))
    assert set(found) == set(arrays)
    assert all((found[name] == arrays[name]).all() for name in arrays)


def test_the_zip_for_aws_has_all_that_handlers_import() -> None:
    """AWS's runtimes have no numpy: without its files and shared libraries every function would fail at INIT."""
    files = installed_package("numpy") | handler_files()
    assert "numpy/__init__.py" in files
    assert any(name.startswith("numpy.libs/") or "numpy/.libs" in name for name in files)
    assert "lambda_probe/handlers/live.py" in files
    assert not any("/tests/" in name for name in files)
    assert sum(map(len, files.values())) < 250 * 2**20


@pytest.mark.parametrize(("lanes", "top_k"), [((1,), 1), ((4,), 2), ((2, 2), 1), ((4, 2), 2)])
@pytest.mark.parametrize("handover", ["payload", "storage"])
def test_stages_of_blocks_give_the_undistributed_output(
    lanes: tuple[int, ...], top_k: int, handover: Handover
) -> None:
    """The whole model on lanes, and a stage a layer: torch's hidden states, whichever way they are handed on."""
    model, batch, world = tiny_model(top_k=top_k), tokens(7), MemoryWorld()
    last = len(model.experts) - 1
    ends = [last] if len(lanes) == 1 else list(range(last + 1))
    stages = tuple(
        BlocksStage(first_layer=first, last_layer=end, memory_mb=512, lanes=n, handover=handover)
        for first, end, n in zip([0, *(end + 1 for end in ends)], ends, lanes, strict=False)
    )
    sizes = Sizes(model.heads, model.sequence_tokens, model.top_k, model.epsilon)
    carried: list[bytes] = []
    stored: tuple[str, ...] = ()
    for stage in stages_of(StagedPlan(solver="test", stages=stages)):
        key = f"{top_k}-{blocks_function(stage)}"
        world.put(key, pack(arrays_of(model, stage)))
        common = {"batch": "b", "bucket": "", "poll_s": 0.001, "sent_s": 0.0}
        asking = asked(stage, "f", key, common, sizes, batch, carried, stored)
        answers = [world.ask("f", event) for event in asking.events]
        carried, stored = answered(answers), asking.outputs
    found = np.frombuffer(b"".join(carried or [world.objects[key] for key in stored]), np.float32)
    expected, _ = model.undistributed(batch)
    assert np.abs(found.reshape(batch.size, -1) - expected).max() < 1e-5


def test_a_lane_loads_its_parameters_once(capsys: pytest.CaptureFixture[str]) -> None:
    model, world = tiny_model(), MemoryWorld()
    stage = BlocksStage(first_layer=0, last_layer=1, memory_mb=512, lanes=1, handover="payload")
    world.put("once", pack(arrays_of(model, stage)))
    sizes = Sizes(model.heads, model.sequence_tokens, model.top_k, model.epsilon)
    common = {"batch": "b", "bucket": "", "poll_s": 0.001, "sent_s": 0.0}
    with accounts(capsys) as found:
        for _ in range(2):
            world.ask("f", asked(stage, "f", "once", common, sizes, tokens(3), [], ()).events[0])
    assert [account.gets for account in found] == [1, 0]
    assert [account.tokens for account in found] == [18, 18]
    assert "parameter_download" not in found[1].phases


def test_instances_that_keep_parameters_load_them_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a plan with `reload: when-cold` saves is in no live bill otherwise."""
    monkeypatch.setattr("lambda_probe.handlers.exchange._KEPT", {})
    model, batch, world = tiny_model(), tokens(7), MemoryWorld()
    with accounts(capsys) as told:
        found = [serve(world, model, batch, "storage", keep=True) for _ in range(2)]
    expected, _ = model.undistributed(batch)
    assert all(each is not None and np.abs(each - expected).max() < TOLERANCE for each in found)
    first, second = told[: len(told) // 2], told[len(told) // 2 :]
    assert all("parameter_download" in account.phases for account in first)
    assert not any("parameter_download" in account.phases for account in second)
    with accounts(capsys) as told:
        serve(world, model, batch, "storage")
    assert all("parameter_download" in account.phases for account in told)


def test_stages_that_cannot_be_served_live_are_refused() -> None:
    stages = [
        BlocksStage(first_layer=k, last_layer=k, memory_mb=512, lanes=2 + k, handover="payload") for k in (0, 1)
    ]
    with pytest.raises(InputError, match="lanes that divide the 2 before, got 3"):
        stages_of(StagedPlan(solver="test", stages=tuple(stages)))
