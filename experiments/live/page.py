"""The page of a live validation, Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from experiments.live.compare import Comparison, Measure, median_error, middle
from experiments.live.run import COST_GOAL, LATENCY_GOAL, Validation
from experiments.tools.markdown import table

CONTENTION_SHOWN, BUSY_SHOWN = 1.05, 0.2


def page(found: Validation) -> str:
    """The page, Markdown."""
    total = found.summary()
    lines = [
        "# Live validation",
        "",
        f"{total['plans']} plans, {total['batches']} batches of real tokens: served on the {found.backend} "
        "platform, and simulated.",
        "",
        *_verdicts(total),
        "",
        "Costs are the paper's bill (GB-s of the experts' functions, or of stages of whole blocks) of a batch,",
        "micro-USD. Live: median of the batches, ± half their range. Error: simulated over live, less one.",
        "",
        _table(
            (
                "plan",
                "tokens",
                "method",
                "cost live",
                "simulated",
                "error",
                "latency live, s",
                "simulated",
                "error",
                "note",
            ),
            [
                (
                    x.plan,
                    x.load,
                    x.methods,
                    f"{x.cost_usd.live * 1e6:.1f} ± {x.cost_usd.spread:.0%}",
                    f"{x.cost_usd.simulated * 1e6:.1f}",
                    f"{x.cost_usd.error:+.1%}",
                    f"{x.latency_s.live:.2f} ± {x.latency_s.spread:.0%}",
                    f"{x.latency_s.simulated:.2f}",
                    f"{x.latency_s.error:+.1%}",
                    _note(x, found.settings.tolerance),
                )
                for x in found.comparisons
            ],
        ),
        "",
        "![live against simulated](validation.png)",
        "",
        *_order(found),
        *_by_group("method", [(x.methods, x) for x in found.comparisons]),
        *_by_group("tokens", [(str(x.load), x) for x in found.comparisons]),
        *_parts(found.comparisons),
        *_faults(found),
        *_constants(found),
    ]
    return "\n".join(lines) + "\n"


def _verdicts(total: dict[str, Any]) -> list[str]:
    right = "equal" if total["outputs_right"] else "**do not equal**"
    lines = [
        f"- Outputs {right} those of the undistributed model.",
        f"- Cost: median error {total['cost_error']:.1%} (goal {COST_GOAL:.0%}), worst "
        f"{total['worst_cost_error']:.1%}; run to run ± {total['cost_spread']:.1%}.",
        f"- Latency: median error {total['latency_error']:.1%} (goal {LATENCY_GOAL:.0%}), worst "
        f"{total['worst_latency_error']:.1%}; run to run ± {total['latency_spread']:.1%}.",
        f"- One call of an expert or a lane: median error of its billed seconds {total['calls_error']:.1%}.",
    ]
    busy, contention, drift = total["others_busy_cores"], total["contention"], total["drift"]
    disturbed = contention > CONTENTION_SHOWN or abs(drift) > CONTENTION_SHOWN - 1 or busy > BUSY_SHOWN
    text = (
        f"- Before each plan {busy:.1f} cores of this machine were busy; the CPU time of the same compute "
        f"changed by {drift:+.0%} from beginning to end; "
        f"compute took {contention:.2f} of what its CPU time says"
    )
    return [
        *lines,
        text
        + (": **this machine was not quiet, or not equally fast: errors are pessimistic**." if disturbed else "."),
    ]


def _note(x: Comparison, tolerance: float) -> str:
    notes = [] if x.correct else [f"outputs differ by {x.worst:.1g} (allowed {tolerance:g})"]
    if x.oversubscribed:
        notes.append(f"asks for {x.cores:.1f} cores: not counted")
    return "; ".join([*notes, *x.failed])


def _order(found: Validation) -> list[str]:
    rows = [
        (
            x.quantity,
            x.load,
            x.plans,
            f"{x.kendall_tau:.2f}",
            ", ".join(f"{a} / {b}" for a, b in x.wrong) or "none",
        )
        for x in found.rankings
    ]
    if not rows:
        return []
    head = ("by", "tokens", "plans", "Kendall's tau", "pairs in another order, by more than their spread")
    return ["## Order of the plans", "", _table(head, rows), ""]


def _by_group(what: str, groups: Sequence[tuple[str, Comparison]]) -> list[str]:
    rows = []
    for name in dict.fromkeys(name for name, _ in groups):
        own = [x for group, x in groups if group == name and not x.oversubscribed and not x.failed]
        if own:
            errors = [f"{median_error(getattr(x, part) for x in own):.1%}" for part in ("cost_usd", "latency_s")]
            spreads = [
                f"± {middle(getattr(x, part).spread for x in own):.1%}" for part in ("cost_usd", "latency_s")
            ]
            rows.append((name, len(own), errors[0], spreads[0], errors[1], spreads[1]))
    head = (what, "plans", "cost error", "run to run", "latency error", "run to run")
    return [f"## By {what}", "", _table(head, rows), ""]


def _parts(comparisons: Sequence[Comparison]) -> list[str]:
    """Layers, the other bills, and phases of the experts' calls."""
    rows = []
    for x in comparisons:
        layers = " ".join(f"{layer.error:+.0%}" for layer in x.layers_usd)
        rows.append(
            (
                x.plan,
                x.load,
                layers,
                f"{x.full_usd.error:+.1%}",
                f"{x.total_usd.error:+.1%}",
                f"{x.calls_error:.1%}",
            )
        )
    head = ("plan", "tokens", "cost error of each layer", "full bill", "total bill", "an expert's call")
    phases = [
        (
            x.plan,
            x.load,
            *(
                _both(x.phases_s[name])
                for name in ("queue", "parameter_download", "wait", "input_download", "compute", "upload")
            ),
        )
        for x in comparisons
    ]
    names = ("plan", "tokens", "start", "parameters", "wait", "input", "compute", "upload")
    return [
        "## Parts of the bill",
        "",
        _table(head, rows),
        "",
        "## Phases",
        "",
        "Mean over the calls of experts, or of lanes, of a batch, s: live / simulated.",
        "",
        _table(names, phases),
        "",
    ]


def _both(x: Measure) -> str:
    return f"{x.live:.3f} / {x.simulated:.3f}"


def _faults(found: Validation) -> list[str]:
    if not found.faults:
        return []
    rows = [(x.name, "reported" if x.reported else "**not reported**", x.told) for x in found.faults]
    return ["## Faults that were provoked", "", _table(("fault", "", "what was told"), rows), ""]


def _constants(found: Validation) -> list[str]:
    platform, model = found.session.platform, found.session.model
    rows: list[tuple[object, ...]] = []
    if platform is not None:
        rows += [
            ("asynchronous call to handler", f"{platform.warm_s * 1e3:.1f} ms", ""),
            (
                "S3 GET",
                _request(platform.get_s, platform.get_work, platform.get_byte_work),
                f"{platform.errors['get']:.0%}",
            ),
            (
                "S3 PUT",
                _request(platform.put_s, platform.put_work, platform.put_byte_work),
                f"{platform.errors['put']:.0%}",
            ),
            (
                "payload, encoded",
                f"{platform.payload_s * 1e3:.1f} ms + {platform.payload_byte_work * 1e9:.2f} vCPU-ms/MB",
                f"{platform.errors['payload']:.0%}",
            ),
        ]
    if model is not None:
        rows += [
            ("an expert's function without tokens", f"{model.runtime_bytes / 2**20:.0f} MB", ""),
            ("and for each token", f"{model.bytes_per_token / 1024:.1f} KB", ""),
            (
                "compute takes vCPUs to the power of",
                f"{-model.share_exponent:.2f}",
                f"{model.errors['compute']:.0%}",
            ),
        ]
        rows += [
            (f"expert at {size} MB", f"{call * 1e3:.1f} ms + {token * 1e6:.0f} us a token", "")
            for size, call, token in zip(
                found.settings.memory_mb, model.seconds_per_call, model.seconds_per_token, strict=True
            )
        ]
    for e, fit in enumerate(found.session.blocks):
        for size, call, token in zip(
            found.settings.blocks_memory_mb, fit.seconds_per_call, fit.seconds_per_token, strict=True
        ):
            value = f"{call * 1e3:.1f} ms + {token * 1e6:.0f} us a token"
            rows.append((f"block {e}, whole, at {size} MB", value, f"{fit.error:.0%}"))
    return [
        "## What was measured, before and after, on other plans",
        "",
        _table(("constant", "value", "median residual"), rows),
        "",
        f"All of it took {found.seconds:.0f} s.",
    ]


def _request(seconds: float, work: float, byte_work: float) -> str:
    return f"{seconds * 1e3:.1f} ms + {work * 1e3:.1f} vCPU-ms + {byte_work * 1e9:.2f} vCPU-ms/MB"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    return table(head, rows, rule="---")
