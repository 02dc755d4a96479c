"""A real model on the embedded endpoint: bills are read, outputs are right, faults are told, nothing stays."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("awslambdaric")

from lambda_probe.account.cleanup import leftovers
from lambda_probe.account.clients import Clients
from lambda_probe.account.deploy import Deployment
from lambda_probe.account.logs import LocalLogs
from lambda_probe.live.model import LiveModel
from lambda_probe.live.rows import LivePrices
from lambda_probe.local import LocalEndpoint, LocalSettings
from moe.errors import PlatformError
from optimizer.problem import make_problem
from simulator.plan import Communication, DeploymentPlan, DeploymentProblem, ExpertPlan, LayerPlan
from simulator.profiles.schema import load_profile
from simulator.staged_plan import BlocksStage, StagedPlan
from tests.lambda_probe.faulty import Faults, refusal, s3_error
from tests.lambda_probe.live.live_world import spec_of_tiny, tiny_model, tokens

PRICES = LivePrices(gb_s=1e-5, invocation=2e-7, put=5e-6, get=4e-7)


def plan(method: Communication, memory_mb: int = 512, replicas: int = 1) -> DeploymentPlan:
    expert = ExpertPlan(memory_mb=memory_mb, replicas=replicas)
    size = 4 if method == "pipelined" else None
    layer = LayerPlan(communication=method, minibatch_tokens=size, experts=(expert,) * 3)
    return DeploymentPlan(solver="test", layers=(layer,) * 2)


class ChangedLogs(LocalLogs):
    """Logs as `change` makes them: given a function's name, its log, and since when it is read."""

    change: Callable[[str, str, float], str] = staticmethod(lambda function, log, since_s: log)

    def read(self, function: str, since_s: float) -> str:
        return self.change(function, super().read(function, since_s), since_s)


@dataclass(frozen=True)
class Served:
    """A model on an endpoint, its clients and logs."""

    live: LiveModel
    clients: Clients
    logs: ChangedLogs


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalEndpoint, ChangedLogs]]:
    logs = tmp_path_factory.mktemp("logs")
    with LocalEndpoint(LocalSettings(pending_s=0.0, log_folder=logs)) as running:
        yield running, ChangedLogs(logs)


@pytest.fixture(scope="module")
def served(endpoint: tuple[LocalEndpoint, ChangedLogs]) -> Iterator[Served]:
    """One model for all tests that leave it as it was; after them nothing of it stays."""
    running, logs = endpoint
    deployment = Deployment(running.clients(), "live-test")
    with LiveModel(deployment, logs, tiny_model(), PRICES) as live:
        yield Served(live, deployment.clients, logs)
    assert leftovers(running.clients()).tagged == ()


def problem(batch: np.ndarray) -> DeploymentProblem:
    model = tiny_model()
    _, routing = model.undistributed(batch)
    return make_problem(
        spec_of_tiny(model), routing, load_profile(), memory_mb=(128, 256, 512), non_moe_memory_mb=512
    )


@pytest.mark.slow
def test_three_methods_are_served_and_billed(served: Served) -> None:
    """What a user validates a profile with: if rows or bills were wrong, so would be every error on the page."""
    live, batch = served.live, tokens(7)
    expected, routing = live.model.undistributed(batch)
    for method in ("storage", "pipelined", "direct"):
        live.deploy(problem(batch), plan(method, replicas=2))
        got = live.serve(batch)
        assert got.failed == ""
        assert got.output is not None
        assert np.abs(got.output - expected).max() < 1e-5
        rows = [row.record for row in got.rows]
        experts = [row for row in rows if row.role == "expert"]
        assert sum(row.tokens for row in experts) == routing.sum()
        assert sum(row.role == "non-moe" for row in rows) == 3
        assert {row.status for row in rows} == {"ok"}
        assert {row.function for row in rows} <= {
            *(f"layer-{e}-expert-{i}" for e in range(2) for i in range(3)),
            *(f"non-moe-{e}" for e in range(3)),
        }
        for row in rows:
            assert row.billed_gb_s == pytest.approx(row.billed_s * row.memory_mb / 1024)
            assert row.requested_s <= row.started_s <= row.ended_s
            assert not row.cold
        last = max(row.ended_s for row in rows if row.layer == 2)
        assert got.latency_s == pytest.approx(last)


@pytest.mark.slow
def test_what_a_plan_settles_is_served(served: Served) -> None:
    """Memory of gates, and parameters that instances keep: the bill of another plan would be held against it."""
    live, batch = served.live, tokens(7)
    settles = {"non_moe_memory_mb": 256, "reload": "when-cold"}
    live.deploy(problem(batch), plan("storage").model_copy(update=settles))
    first, got = live.serve(batch), live.serve(batch)
    assert (first.failed, got.failed) == ("", "")
    assert got.output is not None
    assert np.abs(got.output - live.model.undistributed(batch)[0]).max() < 1e-5
    assert {x.record.memory_mb for x in got.rows if x.record.role == "non-moe"} == {256}
    assert {x.record.memory_mb for x in got.rows if x.record.role == "expert"} == {512}
    assert not any("parameter_download" in x.record.phases for x in got.rows)
    live.deploy(problem(batch), plan("storage"))
    assert {x.record.memory_mb for x in live.serve(batch).rows} == {512}


@pytest.mark.slow
def test_stages_of_blocks_are_served_and_billed(served: Served) -> None:
    """The whole model on two lanes, and a stage a layer: torch's output, a bill a lane, parameters loaded once."""
    live, batch = served.live, tokens(6)
    expected, _ = live.model.undistributed(batch)
    for handover in ("payload", "storage"):
        for lanes in ((2,), (2, 1)):
            stages = tuple(
                BlocksStage(
                    first_layer=k,
                    last_layer=1 if len(lanes) == 1 else k,
                    memory_mb=512,
                    lanes=n,
                    handover=handover,
                )
                for k, n in enumerate(lanes)
            )
            live.deploy(problem(batch), StagedPlan(solver="test", stages=stages))
            first, got = live.serve(batch), live.serve(batch)
            assert (first.failed, got.failed) == ("", "")
            assert got.output is not None
            assert np.abs(got.output - expected).max() < 1e-5
            rows = [row.record for row in got.rows]
            assert len(rows) == sum(lanes)
            assert {(row.role, row.status, row.memory_mb) for row in rows} == {("blocks", "ok", 512)}
            assert got.latency_s == pytest.approx(max(row.ended_s for row in rows))
            assert sum(row.tokens for row in rows) == batch.size * len(lanes)


@pytest.mark.slow
def test_a_report_that_is_lost_or_of_another_size_fails_its_batch_and_a_skewed_clock_does_not(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bill that lacks a call, or has another size's, would be taken for the plan's."""
    monkeypatch.setattr("lambda_probe.live.functions.LOG_PATIENCE_S", 2.0)
    live, batch = served.live, tokens(7)

    def skewed(function: str, log: str, since_s: float) -> str:
        return log if since_s < time.time() - 600 else ""  # what was written is older than the client thinks

    def cut(function: str, log: str, since_s: float) -> str:
        return log.replace("Billed Duration", "Billed Dura") if function.endswith("layer-0-expert-1") else log

    def other_size(function: str, log: str, since_s: float) -> str:
        return log.replace("Size: 512", "Size: 256") if function.endswith("layer-0-expert-1") else log

    started_usd = live.started_usd
    live.deploy(problem(batch), plan("storage"))
    assert live.started_usd > started_usd
    for change, says, rows in (
        (skewed, "", 9),
        (cut, "1 calls have no REPORT line", 8),
        (other_size, "layer-0-expert-1 ran with 256 MB instead of 512", 9),
    ):
        monkeypatch.setattr(served.logs, "change", change)
        got = live.serve(batch)
        assert says in got.failed
        assert bool(says) == bool(got.failed)
        assert math.isnan(got.latency_s) == bool(says)
        assert len(got.rows) == rows, "what was measured is kept"


@pytest.mark.slow
def test_an_endpoint_that_fails_while_a_batch_is_served_is_a_line_and_nothing_stays(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))
    live = served.live
    live.deploy(problem(tokens(7)), plan("storage"))
    Faults(served.clients.functions).add("Invoke", refusal(429, "TooManyRequestsException"))
    with pytest.raises(PlatformError, match=r"a batch cannot be served: .*TooManyRequests.*try again"):
        live.serve(tokens(7))
    Faults(served.clients.s3).add("HeadObject", s3_error(503, "SlowDown"), times=5)
    with pytest.raises(PlatformError, match=r"a batch cannot be served: .*SlowDown.*try again"):
        live.serve(tokens(7))


@pytest.mark.slow
def test_a_killed_expert_and_a_large_payload_are_told(endpoint: tuple[LocalEndpoint, ChangedLogs]) -> None:
    """A batch that cannot end must say which function was at fault, soon, and leave nothing."""
    clients, logs = endpoint[0].clients(), endpoint[1]
    model, batch = tiny_model(), tokens(7)
    popular = int(model.undistributed(batch)[1][0].argmax())
    model.experts[0][popular]["ballast"] = np.zeros(25 * 2**20, np.float32)  # 100 MB: too much for 128 MB
    large = tokens(24_000)
    with LiveModel(Deployment(clients, "live-fault"), logs, model, PRICES) as live:
        live.deploy(problem(batch), plan("storage", 128), foresee=False)
        served = live.serve(batch)
        assert "out-of-memory" in served.failed
        assert f"layer-0-expert-{popular}" in served.failed
        assert served.output is None
        assert math.isnan(served.latency_s)
        live.deploy(problem(batch), plan("direct"), foresee=False)
        assert "RequestTooLarge" in live.serve(large).failed
    assert not [each for each in leftovers(clients).tagged if each.campaign == "live-fault"]
