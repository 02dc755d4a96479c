"""The verdicts of Fig. 14: cheaper than the CPU cluster and LambdaML, about as fast, BO near the real."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.paper.claims import Claim, bounded, charged_ways, each_case, of_case
from experiments.paper.cluster import SHARES
from experiments.paper.figures.fig14.rows import BO, EXPECTED, NO_BO, REAL, UNIFORM
from experiments.tools.paper_numbers import BELOW_CLUSTER, BELOW_LAMBDAML, SLOWER_THAN_LAMBDAML
from experiments.tools.style import rounded

if TYPE_CHECKING:
    import pandas as pd

MAIN = ("cheaper than the CPU cluster", "cheaper than LambdaML", "throughput at most", "BO's bill and latency")
CLOSE = 0.05
"""How near BO's bill must be to that of the real distribution to be called close; the paper has no number."""


def claims(data: pd.DataFrame) -> list[Claim]:
    """The verdicts for every model and text."""
    return [claim for case, group in each_case(data) for claim in of_case(case, _of_model(group), MAIN)]


def _of_model(group: pd.DataFrame) -> list[Claim]:
    serving = group[group["row"] == "serving"].set_index("name")
    return [
        _cluster(serving),
        *_lambdaml(group, serving),
        *_readings(group),
        *_each_method(group, serving),
        *_bo(serving),
    ]


def _cluster(serving: pd.DataFrame) -> Claim:
    """However it is charged: the cluster's bill is in proportion to the time that is paid for."""
    ours = serving.loc[BO]
    plain = serving[serving["better_transformer"].eq(False)].set_index("period")
    below = {way: 1 - float(ours["billed_usd"] / usd) for way, usd in charged_ways(plain, ours).items()}
    second = plain.loc["second"]
    busy = second["cores"] * (1 - BELOW_CLUSTER) / (1 - below["by the second"])
    shares = ", ".join(f"{x} {1 - ours['billed_usd'] / second[f'usd_{x}']:.0%}" for x in SHARES)
    return Claim(
        "14", "cheaper than the CPU cluster", f"at least {BELOW_CLUSTER:.2%}",
        ", ".join(f"{saved:.1%} {way}" for way, saved in below.items()), min(below.values()) >= BELOW_CLUSTER,
        f"it depends on how the cluster is charged, which the paper does not say; by the second it would hold "
        f"with at most {busy:.2g} of {second['cores']:.0f} cores busy, and the MoE layers pay their share of the "
        f"time (other shares: {shares})", min(below.values()),
    )  # fmt: skip


def _lambdaml(group: pd.DataFrame, serving: pd.DataFrame) -> list[Claim]:
    ours = serving.loc[BO]
    saved = tuple(1 - float(ours[f"of_lambdaml{end}"]) for end in ("", "_high", "_low"))
    slower = tuple(1 - float(ours[f"speed_of_lambdaml{end}"]) for end in ("", "_high", "_low"))
    turns = group[group["row"] == "break-even"]
    said = [f"{x.what} {_needed(x)}" for x in turns.rename(columns={"name": "what"}).itertuples()]
    reason = (
        "compute grows with memory, so only overhead can be saved; the optimum saves "
        f"{turns['closed_form_saving'].iloc[0]:.1%} by the paper's equations, "
        f"{BELOW_LAMBDAML:.2%} if {'; or '.join(said)}"
    ) if len(turns) else ""  # fmt: skip
    uniform = 1 - float(ours["billed_gb_s"] / serving.loc[UNIFORM, "billed_gb_s"])
    limit = float(ours["limit_s"])
    rule = serving[serving["is_rule"].eq(True)].iloc[0]
    return [
        bounded("14", "cheaper than LambdaML", BELOW_LAMBDAML, (saved[0], saved[1], saved[2]),
                at_least=True, reason=reason),
        bounded("14", "throughput at most that much below LambdaML's", SLOWER_THAN_LAMBDAML,
                (slower[0], slower[1], slower[2]), at_least=False,
                reason=f"the plan is made for that limit ({limit:.1f} s) and predicted popularity; made for the "
                f"real one it is {1 - float(serving.loc[REAL, 'speed_of_lambdaml']):.1%} below, for expected "
                f"counts {1 - float(serving.loc[EXPECTED, 'speed_of_lambdaml']):.1%}; by the closed form, of "
                f"which the limit is, LambdaML takes {limit * (1 - SLOWER_THAN_LAMBDAML):.1f} s, played "
                f"{rule['latency_s']:.1f} s"),
        Claim("14", "cheaper than the best uniform plan without popularity", "", f"{uniform:.1%}", None,
              f"it takes {serving.loc[UNIFORM, 'latency_s']:.1f} s, BO's plan {ours['latency_s']:.1f} s", uniform),
    ]  # fmt: skip


def _readings(group: pd.DataFrame) -> list[Claim]:
    """The saving over LambdaML by the closed form, under each reading; the verdict is of the whole interval."""
    rows, found = group[group["row"] == "reading"], []
    for name in rows["name"].unique():
        same, slower = (
            tuple(float(row[f"saved_share{end}"]) for end in ("", "_low", "_high"))
            for _, row in rows[rows["name"] == name]
            .sort_values("throughput_of_lambdaml", ascending=False)
            .iterrows()
        )
        found.append(
            bounded("14", f"cheaper than LambdaML by the closed form, {name}", BELOW_LAMBDAML,
                    (slower[0], slower[1], slower[2]), at_least=True,
                    reason="the interval is over the platform's uncertain constants; at LambdaML's own throughput "
                    f"the saving is {same[0]:.1%} ({same[1]:.1%} to {same[2]:.1%})")
        )  # fmt: skip
    return found


def _needed(turn: Any) -> str:
    """`90 GFLOP/s instead of 45`, or that it never does."""
    if turn.needed != turn.needed or turn.needed is None:
        return f"at no value (of 1/16 to 16 times {rounded(turn.value)} {turn.unit})"
    return f"at {rounded(turn.needed)} {turn.unit} instead of {rounded(turn.value)}"


def _each_method(group: pd.DataFrame, serving: pd.DataFrame) -> list[Claim]:
    """LambdaML's ratio for each method, which the paper does not name, with the split of what is saved on it."""
    ours, found = serving.loc[BO], []
    split = group[group["row"] == "split"]
    level = split[(split["name"] == "method") & split["billed_gb_s"].notna()]
    if len(level):
        best = level.loc[level["billed_gb_s"].idxmin()]
        plain = float(serving.loc[NO_BO, "billed_gb_s"])
        gain = [1 - plain / best["billed_gb_s"], (plain - ours["billed_gb_s"]) / best["billed_gb_s"]]
        found.append(
            Claim("14", "cheaper than the best uniform plan for the predicted popularity", "",
                  f"{sum(gain):.1%}", None, f"popularity {gain[0]:+.1%}, BO {gain[1]:+.1%} of its bill",
                  float(sum(gain)))
        )  # fmt: skip
    for name in [x for x in serving.index if x.startswith("LambdaML")]:
        row, method = serving.loc[name], name.removeprefix("LambdaML, ")
        ratio = float(ours["billed_gb_s"] / row["billed_gb_s"])
        steps = split[(split["lambdaml_method"] == method) & split["saved_share"].notna()]
        parts = ", ".join(
            f"{x.step} {x.saved_share:+.1%}" for x in steps.rename(columns={"name": "step"}).itertuples()
        )
        reason = f"saved by {parts}" if parts else "its payloads are over the limit: it cannot be deployed so"
        found.append(
            Claim("14", f"BO's bill over LambdaML's with {method}", "", f"{ratio:.3f}", None, reason, ratio)
        )
    return found


def _bo(serving: pd.DataFrame) -> list[Claim]:
    real, tuned, plain = (serving.loc[name, "billed_gb_s"] for name in (REAL, BO, NO_BO))
    off = tuple(float(serving.loc[BO, f"billed_gb_s{end}"] / real) - 1 for end in ("", "_low", "_high"))
    slower = float(serving.loc[BO, "latency_s"] / serving.loc[REAL, "latency_s"]) - 1
    return [
        Claim("14", "BO's bill and latency are close to those of the real distribution",
              f"close (here: within {CLOSE:.0%})",
              f"bill {off[0]:+.1%} ({off[1]:+.1%} to {off[2]:+.1%}), latency {slower:+.1%}",
              max(abs(slower), *(abs(x) for x in off[1:])) <= CLOSE,
              f"without BO {plain / real - 1:+.1%}; latency {serving.loc[BO, 'latency_s']:.1f} s with BO, "
              f"{serving.loc[NO_BO, 'latency_s']:.1f} s without, {serving.loc[REAL, 'latency_s']:.1f} s real",
              *off),
        Claim("14", "BO saves over the prediction without it", "", f"{1 - tuned / plain:+.1%}", None, "",
              float(1 - tuned / plain)),
    ]  # fmt: skip
