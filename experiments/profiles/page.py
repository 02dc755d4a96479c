"""Pages about platform profiles, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.profiles.reading import Change, Judged, constants_of, leaves_of, value_text
from experiments.tools.markdown import table
from simulator.profiles.constant import Constant, Dated
from simulator.profiles.contenders import Contender
from simulator.profiles.schema import PlatformProfile


def page(profile: PlatformProfile | Contender) -> str:
    """Every constant of a profile or contender: value, unit, what it rests on, source."""
    constants = constants_of(profile)
    settings = {name: leaf for name, leaf in leaves_of(profile).items() if "." in name and name not in constants}
    rows = (
        (
            f"`{name}`",
            value_text(leaf),
            "" if not isinstance(leaf, Constant | Dated) else leaf.unit,
            leaf.confidence,
            "" if isinstance(leaf, Dated) else leaf.date,
            "" if isinstance(leaf, Dated) else _basis(leaf),
            leaf.source,
        )
        for name, leaf in constants.items()
    )
    head = ("constant", "value", "unit", "confidence", "date", "rests on", "source")
    set_rows = ((f"`{name}`", value_text(leaf)) for name, leaf in settings.items())
    return (
        f"# {profile.name}\n\n{profile.about}\n\n{table(head, rows)}\n\n## Settings\n\n"
        f"{table(('setting', 'value'), set_rows)}\n"
    )


def _basis(leaf: object) -> str:
    """What a calibration says of a constant, or how sure its source is."""
    fit, kept, interval = (getattr(leaf, name, None) for name in ("fit", "kept", "interval"))
    sure = "" if interval is None else f"95% {interval[0]:.4g} to {interval[1]:.4g}"
    if kept is not None:
        return "; ".join(filter(None, (f"kept: {kept}", sure)))
    if fit is None:
        return sure
    parts = [f"{fit.method}, {fit.samples:,} values in {fit.runs} runs"]
    if fit.interval is not None:
        parts.append(f"95% {fit.interval[0]:.4g} to {fit.interval[1]:.4g}")
    if fit.held_out_error is not None:
        parts.append(f"held-out error {fit.held_out_error:.1%}")
    return "; ".join(parts)


def difference(before: str, after: str, found: Sequence[Change]) -> str:
    """Two profiles side by side."""
    if not found:
        return f"# {before} and {after}\n\nNo value differs.\n"
    rows = (
        (
            f"`{change.name}`",
            change.unit,
            change.before or "none",
            change.after or "none",
            "" if change.ratio is None else f"{change.ratio - 1:+.1%}",
        )
        for change in found
    )
    head = ("constant", "unit", before, after, "change of the median")
    return f"# {before} and {after}\n\n{table(head, rows)}\n"


def judgement(name: str, rows: Sequence[Judged], fitted_to: Sequence[str], skipped: Sequence[str] = ()) -> str:
    """A profile held against measurements."""
    known = [row for row in rows if row.verdict != "spread unknown"]
    errors = np.abs([row.measured.error for row in rows])
    within = sum(row.verdict == "within" for row in known)
    said = (
        f"{len(rows)} quantities: median size of the error {np.median(errors):.1%}; of {len(known)} with a known "
        f"spread, {within} are within it.\n"
    )
    if fitted_to:
        said += f"The profile was fitted to rows of {', '.join(fitted_to)}: only rows of other days are a test.\n"
    if skipped:
        said += f"Skipped, since the profile has no such package: cold starts of {', '.join(skipped)}.\n"
    cells = (
        (
            row.measured.quantity,
            f"{row.measured.simulated:.4g} {row.measured.unit}".strip(),
            f"{row.measured.measured:.4g} {row.measured.unit}".strip(),
            f"{row.measured.error:+.1%}",
            ("" if row.measured.spread is None else f"{row.measured.spread:.1%}, ") + row.measured.spread_of,
            row.verdict,
            row.measured.source,
        )
        for row in rows
    )
    head = (
        "quantity",
        "predicted",
        "measured",
        "error",
        "spread of the measurement, between",
        "verdict",
        "source",
    )
    return f"# {name} against measurements\n\n{said}\n{table(head, cells)}\n"
