"""The answer as a person reads it: a table, whose routing it rests on, what was found, where to look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments.run.folder import RunFolder
from experiments.run.methods import Row, ratios, rows_in, title_of
from experiments.tools.console import out
from experiments.tools.style import rounded

if TYPE_CHECKING:
    from rich.table import Table

LEGEND = """\
USD per million tokens. whole bill: everything that is paid. experts' compute:
the part that the experts' functions compute for (the paper's number). %: of
LambdaML's. warm, cold: latency of a batch, with and without functions that are
already running."""
NAMES = {
    "ODS": "ODS: the paper's planner, for the predicted popularity of the experts.",
    "ODS, oracle": "ODS, oracle: the same for their real popularity.",
    "exact optimum": "exact optimum: the provably cheapest plan under the cost model.",
    "best uniform": "best uniform: one memory and one replica count for every expert.",
    "LambdaML": "LambdaML: the largest memory everywhere, no replicas.",
    "whole model": "whole model: not cut; lanes are copies that each take whole sequences.",
    "CPU": "CPU: a cluster, paid by the second used, by the month, or an hour a batch.",
}
SERVER = """\
{}: one machine with the whole model, paid by the second
used, or by the month; cold: until it has started."""
"""What the beginning of a row's name stands for."""


def legend(rows: Sequence[Row], late_share: float | None) -> str:
    """What the table's words and marks mean: of those that stand in it."""
    lines = [LEGEND]
    for name, text in NAMES.items():
        if any(row.method == name or (name != "ODS" and row.method.startswith(name)) for row in rows):
            lines.append(text)
    server = next((row.method.partition(",")[0] for row in rows if row.platform == "server"), None)
    if server is not None:
        lines.append(SERVER.format(server))
    if any(row.late_share is not None for row in rows):
        of = "the served batches" if late_share is None else "100 batches drawn from the served text"
        lines.append(f"late: share of {of} over the limit.")
    if any(row.late_share is not None and row.is_late(late_share) for row in rows):
        lines.append("!: more were late when played than may be.")
    if any(row.feasible is False for row in rows):
        lines.append("*: planned over the limit (closed form, predicted popularity).")
    return "\n".join(lines)


def show(result: dict[str, Any], folder: RunFolder) -> None:
    """Print the answer: the table, what was found, where to look."""
    out.print()
    title = f"{result['model']}, {result['batch_tokens']:,} tokens a batch; USD per million tokens"
    rows, late_share = rows_in(result), result["late_share"]
    out.print(answer_table(rows, title, late_share))
    if result.get("generation"):
        out.print(generation_table(result["generation"]))
    out.print(legend(rows, late_share), style="dim", soft_wrap=True)
    out.print(f"\n{recorded_on(result)}. Prices of {result['price_list_date']}.")
    out.print(f"\n{result['finding']}\n")
    out.print(
        f"Look at {folder.shown}/: methods.png is the table, timeline.png what every function of one batch did "
        "(trace.json, opened at ui.perfetto.dev, too); the tables are parquet, and result.json has it all. "
        f"./smoe report {folder.shown} makes a page of it."
    )


def answer_table(rows: list[Row], title: str, late_share: float | None) -> Table:
    """Cost and speed of every method, for a terminal of 80 columns; marked where more batches are late."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("whole\nbill", "experts'\ncompute", "warm\ns", "late", "cold\ns", "tokens\n/s"):
        table.add_column(name, justify="right", no_wrap=True)
    last_plan = [row for row in rows if row.platform == "lambda"][-1]
    for row in rows:
        over = ratios(row, rows)
        is_lambda = row.platform == "lambda"
        table.add_row(
            row.method + (" *" if row.feasible is False else ""),
            _bill(row.total_usd, over["total_over_lambdaml"] if is_lambda else None),
            _bill(row.billed_usd, over["billed_over_lambdaml"] if is_lambda else None),
            f"{row.latency_s:.2f}",
            _late(row, late_share),
            f"{row.cold_latency_s:.2f}" if row.cold_latency_s is not None else "",
            f"{row.tokens_per_s:,.0f}",
            end_section=row is last_plan,
        )
    return table


def generation_table(found: dict[str, dict[str, float | None]]) -> Table:
    """Time to the first token of a batch, and of each further one, and what a million of them cost."""
    from rich import box
    from rich.table import Table

    title = "Generation by the sequences of a batch, warm"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("first\ntoken s", "token\ns", "USD per million\noutput tokens"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, numbers in found.items():
        table.add_row(title_of(name), *(_money(value) for value in numbers.values()))
    return table


def recorded_on(result: dict[str, Any]) -> str:
    """Whose routing stands for the model's."""
    return described(result["routing_recorded_on"], result["layers_of_recording"])


def described(origin: dict[str, Any], layers: Sequence[int]) -> str:
    """One sentence: whose routing stands for the model's.

    Args:
        origin: of the trace.
        layers: for each of the model's layers, the recorded one that stands for it.
    """
    if "popularity" in origin:
        text = f"Routing made up: {_law(origin['popularity'])}"
    elif "imported_from" in origin:
        text = f"Routing read from {origin['imported_from']}" + (f", {origin['part']}" if "part" in origin else "")
        if "dropped_tokens" in origin:
            text += f", without {origin['dropped_tokens']:,} tokens of padding"
    else:
        model, corpus = origin.get("model", "an unnamed model"), origin.get("corpus", "unnamed text")
        gates = f", {origin['gate']} gates" if "gate" in origin else ""
        text = f"Routing recorded on {model}, {corpus}{gates}"
    if "batches" in origin:
        text += f"; batches {origin['batches']}"
    if list(layers) == list(range(len(layers))):
        return text
    return f"{text}; its layers {', '.join(map(str, layers))} stand for layers 0 to {len(layers) - 1} of the model"


def _law(popularity: dict[str, Any]) -> str:
    law = popularity["law"]
    if law == "counted":
        return f"popularity counted of {popularity['model']}, {popularity['text'] or 'all texts'}"
    shape = "exponent" if law == "zipf" else "concentration"
    return f"{law}, {shape} {popularity[shape]:g}, drift {popularity['drift']:g}"


def _money(value: float | None) -> str:
    return "" if value is None else rounded(value)


def _late(row: Row, late_share: float | None) -> str:
    if row.late_share is None:
        return ""
    return f"{row.late_share:.0%}" + ("!" if row.is_late(late_share) else "")


def _bill(usd: float | None, share: float | None) -> str:
    """`0.0988  76%`: a bill, and what share of LambdaML's it is."""
    of_lambdaml = "" if share is None else f"{share:.0%}" if share >= 0.01 else "<1%"
    return "" if usd is None else f"{rounded(usd)} {of_lambdaml:>4}"
