"""What a traffic run came to, as a person reads it: tables of its metrics, one sentence, where to look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.run.folder import RunFolder
from experiments.tools.console import out

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = (
    ("requests", "", 1.0, ",.0f", "requests that were counted (warm-up removed)"),
    ("batch_requests", "", 1.0, ".2f", "requests in a batch"),
    ("slo_attainment", "%", 100.0, ".2f", "requests served within the SLO"),
    ("failed_share", "%", 100.0, ".3f", "requests that failed"),
    ("unfinished_share", "%", 100.0, ".2f", "requests unfinished when it was stopped"),
    ("cold_share", "%", 100.0, ".3f", "attempts that started an instance"),
    ("throttled_share", "%", 100.0, ".3f", "attempts that were throttled"),
    ("latency_mean_s", "s", 1.0, ".4f", "latency, mean"),
    ("latency_p50_s", "s", 1.0, ".4f", "latency, median"),
    ("latency_p90_s", "s", 1.0, ".4f", "latency, 90%"),
    ("latency_p99_s", "s", 1.0, ".4f", "latency, 99%"),
    ("concurrency_mean", "", 1.0, ".2f", "calls under way, mean"),
    ("concurrency_peak", "", 1.0, ".1f", "calls under way, peak"),
    ("billed_gb_s_per_1000_requests", "GB-s", 1.0, ".3f", "billed, per 1,000 requests"),
    ("billed_usd_per_1000_requests", "USD", 1.0, ".6f", "billed, per 1,000 requests"),
    ("full_usd_per_1000_requests", "USD", 1.0, ".6f", "full, per 1,000 requests"),
    ("total_usd_per_1000_requests", "USD", 1.0, ".6f", "total, per 1,000 requests"),
    ("billed_usd_per_1000_tokens", "USD", 1.0, ".7f", "billed, per 1,000 tokens"),
    ("full_usd_per_1000_tokens", "USD", 1.0, ".7f", "full, per 1,000 tokens"),
    ("total_usd_per_1000_tokens", "USD", 1.0, ".7f", "total, per 1,000 tokens"),
)  # metric, unit, factor to that unit, format, what it is
FILES = {
    "latency.png": "latency.png is the distribution of latency",
    "rows.parquet": "rows.parquet has every attempt",
    "requests.parquet": "requests.parquet has every request",
    "result.json": "result.json has it all",
}
SHOWN_OF_FUNCTIONS = (
    ("calls_per_1000_requests", "calls", 1.0, ",.0f"),
    ("failed_share", "failed %", 100.0, ".2f"),
    ("cold_share", "cold %", 100.0, ".2f"),
    ("duration_mean_s", "mean s", 1.0, ".4f"),
    ("billed_gb_s_per_1000_requests", "GB-s", 1.0, ".3f"),
    ("usd_per_1000_requests", "USD", 1.0, ".6f"),
    ("share_of_bill", "bill %", 100.0, ".1f"),
)  # metric, heading, factor, format
HIDDEN_AT_ZERO = ("unfinished_share",)


def show(result: dict[str, Any], folder: RunFolder) -> None:
    """Print the table, one sentence, and where to look."""
    from rich.table import Table

    table = Table("", "", "mean", "95% interval", title=result["name"], title_justify="left", pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for name, unit, scale, form, about in SHOWN:
        found = result["metrics"][name]
        if found["mean"] is None or (name in HIDDEN_AT_ZERO and found["mean"] == 0):
            continue
        mean, half = found["mean"] * scale, found["ci95_half_width"]
        interval = "-" if half is None else f"± {format(half * scale, form)}"
        table.add_row(about, unit, format(mean, form), interval)
    out.print(table)
    if "functions" in result:
        out.print(_functions_table(result))
    out.print(f"\n{sentence(result)}\n", soft_wrap=True)
    there = [text for name, text in FILES.items() if (folder.path / name).exists()]
    out.print(f"Look at {folder.shown}/: {'; '.join(there)}.", soft_wrap=True)


def _functions_table(result: dict[str, Any]) -> Table:
    """A row a function of an application."""
    from rich.table import Table

    table = Table("function", title="per 1,000 requests", title_justify="left", pad_edge=False)
    for _, heading, _, _ in SHOWN_OF_FUNCTIONS:
        table.add_column(heading, justify="right")
    for function, found in result["functions"].items():
        means = ((found[name]["mean"], scale, form) for name, _, scale, form in SHOWN_OF_FUNCTIONS)
        table.add_row(
            function, *("-" if mean is None else format(mean * scale, form) for mean, scale, form in means)
        )
    return table


def sentence(result: dict[str, Any]) -> str:
    """What the run says, in one sentence."""
    value = {name: found["mean"] for name, found in result["metrics"].items()}
    if not value["requests"]:
        said = "no request arrived after the warm-up"
    elif value["latency_p99_s"] is None:
        said = "no request was served"
    else:
        failed = f", {value['failed_share']:.2%} failed" if value["failed_share"] else ""
        said = (
            f"{value['slo_attainment']:.2%} of the requests were served within {result['slo_s']:g} s (99% of the "
            f"served ones within {value['latency_p99_s']:.3g} s){failed}, and 1,000 requests cost "
            f"{value['total_usd_per_1000_requests']:.3g} USD"
        )
        all_ended_s = result["all_ended"]["mean_s"]["mean"] if "all_ended" in result else 0.0
        if all_ended_s > 1.001 * value["latency_mean_s"]:
            said += f"; all that a request caused had ended after {all_ended_s:.3g} s in the mean"
    stopped = [reason for reason in result["stopped"] if reason]
    if stopped:
        said = f"stopped: {stopped[0]}; until then {said}"
    return f"{said[0].upper()}{said[1:]}; {result['confidence']}."
