"""The validation page: everything measured in one go, as Markdown or as plain data."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from calibration.check.checks import Measured
from calibration.published.files import public_rows
from experiments.tools.markdown import table
from experiments.validation.checks import Check
from experiments.validation.closed_form import closed_form_checks
from experiments.validation.laws import law_checks
from experiments.validation.mechanisms import FanIn, Situation, fan_in, situations
from experiments.validation.peers import WORKLOAD, peer_checks
from experiments.validation.queueing import queueing_checks
from simulator.profiles.schema import DEFAULT_PROFILE


@dataclass(frozen=True)
class Validation:
    """All that the page says.

    Attributes:
        seeds: random checks and mechanisms are played with so many, from 0 on; fan-in with twice as many.
        versions: of what it was made with.
        checks: by the title of their section.
        public: measured beside simulated; None where no measurements were given.
    """

    seeds: int
    versions: dict[str, str]
    checks: dict[str, list[Check]]
    public: list[Measured] | None
    fan_in: list[FanIn]
    situations: list[Situation]


def validate(
    public: Path | None = None, seeds: int = 10, say: Callable[[str], None] = lambda _: None
) -> Validation:
    """Measure everything; takes about a minute.

    Args:
        public: folder with public measurements of AWS, or None.
        say: told what comes next.

    Raises:
        InputError: the folder has none of the files, or one without its columns.
    """
    say("public measurements")
    measured = None if public is None else public_rows(public)
    checks = {}
    for title, made in (
        (CLOSED_FORM, closed_form_checks),
        (QUEUEING, lambda: queueing_checks(seeds)),
        (PEERS, lambda: peer_checks(seeds)),
        (LAWS, law_checks),
    ):
        say(title)
        checks[title] = made()
    say("fan-in")
    fans = fan_in(2 * seeds)
    say("mechanisms")
    return Validation(seeds, _versions(), checks, measured, fans, situations(seeds))


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for name in ("serverless-moe", "numpy", "simpy", "simfaas"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def as_data(found: Validation) -> dict[str, Any]:
    """The same as one JSON object."""
    public = None
    if found.public is not None:
        public = [
            asdict(row)
            | {"measured": float(row.measured), "simulated": float(row.simulated), "error": float(row.error)}
            for row in found.public
        ]
    return {
        "profile": DEFAULT_PROFILE,
        "seeds": found.seeds,
        "versions": found.versions,
        "checks": [
            {"section": title, **asdict(row), "error": row.error}
            for title, rows in found.checks.items()
            for row in rows
        ],
        "public": public,
        "fan_in": [
            asdict(row)
            | {
                "simulated_s": row.simulated_s.tolist(),
                "added_by_tails": row.added_by_tails.tolist(),
                "closed_form_error": row.closed_form_error.tolist(),
            }
            for row in found.fan_in
        ],
        "mechanisms": [asdict(each) for each in found.situations],
    }


# -- Markdown ---------------------------------------------------------------------------------------------


def markdown(found: Validation, picture: str | None = None) -> str:
    """The page; `picture` is the fan-in picture's file, beside the page."""
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    public = "" if found.public is None else "--public DIR "
    lines = [INTRODUCTION.format(public=public, last=found.seeds - 1, profile=DEFAULT_PROFILE, versions=versions)]
    for title, text in (
        (CLOSED_FORM, CLOSED_FORM_TEXT),
        (QUEUEING, ""),
        (PEERS, PEERS_TEXT),
        (LAWS, LAWS_TEXT),
    ):
        lines += [f"\n## {title}\n", *([text] if text else []), *_checks(found.checks[title], title)]
    lines += ["\n## Public measurements\n", *_public(found.public)]
    lines += ["\n## Fan-in: a layer ends with its slowest request\n", FAN_IN_TEXT.format(count=2 * found.seeds)]
    if picture:
        lines.append(f"![latency added by tails, and error of the closed form, over replicas]({picture})\n")
    lines += _fan_in(found.fan_in)
    lines += ["\n## Mechanisms, switched off in turn\n", MECHANISMS_TEXT]
    for each in found.situations:
        lines += _situation(each)
    return "\n".join(lines) + "\n"


def _checks(checks: list[Check], title: str) -> list[str]:
    if not checks:
        return ["SimFaaS is not installed (`pip install simfaas`): nothing to compare."]
    over = "cases" if title in (CLOSED_FORM, LAWS) else "seeds"
    return [
        table(
            ("quantity", "expected, from", "simulated", "error", f"spread over {over}"),
            (
                (
                    row.what,
                    f"{row.expected:.4g}, {row.source}",
                    f"{row.found:.4g}",
                    _error(row.error),
                    f"{row.spread:.2g}",
                )
                for row in checks
            ),
        )
    ]


def _error(error: float) -> str:
    return f"{error:+.2%}" if abs(error) > 1e-6 else f"{error:.0e}" if error else "0"


def _public(rows: list[Measured] | None) -> list[str]:
    if rows is None:
        return ["Not held against here: `./smoe bench validation --public DIR`, where DIR has the files that "
                "`calibration/published/files.py` names."]  # fmt: skip
    unseen = [row for row in rows if row.data == "unseen"]
    known = [row for row in unseen if row.spread is not None]
    within = sum(abs(row.error) <= (row.spread or 0.0) for row in known)
    median = float(np.median([abs(row.error) for row in unseen]))
    summary = (
        f"Of {len(rows)} rows, {len(unseen)} are unseen: the median of their errors' sizes is {median:.0%}. "
        f"{len(known)} of these know the measurement's spread; {within} are within it."
    )
    body = (
        (
            row.quantity,
            f"{row.measured:.4g} {row.unit}".strip(),
            f"{row.simulated:.4g} {row.unit}".strip(),
            f"{row.error:+.1%}",
            row.spread_of if row.spread is None else f"{row.spread:.1%}, {row.spread_of}",
            row.data,
            row.source,
        )
        for row in rows
    )
    header = ("quantity", "measured", "simulated", "error", "spread of the measurement, between", "data", "source")
    return [PUBLIC_TEXT, summary + "\n", table(header, body)]


def _fan_in(rows: list[FanIn]) -> list[str]:
    def span(values: np.ndarray) -> str:
        low, high = np.quantile(values, [0.05, 0.95])
        return f"{values.mean():+.2%} ({low:+.2%} to {high:+.2%})"

    return [
        table(
            ("method", "replicas", "closed form", "simulated", "closed form off by", "added by tails"),
            (
                (
                    row.method,
                    str(row.replicas),
                    f"{row.closed_form_s:.1f} s",
                    f"{row.simulated_s.mean():.1f} s",
                    span(row.closed_form_error),
                    span(row.added_by_tails),
                )
                for row in rows
            ),
        )
    ]


def _situation(found: Situation) -> list[str]:
    everything, *others = found.effects
    reranked = [each.mechanism for each in others if each.ranking != everything.ranking]
    decided = [each.mechanism for each in others if each.decision != everything.decision]
    verdict = (
        f"Switched off, these change the ranking: {', '.join(reranked) or 'none'}; "
        f"these the decision: {', '.join(decided) or 'none'}.\n"
    )
    body = (
        (
            each.mechanism,
            f"{each.total_cost:+.2%} (± {each.total_cost_spread:.2%})",
            f"{each.latency:+.2%} (± {each.latency_spread:.2%})",
            f"{each.largest_plan} {each.largest_cost:+.2%}",
            ", ".join(each.ranking),
            f"{each.decision or 'none keeps it'} ({each.decided:.0%} of seeds)",
        )
        for each in found.effects
    )
    header = (
        "switched off",
        "exact: total bill",
        "exact: latency",
        "bill that changes most",
        "plans, cheapest first",
        f"cheapest within {found.target_s:.1f} s",
    )
    return [f"\n**{found.title}**, target {found.target_s:.1f} s. {verdict}", table(header, body)]


CLOSED_FORM = "The closed form"
QUEUEING = "Queueing theory"
PEERS = "Another simulator"
LAWS = "Conservation, and laws besides"

INTRODUCTION = """# Validation of the simulator

Written by `./smoe bench validation {public}--out results/validation/validation.md` with seeds 0 to {last}
and the profile `{profile}`: {versions}.

Each error stands beside the spread of what it is the error of: over seeds, cases, or between the runs, days or
hosts of a measurement. Being closer than that is luck."""
CLOSED_FORM_TEXT = """\
The simulator on the ideal platform (the problem's own constants and nothing else), experts started just in
time; simulated over closed form. `equal`: they should be the same to 1e-9; `at most`: the closed form is an
upper bound (it adds two maxima with `direct`, and takes the longest block for every block with `pipelined`).
"""
PEERS_TEXT = f"""\
{WORKLOAD}, the same arrivals and work for all. SimFaaS reuses the idle instance that was *started* last, this
simulator the one *used* last. A model of 20 lines without either (`experiments/validation/peers.py`) plays both
rules: each simulator agrees with its own rule, and the rules differ as the simulators do, so that this is the
whole difference.
"""
LAWS_TEXT = """\
Random problems, plans and settings on a platform where calls fail, time out, are throttled or lose instances,
and S3 refuses; the farthest from 1. Tokens and bytes are of batches that no failure ended. The last two are on
a calm platform, where less is expected. `tests/experiments/validation/test_laws.py` holds the same laws against
more cases.
"""
PUBLIC_TEXT = """\
A probe of the packaged profile, played by the simulator, beside what others measured on AWS. `fitted`: the
profile's constant comes from these data, so the row is no validation; `same runs`: this quantity was not
fitted, but others of the same runs were; `unseen`: these data were not used; `of its time`: nor were these, of
machines that are gone: images of 2020 ran in guests without AVX2 and FMA. The profile is a zip package on x86.

Rates of compute are absolute, each source's by itself: a ratio between sizes says nothing of how fast they are.

What the larger errors say: images of 2020 ran in guests without AVX2 and FMA, and are of their time, as its
keep-alive is; TCP's slow start is left out, so that objects of 2 MB come too fast to Lambda; latency from EC2 is
half of Lambda's; uploads of 2020 were slower than those of 2024, from which the profile's rate comes; a
prefix's documented limits are a lower bound.
"""
FAN_IN_TEXT = """\
Bert MoE, 12 x 4, 10,240 tokens, 3008 MB, `pipelined` by 64 tokens, packaged profile, warm; {count} seeds, the
same for every plan; mean, and the 5th to 95th percentile of the seeds. `added by tails` is against the same
simulation with every distribution at its median. The closed form knows medians only; it lets a gate upload over
one connection where the simulation's uses all of its function's bandwidth, and it leaves out that `direct`
hands results on through S3.
"""
MECHANISMS_TEXT = """\
Everything on (first batch cold, tails, token bucket, sharing), then each off, with the same seeds. Change of
the exact plan's total bill and latency (± standard deviation over seeds); the plan whose bill changes most; the
plans by total bill; and the decision, the cheapest plan whose mean latency keeps the target. Plans are made by
the closed form for that target. The bucket holds more than a small expert: only downloads of several hundred
MB, faster than the sustained rate, empty it. Without sharing, each connection of an object in several parts has
all of the bandwidth."""
