"""The paper's objective against the whole bill: each objective's plan, billed both ways. This project's figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from experiments.paper.figure import PaperFigure, Rows
from experiments.paper.figures.whole_bill.claims import claims
from experiments.paper.figures.whole_bill.objectives import EXPERTS, RIGHT, plans_of
from experiments.paper.figures.whole_bill.picture import draw
from experiments.paper.plans import MILLION, predicted_popularity, problem_of
from experiments.paper.routing import Cell, cell_fields, routing_of, with_interval
from experiments.paper.settings import FigureSettings
from experiments.run.routing import HeldOutBatches
from moe.errors import InputError
from optimizer.exact import least_latency_s
from simulator.plan import DeploymentPlan, DeploymentProblem, Reload
from simulator.profiles.schema import PlatformProfile
from simulator.records import Bill
from simulator.serving.layer import Serving
from simulator.serving.simulate import simulate

if TYPE_CHECKING:
    import pandas as pd

RELOADS: tuple[Reload, ...] = get_args(Reload)


class Settings(FigureSettings):
    """The whole bill: `slack`: latency limits as multiples of the least latency."""

    slack: tuple[float, ...] = (1.05, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0)


class BillCell(Cell):
    """Each objective's plan under one limit."""

    slack: float


def cells(settings: Settings) -> list[BillCell]:
    """One for each model, text and limit."""
    return [BillCell(**fields, slack=slack) for fields in cell_fields(settings) for slack in settings.slack]


def compute(cell: BillCell) -> Rows:
    """A row for each objective's plan and each way with parameters."""
    routing = routing_of(cell)
    batches = routing.batches(cell.batches, cell.batch_tokens, cell.seed)
    problem = problem_of(cell, predicted_popularity(cell, routing))
    limit_s = cell.slack * least_latency_s(problem)
    problem = problem.with_limit(limit_s)
    about = cell.about | {"slack": cell.slack, "limit_s": limit_s}
    about |= {"target_tokens_per_s": cell.batch_tokens / limit_s, "batches": batches.kind}
    plans, found = plans_of(problem), []
    for reload in RELOADS:
        served = {name: _Served(cell, problem, plan, batches, reload) for name, plan in plans.items()}
        for name, mine in served.items():
            row = about | {"objective": name, "reload": reload}
            found.append(row | mine.columns() | mine.over(served[RIGHT[reload]], served[EXPERTS]))
    return found


class _Served:
    """A plan's bills: as planned, and of each test batch on the closed form's platform and the simulated one."""

    def __init__(
        self,
        cell: BillCell,
        problem: DeploymentProblem,
        plan: DeploymentPlan,
        batches: HeldOutBatches,
        reload: Reload,
    ) -> None:
        assert problem.latency_limit_s is not None
        self.limit_s, self.independent = problem.latency_limit_s, batches.independent
        self.million = cell.batch_tokens / MILLION
        real = batches.real
        serving = Serving(start="just-in-time", reload=reload)
        (self.planned,), (self.planned_s,) = _bills(problem, plan, None, None, serving, cell.seed)
        self.closed, _ = _bills(problem, plan, None, real, serving, cell.seed)
        self.played, self.latency_s = _bills(problem, plan, cell.platform, real, serving, cell.seed)
        eager = serving.model_copy(update={"next_layer_start": "eager"})
        self.eager, self.eager_s = _bills(problem, plan, cell.platform, real, eager, cell.seed)

    def total_usd(self) -> np.ndarray:
        """The whole bill of each test batch as simulated, USD per million tokens."""
        return np.array([x.total_cost_usd for x in self.played]) / self.million

    def experts_usd(self) -> np.ndarray:
        """Of it the experts' GB-s."""
        return np.array([x.billed_cost_usd for x in self.played]) / self.million

    def columns(self) -> dict[str, Any]:
        """Bills in USD per million tokens, with intervals over test batches, and the parts of the whole bill."""
        closed = np.array([x.total_cost_usd for x in self.closed]) / self.million
        tokens_per_s = self.million * MILLION / self.latency_s

        def part(name: str) -> float:
            return float(np.mean([getattr(x, name) for x in self.played])) / self.million

        exchange, waiting = part("gate_exchange_usd"), part("waiting_usd")
        return (
            {"planned_experts_usd": self.planned.billed_cost_usd / self.million}
            | {"planned_total_usd": self.planned.total_cost_usd / self.million}
            | {"planned_latency_s": float(self.planned_s), "closed_total_usd": float(closed.mean())}
            | with_interval("experts_usd", self.experts_usd(), self.independent)
            | with_interval("total_usd", self.total_usd(), self.independent)
            | with_interval("simulated_over_closed", self.total_usd() / closed - 1, self.independent)
            | with_interval("tokens_per_s", tokens_per_s, self.independent)
            | {"eager_total_usd": float(np.mean([x.total_cost_usd for x in self.eager])) / self.million}
            | {"latency_over_eager": float(np.mean(self.latency_s) / np.mean(self.eager_s) - 1)}
            | {"late": float(np.mean(self.latency_s > self.limit_s))}
            | {"requests_usd": part("request_usd") + exchange, "waiting_usd": waiting}
            | {
                "gates_usd": part("non_moe_compute_usd") - waiting,
                "gates_requests_usd": part("non_moe_request_usd"),
            }
        )

    def over(self, right: _Served, experts: _Served) -> dict[str, Any]:
        """What it costs more, batch by batch: than the plan for this whole bill, and than that for the GB-s."""
        whole, gb_s = self.total_usd() / right.total_usd() - 1, self.experts_usd() / experts.experts_usd() - 1
        return with_interval("over_right", whole, self.independent) | with_interval(
            "over_gb_s", gb_s, self.independent
        )


def _bills(
    problem: DeploymentProblem,
    plan: DeploymentPlan,
    profile: PlatformProfile | None,
    real: list[np.ndarray] | None,
    serving: Serving,
    seed: int,
) -> tuple[list[Bill], np.ndarray]:
    """Bill and latency of each batch.

    Args:
        profile: the platform; None: the closed form's. real: tokens of each batch; None: one as planned.
    """
    run = simulate(problem, plan, profile, serving=serving, routing=real, seed=seed)
    if run.failed:
        raise InputError(f"{problem.name}: {run.failed[0]}")
    return [run.bill_of_batch(k) for k in range(len(run.latency_s))], run.latency_s


def table(rows: Rows) -> pd.DataFrame:
    """The rows, as they are."""
    import pandas as pd

    return pd.DataFrame(rows)


FIGURE = PaperFigure("whole-bill", Settings, cells, compute, table, claims, draw)
