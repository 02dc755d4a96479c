"""The answer of an experiment: a row for each way to serve the model, and what is found in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from experiments.tools.paper_numbers import BELOW_CLUSTER, BELOW_LAMBDAML, SLOWER_THAN_LAMBDAML
from experiments.tools.shapes import LANES, WHOLE
from optimizer.margin import Lateness
from simulator.profiles.groups import ClusterConstants
from simulator.records import Bill
from simulator.serving.cluster import PERIODS, ClusterRun, Period
from simulator.serving.simulate import SimulatedRun

MILLION = 1e6

TITLES = {
    "ods": "ODS",
    "ods-oracle": "ODS, oracle",
    "exact": "exact optimum",
    "best-uniform": "best uniform",
    "lambdaml": "LambdaML",
    "random": "random methods",
    "whole-model": WHOLE,
}


def title_of(plan: str) -> str:
    """A plan's name in tables: of a solver of the user's own, the function's."""
    if plan.startswith("whole-model-"):
        return LANES.replace(" n ", f" {plan.split('-')[2]} ")
    return TITLES.get(plan, plan.rpartition(":")[2].replace("_", " "))


def plan_file(plan: str) -> str:
    """The name of a plan's file in the folder of a run."""
    return f"{plan.replace(':', '-')}.json"


@dataclass(frozen=True)
class Row:
    """One way to serve the model. Money is USD per million tokens, of the mean served batch.

    Attributes:
        method: its name. platform: `lambda` or `cluster`.
        billed_usd: the experts' functions alone (the paper's bill); of a cluster the MoE layers' share.
        full_usd: billed + the experts' requests; total_usd: everything (None where it does not apply).
        latency_s: of a warm batch, head to tail; cold_latency_s: of the same batches with no warm instance.
        tokens_per_s: batch tokens / latency_s.
        overflowed: calls beyond the planned replicas, since more tokens came than were foreseen.
        period: for which a cluster is charged; None for Lambda.
        feasible: whether the plan keeps its constraints by the closed form, for the predicted popularity; None:
            does not apply.
        late_share: of the batches by which it is judged, warm, those over the limit; late_share_low,
            late_share_high: Wilson's 95% interval of it. None without a limit.
    """

    method: str
    platform: str
    billed_usd: float
    full_usd: float | None
    total_usd: float | None
    latency_s: float
    cold_latency_s: float | None
    tokens_per_s: float
    overflowed: int | None = None
    feasible: bool | None = None
    late_share: float | None = None
    late_share_low: float | None = None
    late_share_high: float | None = None
    period: Period | None = None

    def is_late(self, late_share: float | None) -> bool:
        """Whether more of its batches were late than may be (None: none may)."""
        return self.late_share is not None and self.late_share > (late_share or 0.0)


def lambda_row(
    method: str, warm: SimulatedRun, cold: SimulatedRun, feasible: bool | None, late: Lateness | None
) -> Row:
    """The row of a plan that was played warm, and cold."""
    bill: Bill = warm.bill
    million_tokens = warm.served_tokens / MILLION
    return Row(
        method=method,
        platform="lambda",
        billed_usd=bill.billed_cost_usd / million_tokens,
        full_usd=bill.full_cost_usd / million_tokens,
        total_usd=bill.total_cost_usd / million_tokens,
        latency_s=warm.mean_latency_s,
        cold_latency_s=cold.mean_latency_s,
        tokens_per_s=warm.tokens_per_s,
        overflowed=warm.overflowed,
        feasible=feasible,
        late_share=late.share if late else None,
        late_share_low=late.low if late else None,
        late_share_high=late.high if late else None,
    )


def generation(run: SimulatedRun, tokens: int, sequences: int) -> dict[str, float | None]:
    """Times of a batch whose sequences each generate so many tokens, and what one of the further ones costs."""
    steps, decoded = tokens - 1, run.decode_s
    return {
        "first_token_s": run.mean_latency_s,
        "token_s": float(decoded.mean()) if steps else None,
        "usd_per_million_output_tokens": run.decode_usd / (steps * sequences) * MILLION if steps else None,
    }


def cluster_rows(run: ClusterRun, batch_tokens: float, cluster: ClusterConstants) -> list[Row]:
    """A row for each charged period of the CPU cluster."""
    names = {
        "second": "CPU, by the second",
        "month": f"CPU, {cluster.month_utilisation.median:.0%} busy month",
        "hour": "CPU, 1 h per batch",
    }
    return [
        Row(
            method=names[period],
            platform="cluster",
            billed_usd=run.cost_usd[period] / batch_tokens * MILLION,
            full_usd=None,
            total_usd=run.cost_usd[period] * run.latency_s / run.moe_s / batch_tokens * MILLION,
            latency_s=run.latency_s,
            cold_latency_s=None,
            tokens_per_s=batch_tokens / run.latency_s,
            period=period,
        )
        for period in sorted(PERIODS, key=lambda period: run.cost_usd[period])
    ]


def row_named(rows: Iterable[Row], start: str) -> Row | None:
    """The first row whose method starts with `start`."""
    return next((row for row in rows if row.method.startswith(start)), None)


def ratios(row: Row, rows: list[Row]) -> dict[str, float | None]:
    """Both bills and throughput of a row over LambdaML's, and both bills over the cluster's three."""
    lambdaml = row_named(rows, "LambdaML")
    found: dict[str, float | None] = {
        "billed_over_lambdaml": row.billed_usd / lambdaml.billed_usd if lambdaml else None,
        "total_over_lambdaml": (
            row.total_usd / lambdaml.total_usd if lambdaml and row.total_usd and lambdaml.total_usd else None
        ),
        "tokens_per_s_over_lambdaml": row.tokens_per_s / lambdaml.tokens_per_s if lambdaml else None,
    }
    for period in PERIODS:
        cluster = next((other for other in rows if other.period == period), None)
        found[f"billed_over_cluster_{period}"] = row.billed_usd / cluster.billed_usd if cluster else None
        found[f"total_over_cluster_{period}"] = (
            row.total_usd / cluster.total_usd if cluster and row.total_usd and cluster.total_usd else None
        )
    return found


@dataclass(frozen=True)
class Claim:
    """One number of the paper beside ours. `ours` and `paper` are shares; `holds` compares them."""

    what: str
    paper: float
    at_least: bool
    ours: float

    @property
    def holds(self) -> bool:
        """Whether our run confirms it."""
        return self.ours >= self.paper if self.at_least else self.ours <= self.paper

    def __str__(self) -> str:
        bound = "at least" if self.at_least else "at most"
        verdict = "confirmed" if self.holds else "not confirmed"
        return f"{self.what}: {self.ours:.1%} (paper: {bound} {self.paper:.2%}; {verdict})"


def claims(rows: list[Row]) -> list[Claim]:
    """The paper's three headline numbers beside ours; the CPU cluster's for each way of charging it."""
    over = ratios(row_named(rows, "ODS") or rows[0], rows)
    found = []
    cost, speed = over["billed_over_lambdaml"], over["tokens_per_s_over_lambdaml"]
    if cost is not None and speed is not None:
        found.append(Claim("ODS's experts' compute below LambdaML's", BELOW_LAMBDAML, True, 1 - cost))
        found.append(Claim("its throughput below LambdaML's", SLOWER_THAN_LAMBDAML, False, 1 - speed))
    for period, name in (("second", "seconds used"), ("month", "month"), ("hour", "hour per batch")):
        share = over[f"billed_over_cluster_{period}"]
        if share is not None:
            found.append(
                Claim(f"its experts' compute below the CPU cluster's, {name}", BELOW_CLUSTER, True, 1 - share)
            )
    return found


def as_records(rows: list[Row]) -> list[dict[str, object]]:
    """Rows with their ratios, as plain mappings."""
    return [asdict(row) | ratios(row, rows) for row in rows]


def rows_in(result: dict[str, Any]) -> list[Row]:
    """The rows of a result.json."""
    return [Row(**{name: method[name] for name in Row.__dataclass_fields__}) for method in result["methods"]]


def finding(rows: list[Row], model: str, batch_tokens: int) -> str:
    """What the plan costs, beside LambdaML's: one sentence."""
    best = row_named(rows, "ODS") or rows[0]
    over = ratios(best, rows)
    all_usd, experts_usd = dollars(best.total_usd or best.billed_usd), dollars(best.billed_usd)
    said = (
        f"With the {best.method} plan, {model} costs {all_usd} per million tokens ({experts_usd} of it experts' "
        f"compute) at {best.tokens_per_s:,.0f} tokens/s in batches of {batch_tokens:,} tokens"
    )
    cost, total = over["billed_over_lambdaml"], over["total_over_lambdaml"]
    speed = over["tokens_per_s_over_lambdaml"]
    if cost is not None and total is not None and speed is not None:
        said += (
            f": {compared(total)} LambdaML's whole bill (experts' compute: {compared(cost)} LambdaML's), at a "
            f"throughput {compared(speed)} LambdaML's"
        )
        if cost < 1 < total:
            said += "; gates and requests cost more than the experts save"
    return said + "."


def cluster_finding(rows: list[Row]) -> str:
    """What the plan costs beside a CPU cluster, a sentence with a space before it; empty without one."""
    over = ratios(row_named(rows, "ODS") or rows[0], rows)
    second, month, hour = (over[f"total_over_cluster_{period}"] for period in ("second", "month", "hour"))
    if second is None or month is None or hour is None:
        return ""
    return (
        f" The whole bill is {compared(second)} that of a CPU cluster paid by the second used, {compared(month)} "
        f"that of one paid by the month and mostly idle, and {compared(hour)} that of one paid an hour a batch."
    )


def lateness(rows: list[Row], limit_s: float | None, late_share: float | None) -> str:
    """What is found of the limit, a sentence with a space before it; empty without a limit.

    `late_share`: that may be late; where there is one, the batches are drawn from the served text.
    """
    best = row_named(rows, "ODS") or rows[0]
    if limit_s is None or best.late_share is None:
        return ""
    said = "None" if best.late_share == 0 else f"{best.late_share:.0%}"
    drawn = "" if late_share is None else " drawn from the served text"
    asked = "" if late_share is None else f"; {late_share:.0%} may be"
    was = "was" if best.late_share == 0 else "were"
    return (
        f" {said} of the batches{drawn} {was} later than the limit of {limit_s:.3g} s with the {best.method} plan "
        f"(95% interval {best.late_share_low:.0%} to {best.late_share_high:.0%}{asked})."
    )


def compared(ratio: float) -> str:
    """`41% below`, `7% above`, `3.2 times` or `1/20,000 of` what is named next."""
    if ratio >= 2:
        return f"{ratio:.2g} times"
    if ratio < 0.01:
        return f"1/{float(f'{1 / ratio:.2g}'):,.0f} of"
    if abs(ratio - 1) < 0.0005:
        return "the same as"
    return f"{abs(1 - ratio):.1%} {'above' if ratio > 1 else 'below'}"


def dollars(value: float) -> str:
    return f"${value:.2f}" if value >= 0.1 else f"${value:.3g}"
