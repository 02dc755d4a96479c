"""What the rivals' table says: checks of our own, and numbers. The paper makes no such statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.paper.claims import OWN, Claim, counted, each_case, of_case

if TYPE_CHECKING:
    import pandas as pd

FIGURE = "rivals"
SAME = 1e-9
"""Below an optimum by less than this share is rounding."""


def claims(data: pd.DataFrame) -> list[Claim]:
    """No rival below the certified front; ODS against each; each rival's gap; who is late; the cluster."""
    found = []
    for case, group in each_case(data):
        plans = group[group["row"] == "plan"]
        late = [_late(plans, name) for name in ("exact", "ods")]
        found += of_case(case, [_none_below(plans), _ods_cheapest(plans), *late, _cluster(group)])
    plans = data[data["row"] == "plan"]
    rivals = [name for name in dict.fromkeys(plans["rival"]) if name != "exact"]
    return found + [_gap(plans[plans["rival"] == name], name) for name in rivals]


def _none_below(plans: pd.DataFrame) -> Claim:
    """A check of the solvers: the front is certified, so that nothing of the same problem may be below it."""
    there = plans[plans["found"].astype(bool)]
    same = there[there["single_experts"].astype(bool)]
    fits = same[same["breaks"].isin(["", "latency"])]
    other = there[~there["single_experts"].astype(bool)]["least_above_front"].dropna()
    reason = f"left out: {len(same) - len(fits)} of {len(same)}, which break a payload's or a memory's limit"
    if len(other):
        reason += f"; groups, Remoe, whole models solve another problem: from {other.min():+.1%} of the front"
    held = (fits["least_above_front"] >= -SAME).tolist()
    return counted(FIGURE, "no plan costs less than the certified front at its speed", OWN, held, "plans", reason)


def _ods_cheapest(plans: pd.DataFrame) -> Claim:
    """Whether ODS costs at most as much as any rival that keeps the limit, at each limit."""
    held, cheaper = [], []
    for slack, group in plans.groupby("slack"):
        by = {row.rival: row for row in group.itertuples() if row.found and row.feasible_share > 0}
        ods = by.pop("ods", None)
        by.pop("exact", None)
        best = min(by.values(), key=lambda row: row.planned_usd, default=None)
        held.append(ods is not None and (best is None or bool(ods.planned_usd <= best.planned_usd * (1 + SAME))))
        if best is not None and not held[-1]:
            below = f" by {1 - best.planned_usd / ods.planned_usd:.1%}" if ods is not None else ""
            cheaper.append(f"{best.rival}{below} at {slack:g} times the least latency")
    reason = f"cheaper: {'; '.join(cheaper)}" if cheaper else ""
    return counted(FIGURE, "ODS costs at most as much as any rival within the limit", OWN, held, "limits", reason)


def _late(plans: pd.DataFrame, name: str) -> Claim:
    rows = plans[(plans["rival"] == name) & plans["late_share"].notna()]
    by_limit = ", ".join(f"{share:.0%}" for share in rows.sort_values("slack")["late_share"])
    mean, slower = float(rows["late_share"].mean()), 1 - rows["tokens_per_s"] / rows["target_tokens_per_s"]
    return Claim(
        FIGURE, f"test batches that are late with the plans of '{name}'", "", f"{mean:.0%}", None,
        f"from the tightest limit on: {by_limit}; the mean throughput is {slower.min():.1%} to {slower.max():.1%} "
        "below the target: planned for a predicted popularity, served as routed", mean,
    )  # fmt: skip


def _cluster(group: pd.DataFrame) -> Claim:
    least = float(group[group["row"] == "front"]["planned_usd"].min())
    ratios = {row.rival: row.realised_usd / least for row in group[group["row"] == "cluster"].itertuples()}
    said = "; ".join(f"{name} {ratio:.3g}" for name, ratio in ratios.items())
    low = min(ratios.values())
    return Claim(
        FIGURE, "the CPU cluster's bill over the cheapest plan's", "", f"{low:.3g} times or more", None,
        f"MoE layers alone: {said} times", low,
    )  # fmt: skip


def _gap(rows: pd.DataFrame, name: str) -> Claim:
    """A rival's cost over the optimum under the limits that it keeps."""
    said, values = [], []
    for model, group in rows.groupby("model", sort=False):
        keeps = group[group["found"].astype(bool) & (group["feasible_share"] > 0)]
        said.append(f"{model}: {_range(keeps['above_optimum'])}, keeps {len(keeps)} of {len(group)} limits")
        values += keeps["above_optimum"].tolist()
    ours = f"at most {max(values):+.1%}" if values else "no plan that keeps a limit"
    return Claim(
        FIGURE, f"{name}: over the optimum within the limit", "", ours, None,
        "; ".join(said), max(values) if values else None,
    )  # fmt: skip


def _range(values: Any) -> str:
    if not len(values):
        return "none"
    return f"{_shown(values.min())} to {_shown(values.max())}"


def _shown(share: float) -> str:
    """`+0.0%` of what is next to nothing on either side."""
    return f"{round(share, 3) + 0.0:+.1%}"
