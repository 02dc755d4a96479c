"""What the table of the whole bill says: checks of our own, and numbers. The paper makes no such statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.paper.claims import OWN, Claim, counted, each_case, of_case
from experiments.paper.figures.whole_bill.objectives import EXPERTS, OBJECTIVES, RIGHT, WHOLE

if TYPE_CHECKING:
    import pandas as pd

FIGURE = "whole-bill"
SAME = 1e-9


def claims(data: pd.DataFrame) -> list[Claim]:
    """Whether the right objective pays, what the wrong one costs, how far closed form and simulator are apart."""
    found: list[Claim] = []
    for case, group in each_case(data):
        for reload in RIGHT:
            rows = group[group["reload"] == reload].sort_values("slack")
            by = {name: rows[rows["objective"] == name] for name in OBJECTIVES}
            here = f"{'reloaded at each call' if reload == 'every-invocation' else 'kept'}"
            pays = [_pays(by, RIGHT[reload], way, here) for way in ("planned_total_usd", "total_usd")]
            own = by[EXPERTS]
            found += of_case(
                case, [*pays, _wrong(own, here), _share(own, here), _starts(own, here), _apart(rows, here)]
            )
        found += of_case(case, [_more_gb_s(group), _kept(group)])
    return found


def _pays(by: dict[str, pd.DataFrame], right: str, bill: str, here: str) -> Claim:
    ratios = by[right][bill].to_numpy() / by[EXPERTS][bill].to_numpy()
    judged = "by the closed form, as planned" if bill == "planned_total_usd" else "simulated on test batches"
    reason = f"from the tightest limit on: {_listed(ratios - 1)}"
    return counted(
        FIGURE, f"planning for the whole bill does not raise it, {judged}; parameters {here}", OWN,
        [bool(x <= 1 + SAME) for x in ratios], "limits", reason,
    )  # fmt: skip


def _wrong(experts: pd.DataFrame, here: str) -> Claim:
    """The most that the paper's objective costs in the whole bill."""
    worst = experts.loc[experts["over_right"].idxmax()]
    value, low, high = (float(worst[name]) for name in ("over_right", "over_right_low", "over_right_high"))
    return Claim(
        FIGURE, f"the whole bill of plans for the GB-s over plans for the whole bill; parameters {here}", "",
        f"at most {value:+.1%} ({low:+.1%} to {high:+.1%})", None,
        f"from the tightest limit on: {_listed(experts['over_right'])}", value, low, high,
    )  # fmt: skip


def _share(experts: pd.DataFrame, here: str) -> Claim:
    share = experts["experts_usd"] / experts["total_usd"]
    waiting = experts["waiting_usd"] / experts["total_usd"]
    return Claim(
        FIGURE, f"the experts' GB-s, of the whole bill of plans for them; parameters {here}", "",
        f"{share.min():.0%} to {share.max():.0%}", None,
        f"gates that wait: {waiting.min():.0%} to {waiting.max():.0%}", float(share.mean()),
    )  # fmt: skip


def _starts(experts: pd.DataFrame, here: str) -> Claim:
    """What it saves to start the next non-MoE function just in time, not with the layer."""
    saved, slower = 1 - experts["total_usd"] / experts["eager_total_usd"], experts["latency_over_eager"]
    return Claim(
        FIGURE,
        f"saved by gates that start just in time, of the whole bill of plans for the GB-s; parameters {here}",
        "", f"{saved.min():.0%} to {saved.max():.0%}", None,
        f"for {slower.min():+.1%} to {slower.max():+.1%} latency; from the tightest limit on: {_listed(-saved)}",
        float(saved.mean()),
    )  # fmt: skip


def _apart(rows: pd.DataFrame, here: str) -> Claim:
    over = rows["simulated_over_closed"]
    return Claim(
        FIGURE, f"the simulated whole bill over the closed form's, same batches; parameters {here}", "",
        f"{over.min():+.1%} to {over.max():+.1%}", None, "all objectives and limits", float(over.mean()),
    )  # fmt: skip


def _more_gb_s(group: pd.DataFrame) -> Claim:
    rows = group[(group["objective"] == WHOLE) & (group["reload"] == "every-invocation")].sort_values("slack")
    return Claim(
        FIGURE, "the GB-s of plans for the whole bill over plans for the GB-s", "",
        f"at most {rows['over_gb_s'].max():+.1%}", None,
        f"from the tightest limit on: {_listed(rows['over_gb_s'])}", float(rows["over_gb_s"].max()),
    )  # fmt: skip


def _kept(group: pd.DataFrame) -> Claim:
    """What keeping the parameters saves, of the same plans."""
    whole = group[group["objective"] == WHOLE].sort_values("slack")
    bills = [whole[whole["reload"] == reload]["total_usd"].to_numpy() for reload in RIGHT]
    saved = 1 - bills[1] / bills[0]
    return Claim(
        FIGURE, "keeping the parameters in warm instances saves, of the whole bill of the same plans", "",
        f"{saved.min():.1%} to {saved.max():.1%}", None,
        f"from the tightest limit on: {_listed(saved)}", float(saved.mean()),
    )  # fmt: skip


def _listed(shares: pd.Series) -> str:
    return ", ".join(f"{x:+.1%}" for x in shares)
