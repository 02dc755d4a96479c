"""The page of `./smoe traffic`: latency, SLO and cost with their intervals, and what is paid for."""

from __future__ import annotations

from experiments.report.page import Block, Column, DataTable, Page, Plot, Section, Value
from experiments.report.parts import bill_bars, configuration, picture, present, provenance, timeline
from experiments.report.reading import Estimates, Run, TrafficResult, read_records
from experiments.traffic.report import SHOWN, SHOWN_OF_FUNCTIONS, sentence
from simulator.records import Bill, from_pandas
from simulator.traffic.scenario import Scenario

LATENCIES = ("latency_mean_s", "latency_p50_s", "latency_p90_s", "latency_p99_s")
DRAWN_CALLS = 300


def traffic_page(run: Run) -> Page:
    """The page. Raises InputError for files that are broken."""
    result = run.read(TrafficResult)
    about = [str(run.config["about"])] if run.config.get("about") else []
    sections = present(
        _metrics(run, result),
        _bill(result),
        _functions(result),
        _replications(result),
        _timeline(run),
        configuration(run, Scenario),
        provenance(run),
    )
    return Page(result.name, [*about, sentence(run.result)], sections, f"Made by ./smoe report from {run.path}.")


def _metrics(run: Run, result: TrafficResult) -> Section:
    """Every metric with its interval, the latencies drawn."""
    rows: list[list[Value]] = []
    for name, unit, scale, _, about in SHOWN:
        found = result.metrics.get(name)
        if found is None or found.mean is None:
            continue
        half = None if found.ci95_half_width is None else found.ci95_half_width * scale
        rows.append([about, found.mean * scale, half, unit])
    columns = [Column("metric"), Column("mean"), Column("± 95%", "", "half of the interval"), Column("unit")]
    blocks: list[Block] = [DataTable("metrics", columns, rows)]
    known = [name for name in LATENCIES if name in result.metrics and result.metrics[name].mean is not None]
    if known:
        titles = {name: about for name, *_, about in SHOWN}
        values, low, high = _interval(result.metrics, known)
        series = [{"name": "latency", "values": values, "low": low, "high": high}]
        data = {
            "unit": "s",
            "rows": [titles[name] for name in known],
            "series": series,
            "log": False,
            "zero": True,
        }
        blocks.append(Plot("dots", "Latency of a request", data, f"The SLO is {result.slo_s:g} s."))
    blocks += picture(run.path / "latency.svg", "Distribution of latency")
    return Section("Latency, SLO and cost", blocks, [f"{result.confidence[0].upper()}{result.confidence[1:]}."])


def _interval(
    metrics: Estimates, names: list[str]
) -> tuple[list[float | None], list[float | None], list[float | None]]:
    """Means, and both ends of their intervals where known."""
    values = [metrics[name].mean for name in names]
    halves = [metrics[name].ci95_half_width for name in names]
    pairs = list(zip(values, halves, strict=True))
    low = [None if mean is None or half is None else mean - half for mean, half in pairs]
    high = [None if mean is None or half is None else mean + half for mean, half in pairs]
    return values, low, high


def _bill(result: TrafficResult) -> Section | None:
    """The bill of a thousand requests by parts."""
    parts = {name: found.mean or 0.0 for name, found in result.bill_of_1000_requests.items()}
    if not parts:
        return None
    bill = Bill(**{name: value for name, value in parts.items() if name in Bill.__dataclass_fields__})
    tokens = result.metrics.get("billed_usd_per_1000_tokens")
    is_moe = tokens is not None and tokens.mean is not None
    plot = bill_bars({"1,000 requests": bill}, 1.0, "USD per 1,000 requests", of_experts=is_moe)
    return Section("What is paid for", [plot])


def _functions(result: TrafficResult) -> Section | None:
    """What each function of an application does and costs."""
    if not result.functions:
        return None
    columns = [Column("function"), *(Column(heading) for _, heading, *_ in SHOWN_OF_FUNCTIONS)]
    rows: list[list[Value]] = []
    for function, found in result.functions.items():
        means = [(found[name].mean if name in found else None, scale) for name, _, scale, _ in SHOWN_OF_FUNCTIONS]
        rows.append([function, *(None if mean is None else mean * scale for mean, scale in means)])
    plot = {"table": "functions", "x": "mean s", "y": "USD", "by": "function", "log": False, "line": False}
    return Section(
        "Functions of the application",
        [
            DataTable("functions", columns, rows, about="Per 1,000 requests."),
            Plot("scatter", "Cost of a function over its duration", plot),
        ],
    )


def _replications(result: TrafficResult) -> Section:
    """Every metric of every replication."""
    names = [name for name in result.metrics if any(row.get(name) is not None for row in result.replications)]
    rows: list[list[Value]] = [
        [number, *(row.get(name) for name in names)] for number, row in enumerate(result.replications)
    ]
    columns = [Column("replication"), *(Column(name) for name in names)]
    plot = {"table": "replications", "x": "requests", "y": "latency_p99_s", "by": "", "log": False, "line": False}
    return Section(
        "Replications",
        [
            DataTable("replications", columns, rows),
            Plot("scatter", "From replication to replication", plot, "Any metric over any other."),
        ],
    )


def _timeline(run: Run) -> Section | None:
    """The first calls of the first replication, where the run kept its rows."""
    table = read_records(run, "rows.parquet")
    if table is None or table.empty:
        return None
    first = table[table["replication"] == table["replication"].iloc[0]].sort_values("requested_s")
    records = from_pandas(first.head(DRAWN_CALLS))
    about = f"The first {len(records)} calls of the first replication, warm-up included."
    return Section("Timeline", [timeline("What every function did", [("first calls", records)], about)])
